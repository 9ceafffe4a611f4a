//! Requests per second of each instance, all its ports and connections together.
//!
//! Promises: an instance that asks no more than its [`Policy`](crate::policy::Policy) allows waits for nothing here, whatever
//! others ask. What is beyond it waits a moment, since most of it is a burst that is soon over, and is then answered with 429
//! and `Retry-After`; so one connection gets at most four such answers per second, however fast it asks.
//!
//! A port that is bound to no instance (yet) counts by itself.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::allowance::RuntimeClock;
use crate::api::Content;
use crate::identity::Tag;
use crate::policy::{Policy, RequestRate};
use crate::record::InstanceId;
use crate::state_view::StateView;
use crate::table::Hasher;

/// How long a request beyond the rate waits.
pub(super) const HOLD: Duration = Duration::from_millis(250);

/// Requests after which who has all of its burst again is forgotten.
const TIDIED: u32 = 1 << 16;

/// Attributes that an instance writes per second, and at once after a pause: an agent writes some when its guest boots.
const WRITES: RequestRate = RequestRate { per_second: 10, burst: 40 };

/// Whose requests count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Instance(InstanceId),
    Port(Tag),
}

type Limiter = RateLimiter<Owner, DashMapStateStore<Owner, Hasher>, RuntimeClock, NoOpMiddleware<std::time::Instant>>;

/// The configured policy, and the limiter of instances with its rate.
#[derive(Debug)]
struct Configured {
    policy: Policy,
    /// `None`: there is no limit.
    usual: Option<Arc<Limiter>>,
}

/// What each instance has asked lately.
#[derive(Debug)]
pub(super) struct Rates {
    configured: StateView<Configured>,
    /// Of the others, by what their documents allow.
    others: DashMap<RequestRate, Limiter>,
    counted: AtomicU32,
}

impl Rates {
    pub(super) fn new(configured: Policy) -> Self {
        let usual = limiter(configured.requests).map(Arc::new);
        let configured = StateView::new(Configured { policy: configured, usual });
        Self { configured, others: DashMap::new(), counted: AtomicU32::new(0) }
    }

    /// Returns what counts the attributes that instances write.
    pub(super) fn of_writes(policy: Policy) -> Self {
        Self::new(Policy { requests: WRITES, ..policy })
    }

    /// Replaces the configured policy. If its rate has changed, every instance has its full burst again.
    pub(super) fn configure(&self, policy: Policy) {
        let before = self.configured.get();
        let usual = match before.policy.requests == policy.requests {
            true => before.usual.clone(),
            false => limiter(policy.requests).map(Arc::new),
        };
        self.configured.publish(Configured { policy, usual });
    }

    /// Counts a request of whoever owns the connection of a port with this tag. `false`: it is one too many, and not counted.
    pub(super) fn count(&self, tag: Tag, owner: Option<&Content>) -> bool {
        let configured = self.configured.get();
        match owner {
            Some(content) => {
                let policy = configured.policy.with(&content.policy());
                self.allows(&configured, Owner::Instance(content.uuid()), policy.requests)
            }
            None => self.allows(&configured, Owner::Port(tag), configured.policy.requests),
        }
    }

    /// Counts a request of an instance at the configured rate, whatever its document allows. `false`: it is one too many, and not
    /// counted.
    pub(super) fn count_instance(&self, instance: InstanceId) -> bool {
        let configured = self.configured.get();
        self.allows(&configured, Owner::Instance(instance), configured.policy.requests)
    }

    fn allows(&self, configured: &Configured, owner: Owner, rate: RequestRate) -> bool {
        if rate.per_second == 0 {
            return true;
        }
        if self.counted.fetch_add(1, Ordering::Relaxed) % TIDIED == TIDIED - 1 {
            configured.usual.iter().for_each(|limiter| limiter.retain_recent());
            self.others.iter().for_each(|limiter| limiter.retain_recent());
        }
        if rate == configured.policy.requests {
            return configured.usual.as_ref().is_none_or(|limiter| limiter.check_key(&owner).is_ok());
        }
        if let Some(limiter) = self.others.get(&rate) {
            return limiter.check_key(&owner).is_ok();
        }
        let Some(limiter) = limiter(rate) else { return true };
        self.others.entry(rate).or_insert(limiter).check_key(&owner).is_ok()
    }
}

/// Returns what counts requests at this rate; `None`: there is no limit.
fn limiter(rate: RequestRate) -> Option<Limiter> {
    let per_second = NonZeroU32::new(rate.per_second)?;
    let quota = Quota::per_second(per_second).allow_burst(NonZeroU32::new(rate.burst).unwrap_or(per_second));
    Some(RateLimiter::new(quota, DashMapStateStore::default(), RuntimeClock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const RATE: RequestRate = RequestRate { per_second: 10, burst: 30 };

    fn instance(number: u128) -> Owner {
        Owner::Instance(InstanceId(uuid::Uuid::from_u128(number)))
    }

    fn rates() -> Rates {
        Rates::new(Config::default().policy())
    }

    /// Asks as often as allowed, up to a bound.
    fn ask(rates: &Rates, owner: Owner, rate: RequestRate) -> usize {
        (0..10_000).take_while(|_| rates.allows(&rates.configured.get(), owner, rate)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_comes_back_with_time_and_another_instance_has_its_own() {
        let rates = rates();
        assert_eq!(ask(&rates, instance(1), RATE), 30);
        assert_eq!(ask(&rates, instance(2), RATE), 30);
        assert_eq!(ask(&rates, Owner::Port(Tag(1)), RATE), 30);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ask(&rates, instance(1), RATE), 10);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(ask(&rates, instance(1), RATE), 30, "no more than the burst");
        assert_eq!(ask(&rates, instance(1), RequestRate { per_second: 0, ..RATE }), 10_000, "no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_guests_that_boot_at_once_are_not_limited() {
        let (rates, policy) = (rates(), Config::default().policy());
        for _ in 0..30 {
            for guest in 0..100 {
                assert!(rates.allows(&rates.configured.get(), instance(guest), policy.requests));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_all_of_its_burst_again_is_forgotten() {
        let rates = rates();
        for number in 0..u128::from(TIDIED) - 1 {
            assert!(rates.allows(&rates.configured.get(), instance(number), RATE));
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(rates.allows(&rates.configured.get(), instance(1), RATE));
        assert!(rates.others.get(&RATE).expect("there").len() <= 1);
    }
}
