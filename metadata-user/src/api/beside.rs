//! Pages that a record keeps beside its facts: answers that are given as they are, before anything is rendered.
//!
//! Promises: every spelling of a path leads to its page, also below `ec2/`; methods and errors are those of everything else;
//! a `random_seed` is fresh in every answer. A password is never such a page: a guest can always post it.

use std::collections::BTreeMap;

use super::nova_pages::{is_password, shared, without_alias};
use super::{Page, route};
use crate::record::{InstanceRecord, PageRecord};

/// An instance's pages by path.
pub(super) struct Beside(BTreeMap<Box<str>, Page>);

impl Beside {
    /// Returns the pages of a record.
    pub(super) fn of(record: &InstanceRecord) -> Self {
        let page = |PageRecord { path, answer }: &PageRecord| {
            let page = match answer {
                Some(answer) => Page::found(answer.content_type.as_deref(), answer.body.clone()),
                None => Page::not_found(),
            };
            (path.clone(), page)
        };
        Self(shared(record.pages.iter().map(page)))
    }

    /// Returns the page at a path.
    pub(super) fn get(&self, path: &str) -> Option<&Page> {
        if self.0.is_empty() { None } else { self.0.get(without_alias(path)) }
    }

    /// Tells whether a path is that of the password in a version that only these pages have.
    pub(super) fn lists_password(&self, path: &str) -> bool {
        if self.0.is_empty() || !is_password(path) {
            return false;
        }
        let version = path.rsplit_once('/').map_or(path, |(version, _)| version);
        self.0.get(version).is_some_and(|listing| listing.is_found() && listing.lists("password"))
    }
}

/// Why a path cannot have a page of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No request leads there.
    #[error("no request leads to this path")]
    Unreachable,
    /// It is below `ec2/`, which is another name of the root.
    #[error("what is below ec2/ is also there without it")]
    Alias,
    /// It is the password's.
    #[error("a password is posted by the guest, and is no page")]
    Password,
}

impl PathError {
    /// Returns what to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unreachable => {
                "write it with single slashes, without one at either end, and without percent signs for other characters"
            }
            Self::Alias => "write it without ec2/",
            Self::Password => "use the document's member password",
        }
    }
}

/// Checks that a page can have this path.
///
/// # Errors
/// [`PathError`].
pub fn check_path(path: &str) -> Result<(), PathError> {
    if !route::is_normal(path) {
        return Err(PathError::Unreachable);
    }
    if without_alias(path) != path {
        return Err(PathError::Alias);
    }
    if is_password(path) { Err(PathError::Password) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::api::{Answer, Cloud, Date, PLAIN, Password, RenderedInstance, Reply, Request, Status, Write};
    use crate::record::PageAnswer;
    use crate::store::tests::record;

    fn page(path: &str, answer: Option<(&str, &str)>) -> PageRecord {
        let answer = answer.map(|(content_type, body)| PageAnswer {
            content_type: Some(content_type.into()),
            body: body.to_owned().into(),
        });
        PageRecord { path: path.into(), answer }
    }

    fn instance() -> RenderedInstance {
        let seed = "A".repeat(683);
        let pages = vec![
            page("latest/meta-data/hostname", Some(("x/y", "nova's"))),
            page("openstack/2030-01-01", Some((PLAIN, "meta_data.json\npassword"))),
            page(
                "openstack/latest/meta_data.json",
                Some(("application/json", &format!("{{\"random_seed\": \"{seed}=\"}}"))),
            ),
            page("openstack/latest/network_data.json", None),
        ];
        RenderedInstance::new(
            Arc::new(InstanceRecord { pages, ..record(1, "p", &["tap1"]) }),
            Arc::new(Cloud::default()),
        )
    }

    fn reply(method: &str, target: &str, seed: u8) -> Reply {
        instance().reply(&Request {
            method,
            target,
            accept: None,
            content_length: Some(1),
            body: b"x",
            today: || Date::new(2026, 1, 1),
            seed: &|bytes| bytes.fill(seed),
        })
    }

    fn get(target: &str) -> Answer {
        reply("GET", target, 0).into_answer().unwrap()
    }

    #[test]
    fn a_page_comes_before_what_would_be_rendered_by_every_spelling() {
        for target in [
            "/latest/meta-data/hostname",
            "/latest//meta-data/hostname/",
            "/ec2/latest/meta%2Ddata/hostname?x",
            "http://169.254.169.254/latest/x/../meta-data/hostname",
        ] {
            let answer = get(target);
            assert_eq!((answer.content_type.as_deref(), &*answer.body), (Some("x/y"), &b"nova's"[..]), "{target}");
        }
        for method in ["HEAD", "POST", "OPTIONS"] {
            assert_eq!(reply(method, "/latest/meta-data/hostname", 0).into_answer().unwrap().body, "nova's");
        }
        assert_ne!(get("/2009-04-04/meta-data/hostname").body, "nova's", "another version is rendered");
        assert_eq!(get("/openstack/latest/network_data.json").status, Status::NotFound);
        assert_eq!(get("/openstack/2018-08-27/network_data.json").status, Status::Ok);
        let options = reply("OPTIONS", "/openstack/latest/network_data.json", 0).into_answer().unwrap();
        assert_eq!((options.status, &*options.body), (Status::Ok, &b""[..]));
    }

    #[test]
    fn a_seed_in_a_page_is_fresh_in_every_answer() {
        let target = "/openstack/latest/meta_data.json";
        let bodies: Vec<_> = (0..3).map(|seed| reply("GET", target, seed).into_answer().unwrap().body).collect();
        assert!(bodies.iter().all(|body| body.len() == bodies[0].len()));
        assert!(bodies[0] != bodies[1] && bodies[1] != bodies[2]);
        let asked = Cell::new(0);
        drop(instance().reply(&Request {
            method: "GET",
            target: "/latest/meta-data/hostname",
            accept: None,
            content_length: None,
            body: b"",
            today: || Date::new(2026, 1, 1),
            seed: &|_| asked.set(asked.get() + 1),
        }));
        assert_eq!(asked.get(), 0);
    }

    #[test]
    fn a_password_is_posted_beside_pages_and_in_versions_that_only_they_have() {
        let expected = Reply::Keep(Write::Store(Password::new("x").unwrap()));
        for target in ["/openstack/latest/password", "/openstack/2030-01-01/password"] {
            assert_eq!(reply("POST", target, 0), expected, "{target}");
            assert_eq!(get(target).status, Status::Ok, "{target}");
        }
        assert_eq!(get("/openstack/2031-01-01/password").status, Status::NotFound);
    }

    #[test]
    fn only_paths_that_requests_lead_to_have_pages() {
        for path in ["", "latest", "openstack", "openstack/latest/meta_data.json", "ec2/openstack", "a b?%", "ec2x/y"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        for (path, error) in [
            ("/latest", PathError::Unreachable),
            ("latest/", PathError::Unreachable),
            ("a//b", PathError::Unreachable),
            ("a/../b", PathError::Unreachable),
            ("ec2", PathError::Alias),
            ("ec2/latest", PathError::Alias),
            ("openstack/latest/password", PathError::Password),
            ("openstack/2030-01-01/password", PathError::Password),
        ] {
            assert_eq!(check_path(path), Err(error), "{path}");
        }
    }
}
