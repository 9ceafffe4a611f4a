//! Guests' connections: HTTP/1 in, an instance's answers out.
//!
//! Promises to the guest:
//! - it reads its own instance's data or nothing: who it is comes from the connection's address alone, is looked at
//!   again for every request, and nothing that it sends takes part in it;
//! - until its content has arrived, every path answers 503 with `Retry-After: 1`, after a wait as long as its client can wait
//!   ([`Times::ready`], `patience`);
//! - when its binding ends, its connections end without another byte.
//!
//! Promises to the operator: a guest costs a bounded number of connections, bytes and seconds; what is refused is
//! counted.
//!
//! Left out: what the answers are (`api`), handshakes of TLS (`https`), HTTP/2, and compression, none of which Nova has.

mod access;
mod admission;
mod attributes;
mod body;
pub mod connection;
mod error;
mod exchange;
mod extended;
#[doc(hidden)]
pub mod fuzzing;
mod issuer;
mod limit;
mod listener;
mod on_wake;
mod patience;
mod preview;
mod privileged;
mod progress;
mod rate;
mod record;
mod request_line;
mod respond;
mod route;
pub mod service;
mod session;
mod signed;
mod socket;
mod stream;
mod switches;
mod target;
mod turns;
mod unusual;
pub mod usage;
mod wait;
mod waits;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::audit::Audit;
use crate::boots::Boots;
use crate::config::{self, Config};
use crate::identity::Identities;
use crate::on_demand::OnDemand;
use crate::origin::Origin;
use crate::policy::{Policy, PolicyOverrides};
use crate::secret::token::TokenKey;
use crate::signing::Signing;
use crate::state_view::StateView;
use crate::store::Store;

pub use crate::metrics::Http as Counters;
pub use error::Refusal;
pub use listener::{Listeners, run};
pub use preview::{NoPreview, Preview};

use issuer::Issuer;
use limit::Limits;
use patience::Patience;
use rate::Rates;
use usage::Usages;
use waits::Waits;

/// Everything that guests' connections share.
#[derive(Debug)]
pub struct Guests {
    identities: Arc<Identities>,
    store: Arc<Store>,
    limits: Arc<Limits>,
    policy: StateView<Policy>,
    rates: Arc<Rates>,
    waits: Arc<Waits>,
    /// How fast instances write attributes.
    writes: Arc<Rates>,
    counters: Arc<Counters>,
    times: StateView<Times>,
    patience: StateView<Patience>,
    heads: StateView<Heads>,
    origin: OnceLock<Origin>,
    on_demand: OnceLock<OnDemand>,
    audit: OnceLock<Arc<Audit>>,
    usages: Arc<Usages>,
    tokens: OnceLock<Arc<TokenKey>>,
    issuer: OnceLock<Arc<Issuer>>,
    boots: Arc<Boots>,
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
struct Heads {
    /// Bytes in all; beyond, hyper answers 431.
    bytes: usize,
    /// Header fields; beyond, hyper answers 431.
    fields: usize,
    /// Bytes of the target.
    target: usize,
}

impl Heads {
    fn of(settings: &config::Http) -> Self {
        Self { bytes: settings.head_bytes, fields: settings.headers, target: settings.target_bytes }
    }
}

impl Default for Heads {
    fn default() -> Self {
        Self::of(&config::Config::default().http)
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

impl Guests {
    /// Returns the shared part, without a connection.
    #[must_use]
    pub fn new(settings: &Config, identities: Arc<Identities>, store: Arc<Store>, counters: Counters) -> Self {
        Self {
            identities,
            store,
            limits: Arc::new(Limits::new(settings.http.connections)),
            policy: StateView::new(without_signatures(settings.policy())),
            rates: Arc::new(Rates::new(settings.policy())),
            waits: Arc::default(),
            writes: Arc::new(Rates::of_writes(settings.policy())),
            counters: Arc::new(counters),
            times: StateView::new(Times::of(&settings.http)),
            patience: StateView::new(Patience::new(&Times::of(&settings.http), &settings.http.patience)),
            heads: StateView::new(Heads::of(&settings.http)),
            origin: OnceLock::new(),
            on_demand: OnceLock::new(),
            audit: OnceLock::new(),
            usages: Arc::default(),
            tokens: OnceLock::new(),
            issuer: OnceLock::new(),
            boots: Arc::default(),
        }
    }

    /// Applies these settings: policies also to open connections, time-outs and sizes to new ones. `connections`: most connections in
    /// all.
    pub fn reconfigure(&self, settings: &Config, connections: usize) {
        let policy = settings.policy();
        self.rates.configure(policy);
        match self.issuer.get() {
            Some(issuer) => {
                issuer.configure(&policy);
                self.policy.publish(policy);
            }
            // Keys that are configured now are read by the next daemon.
            None => self.policy.publish(without_signatures(policy)),
        }
        self.times.publish(Times::of(&settings.http));
        self.patience.publish(Patience::new(&Times::of(&settings.http), &settings.http.patience));
        self.heads.publish(Heads::of(&settings.http));
        self.limits.set_total(connections);
    }

    /// From here on, connections ask there for what services answer when a guest reads.
    pub fn ask_services_at(&self, on_demand: OnDemand) {
        // There is one set of services in a daemon's life.
        let _ = self.on_demand.set(on_demand);
    }

    /// From here on, connections ask there for what an instance of an unchanged OpenStack lacks.
    pub fn ask_at(&self, origin: Origin) {
        // There is one source in a daemon's life.
        let _ = self.origin.set(origin);
    }

    /// From here on, what guests do is recorded there, beyond the counters.
    pub fn record_at(&self, audit: Arc<Audit>) {
        // There is one audit log in a daemon's life.
        let _ = self.audit.set(audit);
    }

    /// Returns where more than the counters is recorded.
    fn audit(&self) -> Option<&Audit> {
        self.audit.get().map(|audit| &**audit)
    }

    /// From here on, session tokens are sealed with this key; before, none is issued.
    pub fn seal_tokens_with(&self, key: TokenKey) {
        // There is one key in a daemon's life.
        let _ = self.tokens.set(Arc::new(key));
    }

    /// From here on, guests get proofs of what they are that are signed with these keys. Before there is a connection.
    pub fn sign_with(&self, settings: &Config, signing: Arc<Signing>) {
        let policy = settings.policy();
        // There is one file of keys in a daemon's life.
        let _ = self.issuer.set(Arc::new(Issuer::new(signing, &policy)));
        self.policy.publish(policy);
    }

    /// Returns what an instance with these overrides may do.
    #[must_use]
    pub fn policy(&self, overrides: &PolicyOverrides) -> Policy {
        self.policy.get().with(overrides)
    }

    /// Returns what instances' guests have asked for.
    #[must_use]
    pub fn usages(&self) -> &Usages {
        &self.usages
    }

    /// Returns the history of boots, which all connections feed.
    #[must_use]
    pub fn boots(&self) -> &Arc<Boots> {
        &self.boots
    }

    /// Returns what happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the number of connections now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.limits.open()
    }

    /// Returns the number of requests that wait for a change now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waits.open()
    }

    /// Returns the most connections that there can be.
    #[must_use]
    pub fn most_open(&self) -> usize {
        self.limits.total()
    }
}

/// Where nothing signs.
fn without_signatures(mut policy: Policy) -> Policy {
    policy.identity.enabled = false;
    policy
}

#[cfg(test)]
mod tests;
