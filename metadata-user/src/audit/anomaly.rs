//! What is unusual about a guest's traffic, and how often each instance shows it.
//!
//! An anomaly is a hint, not a verdict: nothing is refused because of it. A forwarded header says that a proxy in the
//! guest passes requests on (server-side request forgery, or a container's side-car); a foreign `Host` the same, or a name
//! that was rebound to this address.
//!
//! Promises: memory is bounded, by `MOST_INSTANCES` and for each of them; a request without an anomaly costs nothing
//! here; what is logged of one instance and kind is its 1st, 2nd, 4th, 8th … occurrence.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use dashmap::DashMap;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tracing::info;

use crate::metrics;
use crate::record::InstanceId;

/// Most instances that are kept: several times what a node runs. Beyond it, the one that showed nothing for longest goes.
const MOST_INSTANCES: usize = 4096;

/// Unknown paths, all different, within [`SCAN_WINDOW`] that make a scan: of 512 places, this many are hit by some 72
/// paths. cloud-init tries about ten versions that Nova lacks, and ec2-metadata twenty categories.
const SCAN_PLACES: u32 = 67;

/// Seconds in which a scan is looked for.
const SCAN_WINDOW: u64 = 600;

/// Something unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Anomaly {
    /// A header of a proxy: `X-Forwarded-For`, `Forwarded`, `Via` and their kin.
    ForwardedHeader = 0,
    /// A header by which Neutron's agents tell Nova who is asking.
    IdentityHeader = 1,
    /// A `Host` that is neither of the service's addresses.
    OddHost = 2,
    /// Many different paths that do not exist.
    PathScan = 3,
    /// Packets that claim another source, dropped by the kernel half.
    SpoofedPackets = 4,
    /// A session token is missing or not valid.
    TokenFailure = 5,
    /// A limit was reached.
    LimitReached = 6,
}

impl Anomaly {
    /// All, in order.
    pub const ALL: [Self; 7] = [
        Self::ForwardedHeader,
        Self::IdentityHeader,
        Self::OddHost,
        Self::PathScan,
        Self::SpoofedPackets,
        Self::TokenFailure,
        Self::LimitReached,
    ];

    /// Returns the name that records, commands and metrics use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        metrics::ANOMALIES[self as usize]
    }

    /// Returns what an answer's status says by itself.
    #[must_use]
    pub const fn of_status(status: u16) -> Option<Self> {
        match status {
            401 => Some(Self::TokenFailure),
            429 => Some(Self::LimitReached),
            _ => None,
        }
    }
}

/// A set of anomalies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies(u8);

impl Anomalies {
    /// Adds one.
    pub fn add(&mut self, anomaly: Anomaly) {
        self.0 |= 1 << anomaly as u8;
    }

    /// Tells whether this one is in the set.
    #[must_use]
    pub fn contains(self, anomaly: Anomaly) -> bool {
        self.0 & (1 << anomaly as u8) != 0
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns them, in order.
    pub fn iter(self) -> impl Iterator<Item = Anomaly> {
        Anomaly::ALL.into_iter().filter(move |anomaly| self.contains(*anomaly))
    }
}

impl FromIterator<Anomaly> for Anomalies {
    fn from_iter<I: IntoIterator<Item = Anomaly>>(anomalies: I) -> Self {
        let mut set = Self::default();
        anomalies.into_iter().for_each(|anomaly| set.add(anomaly));
        set
    }
}

/// How often an instance showed an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What.
    pub anomaly: Anomaly,
    /// How often, since the start of the daemon.
    pub count: u64,
    /// When last, in seconds of Unix time.
    pub last_at: u64,
}

/// What is kept of one instance.
#[derive(Debug, Default)]
struct Kept {
    counts: [AtomicU64; Anomaly::ALL.len()],
    /// Seconds of Unix time.
    last_at: [AtomicU64; Anomaly::ALL.len()],
    scan: Mutex<Scan>,
}

