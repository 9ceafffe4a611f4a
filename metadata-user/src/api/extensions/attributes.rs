//! `/openstack/latest/guest-attributes/NAMESPACE/KEY`: what the guest writes for its operator, as it reads it back.

use std::borrow::Cow;

use bytes::Bytes;

use super::super::error::Refusal;
use super::super::own::ATTRIBUTES;
use super::super::{Answer, PLAIN, Status, route};
use crate::record::{AttributeError, Attributes, is_attribute_name};

/// A path at or below the attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributePath {
    /// All of them.
    Root,
    /// Those of a namespace.
    Space(String),
    /// One.
    Value(String, String),
}

impl AttributePath {
    /// Returns what the target of a request names; `None`: no attribute can be there.
    #[must_use]
    pub fn of(target: &str) -> Option<Self> {
        let path = route::path(target)?;
        let rest = path.strip_prefix("openstack/")?.strip_prefix(ATTRIBUTES)?;
        let Some(rest) = rest.strip_prefix('/') else { return rest.is_empty().then_some(Self::Root) };
        match rest.split_once('/') {
            None => is_attribute_name(rest).then(|| Self::Space(rest.to_owned())),
            Some((space, key)) => {
                let are_names = is_attribute_name(space) && is_attribute_name(key);
                are_names.then(|| Self::Value(space.to_owned(), key.to_owned()))
            }
        }
    }

    /// Returns the answer to a guest that reads this of its attributes.
    #[must_use]
    pub fn read(&self, attributes: Option<&Attributes>, accept: Option<&str>) -> Answer {
        let empty = Attributes::default();
        let attributes = attributes.unwrap_or(&empty);
        let text = match self {
            // A listing as the EC2 tree has them.
            Self::Root => {
                let named = attributes.spaces().map(|(space, _)| space).filter(|space| is_attribute_name(space));
                Some(named.map(|space| format!("{space}/")).collect::<Vec<_>>().join("\n"))
            }
            Self::Space(name) => attributes
                .spaces()
                .find(|(space, _)| space == name)
                .map(|(_, values)| values.map(|(key, _)| key).collect::<Vec<_>>().join("\n")),
            Self::Value(space, key) => attributes.get(space, key).map(str::to_owned),
        };
        match text {
            Some(text) => Answer { status: Status::Ok, content_type: Some(Cow::Borrowed(PLAIN)), body: text.into() },
            None => Answer::refusal(Refusal::NotFound, accept),
        }
    }
}

impl Answer {
    /// Returns the answer to a guest whose attribute was written or removed.
    #[must_use]
    pub fn attribute_kept() -> Self {
        Self { status: Status::Ok, content_type: Some(Cow::Borrowed(PLAIN)), body: Bytes::new() }
    }

    /// Returns the answer to a guest whose attribute was not kept.
    #[must_use]
    pub fn attribute_refused(error: AttributeError, accept: Option<&str>) -> Self {
        Self::refusal(
            match error {
                AttributeError::Full | AttributeError::TooLong => Refusal::Attribute,
                AttributeError::NoText => Refusal::AttributeText,
                AttributeError::TooFast => Refusal::TooMany,
                AttributeError::NoInstance => Refusal::NotFound,
            },
            accept,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(rest: &str) -> Option<AttributePath> {
        AttributePath::of(&format!("/openstack/latest/guest-attributes{rest}"))
    }

    #[test]
    fn a_path_names_all_a_namespace_or_one() {
        use AttributePath::{Root, Space, Value};
        for (rest, expected) in [
            ("", Some(Root)),
            ("/?x", Some(Root)),
            ("/hostkeys/", Some(Space("hostkeys".to_owned()))),
            ("//hostkeys/ssh%2ded25519", Some(Value("hostkeys".to_owned(), "ssh-ed25519".to_owned()))),
            ("/a/../b/c", Some(Value("b".to_owned(), "c".to_owned()))),
            ("/a/b/c", None),
            ("/a%20b", None),
            ("/a/b%00", None),
            ("x", None),
        ] {
            assert_eq!(path(rest), expected, "{rest}");
        }
    }

    #[test]
    fn listings_name_what_is_there() {
        let mut attributes = Attributes::default();
        for (space, key) in [("hostkeys", "rsa"), ("hostkeys", "ed25519"), ("boot", "done")] {
            attributes.set(space, key, &format!("{space} {key}"), 9).expect("kept");
        }
        let read = |rest: &str, attributes: Option<&Attributes>| {
            let answer = path(rest).expect("a path").read(attributes, None);
            (answer.status, String::from_utf8(answer.body.to_vec()).expect("text"))
        };
        for (rest, expected) in
            [("", "boot/\nhostkeys/"), ("/hostkeys", "ed25519\nrsa"), ("/hostkeys/rsa", "hostkeys rsa")]
        {
            assert_eq!(read(rest, Some(&attributes)), (Status::Ok, expected.to_owned()));
        }
        for rest in ["/none", "/hostkeys/none"] {
            assert_eq!(read(rest, Some(&attributes)).0, Status::NotFound);
            assert_eq!(read(rest, None).0, Status::NotFound);
        }
        assert_eq!(read("", None), (Status::Ok, String::new()));
    }
}
