//! What connections that begin now get: a value that each of them holds until its end, so that one reference is enough for all of it.

use std::sync::Arc;
use std::time::Duration;

use super::Counters;
use super::issuer::Issuer;
use super::patience::Patience;
use super::rate::Rates;
use super::waits::Waits;
use crate::config::{self, Config};

/// The terms of a connection.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) times: Times,
    pub(super) heads: Heads,
    pub(super) patience: Arc<Patience>,
    /// What its instance asks; `None`: requests are not counted.
    pub(super) rates: Option<Arc<Rates>>,
    /// The requests that wait for a change, of all instances.
    pub(super) waits: Arc<Waits>,
    /// What signs for guests; `None`: nothing does.
    pub(super) issuer: Option<Arc<Issuer>>,
    pub(super) counters: Arc<Counters>,
}

impl Terms {
    /// Returns those of a connection that shares nothing.
    pub(super) fn alone(times: Times, counters: Arc<Counters>) -> Self {
        Self {
            times,
            heads: Heads::default(),
            patience: Arc::new(Patience::new(&times, &[])),
            rates: None,
            waits: Arc::default(),
            issuer: None,
            counters,
        }
    }

    /// Returns those of a node's guests.
    pub(super) fn of(settings: &config::Http, rates: Arc<Rates>, counters: Arc<Counters>) -> Self {
        let times = Times::of(settings);
        Self {
            times,
            heads: Heads::of(settings),
            patience: Arc::new(Patience::new(&times, &settings.patience)),
            rates: Some(rates),
            waits: Arc::default(),
            issuer: None,
            counters,
        }
    }

    /// Returns the same with these times and sizes.
    pub(super) fn with(&self, settings: &config::Http) -> Self {
        let times = Times::of(settings);
        let patience = Arc::new(Patience::new(&times, &settings.patience));
        Self { times, heads: Heads::of(settings), patience, ..self.clone() }
    }
}

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the first byte of a request to the end of its head and body.
    pub request: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// From a request's last byte until its content has arrived, if its client is not listed; then the answer is 503.
    pub ready: Duration,
    /// From its begin until it ends after the request that it has; zero: as long as it likes.
    pub connection: Duration,
}

/// How large the head of a request may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    /// Bytes in all; beyond, hyper answers 431.
    pub(super) bytes: usize,
    /// Header fields; beyond, hyper answers 431.
    pub(super) fields: usize,
    /// Bytes of the target.
    pub(super) target: usize,
}

impl Heads {
    fn of(settings: &config::Http) -> Self {
        Self { bytes: settings.head_bytes, fields: settings.headers, target: settings.target_bytes }
    }
}

impl Default for Heads {
    fn default() -> Self {
        Self::of(&Config::default().http)
    }
}

impl Times {
    fn of(settings: &config::Http) -> Self {
        Self {
            request: settings.request_timeout,
            idle: settings.idle_timeout,
            ready: settings.ready_timeout,
            connection: settings.connection_timeout,
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::of(&Config::default().http)
    }
}
