//! The programs, loaded on their own, and one port at the interface of the kernel's test runs.

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap},
    programs::{Program, TestRun as _, TestRunOptions},
};
use metadata_ebpf::{
    abi::{
        Bucket, Counters, Limits, MAX_SOURCES, Neighbours, PAIR_PLACE, PORT_HELD, PORT_LEARN, PassList, Port,
        ReturnPath, Source,
    },
    neighbours,
};
use nix::sched::{CloneFlags, unshare};

/// The loopback interface of a new namespace: where the kernel pretends that the frame came in.
pub(crate) const IFINDEX: u32 = 1;
/// The tag of the port.
pub(crate) const TAG: u32 = 0x0102_0304;
/// The place of the port's counters.
pub(crate) const PLACE: u32 = 3;
/// What the programs mark their own frames with.
pub(crate) const OWN_MARK: [u32; 4] = [1, 2, 3, 4];
/// The port's MAC.
pub(crate) const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 1];
/// Another MAC.
pub(crate) const OTHER_MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 2];
/// The MAC that the guest sends to.
pub(crate) const GATEWAY_MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0xff, 0xff, 1];
/// The port's IPv4 address.
pub(crate) const GUEST: [u8; 4] = [10, 0, 0, 5];
/// The guest's link-local address.
pub(crate) const GUEST_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// `TC_ACT_UNSPEC`, the same as `TCX_NEXT`.
pub(crate) const PASS: i32 = -1;
/// `TC_ACT_SHOT`.
pub(crate) const DROP: i32 = 2;
/// `TC_ACT_REDIRECT`.
pub(crate) const REDIRECT: i32 = 7;
/// `XDP_DROP`.
pub(crate) const XDP_DROP: i32 = 1;
/// `XDP_PASS`.
pub(crate) const XDP_PASS: i32 = 2;
/// The longest frame of which the kernel's test runs make one part for XDP, on every release.
const LARGEST: usize = 3400;

/// A kernel half of its own.
pub(crate) struct Kernel {
    ebpf: Ebpf,
}

const HOUR: u64 = 3_600_000_000_000;

/// Tells whether two states of a port's buckets, into which a token falls each hour, differ by no token.
fn is_as_full(one: Limits, other: Limits) -> bool {
    let differ = |one: Bucket, other: Bucket| one.due.abs_diff(other.due) > HOUR / 2;
    !differ(one.packets, other.packets) && !differ(one.connections, other.connections)
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: i32,
    pub(crate) frame: Vec<u8>,
    /// Names of the counters that moved, with by how much.
    pub(crate) moved: Vec<(&'static str, u64)>,
}

/// The port of the tests: one MAC, one IPv4 address.
pub(crate) fn port() -> Port {
    let mut sources = [Source::EMPTY; MAX_SOURCES];
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&GUEST);
    sources[0] = Source::new(MAC, 4, addr, 32);
    Port {
        tag: TAG,
        ifindex: IFINDEX,
        mac: MAC,
        flags: 0,
        source_count: 1,
        place: PLACE,
        limits: Limits::NONE,
        sources,
        instance: [7; 16],
    }
}

/// Gives the interface of the test runs this MTU, in the calling thread's namespace, which a [`Kernel`] has made.
pub(crate) fn set_mtu(mtu: u32) {
    let mtu = mtu.to_string();
    let status = std::process::Command::new("ip").args(["link", "set", "lo", "mtu", &mtu]).status();
    assert!(status.expect("ip can be started").success(), "the interface takes the MTU");
}

impl Kernel {
    /// Loads the programs with [`port`] known.
    pub(crate) fn new() -> Self {
        Self::with(&port())
    }

