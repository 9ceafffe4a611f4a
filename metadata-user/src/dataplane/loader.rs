//! Loading the object, with the maps of an earlier daemon where they fit.

use std::{io::Read as _, path::Path, time::Duration};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData},
    programs::SchedClassifier,
    util::KernelVersion,
};
use metadata_ebpf::abi::{ABI_VERSION, Meta, PassList};
use nix::time::{ClockId, clock_gettime};

use super::{
    AttachMode, Dataplane, DataplaneError, IfIndex, PacketCounters, expedite::Expedited, map_error, object::OBJECT,
    pins::Pins, program_error, rebuild, watch::HeldMaps,
};
use crate::error_text;

/// The programs that every node has, by name. `from_guest_xdp` is loaded where it is asked for.
const PROGRAMS: [&str; 4] = ["from_guest", "to_guest", "from_host", "from_network"];

impl Dataplane {
    /// Loads the programs, writes what passes them, and attaches the pair's.
    ///
    /// `netns`: the number that this namespace has for the responder's; without it a port does not move gradually ([`super::Moving`]).
    ///
    /// Shapes: `pin_dir` is made if absent, a BPF file system under it too; `pair` is the interface of the responder's
    /// pair in this namespace; `pass` holds protocol numbers and ports that are left to the network, of which the configuration
    /// allows no more than [`metadata_ebpf::abi::MAX_PASS`]; `xdp`: taps may be limited at XDP, too. If that program is refused, taps
    /// are served without.
    ///
    /// # Errors
    /// See [`DataplaneError`].
    pub fn load(
        pin_dir: &Path,
        mode: AttachMode,
        (pair, netns): (IfIndex, Option<u32>),
        pair_name: &str,
        pass: &[(u8, u16)],
        xdp: bool,
    ) -> Result<Self, DataplaneError> {
        let pins = Pins::open(pin_dir)?;
        Expedited::recover(&pins.link("expedited"));
        replace_foreign_pins(&pins)?;
        let rebuilding = rebuild::is_under_way(&pins);
        let own_mark = own_mark(&pins)?;
        let constants = Constants { pair, netns, own_mark };
        let mut ebpf = load_object(&pins, &constants, None)?;
        if xdp && let Err(error) = super::xdp::load(&mut ebpf) {
            tracing::error!(error = error_text::chain(&error), "no tap is limited at XDP");
        }
        // Of an earlier daemon's programs too, which may be attached: the map is theirs as well.
        let mut passing: Array<_, PassList> = take(&mut ebpf, "PASS")?.try_into().map_err(map_error("open", "PASS"))?;
        passing.set(0, PassList::of(pass), 0).map_err(map_error("write", "PASS"))?;
        let mut dataplane = Self {
            ports: hash(&mut ebpf, "PORTS")?,
            tags: hash(&mut ebpf, "TAGS")?,
            neighbours: hash(&mut ebpf, "NEIGHBOURS")?,
            counters: PacketCounters::open(take(&mut ebpf, "COUNTERS")?, pair)?,
            meta: take(&mut ebpf, "META")?.try_into().map_err(map_error("open", "META"))?,
            ebpf,
            maps: HeldMaps::open(&pins)?,
            pins,
            mode: mode.resolve(),
            constants,
            moving: std::collections::BTreeMap::new(),
            attached: std::collections::BTreeMap::new(),
            rebuilding,
            links: std::collections::BTreeMap::new(),
            guards: std::collections::BTreeMap::new(),
            xdp: std::collections::BTreeMap::new(),
        };
        let meta = dataplane.meta.get(&0, 0).unwrap_or_default();
        if meta.abi_version == 0 {
            dataplane
                .meta
                .set(0, Meta { abi_version: ABI_VERSION, next_tag: first_tag()?, own_mark }, 0)
                .map_err(map_error("write", "META"))?;
        }
        dataplane.attach_pair(pair_name)?;
        Ok(dataplane)
    }
}

/// What is constant in the programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Constants {
    pub(super) pair: IfIndex,
    /// The number that this namespace has for the responder's.
    pub(super) netns: Option<u32>,
    /// [`Meta::own_mark`].
    pub(super) own_mark: [u32; 4],
}

