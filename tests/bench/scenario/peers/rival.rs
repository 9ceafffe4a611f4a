//! One guest with two ways to its metadata: the daemon, through its tap, and somebody else, through a second interface.
//!
//! Both answer in turns, and only the guest's route to the metadata address changes between them. Processor time is looked
//! at twice: that of the processes that answer, and that of the whole machine, load generator included. The kernel does
//! much of the work for either side in the name of whoever runs at that moment, so only the second is complete.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use lab::{Guest, Namespace};
use metadata_ebpf::addr::METADATA_IPV4;

use crate::Effort;
use crate::load::{Load, Outcome, QUANTILES};
use crate::machine::{pin, prefer};
use crate::progress;
use crate::result::{Case, Goal, Ratio, Run};
use crate::usage::{Usage, busy, resident};

pub(super) const ADDRESS: &str = "169.254.169.254";
const US: &str = "metadatad";

/// A process that ends with the value.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let started = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self(started))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns how it ended, if it has.
    pub(super) fn try_wait(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.0.try_wait().context("asking whether a process runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let id = i32::try_from(self.0.id()).unwrap_or(0);
        // A master ends its workers.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Gives the guest a second interface, `eth1`, whose other end is `net0` in the network's namespace.
pub(super) fn second_way(guest: &Guest, network: &Namespace, address: &str) -> Result<()> {
    network.ip(&format!("link add net0 type veth peer name eth1 netns {}", guest.namespace().name()))?;
    network.ip("link set net0 up")?;
    guest.namespace().ip("link set eth1 up")?;
    network.ip(&format!("route add {address}/32 dev net0")).map(drop)
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Tap,
    Rival,
}

/// Sends the guest's requests this way from here on.
pub(super) fn take(guest: &Guest, way: Way) -> Result<()> {
    let device = if way == Way::Tap { "eth0" } else { "eth1" };
    let address = guest.document().ipv4().context("the guest has an IPv4 address")?;
    guest.namespace().ip(&format!("route replace {ADDRESS}/32 dev {device} src {address}")).map(drop)
}

/// Who is compared with the daemon.
pub(super) struct Rival<'w> {
    pub(super) name: &'static str,
    pub(super) guest: &'w Guest,
    pub(super) daemon: u32,
    /// All that answer there.
    pub(super) processes: Vec<u32>,
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) path: &'static str,
    /// Of the body, for people; may be empty.
    pub(super) size: &'static str,
    pub(super) connections: usize,
    pub(super) reconnect: bool,
    /// How the daemon is configured, for people, if not as by default without limits.
    pub(super) configured: &'static str,
    /// See [`Load::header`].
    pub(super) header: String,
    /// See [`Load::rate`].
    pub(super) rate: Option<f64>,
}

impl Asked {
    fn load(&self) -> Load {
        let Self { path, connections, reconnect, header, rate, .. } = self.clone();
        Load { server: (METADATA_IPV4, 80).into(), path: path.to_owned(), connections, reconnect, header, rate }
    }

    /// Returns the case's name, with that of who is compared.
    fn name(&self, rival: &str) -> String {
        let size = if self.size.is_empty() { String::new() } else { format!("{}, ", self.size) };
        let configured = if self.configured.is_empty() { String::new() } else { format!(", {}", self.configured) };
        format!("{rival}, {size}{}{configured}", self.load().connecting())
    }
}

/// What is wanted of the ratios.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Goals {
    pub(super) rate: Option<Goal>,
    pub(super) median: Option<Goal>,
    /// Of the processes.
    pub(super) per_cpu: Option<Goal>,
    /// Of the whole machine.
    pub(super) per_busy: Option<Goal>,
}

