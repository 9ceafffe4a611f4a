//! The last drop of each kind on each tap, as the kernel programs sample them, for `metadatad doctor`.
//!
//! Promises: memory is bounded by [`MOST`], whatever guests send; the oldest go first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::dataplane::IfIndex;
use crate::dataplane::events::SampledDrop;

/// Most samples that are kept, of some 200 bytes: four kinds of a thousand taps.
const MOST: usize = 4096;

/// The last drops. Cheap to clone; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct LastDrops(Arc<Mutex<Kept>>);

/// By tap and kind.
type Kept = BTreeMap<(IfIndex, &'static str), (SystemTime, SampledDrop)>;

impl LastDrops {
    /// Keeps a sample in place of the one before of its kind.
    pub(super) fn keep(&self, drop: &SampledDrop, at: SystemTime) {
        let mut kept = self.0.lock();
        let place = (drop.ifindex, drop.reason.name());
        if kept.len() >= MOST
            && !kept.contains_key(&place)
            && let Some(oldest) = kept.iter().min_by_key(|(_, (at, _))| *at).map(|(place, _)| *place)
        {
            kept.remove(&oldest);
        }
        kept.insert(place, (at, drop.clone()));
    }

    /// Returns all, the latest first.
    pub(super) fn all(&self) -> Vec<(SystemTime, SampledDrop)> {
        let mut all: Vec<_> = self.0.lock().values().cloned().collect();
        all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metadata_ebpf::abi::DropReason;

    use super::*;

    fn sample(ifindex: u32, count: u64) -> SampledDrop {
        SampledDrop {
            ifindex: IfIndex(ifindex),
            tap: "tap".to_owned(),
            reason: DropReason::SpoofedMac,
            count,
            mac: String::new(),
            source: String::new(),
        }
    }

    #[test]
    fn the_last_of_each_kind_is_kept_and_the_oldest_go() {
        let (drops, start) = (LastDrops::default(), SystemTime::UNIX_EPOCH);
        for ifindex in 0..5000 {
            drops.keep(&sample(ifindex, 1), start + Duration::from_secs(ifindex.into()));
        }
        drops.keep(&sample(4999, 2), start + Duration::from_secs(9999));
        let all = drops.all();
        assert_eq!((all.len(), all[0].1.count, all[0].1.ifindex), (MOST, 2, IfIndex(4999)));
        assert!(all.iter().all(|(_, drop)| drop.ifindex.0 >= 904));
    }
}
