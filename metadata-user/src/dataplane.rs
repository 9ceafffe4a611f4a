//! The kernel half, as the rest of the daemon sees it. The only module that names aya.
//!
//! Promises:
//! - programs, maps and links are pinned, so that the daemon's death changes nothing for a guest's packets, and the
//!   next start takes them over without a gap;
//! - pins of another [`ABI_VERSION`] are never written to: they are replaced, and the log says so, while every tap stays taken
//!   (`rebuild`);
//! - a tag is given away once ([`Dataplane::new_tag`]), across restarts too;
//! - what is removed is removed in the order in which no packet can be misled: first the way in, then the way out.
//!
//! Minimum kernel version: 6.1, the oldest that is tested; tcx from 6.6 on, clsact before.

mod attach;
mod counters;
pub mod detach;
mod entry;
pub mod events;
mod expedite;
mod fit;
pub mod inspect;
pub mod kernel;
mod link;
mod loader;
mod moving;
mod object;
mod pins;
pub mod prepare;
mod qdisc;
mod query;
mod rebuild;
pub mod responder;
mod syscall;
mod trace;
mod watch;
mod xdp;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, MapData, MapError, RingBuf},
    programs::SchedClassifier,
};
use metadata_ebpf::abi::{
    Bucket, Limits, MAX_SOURCES, Meta, Neighbours, PORT_ENDED, PORT_HELD, PORT_LEARN, Port, ReturnPath,
};

use self::entry::port_value;
pub use self::{
    attach::{AttachKind, FILTER_HANDLE, FILTER_PRIORITY},
    counters::PacketCounters,
    entry::{PortEntry, join_sources},
    expedite::{Expedited, SWITCH as RCU_EXPEDITED},
    fit::{Unfit, fit_sources},
    link::Place,
    loader::peer_accepts,
    moving::Moving,
    object::OBJECT,
    trace::Trace,
    watch::Found,
    xdp::XdpError,
};
pub use crate::config::AttachMode;
use crate::{
    identity::Tag,
    policy::{PortLimits, Rate},
    record::InstanceId,
};

/// An interface index of the node's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfIndex(pub u32);

impl std::fmt::Display for IfIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why the kernel half could not do something.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The object that was embedded at build time is empty.
    #[error("this binary was built without its eBPF object: build it with `cargo xtask build`")]
    NoObject,
    /// The object could not be loaded.
    #[error("cannot load the eBPF programs (needs root or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and Linux 6.1)")]
    Load(#[source] Box<aya::EbpfError>),
    /// The verifier or the kernel refused a program.
    #[error("cannot load the eBPF program {name}")]
    Program {
        /// Name of the program.
        name: &'static str,
        /// The verifier's last words, or the system's.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A map operation failed.
    #[error("cannot {doing} in the eBPF map {name}")]
    Map {
        /// What was being done.
        doing: &'static str,
        /// Name of the map.
        name: &'static str,
        /// The system's reason.
        #[source]
        source: Box<MapError>,
    },
    /// The object lacks a map or program that this daemon needs.
    #[error("the eBPF object has no {0}: daemon and object are of different versions; build both together")]
    Missing(&'static str),
    /// A pin could not be made, read or removed.
    #[error("cannot {doing} {}", path.display())]
    Pin {
        /// What was being done.
        doing: &'static str,
        /// The pin, or its directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The pin directory would be on another file system, and mounting one would hide what is there.
    #[error(
        "{} holds files and is no BPF file system: correct bpf.pin_dir ({}), for example to /sys/fs/bpf/metadatad",
        parent.display(),
        dir.display()
    )]
    NotBpffs {
        /// The pin directory.
        dir: PathBuf,
        /// The directory that it is in.
        parent: PathBuf,
    },
    /// Nothing can be pinned, as the BPF file system was unmounted.
    #[error(
        "no BPF file system is mounted on {}, so nothing can be pinned: run `mount -t bpf bpf {}`, and metadatad pins everything \
         again; do not stop it before, as it alone keeps the programs on the taps",
        .0.display(),
        .0.display()
    )]
    NoBpffs(PathBuf),
    /// A program could not be attached.
    #[error("cannot attach {program} to interface {name} (index {ifindex})")]
    Attach {
        /// Name of the program.
        program: &'static str,
        /// Name of the interface.
        name: String,
        /// Index of the interface.
        ifindex: IfIndex,
        /// The system's reason.
        #[source]
        source: Box<attach::AttachError>,
    },
    /// More allowed sources than a port has places for: [`fit_sources`] was left out.
    #[error(
        "port of interface {ifindex} has {count} allowed (MAC, prefix) pairs after joining, of at most {MAX_SOURCES}: \
         use fewer, wider prefixes in allowed_address_pairs"
    )]
    TooManySources {
        /// Index of the interface.
        ifindex: IfIndex,
        /// How many there are.
        count: usize,
    },
}