/// The anomalies of all instances.
#[derive(Debug)]
pub struct Watch {
    instances: DashMap<InstanceId, Arc<Kept>>,
    totals: [Counter; Anomaly::ALL.len()],
    /// Keyed, so that a guest cannot choose paths that look the same.
    hasher: RandomState,
    most: usize,
}

impl Watch {
    /// Returns an empty table that counts there.
    #[must_use]
    pub fn new(counters: &metrics::Anomalies) -> Self {
        Self::with_room(counters, MOST_INSTANCES)
    }

    fn with_room(counters: &metrics::Anomalies, most: usize) -> Self {
        Self {
            instances: DashMap::new(),
            totals: std::array::from_fn(|at| counters.of(at).clone()),
            hasher: RandomState::new(),
            most,
        }
    }

    /// Counts and logs what an instance showed; `None`: the port is held. Each counts `times` times.
    pub fn note(&self, instance: Option<InstanceId>, tag: u32, anomalies: Anomalies, times: u64, at: SystemTime) {
        for anomaly in anomalies.iter() {
            let place = anomaly as usize;
            let total = self.totals[place].inc_by(times) + times;
            let count = match instance {
                None => total,
                Some(instance) => {
                    let kept = self.kept(instance);
                    kept.last_at[place].fetch_max(seconds(at), Ordering::Relaxed);
                    kept.counts[place].fetch_add(times, Ordering::Relaxed) + times
                }
            };
            // A guest cannot fill the log with it.
            if count.is_power_of_two() || times > 1 {
                let instance = instance.map(tracing::field::display);
                info!(instance, tag, anomaly = anomaly.name(), count, "a guest's traffic is unusual");
            }
        }
    }

    /// Notes a path that does not exist, and tells whether the instance is scanning.
    #[must_use]
    pub fn is_scan(&self, instance: InstanceId, path: &str, at: SystemTime) -> bool {
        let hash = self.hasher.hash_one(path);
        self.kept(instance).scan.lock().note(hash, seconds(at))
    }

    /// Returns what each instance showed, by instance; those that showed nothing are left out.
    #[must_use]
    pub fn all(&self) -> Vec<(InstanceId, Vec<Seen>)> {
        let seen = |kept: &Kept| -> Vec<Seen> {
            let each = Anomaly::ALL.into_iter().map(|anomaly| Seen {
                anomaly,
                count: kept.counts[anomaly as usize].load(Ordering::Relaxed),
                last_at: kept.last_at[anomaly as usize].load(Ordering::Relaxed),
            });
            each.filter(|seen| seen.count > 0).collect()
        };
        let mut all: Vec<_> = self.instances.iter().map(|entry| (*entry.key(), seen(entry.value()))).collect();
        all.retain(|(_, seen)| !seen.is_empty());
        all.sort_unstable_by_key(|(instance, _)| *instance);
        all
    }

    /// Returns how often each was shown by anybody.
    pub fn totals(&self) -> impl Iterator<Item = (Anomaly, u64)> {
        Anomaly::ALL.into_iter().zip(self.totals.iter().map(Counter::get)).filter(|(_, count)| *count > 0)
    }

    fn kept(&self, instance: InstanceId) -> Arc<Kept> {
        if let Some(kept) = self.instances.get(&instance) {
            return Arc::clone(&kept);
        }
        if self.instances.len() >= self.most {
            self.forget_one();
        }
        Arc::clone(&self.instances.entry(instance).or_default())
    }

    /// Makes room: who showed nothing, or nothing for longest, goes.
    fn forget_one(&self) {
        let last = |kept: &Kept| kept.last_at.iter().map(|at| at.load(Ordering::Relaxed)).max();
        let oldest = self.instances.iter().map(|entry| (last(entry.value()), *entry.key())).min();
        if let Some((_, instance)) = oldest {
            self.instances.remove(&instance);
        }
    }
}

/// Which of 512 places the unknown paths of the last minutes hit.
#[derive(Debug, Default)]
struct Scan {
    began: u64,
    places: [u64; 8],
}