/// Returns what the programs mark their own frames with: as an earlier daemon's do, which may still be attached, or a new one.
fn own_mark(pins: &Pins) -> Result<[u32; 4], DataplaneError> {
    let data = MapData::from_pin(pins.map("META")).ok();
    let meta = data.and_then(|data| Array::<_, Meta>::try_from(Map::Array(data)).ok()?.get(&0, 0).ok());
    if let Some(meta) = meta
        && meta.own_mark != [0; 4]
    {
        return Ok(meta.own_mark);
    }
    let mut bytes = [0; 16];
    let read = std::fs::File::open(RANDOM).and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(|source| DataplaneError::Pin { doing: "read the programs' mark from", path: RANDOM.into(), source })?;
    let mut mark = [0; 4];
    for (word, bytes) in mark.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    // What others' frames are most likely to have there.
    mark[0] |= 1;
    Ok(mark)
}

/// Random bytes from the kernel (random(4)).
const RANDOM: &str = "/dev/urandom";

/// Returns the tag that new maps begin with: later than any that was given away before, without knowing those.
///
/// The responder's namespace outlives the maps, and in it connections of a daemon that was killed: the kernel sends
/// what they still hold for minutes. With tags from 1 on again, that would go to the tap that gets their tag now. So tags
/// follow the time since boot, which no namespace outlives, at more of them than taps can be attached in that time.
fn first_tag() -> Result<u32, DataplaneError> {
    const TAGS_PER_MILLISECOND: u128 = 16;
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(|error| DataplaneError::Pin {
        doing: "read the time since boot for",
        path: "the first tag".into(),
        source: error.into(),
    })?;
    // After three days of uptime the numbers begin again; nothing of that age is under way.
    let tag = (Duration::from(uptime).as_millis() * TAGS_PER_MILLISECOND) & u128::from(u32::MAX);
    Ok(u32::try_from(tag).unwrap_or_default().max(1))
}

/// Tells whether the running kernel marks what `bpf_redirect_peer` hands over as addressed to the host: the programs need not do so
/// then. Linux 6.16 and later; some earlier ones do it too, which their number does not say.
#[must_use]
pub fn peer_accepts() -> bool {
    KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 16, 0))
}

/// Loads and verifies the object. `trace`: the tap whose packets the programs report.
pub(super) fn load_object(pins: &Pins, constants: &Constants, trace: Option<IfIndex>) -> Result<Ebpf, DataplaneError> {
    if OBJECT.is_empty() {
        return Err(DataplaneError::NoObject);
    }
    let (pair, trace) = (constants.pair.0, trace.map_or(0, |ifindex| ifindex.0));
    let netns = constants.netns.unwrap_or(u32::MAX);
    let mut loader = EbpfLoader::new();
    loader.override_global("PAIR_IFINDEX", &pair, true).override_global("TRACE_IFINDEX", &trace, true);
    loader.override_global("OWN_MARK", &constants.own_mark, true).override_global("RESPONDER_NETNS", &netns, true);
    let peer_accepts = u32::from(peer_accepts());
    loader.override_global("PEER_ACCEPTS", &peer_accepts, true);
    for name in Dataplane::MAPS {
        loader.map_pin_path(name, pins.map(name));
    }
    let mut ebpf = loader.load(OBJECT).map_err(|source| DataplaneError::Load(Box::new(source)))?;
    for name in PROGRAMS {
        let program: &mut SchedClassifier =
            ebpf.program_mut(name).ok_or(DataplaneError::Missing(name))?.try_into().map_err(program_error(name))?;
        program.load().map_err(program_error(name))?;
    }
    Ok(ebpf)
}

/// Replaces pins whose layout this daemon does not know.
fn replace_foreign_pins(pins: &Pins) -> Result<(), DataplaneError> {
    let Ok(data) = MapData::from_pin(pins.map("META")) else {
        // None, or not a map at all: then the others are worth nothing either.
        return pins.remove_maps();
    };
    let found = Array::<_, Meta>::try_from(Map::Array(data)).ok().and_then(|meta| meta.get(&0, 0).ok());
    match found {
        // 0: a daemon was killed between making the map and writing it.
        Some(meta) if meta.abi_version == ABI_VERSION || meta.abi_version == 0 => Ok(()),
        other => rebuild::begin(pins, other.map(|meta| meta.abi_version)),
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, DataplaneError> {
    ebpf.take_map(name).ok_or(DataplaneError::Missing(name))
}

fn hash<V: aya::Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<HashMap<MapData, u32, V>, DataplaneError> {
    take(ebpf, name)?.try_into().map_err(map_error("open", name))
}