/// A port that an earlier daemon left in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its tag.
    pub tag: Tag,
    /// The instance that the tag is bound to; `None` while held.
    pub instance: Option<InstanceId>,
}

/// The loaded kernel half.
pub struct Dataplane {
    ebpf: Ebpf,
    pins: pins::Pins,
    mode: AttachMode,
    constants: loader::Constants,
    ports: HashMap<MapData, u32, Port>,
    tags: HashMap<MapData, u32, ReturnPath>,
    neighbours: HashMap<MapData, u32, Neighbours>,
    counters: PacketCounters,
    meta: Array<MapData, Meta>,
    /// Ports that move.
    moving: BTreeMap<IfIndex, Moving>,
    attached: BTreeMap<IfIndex, AttachKind>,
    /// The links of tcx and XDP, by place.
    links: BTreeMap<Place, link::HeldLink>,
    /// Every map once more.
    maps: watch::HeldMaps,
    /// Whether taps may have programs of another version.
    rebuilding: bool,
    /// Taps of which it is known whether they have `from_network`.
    guards: BTreeMap<IfIndex, bool>,
    /// Taps of which it is known whether they have `from_guest_xdp`.
    xdp: BTreeMap<IfIndex, bool>,
}

impl std::fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataplane")
            .field("pins", &self.pins)
            .field("mode", &self.mode)
            .field("constants", &self.constants)
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

impl Dataplane {
    /// Names of the pinned maps.
    pub const MAPS: [&'static str; 7] = ["PORTS", "TAGS", "NEIGHBOURS", "COUNTERS", "EVENTS", "META", "PASS"];

    /// Returns a tag that no binding has had since the pins were made.
    ///
    /// # Errors
    /// If the counter of tags cannot be read or written. Then no tag is given.
    pub fn new_tag(&mut self) -> Result<Tag, DataplaneError> {
        let map = |doing| map_error(doing, "META");
        let mut meta = self.meta.get(&0, 0).map_err(map("read the next tag"))?;
        let tag = meta.next_tag.max(1);
        // After four billion bindings tags begin again at 1; the oldest of them have been gone for years.
        meta.next_tag = tag.checked_add(1).unwrap_or(1);
        self.meta.set(0, meta, 0).map_err(map("write the next tag"))?;
        Ok(Tag(tag))
    }

    /// Returns what the kernel knows of a port from before this daemon's start.
    #[must_use]
    pub fn adopted(&self, ifindex: IfIndex) -> Option<Adopted> {
        let port = self.ports.get(&ifindex.0, 0).ok()?;
        let instance = uuid::Uuid::from_bytes(port.instance);
        Some(Adopted { tag: Tag(port.tag), instance: (!instance.is_nil()).then_some(InstanceId(instance)) })
    }

    /// Tells the programs about a port: first the way out, then the way in. A previous tag stays valid until
    /// [`Self::end_tag`]. A limit that the port has already goes on with what is left in its bucket; a changed one begins with a full
    /// bucket.
    ///
    /// # Errors
    /// If the port has too many sources, or a map refuses.
    pub fn set_port(
        &mut self,
        ifindex: IfIndex,
        tag: Tag,
        entry: &PortEntry,
        limits: &PortLimits,
    ) -> Result<(), DataplaneError> {
        let mut port = port_value(ifindex, tag, entry)?;
        port.flags |= self.flag(ifindex);
        port.limits = self.limits_value(ifindex, limits);
        port.place = self.counters.place(ifindex)?;
        let Port { mac, flags, place, .. } = port;
        let path = ReturnPath { tag: tag.0, ifindex: ifindex.0, mac, flags, place, reserved: 0 };
        let learns = port.flags & (PORT_HELD | PORT_LEARN) != 0;
        if learns {
            self.make_neighbours(tag)?;
        }
        insert(&mut self.tags, "TAGS", tag.0, path)?;
        insert(&mut self.ports, "PORTS", ifindex.0, port)?;
        if learns { Ok(()) } else { remove(self.neighbours.remove(&tag.0), "NEIGHBOURS") }
    }

    /// Gives a tag a table of its guest's MACs, unless it has one: what was learned while it was held stays known.
    fn make_neighbours(&mut self, tag: Tag) -> Result<(), DataplaneError> {
        match self.neighbours.insert(tag.0, Neighbours::EMPTY, BPF_NOEXIST) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(map_error("write", "NEIGHBOURS")),
        }
    }

