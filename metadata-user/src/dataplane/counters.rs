//! Reading the counters of packets beside the rest, from another thread.

use std::{path::Path, sync::Arc};

use aya::maps::{Map, MapData, PerCpuHashMap};
use metadata_ebpf::abi::Counters;
use parking_lot::Mutex;

use super::{DataplaneError, IfIndex, map_error};

/// Reads the counters without the rest.
pub struct CountersReader {
    map: PerCpuHashMap<MapData, u32, Counters>,
    gone: Arc<Mutex<Counters>>,
}

impl std::fmt::Debug for CountersReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CountersReader").finish_non_exhaustive()
    }
}

impl CountersReader {
    /// Opens the pinned map.
    ///
    /// # Errors
    /// If there is no such pin, or it is another map.
    pub(super) fn open(pin: &Path, gone: Arc<Mutex<Counters>>) -> Result<Self, DataplaneError> {
        let map = || map_error("open the pin", "COUNTERS");
        let data = MapData::from_pin(pin).map_err(map())?;
        Ok(Self { map: Map::PerCpuHashMap(data).try_into().map_err(map())?, gone })
    }

    /// Returns an interface's counters, summed over CPUs; `None` if it has none.
    #[must_use]
    pub fn get(&self, ifindex: IfIndex) -> Option<Counters> {
        let values = self.map.get(&ifindex.0, 0).ok()?;
        let mut sum = Counters::default();
        for value in values.iter() {
            sum.add(value);
        }
        Some(sum)
    }

    /// Returns the counters of all interfaces, summed: also of those that this daemon saw go.
    #[must_use]
    pub fn total(&self) -> Counters {
        let gone = self.gone.lock();
        let mut sum = *gone;
        // An interface that comes meanwhile is in the next sum.
        for ifindex in self.map.keys().flatten() {
            if let Some(counters) = self.get(IfIndex(ifindex)) {
                sum.add(&counters);
            }
        }
        sum
    }
}
