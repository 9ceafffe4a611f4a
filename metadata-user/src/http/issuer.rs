//! What signs for guests: the node's keys, and how often each instance may have them used.
//!
//! Promises: an instance that has nothing signed costs nothing.

use std::sync::Arc;

use super::rate::Rates;
use crate::config::Signer;
use crate::policy::{Policy, RequestRate};
use crate::record::InstanceId;
use crate::secret::jwt::KeySet;
use crate::signing::Signing;

/// What signs.
#[derive(Debug)]
pub(super) struct Issuer {
    signing: Arc<Signing>,
    rates: Rates,
}

impl Issuer {
    /// Returns what signs with these keys, at the configured rate.
    pub(super) fn new(signing: Arc<Signing>, policy: &Policy) -> Self {
        Self { signing, rates: Rates::new(of_signatures(policy)) }
    }

    /// Applies another policy.
    pub(super) fn configure(&self, policy: &Policy) {
        self.rates.configure(of_signatures(policy));
    }

    /// Counts a signature for an instance. `false`: it is one too many.
    pub(super) fn admits(&self, instance: InstanceId) -> bool {
        self.rates.count_instance(instance)
    }

    /// Returns who signs.
    pub(super) fn signer(&self) -> &Signer {
        self.signing.signer()
    }

    /// Returns the keys; `None`: none could be read yet.
    pub(super) fn keys(&self) -> Option<Arc<KeySet>> {
        self.signing.keys()
    }
}

/// Returns the policy that counts signatures as requests.
fn of_signatures(policy: &Policy) -> Policy {
    let per_second = policy.identity.per_second;
    Policy { requests: RequestRate { per_second, burst: per_second }, ..*policy }
}