    /// Tells whether the programs know a port by this tag: the way in, and the way out. What cannot be read counts as known.
    #[must_use]
    pub fn knows(&self, ifindex: IfIndex, tag: Tag) -> bool {
        fn is<V>(found: &Result<V, MapError>, as_written: impl FnOnce(&V) -> bool) -> bool {
            match found {
                Ok(value) => as_written(value),
                Err(error) => !matches!(error, MapError::KeyNotFound),
            }
        }
        is(&self.ports.get(&ifindex.0, 0), |port| port.tag == tag.0)
            && is(&self.tags.get(&tag.0, 0), |path| path.ifindex == ifindex.0)
    }

    /// Returns the buckets of an interface: as full as they are now, where it has these limits.
    fn limits_value(&self, ifindex: IfIndex, limits: &PortLimits) -> Limits {
        let PortLimits { new_connections, packets } = *limits;
        let former = self.ports.get(&ifindex.0, 0).map_or(Limits::NONE, |port| port.limits);
        let bucket = |rate: Rate, former: Bucket| {
            let full = Bucket::of(rate.per_second, rate.burst.get());
            if full.is_of_same_limit(&former) { former } else { full }
        };
        Limits { connections: bucket(new_connections, former.connections), packets: bucket(packets, former.packets) }
    }

    /// Ends a tag but for resets: its connections can still be closed towards the guest, and nothing else passes.
    ///
    /// # Errors
    /// If the map refuses; then the tag is ended altogether.
    pub fn retire_tag(&mut self, tag: Tag) -> Result<(), DataplaneError> {
        let Ok(mut path) = self.tags.get(&tag.0, 0) else {
            return Ok(());
        };
        path.flags |= PORT_ENDED;
        insert(&mut self.tags, "TAGS", tag.0, path).or_else(|_| self.end_tag(tag))
    }

    /// Ends a tag: replies that still carry it are dropped from here on.
    ///
    /// # Errors
    /// If the map refuses for another reason than that there is no such tag.
    pub fn end_tag(&mut self, tag: Tag) -> Result<(), DataplaneError> {
        let ended = remove(self.tags.remove(&tag.0), "TAGS");
        ended.and(remove(self.neighbours.remove(&tag.0), "NEIGHBOURS"))
    }

    /// Forgets a port: its traffic passes untouched if the program is still attached. Its tag and counters
    /// stay.
    ///
    /// # Errors
    /// If the map refuses for another reason than that there is no such port.
    pub fn clear_port(&mut self, ifindex: IfIndex) -> Result<(), DataplaneError> {
        remove(self.ports.remove(&ifindex.0), "PORTS")
    }

