//! The pinned maps, read.

use std::{collections::BTreeMap, path::Path};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use ipnet::IpNet;
use metadata_ebpf::abi::{ABI_VERSION, Counters, Meta, PORT_HELD, Port, ReturnPath, Source};

use super::super::{DataplaneError, IfIndex, counters::counts, map_error, pins::Pins};
use crate::record::{InstanceId, MacAddress};

/// What the map `PORTS` says of a tap, and whether `TAGS` agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedPort {
    /// Tag of its binding.
    pub tag: u32,
    /// Its instance; `None` while held.
    pub instance: Option<InstanceId>,
    /// Allowed pairs of MAC and prefix.
    pub sources: Vec<(MacAddress, IpNet)>,
    /// Whether `TAGS` leads replies of this tag to this tap.
    pub has_way_back: bool,
}

/// The pinned maps.
pub struct Pinned {
    ports: HashMap<MapData, u32, Port>,
    tags: HashMap<MapData, u32, ReturnPath>,
    counters: Array<MapData, Counters>,
    version: u32,
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pinned").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Pinned {
    /// Opens the maps below a pin directory; `None`: nothing is pinned there.
    ///
    /// # Errors
    /// If one of them is missing, cannot be opened, or is of another version.
    pub fn open(dir: &Path) -> Result<Option<Self>, DataplaneError> {
        let pins = Pins::at(dir);
        if !pins.exist()? {
            return Ok(None);
        }
        let open = |name: &'static str| MapData::from_pin(pins.map(name)).map_err(map_error("open the pin", name));
        let meta: Array<MapData, Meta> = typed(Map::Array(open("META")?), "META")?;
        let version = meta.get(&0, 0).map_err(map_error("read the version", "META"))?.abi_version;
        Ok(Some(Self {
            ports: typed(Map::HashMap(open("PORTS")?), "PORTS")?,
            tags: typed(Map::HashMap(open("TAGS")?), "TAGS")?,
            counters: typed(Map::Array(open("COUNTERS")?), "COUNTERS")?,
            version,
        }))
    }

    /// Tells whether the maps are of the version that this program knows.
    #[must_use]
    pub fn is_of_this_version(&self) -> bool {
        self.version == ABI_VERSION
    }

    /// Returns all ports, by interface index.
    #[must_use]
    pub fn ports(&self) -> BTreeMap<IfIndex, PinnedPort> {
        self.ports.iter().flatten().map(|(ifindex, port)| (IfIndex(ifindex), self.port(ifindex, &port))).collect()
    }

    fn port(&self, ifindex: u32, port: &Port) -> PinnedPort {
        let sources = port.sources.iter().take(port.source_count as usize);
        let instance = uuid::Uuid::from_bytes(port.instance);
        PinnedPort {
            tag: port.tag,
            instance: (port.flags & PORT_HELD == 0 && !instance.is_nil()).then_some(InstanceId(instance)),
            sources: sources.filter_map(|source| Some((MacAddress(source.mac), prefix(source)?))).collect(),
            has_way_back: self.tags.get(&port.tag, 0).is_ok_and(|path| path.ifindex == ifindex),
        }
    }

    /// Returns a port's counters, by name; `None` if the interface is none.
    #[must_use]
    pub fn counters(&self, ifindex: IfIndex) -> Option<BTreeMap<String, u64>> {
        let counters = counts(&self.counters, self.ports.get(&ifindex.0, 0).ok()?.place)?;
        let named = Counters::NAMES.into_iter().zip(counters.values()).filter(|(name, _)| !name.is_empty());
        Some(named.map(|(name, count)| (name.to_owned(), count)).collect())
    }
}

fn typed<T: TryFrom<Map, Error = MapError>>(map: Map, name: &'static str) -> Result<T, DataplaneError> {
    map.try_into().map_err(map_error("open the pin", name))
}

fn prefix(source: &Source) -> Option<IpNet> {
    match source.family {
        4 => {
            let [a, b, c, d, ..] = source.addr;
            IpNet::new([a, b, c, d].into(), source.prefix_len).ok()
        }
        6 => IpNet::new(source.addr.into(), source.prefix_len).ok(),
        _ => None,
    }
}
