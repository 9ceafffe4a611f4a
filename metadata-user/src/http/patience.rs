//! How long a request waits for content that has not arrived: this depends on the client, as each has its own time-out.
//!
//! Promises: the first entry that matches the client decides, the operator's before the built-in ones; a lookup allocates nothing and
//! compares a bounded number of bytes; no request waits so long that its connection counts as idle.

use std::time::Duration;

use hyper::header::{HeaderMap, USER_AGENT};

use super::Times;
use crate::config::patience::{BUILT_IN, Client};

/// How long the requests of each client wait.
#[derive(Debug)]
pub(super) struct Patience {
    /// The operator's entries.
    named: Vec<Client>,
    /// All others.
    others: Duration,
    /// The longest that any request waits.
    most: Duration,
}

/// How long a request waits, and what its client does after a 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// From the moment at which its content was found missing.
    pub(super) time: Duration,
    /// Whether its client asks again after a connection that ended without an answer, and not after a 503.
    pub(super) is_final: bool,
}

impl Patience {
    /// Returns the table for these times and the operator's entries. With a ready time-out of zero no request waits.
    pub(super) fn new(times: &Times, named: &[Client]) -> Self {
        let most = if times.ready.is_zero() { Duration::ZERO } else { times.idle / 2 };
        Self { named: named.to_vec(), others: times.ready, most }
    }

    /// Returns how long a request with these headers waits.
    pub(super) fn of(&self, headers: &HeaderMap) -> Wait {
        let agent = headers.get(USER_AGENT).map(|agent| agent.as_bytes());
        let mut known = self.named.iter().chain(BUILT_IN.iter().map(|known| &known.client));
        let client = known.find(|client| client.is(agent));
        Wait {
            time: client.map_or(self.others, |client| client.wait).min(self.most),
            is_final: client.is_some_and(|client| client.is_final),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(patience: &Patience, agent: Option<&'static str>) -> (u128, bool) {
        let mut headers = HeaderMap::new();
        if let Some(agent) = agent {
            headers.insert(USER_AGENT, agent.parse().expect("a value"));
        }
        let Wait { time, is_final } = patience.of(&headers);
        (time.as_millis(), is_final)
    }

    #[test]
    fn each_client_waits_as_long_as_it_can() {
        let named = [
            Client { agent: "Wget/1.21.3".into(), wait: Duration::from_secs(20), is_final: false },
            Client { agent: "".into(), wait: Duration::from_secs(2), is_final: true },
        ];
        let times = Times::default();
        let patience = Patience::new(&times, &named);
        for (agent, expected) in [
            (Some("Cloud-Init/26.2"), (9000, false)),
            (Some("Botocore/1.44.5 md/Botocore#1.44.5 ua/2.1"), (900, true)),
            (Some("aws-cli/2.9.19 Python/3.11.2"), (900, true)),
            (Some("Ruby"), (15_000, true)),
            (Some("Wget/1.20"), (15_000, true)),
            (Some("Wget/1.21.3"), (15_000, false)),
            (Some("curl/8.5.0"), (9000, false)),
            (None, (2000, true)),
        ] {
            assert_eq!(waits(&patience, agent), expected, "{agent:?}");
        }
        let shorter = Patience::new(&Times { idle: Duration::from_secs(4), ..times }, &named);
        assert_eq!(waits(&shorter, Some("curl/8.5.0")), (2000, false), "half of the idle time-out");
        let none = Patience::new(&Times { ready: Duration::ZERO, ..times }, &named);
        assert_eq!(waits(&none, Some("Wget/1.20")), (0, true), "nobody waits");
    }
}
