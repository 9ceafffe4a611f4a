//! Every map, and the constants that the loader sets.
//!
//! The daemon writes `PORTS`, `TAGS`, `PASS` and `META`, makes and removes the elements of `NEIGHBOURS`, and gives the places of
//! `COUNTERS` away; the programs count, learn and report, and write into `PORTS` what is used of a port's limits. All are pinned by name
//! under the daemon's pin directory, so they outlive it.

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, RingBuf},
    macros::btf_map,
};
use metadata_ebpf::abi::{COUNTER_PLACES, Counters, Event, Meta, Neighbours, PassList, Port, ReturnPath};

/// Most taps on one node. Memory is taken per tap that is there, not for all.
const MAX_PORTS: usize = 16384;

/// Interface index → what `from_guest` knows of the tap. Minimum kernel version: 4.6 (elements made on demand).
#[btf_map]
pub(crate) static PORTS: HashMap<u32, Port, MAX_PORTS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Tag → where `to_guest` sends replies. Minimum kernel version: 4.6.
#[btf_map]
pub(crate) static TAGS: HashMap<u32, ReturnPath, MAX_PORTS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Tag → the MACs of the guest's addresses, for ports where more than one is possible: a table for each binding, so that no
/// guest's packets change another's. The daemon makes and removes the tables. Minimum kernel version: 4.6.
#[btf_map]
pub(crate) static NEIGHBOURS: HashMap<u32, Neighbours, MAX_PORTS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Packets by what became of them, each port's at the place that its element of [`PORTS`] names. An array, since looking up costs next
/// to nothing in it: 4 MB on every node.
#[btf_map]
pub(crate) static COUNTERS: Array<Counters, { COUNTER_PLACES as usize }> = Array::new();

const _: () = assert!(COUNTER_PLACES as usize == MAX_PORTS + 1);

/// Sampled drops. 64 KiB hold over 500 of them. Minimum kernel version: 5.8.
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, 65536> = RingBuf::new();

/// One element: protocols and ports that are left to the network. Until the daemon has written it, none are.
#[btf_map]
pub(crate) static PASS: Array<PassList, 1> = Array::new();

/// One element: version of the interface, next tag, the programs' mark. Only the daemon uses it.
#[btf_map]
pub(crate) static META: Array<Meta, 1> = Array::new();

/// Interface index of the pair's end in the node's namespace; set when the programs are loaded.
#[unsafe(no_mangle)]
pub(crate) static PAIR_IFINDEX: Global<u32> = Global::new(0);

/// The responder's namespace, as the node's namespace numbers it (`NETNSA_NSID`); set when the programs are loaded.
#[unsafe(no_mangle)]
pub(crate) static RESPONDER_NETNS: Global<u32> = Global::new(u32::MAX);

/// What the programs mark their own frames with: [`Meta::own_mark`].
#[unsafe(no_mangle)]
pub(crate) static OWN_MARK: Global<[u32; 4]> = Global::new([0; 4]);

/// 1 where `bpf_redirect_peer` marks a frame as addressed to the host by itself (Linux 6.16 and later); set when the programs are loaded.
#[unsafe(no_mangle)]
pub(crate) static PEER_ACCEPTS: Global<u32> = Global::new(0);

/// Interface index of the tap to trace; 0 in the programs of normal service. It is a constant to the verifier, which
/// removes the tracing code where it is 0.
#[unsafe(no_mangle)]
static TRACE_IFINDEX: Global<u32> = Global::new(0);

/// Tells whether this tap is traced. The first comparison is between constants; the verifier removes what follows.
#[inline(always)]
pub(crate) fn traced(ifindex: u32) -> bool {
    TRACE_IFINDEX.load() != 0 && TRACE_IFINDEX.load() == ifindex
}