    /// Loads the programs with this port known at [`IFINDEX`].
    pub(crate) fn with(port: &Port) -> Self {
        let mut kernel = Self::empty();
        let mut ports: HashMap<_, u32, Port> = kernel.map("PORTS");
        ports.insert(IFINDEX, port, 0).expect("PORTS takes the port");
        let path =
            ReturnPath { tag: port.tag, ifindex: IFINDEX, mac: port.mac, flags: port.flags, place: PLACE, reserved: 0 };
        let mut tags: HashMap<_, u32, ReturnPath> = kernel.map("TAGS");
        tags.insert(port.tag, path, 0).expect("TAGS takes the path");
        if port.flags & (PORT_HELD | PORT_LEARN) != 0 {
            kernel.make_neighbours(port.tag);
        }
        kernel
    }

    /// Loads the programs, without a port.
    pub(crate) fn empty() -> Self {
        Self::tracing(0)
    }

    /// Loads the programs, without a port, tracing one interface.
    pub(crate) fn tracing(ifindex: u32) -> Self {
        assert!(!metadata_user::dataplane::OBJECT.is_empty(), "no eBPF object: run `cargo xtask test datapath`");
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace of our own: run as root, `cargo xtask test datapath`");
        let mut ebpf = EbpfLoader::new()
            .override_global("PAIR_IFINDEX", &IFINDEX, true)
            .override_global("TRACE_IFINDEX", &ifindex, true)
            .override_global("OWN_MARK", &OWN_MARK, true)
            .load(metadata_user::dataplane::OBJECT)
            .expect("the object loads: run as root, `cargo xtask test datapath`");
        for (name, program) in ebpf.programs_mut() {
            let loaded = match program {
                Program::SchedClassifier(program) => program.load(),
                Program::Xdp(program) => program.load(),
                other => panic!("{name} is of another type: {other:?}"),
            };
            loaded.unwrap_or_else(|error| panic!("the verifier takes {name}: {error:#?}"));
        }
        Self { ebpf }
    }

    /// Lets these protocol numbers and ports pass, and no others.
    pub(crate) fn pass(&mut self, pairs: &[(u8, u16)]) {
        let mut map: Array<_, PassList> =
            self.ebpf.map_mut("PASS").expect("PASS is there").try_into().expect("of this type");
        map.set(0, PassList::of(pairs), 0).expect("PASS takes the list");
    }

    /// Gives the interface's port these limits.
    pub(crate) fn limit(&mut self, limits: &Limits) {
        let mut ports: HashMap<_, u32, Port> = self.map("PORTS");
        if let Ok(port) = ports.get(&IFINDEX, 0) {
            ports.insert(IFINDEX, Port { limits: *limits, ..port }, 0).expect("PORTS takes the limits");
        }
    }

