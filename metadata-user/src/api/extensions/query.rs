//! What the query of a request asks for: Google's names, and Google's meaning.
//!
//! Promises: a query that names none of this asks for nothing, whatever it says, since Nova looks at no query; of a name that
//! comes more than once, the last counts.

use std::time::Duration;

use super::etag::ETag;
use crate::api::route;

/// What a query asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Wait for a change; `None`: answer at once.
    pub wait: Option<Wait>,
    /// Everything below the path, in one document.
    pub recursive: bool,
}

/// A wait for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What the client has.
    pub known: Known,
    /// How long it waits; `None`: as long as it may.
    pub time: Option<Duration>,
}

/// What a client says that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// What there is now: it waits for the next change.
    Current,
    /// The document with this tag: it waits while that is current.
    Tag(ETag),
    /// Something that no document is, such as `0`: it does not wait.
    Other,
}

/// Why a query cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// `timeout_sec` is not a number.
    Timeout,
    /// The path of a subtree names no version.
    Version,
    /// A token's audience is not one that can be.
    Audience,
    /// A token's nonce is not one that can be.
    Nonce,
}

impl Query {
    /// Reads the query of a request target.
    ///
    /// # Errors
    /// [`QueryError`], for a query that waits or wants a subtree.
    pub fn of(target: &str) -> Result<Self, QueryError> {
        let Some((path, query)) = target.split_once('?') else { return Ok(Self::default()) };
        let (mut waits, mut recursive, mut is_json, mut known, mut time) = (false, false, false, Known::Current, None);
        for pair in query.split('#').next().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "wait_for_change" => waits = is_true(value),
                "recursive" => recursive = is_true(value),
                "last_etag" => known = known_by(value),
                "timeout_sec" => time = Some(value),
                "alt" => is_json = value.eq_ignore_ascii_case("json"),
                _ => {}
            }
        }
        let wait = match waits {
            false => None,
            true => {
                let time = time.map(|time| time.parse().map(Duration::from_secs).map_err(|_| QueryError::Timeout));
                Some(Wait { known, time: time.transpose()? })
            }
        };
        // Without a format, or with another one, it is the query of a client of another cloud, which Nova does not look at.
        let recursive = recursive && is_json;
        if recursive && route::path(path).is_some_and(|path| matches!(&*path, "" | "ec2" | "openstack")) {
            return Err(QueryError::Version);
        }
        Ok(Self { wait, recursive })
    }

    /// Tells whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// As Google's clients write it, in Python's spelling too.
fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true")
}

fn known_by(value: &str) -> Known {
    let text = String::from_utf8(route::percent_decoded(value.as_bytes())).unwrap_or_default();
    ETag::parse(&text).map_or(Known::Other, Known::Tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "ba7816bf8f01cfea";

    #[test]
    fn only_a_query_that_asks_for_it_gets_anything() {
        for target in [
            "/latest",
            "/latest?",
            "/latest?&=&a=b",
            "/latest?last_etag=0&timeout_sec=x&alt=xml",
            "/latest?wait_for_change=false&recursive=0",
            "/latest?wait_for_change=true&wait_for_change=1",
            "/latest?wait%5ffor_change=true",
            "/openstack?recursive=true",
            "/latest?recursive=true&alt=text",
            "/latest?recursive=true&alt=json&alt=",
            "/latest#?wait_for_change=x",
            "*",
        ] {
            assert_eq!(Query::of(target), Ok(Query::default()), "{target}");
        }
    }

    #[test]
    fn a_wait_says_what_the_client_has_and_how_long_it_waits() {
        let tag = Known::Tag(ETag::parse(TAG).expect("a tag"));
        for (query, known, seconds) in [
            ("wait_for_change=true", Known::Current, None),
            ("wait_for_change=True&timeout_sec=60", Known::Current, Some(60)),
            ("timeout_sec=0&last_etag=0&wait_for_change=true", Known::Other, Some(0)),
            ("wait_for_change=true&last_etag=", Known::Other, None),
            ("wait_for_change=true&last_etag=ba7816bf8f01cfea", tag, None),
            ("wait_for_change=true&last_etag=%22ba7816bf8f01cfea%22", tag, None),
            ("wait_for_change=true&last_etag=W/%22ba7816bf8f01cfea%22&x", tag, None),
            ("wait_for_change=true&last_etag=%ff", Known::Other, None),
        ] {
            let wait = Some(Wait { known, time: seconds.map(Duration::from_secs) });
            assert_eq!(Query::of(&format!("/x?{query}")), Ok(Query { wait, recursive: false }), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (target, error) in [
            ("/latest?wait_for_change=true&timeout_sec=", QueryError::Timeout),
            ("/latest?wait_for_change=true&timeout_sec=1.5", QueryError::Timeout),
            ("/latest?wait_for_change=true&timeout_sec=-1", QueryError::Timeout),
            ("/latest?wait_for_change=true&timeout_sec=99999999999999999999", QueryError::Timeout),
            ("/?recursive=true&alt=json", QueryError::Version),
            ("/ec2/?recursive=true&alt=json", QueryError::Version),
            ("/openstack?recursive=true&alt=JSON", QueryError::Version),
        ] {
            assert_eq!(Query::of(target), Err(error), "{target}");
        }
    }
}