impl Scan {
    /// Notes a path by its hash. `true`: it is new, and there were many.
    fn note(&mut self, hash: u64, at: u64) -> bool {
        if at.saturating_sub(self.began) >= SCAN_WINDOW {
            *self = Self { began: at, places: [0; 8] };
        }
        let (word, bit) = (usize::from(((hash >> 6) & 7) as u8), 1_u64 << (hash & 63));
        let is_new = self.places[word] & bit == 0;
        self.places[word] |= bit;
        is_new && self.places.iter().map(|word| word.count_ones()).sum::<u32>() >= SCAN_PLACES
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> InstanceId {
        InstanceId(Uuid::from_u128(number))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn watch(most: usize) -> Watch {
        Watch::with_room(&metrics::Anomalies::default(), most)
    }

    #[test]
    fn each_anomaly_has_a_name_of_its_own() {
        for (place, anomaly) in Anomaly::ALL.into_iter().enumerate() {
            assert_eq!(anomaly as usize, place);
            assert_eq!(Anomaly::ALL.into_iter().filter(|other| other.name() == anomaly.name()).count(), 1);
            let one: Anomalies = [anomaly].into_iter().collect();
            assert_eq!(one.iter().collect::<Vec<_>>(), [anomaly]);
        }
        assert_eq!(metrics::ANOMALIES.len(), Anomaly::ALL.len());
    }

    #[test]
    fn instances_are_counted_apart_and_together() {
        let watch = watch(10);
        let both = [Anomaly::OddHost, Anomaly::ForwardedHeader].into_iter().collect();
        watch.note(Some(id(1)), 7, both, 1, at(5));
        watch.note(Some(id(1)), 7, [Anomaly::OddHost].into_iter().collect(), 1, at(6));
        watch.note(Some(id(2)), 8, [Anomaly::SpoofedPackets].into_iter().collect(), 4, at(7));
        watch.note(None, 9, [Anomaly::OddHost].into_iter().collect(), 1, at(8));
        let seen = |anomaly, count, last_at| Seen { anomaly, count, last_at };
        assert_eq!(
            watch.all(),
            [
                (id(1), vec![seen(Anomaly::ForwardedHeader, 1, 5), seen(Anomaly::OddHost, 2, 6)]),
                (id(2), vec![seen(Anomaly::SpoofedPackets, 4, 7)]),
            ]
        );
        let totals: Vec<_> = watch.totals().map(|(anomaly, count)| (anomaly.name(), count)).collect();
        assert_eq!(totals, [("forwarded_header", 1), ("odd_host", 3), ("spoofed_packets", 4)]);
    }

    #[test]
    fn memory_is_bounded_and_who_was_quiet_longest_goes() {
        let watch = watch(3);
        for number in [3_u8, 1, 2, 4] {
            let seen_at = at(100 - u64::from(number));
            watch.note(Some(id(number.into())), 1, [Anomaly::OddHost].into_iter().collect(), 1, seen_at);
        }
        assert_eq!(watch.all().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [id(1), id(2), id(4)]);
        assert!(!watch.is_scan(id(5), "/", at(0)));
        assert!(!watch.is_scan(id(6), "/", at(0)));
        assert!(watch.instances.len() <= 3);
    }

    #[test]
    fn a_scan_is_many_different_paths_in_a_short_time() {
        let watch = watch(10);
        // The same few, for ever; then many, but slowly.
        assert!(!(0..10_000).any(|n| watch.is_scan(id(1), &format!("/latest/{}", n % 40), at(n))));
        assert!(!(0..2_000).any(|n| watch.is_scan(id(2), &format!("/latest/{n}"), at(n * 30))));
        let first = (0..200).find(|n| watch.is_scan(id(3), &format!("/latest/{n}"), at(9)));
        assert!(first.is_some_and(|n| (66..100).contains(&n)), "{first:?}");
        assert!(!watch.is_scan(id(4), "/latest", at(9)), "another instance");
    }
}