    /// Returns a map.
    pub(crate) fn map<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) -> HashMap<&mut aya::maps::MapData, K, V> {
        self.ebpf.map_mut(name).expect("the map is there").try_into().expect("the map is of this type")
    }

    /// Returns the sum of the port's counters and the pair's.
    pub(crate) fn counters(&self) -> Counters {
        let map: Array<_, Counters> =
            self.ebpf.map("COUNTERS").expect("COUNTERS is there").try_into().expect("of this type");
        let mut sum = map.get(&PLACE, 0).expect("the port has a place");
        sum.add(&map.get(&PAIR_PLACE, 0).expect("the pair has a place"));
        sum
    }

    /// Takes the ring of sampled drops.
    pub(crate) fn ring(&mut self) -> aya::maps::Map {
        self.ebpf.take_map("EVENTS").expect("EVENTS is there")
    }

    /// Gives a tag a table of its guest's MACs.
    pub(crate) fn make_neighbours(&mut self, tag: u32) {
        let mut neighbours: HashMap<_, u32, Neighbours> = self.map("NEIGHBOURS");
        neighbours.insert(tag, Neighbours::EMPTY, 0).expect("NEIGHBOURS takes the table");
    }

    /// Returns the MAC that was learned for an identity address of [`TAG`].
    pub(crate) fn learned_mac(&mut self, identity: [u8; 16]) -> Option<[u8; 6]> {
        let map: HashMap<_, u32, Neighbours> = self.map("NEIGHBOURS");
        neighbours::find(&map.get(&TAG, 0).expect("the tag has a table"), &identity)
    }

    /// Returns how many instructions the verifier went through, for each program. Minimum kernel version: 5.16.
    pub(crate) fn verified_instructions(&mut self) -> Vec<(String, u32)> {
        self.ebpf
            .programs()
            .map(|(name, program)| {
                let count = program.info().expect("the program is loaded").verified_instruction_count();
                (name.to_owned(), count.unwrap_or(0))
            })
            .collect()
    }

    /// Runs a program at tc once. In front of `from_guest`, `from_guest_xdp` runs too, and must agree with it.
    pub(crate) fn run(&mut self, program: &str, frame: &[u8]) -> Outcome {
        if program != "from_guest" || frame.len() > LARGEST {
            return self.run_alone(program, frame);
        }
        let limits = self.limits();
        let early = self.run_xdp(frame);
        let spent = self.limits();
        // As if XDP had not been there.
        self.limit(&limits);
        let outcome = self.run_alone(program, frame);
        let is_beyond = outcome.moved.iter().any(|(name, _)| ["limit_connections", "limit_packets"].contains(name));
        if is_beyond {
            let moved = outcome.moved.clone();
            assert_eq!(early, Outcome { verdict: XDP_DROP, frame: frame.to_vec(), moved }, "at XDP, as at tc");
            assert!(is_as_full(spent, self.limits()), "the tokens that are left, as at tc");
        } else {
            assert_eq!(early, Outcome { verdict: XDP_PASS, frame: frame.to_vec(), moved: vec![] }, "at XDP");
            assert_eq!(spent, limits, "what passes XDP takes no token there");
        }
        self.assert_early(frame, &outcome);
        outcome
    }

    /// With no token left, whatever does not pass at tc is dropped at XDP.
    fn assert_early(&mut self, frame: &[u8], at_tc: &Outcome) {
        let limits = self.limits();
        let packets = Bucket { interval: HOUR, tolerance: 0, due: HOUR << 8 };
        self.limit(&Limits { connections: Bucket::UNLIMITED, packets });
        let outcome = self.run_xdp(frame);
        // An error of the kernel's is no packet's fault, and takes no token.
        let expected = if at_tc.verdict == PASS || at_tc.moved == [("kernel_error", 1)] {
            Outcome { verdict: XDP_PASS, frame: frame.to_vec(), moved: vec![] }
        } else {
            Outcome { verdict: XDP_DROP, frame: frame.to_vec(), moved: vec![("limit_packets", 1)] }
        };
        assert_eq!(outcome, expected, "at XDP, without tokens");
        self.limit(&limits);
    }

    /// Returns the limits of the interface's port; none without one.
    pub(crate) fn limits(&mut self) -> Limits {
        self.map::<u32, Port>("PORTS").get(&IFINDEX, 0).map_or(Limits::NONE, |port| port.limits)
    }

    /// Runs `from_guest_xdp` once.
    pub(crate) fn run_xdp(&mut self, frame: &[u8]) -> Outcome {
        self.run_alone("from_guest_xdp", frame)
    }

    /// Runs a program once, and no other.
    pub(crate) fn run_alone(&mut self, program: &str, frame: &[u8]) -> Outcome {
        let before = self.counters();
        let mut out = vec![0; frame.len() + 256];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let result = match self.ebpf.program_mut(program).expect("the program is there") {
            Program::SchedClassifier(program) => program.test_run(options),
            Program::Xdp(program) => program.test_run(options),
            other => panic!("{program} is of another type: {other:?}"),
        };
        let result = result.expect("the kernel runs the program");
        out.truncate(result.data_size_out as usize);
        let after = self.counters();
        let moved = Counters::NAMES
            .into_iter()
            .zip(after.values().into_iter().zip(before.values()))
            .filter(|(_, (after, before))| after != before)
            .map(|(name, (after, before))| (name, after - before))
            .collect();
        Outcome { verdict: result.return_value as i32, frame: out, moved }
    }
}