    /// Forgets everything about an interface that is gone or no longer ours: port, tag, counters and link.
    ///
    /// # Errors
    /// The first of the failures; the other steps are done all the same.
    pub fn forget(&mut self, ifindex: IfIndex) -> Result<(), DataplaneError> {
        let tag = self.adopted(ifindex).map(|adopted| adopted.tag);
        self.moving.remove(&ifindex);
        let results = [
            self.clear_port(ifindex),
            tag.map_or(Ok(()), |tag| self.end_tag(tag)),
            self.counters.forget(ifindex),
            self.detach(ifindex),
        ];
        results.into_iter().collect()
    }

    /// Returns the interfaces that `PORTS` or `COUNTERS` know, the pair left out.
    #[must_use]
    pub fn known(&self) -> Vec<IfIndex> {
        let mut known: Vec<_> = self.ports.keys().flatten().map(IfIndex).chain(self.counters.interfaces()).collect();
        known.sort_unstable();
        known.dedup();
        known.retain(|ifindex| *ifindex != self.constants.pair);
        known
    }

    /// Ends every tag that no port has: what a daemon that was killed half-way left behind.
    ///
    /// # Errors
    /// If a map refuses.
    pub fn end_orphaned_tags(&mut self) -> Result<usize, DataplaneError> {
        let live: BTreeSet<u32> = self.ports.iter().flatten().map(|(_, port)| port.tag).collect();
        let tags = self.tags.keys().chain(self.neighbours.keys());
        let orphans: BTreeSet<u32> = tags.flatten().filter(|tag| !live.contains(tag)).collect();
        for tag in &orphans {
            self.end_tag(Tag(*tag))?;
        }
        Ok(orphans.len())
    }

    /// Returns the counters, for reading beside this.
    #[must_use]
    pub fn counters(&self) -> PacketCounters {
        self.counters.clone()
    }

    /// Takes the ring of sampled drops; once.
    ///
    /// # Errors
    /// If it has been taken.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, DataplaneError> {
        let map = self.ebpf.take_map("EVENTS").ok_or(DataplaneError::Missing("map EVENTS"))?;
        RingBuf::try_from(map).map_err(map_error("open", "EVENTS"))
    }

    /// Makes the kernel's grace periods short while the result lives, where this many taps to attach are worth it.
    #[must_use]
    pub fn expedite(&self, taps: usize) -> Option<Expedited> {
        /// Fewer take less than a quarter of a second either way.
        const MANY: usize = 16;
        let worth_it = taps > MANY && self.mode == AttachMode::Tcx;
        worth_it.then(|| Expedited::begin(&self.pins.link("expedited"))).flatten()
    }

    /// Tells whether programs lie in queueing disciplines, which others may take away.
    #[must_use]
    pub fn is_removable(&self) -> bool {
        self.mode == AttachMode::Clsact
    }

    /// Returns the pair's interface in the node's namespace.
    #[must_use]
    pub fn pair(&self) -> IfIndex {
        self.constants.pair
    }

    fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, DataplaneError> {
        let program = self.ebpf.program_mut(name).ok_or(DataplaneError::Missing(name))?;
        program.try_into().map_err(program_error(name))
    }
}

/// A flag of the kernel's: an element that is there stays as it is.
const BPF_NOEXIST: u64 = 1;

fn insert<V: Pod>(
    map: &mut HashMap<MapData, u32, V>,
    name: &'static str,
    key: u32,
    value: V,
) -> Result<(), DataplaneError> {
    map.insert(key, value, 0).map_err(map_error("write", name))
}

fn map_error(doing: &'static str, name: &'static str) -> impl FnOnce(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { doing, name, source: Box::new(source) }
}

fn program_error(name: &'static str) -> impl FnOnce(aya::programs::ProgramError) -> DataplaneError {
    move |source| DataplaneError::Program { name, source: Box::new(source) }
}

/// A removal that finds nothing has nothing to do.
fn remove(result: Result<(), MapError>, name: &'static str) -> Result<(), DataplaneError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(map_error("remove", name)(source)),
    }
}
