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
mod patience;
mod preview;
mod privileged;
mod progress;
mod rate;
mod recheck;
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
mod terms;
mod turns;
mod unusual;
pub mod usage;
mod wait;
mod waits;

use std::sync::{Arc, OnceLock};

use crate::audit::Audit;
use crate::boots::Boots;
use crate::config::Config;
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
pub use terms::Times;

use issuer::Issuer;
use limit::Limits;
use rate::Rates;
use terms::Terms;
use usage::Usages;

/// Everything that guests' connections share.
#[derive(Debug)]
pub struct Guests {
    identities: Arc<Identities>,
    store: Arc<Store>,
    limits: Arc<Limits>,
    policy: StateView<Policy>,
    /// Of connections that begin now.
    terms: StateView<Terms>,
    /// How fast instances write attributes.
    writes: Arc<Rates>,
    counters: Arc<Counters>,
    origin: OnceLock<Origin>,
    on_demand: OnceLock<OnDemand>,
    audit: OnceLock<Arc<Audit>>,
    usages: Arc<Usages>,
    tokens: OnceLock<Arc<TokenKey>>,
    boots: Arc<Boots>,
}

impl Guests {
    /// Returns the shared part, without a connection.
    #[must_use]
    pub fn new(settings: &Config, identities: Arc<Identities>, store: Arc<Store>, counters: Counters) -> Self {
        let counters = Arc::new(counters);
        let rates = Arc::new(Rates::new(settings.policy()));
        Self {
            identities,
            store,
            limits: Arc::new(Limits::new(settings.http.connections)),
            policy: StateView::new(without_signatures(settings.policy())),
            terms: StateView::new(Terms::of(&settings.http, rates, Arc::clone(&counters))),
            writes: Arc::new(Rates::of_writes(settings.policy())),
            counters,
            origin: OnceLock::new(),
            on_demand: OnceLock::new(),
            audit: OnceLock::new(),
            usages: Arc::default(),
            tokens: OnceLock::new(),
            boots: Arc::default(),
        }
    }

    /// Applies these settings: policies also to open connections, time-outs and sizes to new ones. `connections`: most connections in
    /// all.
    pub fn reconfigure(&self, settings: &Config, connections: usize) {
        let policy = settings.policy();
        let terms = self.terms.get();
        terms.rates.iter().for_each(|rates| rates.configure(policy));
        match &terms.issuer {
            Some(issuer) => {
                issuer.configure(&policy);
                self.policy.publish(policy);
            }
            // Keys that are configured now are read by the next daemon.
            None => self.policy.publish(without_signatures(policy)),
        }
        self.terms.publish(terms.with(&settings.http));
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
        let issuer = Some(Arc::new(Issuer::new(signing, &policy)));
        self.terms.publish(Terms { issuer, ..(*self.terms.get()).clone() });
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
        self.terms.get().waits.open()
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
