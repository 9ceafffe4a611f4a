//! The programs without a daemon, and an empty one beside them.
//!
//! Promises: the object is the one that the daemon embeds; the empty program is two instructions, "go on with the next
//! one", made by the lab; both are measured by the same means, in turns.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::HashMap;
use aya::programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use metadata_ebpf::abi::{Bucket, Limits, MAX_SOURCES, Port, ReturnPath, Source};

use super::frames::{GUEST_IPV4, GUEST_MAC, TAG};

/// The object's programs, loaded and verified, and the empty one.
pub(super) struct Programs {
    ebpf: Ebpf,
    empty: SchedClassifier,
}

impl Programs {
    /// Loads them; the guest of [`frames`](super::frames) is known as the port of this interface.
    pub(super) fn load(ifindex: u32) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .override_global("PAIR_IFINDEX", &ifindex, true)
            .override_global("TRACE_IFINDEX", &0u32, true)
            .override_global("PEER_ACCEPTS", &u32::from(metadata_user::dataplane::peer_accepts()), true)
            .load(metadata_user::dataplane::OBJECT)
            .context("loading the eBPF object")?;
        for (name, program) in ebpf.programs_mut() {
            let loaded = match program {
                Program::Xdp(program) => program.load(),
                program => <&mut SchedClassifier>::try_from(program)?.load(),
            };
            loaded.with_context(|| format!("loading {name}"))?;
        }
        let mut programs = Self { ebpf, empty: lab::foreign::load("bench_empty")? };
        let mut addr = [0; 16];
        addr[..4].copy_from_slice(&GUEST_IPV4);
        let mut sources = [Source::EMPTY; MAX_SOURCES];
        sources[0] = Source::new(GUEST_MAC, 4, addr, 32);
        let port = Port {
            tag: TAG,
            ifindex,
            mac: GUEST_MAC,
            flags: 0,
            source_count: 1,
            place: 1,
            limits: Limits::NONE,
            instance: [1; 16],
            sources,
        };
        let path = ReturnPath { tag: TAG, ifindex, mac: GUEST_MAC, flags: 0, place: 1, reserved: 0 };
        programs.map("PORTS")?.insert(ifindex, port, 0).context("making the port known")?;
        programs.map("TAGS")?.insert(TAG, path, 0).context("making the way back known")?;
        Ok(programs)
    }

    fn map<V: aya::Pod>(&mut self, name: &str) -> Result<HashMap<&mut aya::maps::MapData, u32, V>> {
        self.ebpf.map_mut(name).with_context(|| format!("the map {name}"))?.try_into().context("another kind of map")
    }

    /// Lets the port begin no connection for the next days.
    pub(super) fn exhaust_connections(&mut self, ifindex: u32) -> Result<()> {
        const DAY: u64 = 86_400_000_000_000;
        let connections = Bucket { interval: DAY, tolerance: 0, due: DAY << 10 };
        let mut ports = self.map::<Port>("PORTS")?;
        let limits = Limits { connections, packets: Bucket::UNLIMITED };
        let port = Port { limits, ..ports.get(&ifindex, 0).context("reading the port")? };
        ports.insert(ifindex, port, 0).context("limiting")
    }

    /// Returns `from_guest_xdp`.
    pub(super) fn xdp(&mut self) -> Result<&mut Xdp> {
        Ok(self.ebpf.program_mut("from_guest_xdp").context("the program from_guest_xdp")?.try_into()?)
    }

    /// Returns a program of the object, or the empty one by the name `empty`.
    pub(super) fn get(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        match name {
            "empty" => Ok(&mut self.empty),
            name => Ok(self.ebpf.program_mut(name).with_context(|| format!("the program {name}"))?.try_into()?),
        }
    }

    /// Returns the nanoseconds of one run, when a program looks at the same frame again and again and leaves it as it
    /// is: the kernel's own mean over `repeat` runs.
    pub(super) fn repeated(&mut self, name: &str, frame: &[u8], verdict: i32, repeat: u32) -> Result<f64> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let result = self.get(name)?.test_run(options).with_context(|| format!("running {name}"))?;
        if result.return_value.cast_signed() != verdict {
            bail!("{name} returned {}, not {verdict}", result.return_value.cast_signed());
        }
        Ok(result.duration.as_nanos() as f64)
    }

    /// Returns the nanoseconds of one run, when a program gets a new copy of the frame each time: the mean of the
    /// kernel's statistics, which hold the reading of a clock as well.
    pub(super) fn fresh(&mut self, name: &str, frame: &[u8], verdict: i32, runs: u32) -> Result<f64> {
        let before = self.spent(name)?;
        for _ in 0..runs {
            self.repeated(name, frame, verdict, 1)?;
        }
        let after = self.spent(name)?;
        if after.runs != before.runs + u64::from(runs) {
            bail!("the kernel counted {} runs of {name}, not {runs}", after.runs - before.runs);
        }
        Ok(after.mean_since(&before))
    }

    /// Returns what the kernel's statistics say of a program; they stand still unless they are enabled.
    pub(super) fn spent(&mut self, name: &str) -> Result<Spent> {
        let info = self.get(name)?.info().with_context(|| format!("asking for {name}"))?;
        Ok(Spent { time: info.run_time(), runs: info.run_count() })
    }
}

/// What a program has used so far, by `bpf_stats`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    time: Duration,
    runs: u64,
}

impl Spent {
    /// Returns the mean nanoseconds of the runs since an earlier look.
    pub(super) fn mean_since(&self, earlier: &Self) -> f64 {
        (self.time - earlier.time).as_nanos() as f64 / (self.runs - earlier.runs) as f64
    }
}
