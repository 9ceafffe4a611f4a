//! Waiting until an instance can be answered: the question.

use std::time::Duration;

use super::query::value;
use crate::percent;

/// Longest time that may be waited.
pub const LONGEST: Duration = Duration::from_secs(600);

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitFor {
    /// The instance's UUID.
    pub instance: String,
    /// A tap that has to exist, and be bound to the instance.
    pub port: Option<String>,
    /// For how long, at most [`LONGEST`].
    pub timeout: Duration,
}

impl WaitFor {
    /// Reads one; `None` if the instance or a valid time is missing.
    pub(super) fn from_query(query: &str) -> Option<Self> {
        let timeout = value(query, "timeout_ms")?.parse().ok().map(Duration::from_millis)?;
        Some(Self { instance: value(query, "instance")?, port: value(query, "port"), timeout: timeout.min(LONGEST) })
    }

    /// Writes it as [`Self::from_query`] reads it.
    pub(super) fn query(&self) -> String {
        let port = self.port.as_deref().map(|port| format!("&port={}", percent::encode(port))).unwrap_or_default();
        format!("instance={}{port}&timeout_ms={}", percent::encode(&self.instance), self.timeout.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_arrives() {
        let timeout = Duration::from_millis(1500);
        for port in [None, Some("tap 1".to_owned())] {
            let asked = WaitFor { instance: "a".to_owned(), port, timeout };
            assert_eq!(WaitFor::from_query(&asked.query()), Some(asked));
        }
        for query in ["instance=a", "instance=a&timeout_ms=x", "timeout_ms=1"] {
            assert_eq!(WaitFor::from_query(query), None, "{query}");
        }
        let long = WaitFor::from_query("instance=a&timeout_ms=99999999999").expect("a wait");
        assert_eq!(long.timeout, LONGEST);
    }
}
