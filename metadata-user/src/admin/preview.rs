//! What a guest would read, asked by an operator: the question and the answer.
//!
//! Promises: the answer is what the guest's own request would get, byte for byte; its body is in it only for those who may see
//! secrets, or where there can be none.

use std::fmt;

use super::query::{has, value};
use crate::percent;

/// What an operator asks in a guest's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestRequest {
    /// The instance: its UUID, the name of its tap, or its host name.
    pub instance: String,
    /// The request target: printable ASCII that begins with `/`.
    pub path: String,
    /// Whether only the head of the answer is wanted.
    pub head: bool,
    /// Whether it is asked over IPv6.
    pub over_ipv6: bool,
    /// Whether it is asked as a process that may not have a source port below 1024.
    pub unprivileged: bool,
    /// Whether it is asked without a session token.
    pub without_token: bool,
}

impl GuestRequest {
    /// Reads one; `None` if instance or path are missing.
    pub(super) fn from_query(query: &str) -> Option<Self> {
        Some(Self {
            instance: value(query, "instance")?,
            path: value(query, "path")?,
            head: has(query, "head"),
            over_ipv6: has(query, "over_ipv6"),
            unprivileged: has(query, "unprivileged"),
            without_token: has(query, "without_token"),
        })
    }

    /// Writes it as [`Self::from_query`] reads it.
    pub(super) fn query(&self) -> String {
        let mut query = format!("instance={}&path={}", percent::encode(&self.instance), percent::encode(&self.path));
        for (name, is_set) in [
            ("head", self.head),
            ("over_ipv6", self.over_ipv6),
            ("unprivileged", self.unprivileged),
            ("without_token", self.without_token),
        ] {
            if is_set {
                query += &format!("&{name}");
            }
        }
        query
    }

    /// Tells whether the path can be the target of a request.
    #[must_use]
    pub fn has_target(&self) -> bool {
        self.path.starts_with('/') && self.path.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

/// What the guest gets. `Debug` leaves the body out.
#[derive(Clone, PartialEq, Eq)]
pub struct GuestAnswer {
    /// The head of the answer, as it is sent: a status line, headers, and an empty line.
    pub head: String,
    /// The body; `None`: it may hold a secret, which was not asked for.
    pub body: Option<Vec<u8>>,
}

impl fmt::Debug for GuestAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestAnswer").field("head", &self.head).finish_non_exhaustive()
    }
}

impl GuestAnswer {
    /// Splits an answer into head and body; `None` if it is not one.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let end = message.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(message[..end].to_vec()).ok()?;
        Some(Self { head, body: Some(message[end..].to_vec()) })
    }

    /// Splits an answer that came over the admin socket: a body that its head announces and that is missing was withheld. `head`: only
    /// the head was asked for.
    pub(super) fn received(message: &[u8], head: bool) -> Option<Self> {
        let answer = Self::parse(message)?;
        let is_withheld = !head && answer.body.as_ref().map(Vec::len) != Some(answer.content_length());
        Some(if is_withheld { Self { body: None, ..answer } } else { answer })
    }

    /// Returns the length of the body by the head.
    fn content_length(&self) -> usize {
        let headers = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut length =
            headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value);
        length.next_back().and_then(|length| length.trim().parse().ok()).unwrap_or_default()
    }

    /// Returns the status; `None` if there is no status line.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.head.split_whitespace().nth(1)?.parse().ok()
    }

    /// Returns the status line.
    #[must_use]
    pub fn status_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// What an operator cannot ask in a guest's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreviewError {
    /// There is no such instance.
    #[error("no instance with the UUID, tap or host name {0} is served here; `metadatad ports` lists those with a tap")]
    NoInstance(String),
    /// Several have that name.
    #[error("several instances have the name {name}: {}; use a UUID", instances.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// The instances, ascending.
        instances: Vec<String>,
    },
    /// The path cannot be asked for.
    #[error("the path {0:?} is not a request target: begin it with `/`, and percent-encode all but printable ASCII")]
    Target(String),
    /// What is there is signed for the guest alone.
    #[error(
        "{0} proves what the guest is, and nothing is signed in its name: ask in the guest; `metadatad status` shows which key signs"
    )]
    Signed(String),
    /// The service gave no answer.
    #[error("asking the daemon's own service: {0}")]
    Broken(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_arrives() {
        let all = GuestRequest {
            instance: "web 1".to_owned(),
            path: "/openstack/latest/user_data?a=b&c%20d#".to_owned(),
            head: true,
            over_ipv6: true,
            unprivileged: true,
            without_token: true,
        };
        let none =
            GuestRequest { head: false, over_ipv6: false, unprivileged: false, without_token: false, ..all.clone() };
        for asked in [all, none] {
            assert_eq!(GuestRequest::from_query(&asked.query()), Some(asked.clone()), "{}", asked.query());
        }
        assert_eq!(GuestRequest::from_query("instance=a"), None);
    }

    #[test]
    fn an_answer_is_taken_apart_and_not_shown() {
        let answer = GuestAnswer::parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nx\r\n\r\ny").expect("an answer");
        assert_eq!((answer.status(), answer.status_line()), (Some(200), "HTTP/1.1 200 OK"));
        assert_eq!(answer.body.as_deref(), Some(&b"x\r\n\r\ny"[..]));
        assert!(!format!("{answer:?}").contains('y'));
        assert_eq!(GuestAnswer::parse(b"HTTP/1.1 200 OK\r\n"), None);
        let received = |text: &[u8], head| GuestAnswer::received(text, head).expect("an answer").body;
        assert_eq!(received(b"HTTP/1.1 200 OK\r\nContent-length: 1\r\n\r\ny", false), Some(b"y".to_vec()));
        assert_eq!(received(b"HTTP/1.1 200 OK\r\nContent-length: 1\r\n\r\n", false), None, "withheld");
        assert_eq!(received(b"HTTP/1.1 200 OK\r\nContent-length: 1\r\n\r\n", true), Some(Vec::new()));
        assert_eq!(received(b"HTTP/1.1 200 OK\r\nContent-length: 0\r\n\r\n", false), Some(Vec::new()));
    }
}
