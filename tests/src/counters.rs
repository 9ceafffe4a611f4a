//! The kernel's counters of one interface, and what moved between two looks.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use metadata_ebpf::abi::Counters;

/// Reads the counters of an interface from the pinned map; all 0 if it has none.
///
/// # Errors
/// If the pin does not exist.
pub fn read(pin_directory: &Path, ifindex: u32) -> Result<Counters> {
    Ok(find(pin_directory, ifindex)?.map_or_else(Counters::default, |(_, counters)| counters))
}

/// Returns an interface's place in the map, with its counters; `None` if it has none.
///
/// # Errors
/// If the pin does not exist.
pub fn find(pin_directory: &Path, ifindex: u32) -> Result<Option<(u32, Counters)>> {
    let pin = pin_directory.join("COUNTERS");
    let data = MapData::from_pin(&pin).with_context(|| format!("opening {}", pin.display()))?;
    let map: Array<MapData, Counters> = Map::Array(data).try_into().context("COUNTERS is another kind of map")?;
    // Places are given away without gaps.
    let given = (0..map.len()).map_while(|place| Some((place, map.get(&place, 0).ok().filter(|at| at.ifindex != 0)?)));
    let mut of = given.filter(|(_, at)| at.ifindex == u64::from(ifindex));
    Ok(of.next().map(|(place, at)| (place, Counters { ifindex: 0, ..at })))
}

/// What moved between two looks: name and difference, in the order of the map.
#[derive(Clone, PartialEq, Eq)]
pub struct Moved(Vec<(&'static str, u64)>);

impl Moved {
    /// Compares an earlier look with a later one.
    #[must_use]
    pub fn between(before: &Counters, after: &Counters) -> Self {
        let differences = before.values().into_iter().zip(after.values()).map(|(old, new)| new.wrapping_sub(old));
        Self(Counters::NAMES.into_iter().zip(differences).filter(|(_, difference)| *difference != 0).collect())
    }

    /// Returns how far one counter moved.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.iter().find(|(found, _)| *found == name).map_or(0, |(_, difference)| *difference)
    }
}

impl PartialEq<[(&'static str, u64)]> for Moved {
    fn eq(&self, other: &[(&'static str, u64)]) -> bool {
        let mut left: Vec<_> = self.0.clone();
        let mut right: Vec<_> = other.to_vec();
        left.sort_unstable();
        right.sort_unstable();
        left == right
    }
}

impl fmt::Debug for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().copied()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_moved_is_named() {
        let before = Counters { answered_arp: 3, ..Counters::default() };
        let after = Counters { answered_arp: 3, drop_spoofed_mac: 2, ..Counters::default() };
        let moved = Moved::between(&before, &after);
        assert_eq!(moved, *[("spoofed_mac", 2)].as_slice());
        assert_ne!(moved, *[("spoofed_mac", 2), ("answered_arp", 0)].as_slice());
        assert_eq!(moved.of("answered_arp"), 0);
    }
}
