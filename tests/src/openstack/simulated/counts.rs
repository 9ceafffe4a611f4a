//! What the simulated services were asked, by kind, and how much of it in which second.

use std::fmt;
use std::ops::Sub;
use std::time::Instant;

use parking_lot::Mutex;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Keystone: a token.
    Token,
    /// Nova: which services there are.
    Services,
    /// Nova: a page of all servers.
    List,
    /// Nova: a server.
    Server,
    /// Nova: the moves of a server.
    Moves,
    /// Nova's metadata API: a page of an instance.
    Page,
    /// Neutron: ports of servers or groups.
    Ports,
    /// Neutron: floating IPs of ports.
    FloatingIps,
    /// What is not answered here, or is refused.
    Other,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Token,
        Self::Services,
        Self::List,
        Self::Server,
        Self::Moves,
        Self::Page,
        Self::Ports,
        Self::FloatingIps,
        Self::Other,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Token => "keystone tokens",
            Self::Services => "nova services",
            Self::List => "nova lists",
            Self::Server => "nova servers",
            Self::Moves => "nova migrations",
            Self::Page => "metadata pages",
            Self::Ports => "neutron ports",
            Self::FloatingIps => "neutron floating IPs",
            Self::Other => "others",
        }
    }
}

/// Numbers of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Kind::ALL.len()]);

impl Counts {
    /// Returns the number of requests of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Returns the number of all requests.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let mut counts = self.0;
        counts.iter_mut().zip(before.0).for_each(|(count, before)| *count -= before);
        Self(counts)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.all())?;
        let kinds = Kind::ALL.into_iter().filter(|kind| self.of(*kind) > 0);
        for (place, kind) in kinds.enumerate() {
            let before = if place == 0 { ": " } else { ", " };
            write!(f, "{before}{} {}", self.of(kind), kind.as_str())?;
        }
        Ok(())
    }
}

/// Counts as requests come.
#[derive(Debug)]
pub(super) struct Counting {
    begun: Instant,
    inner: Mutex<(Counts, Vec<u64>)>,
}

impl Default for Counting {
    fn default() -> Self {
        Self { begun: Instant::now(), inner: Mutex::default() }
    }
}

impl Counting {
    pub(super) fn add(&self, kind: Kind) {
        let second = usize::try_from(self.begun.elapsed().as_secs()).unwrap_or(0);
        let (counts, seconds) = &mut *self.inner.lock();
        counts.0[kind as usize] += 1;
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += 1;
    }

    pub(super) fn counts(&self) -> Counts {
        self.inner.lock().0
    }

    /// Returns the most requests in one second since a moment.
    pub(super) fn most_since(&self, since: Instant) -> u64 {
        let from = usize::try_from(since.saturating_duration_since(self.begun).as_secs()).unwrap_or(0);
        self.inner.lock().1.iter().skip(from).copied().max().unwrap_or(0)
    }
}
