//! The counters of packets: which place of the map `COUNTERS` is whose, and reading them, also from another thread.
//!
//! Promises: an interface keeps its place until it is forgotten, over restarts too, as each place says in the map whose it is; a place
//! that is given away counts from 0. Left out: an interface beyond the last place is served, and not counted.

use std::{collections::BTreeMap, sync::Arc};

use aya::maps::{Array, Map, MapData};
use metadata_ebpf::abi::{COUNTER_PLACES, Counters, PAIR_PLACE};
use parking_lot::Mutex;

use super::{DataplaneError, IfIndex, map_error};

/// The counters of all interfaces. Cheap to clone; clones are the same counters.
#[derive(Clone)]
pub struct PacketCounters(Arc<Mutex<Shared>>);

struct Shared {
    map: Array<MapData, Counters>,
    places: Places,
    /// Sums of the counters of interfaces that are gone.
    gone: Counters,
}

impl std::fmt::Debug for PacketCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacketCounters").finish_non_exhaustive()
    }
}

impl PacketCounters {
    /// Takes the map, with what an earlier daemon left in it, and gives the pair's interface its place.
    pub(super) fn open(map: Map, pair: IfIndex) -> Result<Self, DataplaneError> {
        let map = Array::try_from(map).map_err(map_error("open", "COUNTERS"))?;
        let mut shared = Shared { map, places: Places::default(), gone: Counters::default() };
        if shared.owner(PAIR_PLACE) != u64::from(pair.0) {
            shared.begin(PAIR_PLACE, pair.0.into())?;
        }
        shared.places = Places::read(|place| shared.owner(place));
        Ok(Self(Arc::new(Mutex::new(shared))))
    }

    /// Finds out anew whose the places are, after another daemon has given some away.
    pub(crate) fn read_again(&self) {
        let mut shared = self.0.lock();
        shared.places = Places::read(|place| shared.owner(place));
    }

    /// Returns an interface's place, which it is given if it has none.
    pub(super) fn place(&self, ifindex: IfIndex) -> Result<u32, DataplaneError> {
        let mut shared = self.0.lock();
        if let Some(place) = shared.places.of.get(&ifindex) {
            return Ok(*place);
        }
        let place = shared.places.give(ifindex);
        if place < COUNTER_PLACES
            && let Err(error) = shared.begin(place, ifindex.0.into())
        {
            shared.places.take(ifindex);
            return Err(error);
        }
        Ok(place)
    }

    /// Takes an interface's place back; the sums of its counters stay.
    pub(super) fn forget(&self, ifindex: IfIndex) -> Result<(), DataplaneError> {
        let mut shared = self.0.lock();
        let Some(counters) = shared.get(ifindex) else {
            return Ok(());
        };
        shared.gone.add(&counters);
        match shared.places.take(ifindex) {
            Some(place) => shared.begin(place, Counters::FREE),
            None => Ok(()),
        }
    }

    /// Returns the interfaces that have a place, ascending.
    pub(super) fn interfaces(&self) -> Vec<IfIndex> {
        self.0.lock().places.of.keys().copied().collect()
    }

    /// Returns an interface's counters; `None` if it has none.
    #[must_use]
    pub fn get(&self, ifindex: IfIndex) -> Option<Counters> {
        self.0.lock().get(ifindex)
    }

    /// Returns the counters of all interfaces, summed: also of those that this daemon saw go.
    #[must_use]
    pub fn total(&self) -> Counters {
        let shared = self.0.lock();
        let mut sum = shared.gone;
        for counters in shared.places.of.keys().filter_map(|ifindex| shared.get(*ifindex)) {
            sum.add(&counters);
        }
        sum
    }
}

impl Shared {
    /// Returns what the map says of whose a place is.
    fn owner(&self, place: u32) -> u64 {
        self.map.get(&place, 0).map_or(0, |counters| counters.ifindex)
    }

    /// Lets a place count from 0, for another owner.
    fn begin(&mut self, place: u32, owner: u64) -> Result<(), DataplaneError> {
        let counters = Counters { ifindex: owner, ..Counters::default() };
        self.map.set(place, counters, 0).map_err(map_error("give a place away", "COUNTERS"))
    }

    fn get(&self, ifindex: IfIndex) -> Option<Counters> {
        counts(&self.map, *self.places.of.get(&ifindex)?)
    }
}

/// Returns the counts at a place, without whose they are.
pub(super) fn counts(map: &Array<MapData, Counters>, place: u32) -> Option<Counters> {
    map.get(&place, 0).ok().map(|counters| Counters { ifindex: 0, ..counters })
}

/// Whose the places are.
#[derive(Debug, Default)]
struct Places {
    of: BTreeMap<IfIndex, u32>,
    /// Places that were somebody's, and are nobody's any more.
    free: Vec<u32>,
    /// The first place that was never anybody's.
    unused: u32,
}

impl Places {
    /// Reads them where `owner` says whose each place is; they are given away without gaps.
    fn read(owner: impl Fn(u32) -> u64) -> Self {
        let mut places = Self::default();
        while places.unused < COUNTER_PLACES {
            match u32::try_from(owner(places.unused)) {
                Ok(0) => break,
                Ok(ifindex) => _ = places.of.insert(IfIndex(ifindex), places.unused),
                Err(_) => places.free.push(places.unused),
            }
            places.unused += 1;
        }
        places
    }

    /// Gives a place away; [`COUNTER_PLACES`] if none is left.
    fn give(&mut self, ifindex: IfIndex) -> u32 {
        let place = self.free.pop().unwrap_or(self.unused);
        if place < COUNTER_PLACES {
            self.unused = self.unused.max(place + 1);
            self.of.insert(ifindex, place);
        }
        place
    }

    /// Takes an interface's place back, and returns it.
    fn take(&mut self, ifindex: IfIndex) -> Option<u32> {
        let place = self.of.remove(&ifindex)?;
        self.free.push(place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_again_by_what_they_say_and_given_away_anew() {
        let owners = [7, 9, Counters::FREE, 12, 0, 5];
        let mut places = Places::read(|place| owners[place as usize]);
        assert_eq!(places.of, BTreeMap::from([(IfIndex(7), 0), (IfIndex(9), 1), (IfIndex(12), 3)]));
        assert_eq!((places.give(IfIndex(20)), places.give(IfIndex(21))), (2, 4));
        assert_eq!((places.take(IfIndex(9)), places.take(IfIndex(9))), (Some(1), None));
        assert_eq!((places.give(IfIndex(22)), places.give(IfIndex(23))), (1, 5));
    }

    #[test]
    fn whoever_comes_when_no_place_is_left_gets_none() {
        let mut places = Places::read(|place| u64::from(place) + 1);
        assert_eq!((places.of.len(), places.unused), (COUNTER_PLACES as usize, COUNTER_PLACES));
        let late = IfIndex(u32::MAX);
        assert_eq!((places.give(late), places.of.contains_key(&late)), (COUNTER_PLACES, false));
        assert_eq!(places.take(IfIndex(3)), Some(2));
        assert_eq!(places.give(late), 2);
    }
}