impl Rival<'_> {
    /// Measures both in turns, and adds the case to the run.
    pub(super) fn compare(&self, effort: Effort, run: &mut Run, asked: &Asked, goals: Goals) -> Result<()> {
        let mut case = Case::new("peers", asked.name(self.name));
        let load = asked.load();
        let mut sides = [Side::new(US, vec![self.daemon])?, Side::new(self.name, self.processes.clone())?];
        for process in sides.iter().flat_map(|side| &side.processes) {
            prefer(*process)?;
        }
        let mut pairs: [Vec<f64>; 4] = Default::default();
        for pair in effort.turns(&case.name) {
            let mut slices = [None, None];
            for turn in [pair % 2, (pair + 1) % 2] {
                let place = usize::from(turn == 1);
                take(self.guest, if place == 0 { Way::Tap } else { Way::Rival })?;
                let slice = sides[place].measure(|| {
                    self.guest.namespace().run(|| {
                        prefer(0)?;
                        if run.machine.processors > 1 {
                            pin(0, run.machine.processors - 1)?;
                        }
                        load.run_with_failures(effort.slice)
                    })
                })?;
                sides[place].all.add(&slice)?;
                slices[place] = Some(slice);
            }
            let [Some(ours), Some(theirs)] = slices else { continue };
            for (of, ratio) in pairs.iter_mut().zip([
                ours.outcome.rate() / theirs.outcome.rate(),
                ours.outcome.quantile(0.5) / theirs.outcome.quantile(0.5),
                ours.per_cpu() / theirs.per_cpu(),
                ours.per_busy() / theirs.per_busy(),
            ]) {
                of.push(ratio);
            }
        }
        let metrics = [
            ("requests/s", goals.rate),
            ("median", goals.median),
            ("requests per CPU second, its processes", goals.per_cpu),
            ("requests per CPU second, whole machine", goals.per_busy),
        ];
        // At a fixed rate both answer as many, and what else the machine does is more than what they do.
        let tells = |metric: &str| asked.rate.is_none() || !["requests/s", metrics[3].0].contains(&metric);
        let told = metrics.into_iter().zip(pairs).filter(|((metric, _), _)| tells(metric));
        case.ratios.extend(told.map(|((metric, goal), pairs)| Ratio {
            metric: metric.to_owned(),
            of: US.to_owned(),
            to: self.name.to_owned(),
            pairs,
            goal,
        }));
        for side in &sides {
            side.figures(&mut case)?;
        }
        progress::say(&format!("{}: {}", case.name, crate::page::ratios(&case)));
        run.cases.push(case);
        Ok(())
    }
}

/// One slice of a side, or all of them.
struct Slice {
    outcome: Outcome,
    failures: u64,
    used: Usage,
    busy: f64,
}

impl Slice {
    fn nothing() -> Result<Self> {
        Ok(Self { outcome: Outcome::nothing()?, failures: 0, used: Usage::default(), busy: 0.0 })
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.outcome.add(&other.outcome)?;
        self.failures += other.failures;
        self.used.cpu += other.used.cpu;
        self.used.switches += other.used.switches;
        self.busy += other.busy;
        Ok(())
    }

    fn per_cpu(&self) -> f64 {
        self.outcome.answered() / self.used.cpu
    }

    fn per_busy(&self) -> f64 {
        self.outcome.answered() / self.busy
    }
}

/// Who answers on one way, and all that came of it.
struct Side {
    name: &'static str,
    processes: Vec<u32>,
    all: Slice,
}

impl Side {
    fn new(name: &'static str, processes: Vec<u32>) -> Result<Self> {
        Ok(Self { name, processes, all: Slice::nothing()? })
    }

    /// Returns what the processes and the machine used for what a load brings.
    fn measure(&self, load: impl FnOnce() -> Result<(Outcome, u64)>) -> Result<Slice> {
        let (before, busy_before) = (Usage::of_all(&self.processes)?, busy()?);
        let (outcome, failures) = load()?;
        if outcome.requests == 0 {
            bail!("{} answered nothing within a slice: use a longer one (--slice)", self.name);
        }
        let used = Usage::of_all(&self.processes)?.since(before);
        Ok(Slice { outcome, failures, used, busy: busy()? - busy_before })
    }

    fn figures(&self, case: &mut Case) -> Result<()> {
        let (name, Slice { outcome, failures, used, busy }) = (self.name, &self.all);
        let (requests, failures) = (outcome.answered(), *failures as f64);
        case.figure(format!("{name}, requests/s"), outcome.rate());
        outcome.figures(name, case);
        case.figure(format!("{name}, failed of 1,000"), failures * 1e3 / (requests + failures));
        case.figure(format!("{name}, CPU µs per request"), used.cpu * 1e6 / requests);
        case.figure(format!("{name}, CPU µs of the whole machine per request"), busy * 1e6 / requests);
        case.figure(format!("{name}, context switches per request"), used.switches / requests);
        let memory = self.processes.iter().map(|process| resident(*process)).sum::<Result<f64>>()?;
        case.figure(format!("{name}, MB resident"), memory);
        case.figure(format!("{name}, processes"), self.processes.len() as f64);
        case.latencies.insert(name.to_owned(), QUANTILES.map(|at| (at, outcome.quantile(at))).to_vec());
        Ok(())
    }
}
