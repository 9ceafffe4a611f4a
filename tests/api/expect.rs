//! What is expected of each captured request: what Nova answered, but for the differences named here.

use std::collections::BTreeMap;
use std::fmt;

use crate::case::{Captured, Case, Row};

/// A deliberate difference from Nova.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// The request target is none that HTTP knows (RFC 9112, section 3.2: `latest/x`, `?`): hyper answers 400 before the
    /// service sees it. Clients cannot send such a thing by giving a URL.
    NoTarget,
    /// Nova crashes and closes the connection; we answer 404. No client depends on a crash.
    Crash,
    /// Who asks is known from the interface, so headers that claim an identity are ignored: the answer is the one
    /// without them.
    IdentityHeaders,
    /// Nova hides a password from its own cache for 15 s and lets a second one overwrite it; here it is readable at once
    /// and a second one is refused at once.
    PasswordCache,
}

/// How often each difference came up.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<Difference, usize>);

impl Tally {
    pub(crate) fn add(&mut self, difference: Difference) {
        *self.0.entry(difference).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deliberate differences: {:?}", self.0)
    }
}

/// Expectations of a case's rows, asked for in their order.
pub(crate) struct Expectations<'a> {
    case: &'a Case,
    /// The first password that was accepted.
    password: Option<Vec<u8>>,
}

const PLAIN: &str = "text/plain; charset=UTF-8";
const HTML: &str = "text/html; charset=UTF-8";

impl<'a> Expectations<'a> {
    pub(crate) fn new(case: &'a Case) -> Self {
        Self { case, password: None }
    }

    /// Returns what is expected, and why it is not what Nova answered, if it is not.
    pub(crate) fn of(&mut self, row: &Row) -> (Captured, Option<Difference>) {
        let (expected, difference) = match &*row.group {
            _ if is_no_target(&row.path) => (refused(), Difference::NoTarget),
            "identity" => (self.without_identity(row), Difference::IdentityHeaders),
            _ if row.answer.status == 0 => (not_found(row), Difference::Crash),
            "password" => (self.without_cache(row), Difference::PasswordCache),
            _ => return (row.answer.clone(), None),
        };
        let difference = (expected != row.answer).then_some(difference);
        (expected, difference)
    }

    /// Nova's answer to the same request with the instance's own identity.
    fn without_identity(&self, row: &Row) -> Captured {
        // Only errors depend on the form that a request asks for.
        let is_same = |other: &&Row| {
            other.group != "identity"
                && other.group != "password"
                && (&other.method, &other.path) == (&row.method, &row.path)
                && (other.answer.status == 200 || other.header("accept") == row.header("accept"))
        };
        let same = self.case.rows.iter().find(is_same);
        let same = same.unwrap_or_else(|| panic!("{}: nothing to compare {} with", self.case.name, row.path));
        same.answer.clone()
    }

    fn without_cache(&mut self, row: &Row) -> Captured {
        if row.answer.status != 200 || !row.path.trim_end_matches('/').ends_with("/password") {
            return row.answer.clone();
        }
        match (&*row.method, &self.password) {
            ("GET", Some(password)) => Captured {
                status: 200,
                content_type: Some(HTML.to_owned()),
                content_length: Some(password.len() as u64),
                body: password.clone(),
            },
            ("POST", Some(_)) => {
                let body = "409 Conflict\n\nThere was a conflict when trying to complete your request.\n\n   ";
                error(409, body)
            }
            ("POST", None) => {
                self.password = row.request_body.clone().filter(|body| !body.is_empty());
                row.answer.clone()
            }
            _ => row.answer.clone(),
        }
    }
}

fn error(status: u16, body: &str) -> Captured {
    Captured {
        status,
        content_type: Some(PLAIN.to_owned()),
        content_length: Some(body.len() as u64),
        body: body.as_bytes().to_vec(),
    }
}

fn is_no_target(target: &str) -> bool {
    !target.starts_with('/') && target != "*" && !target.contains("://")
}

fn refused() -> Captured {
    Captured { status: 400, content_type: None, content_length: Some(0), body: Vec::new() }
}

fn not_found(row: &Row) -> Captured {
    assert_eq!(row.header("accept"), None, "a crash in another form than plain text");
    error(404, "404 Not Found\n\nThe resource could not be found.\n\n   ")
}
