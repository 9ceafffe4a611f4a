//! A soak: years of a node's life in minutes. Ports come and go, documents change, the controller fails, programs and pins are removed,
//! operators run commands, the configuration is reloaded, the daemon is restarted in every way, and guests read all the time. Then
//! everything must have returned to where it was: memory, open files, threads, map entries, programs, links, namespaces, sockets, files.
//!
//! Promises: four moments at which nothing happens are compared. The first half is one process, so that what it loses adds up: it is
//! compared from when it has done everything once. In the second half it is restarted all the time, so that what a restart leaves
//! behind adds up: the last process is compared with the first, both having done the same. What differs is named. An answer that is not the guest's
//! own and current is an error at once.
//!
//! Left out: time itself. Nothing here waits for hours, so what only a date brings (certificates, tokens' ends) is not part of it.

mod census;
mod ports;
mod reader;
mod report;
mod trouble;
mod world;
mod writer;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::census::{BOOTS, Between, Census};
use self::trouble::ROUNDS;
use self::world::World;
use crate::wait;

pub use self::report::Report;

/// How long a difference may take to go: threads that did something aside end after ten seconds, memory is returned every five.
const PATIENCE: Duration = Duration::from_secs(40);

/// Bindings that the history of boots keeps at most.
const HISTORY: u64 = 4096;

/// How long it is, and how much is done at once.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long it lasts, about.
    pub length: Duration,
    /// How long nothing happens before a moment is what others are compared with.
    pub settle: Duration,
    /// Whether the history of boots is filled to its bound first, which takes some minutes.
    pub fill: bool,
    /// KiB by which memory may differ and still be as it was.
    pub slack: u64,
    /// Guests that read all the time.
    pub steady: usize,
    /// Guests whose ports are rebound, and come and go.
    pub movers: usize,
    /// Taps that come and go in a round.
    pub taps: usize,
}

impl Plan {
    /// A soak of this many minutes.
    #[must_use]
    pub fn minutes(minutes: u32) -> Self {
        let length = Duration::from_secs(60 * u64::from(minutes));
        Self { length, settle: Duration::from_secs(12), fill: true, slack: 2048, steady: 4, movers: 8, taps: 24 }
    }

    /// As short as it can be: three rounds, and one restart of each kind. Memory that is taken once is not told from what would be
    /// lost each time.
    #[must_use]
    pub fn shortest() -> Self {
        let none = Duration::ZERO;
        Self { length: none, settle: none, fill: false, slack: 16 << 10, steady: 2, movers: 2, taps: 8 }
    }
}

/// Does it, and says now and then how far it is.
///
/// # Errors
/// The first wrong answer, or thing that did not happen; or what is not as it was.
pub fn run(plan: &Plan, say: impl Fn(&str)) -> Result<Report> {
    let mut soak = Soak::new(plan, say)?;
    let done = soak.whole();
    done.with_context(|| {
        format!("after {} rounds; {:?}; the end of the log:\n{}", soak.rounds, soak.world.tally, soak.end_of_log())
    })
}

struct Soak<'a, Say> {
    plan: &'a Plan,
    say: Say,
    begun: Instant,
    world: World,
    rounds: u64,
    /// Resident memory of the first half's process after each round, in KiB.
    memory: Vec<u64>,
}

impl<'a, Say: Fn(&str)> Soak<'a, Say> {
    fn new(plan: &'a Plan, say: Say) -> Result<Self> {
        let world = World::new(plan.steady, plan.movers)?;
        Ok(Self { plan, say, begun: Instant::now(), world, rounds: 0, memory: Vec::new() })
    }

    fn whole(&mut self) -> Result<Report> {
        self.world.start_readers()?;
        self.round(0)?;
        let start = self.settled()?;
        self.tell("it has done everything for the first time");

        let warm = if self.plan.fill { self.warm()? } else { start.clone() };

        self.world.start_readers()?;
        let mut round = 0;
        while round == 0 || self.begun.elapsed() < self.plan.length / 2 {
            self.round(round)?;
            round += 1;
            let resident = census::resident(&self.world)?;
            self.memory.push(resident);
            self.tell(&format!("round {}, {resident} KiB", self.rounds));
        }
        let middle = self.compared(&warm, Between::OneProcess).context("in the half without restarts")?;

        self.world.start_readers()?;
        let mut round = 0;
        while round == 0 || self.begun.elapsed() < self.plan.length {
            self.world.restart_in_every_way()?;
            // The shortest has its round below.
            if !self.plan.length.is_zero() {
                self.round(round)?;
            }
            round += 1;
            self.tell(&format!("round {}, restarted", self.rounds));
        }
        // A process that has done what the first had done.
        self.world.quiet()?;
        self.world.node.stop_daemon()?;
        self.world.node.start_daemon()?;
        self.world.is_back()?;
        self.world.start_readers()?;
        self.round(0)?;
        let end = self.compared(&start, Between::TwoProcesses).context("in the half with restarts")?;
        Ok(Report {
            lasted: self.begun.elapsed(),
            moments: [start, warm, middle, end],
            memory: std::mem::take(&mut self.memory),
            tally: self.world.tally.clone(),
            rounds: self.rounds,
            log: self.log_lines(),
        })
    }

    /// Fills what is bounded, and does everything once.
    fn warm(&mut self) -> Result<Census> {
        self.world.start_readers()?;
        self.fill_history()?;
        for round in 1..=ROUNDS {
            self.round(round)?;
        }
        let warm = self.settled()?;
        self.tell("now nothing may grow any more");
        Ok(warm)
    }

    /// Does everything once; some things take turns.
    fn round(&mut self, round: u64) -> Result<()> {
        let world = &mut self.world;
        world.taps_come_and_go(self.plan.taps)?;
        for _ in 0..5 {
            world.change_documents()?;
        }
        for _ in 0..2 {
            world.rebind_movers()?;
        }
        let mover = usize::try_from(round)? % world.movers.len();
        world.replug(mover)?;
        world.hold_requests(mover)?;
        world.use_tokens()?;
        world.operators_ask(round)?;
        world.reload()?;
        world.break_things(round)?;
        world.lose_source(round)?;
        self.rounds += 1;
        Ok(())
    }

    /// Fills the history of boots, which is bounded, so that from then on its memory is the same.
    fn fill_history(&mut self) -> Result<()> {
        let until = self.begun.elapsed() + self.plan.length / 4;
        loop {
            for _ in 0..100 {
                self.world.rebind_movers()?;
            }
            let bindings = Census::take(&self.world)?.get(BOOTS);
            self.tell(&format!("the history of boots has {bindings} bindings"));
            if bindings >= HISTORY || self.begun.elapsed() > until {
                return Ok(());
            }
        }
    }

    /// Waits until nothing happens, and counts everything.
    fn settled(&mut self) -> Result<Census> {
        self.world.quiet()?;
        std::thread::sleep(self.plan.settle);
        // On a busy machine the snapshot may still be written: its draft would be missing ever after.
        wait::until("no file is being written", || {
            let census = Census::take(&self.world)?;
            Ok((!census.has_drafts()).then_some(census))
        })
    }

    /// Waits until nothing happens and everything is as it was.
    fn compared(&mut self, before: &Census, between: Between) -> Result<Census> {
        self.world.quiet()?;
        let waiting = Instant::now();
        loop {
            let now = Census::take(&self.world)?;
            let differences = now.differences(before, between, self.plan.slack);
            if differences.is_empty() {
                // It has nothing to complain of.
                self.world.node.ask(&["status", "--check"])?;
                return Ok(now);
            }
            if waiting.elapsed() > PATIENCE {
                bail!("not as it was: {differences:#?}");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn tell(&self, what: &str) {
        (self.say)(&format!("{:6.0} s  {what}", self.begun.elapsed().as_secs_f64()));
    }

    /// Returns how many lines the log has, and how many of them are warnings and errors.
    fn log_lines(&self) -> [usize; 3] {
        let log = self.world.node.log();
        ["", " WARN ", " ERROR "].map(|level| log.lines().filter(|line| line.contains(level)).count())
    }

    /// The last lines of the log, without what is there all the time.
    fn end_of_log(&self) -> String {
        const USUAL: [&str; 4] = ["tap is ", "content changed", "content removed", "a guest's traffic is unusual"];
        let log = self.world.node.log();
        let lines = log.lines().filter(|line| !USUAL.iter().any(|usual| line.contains(usual)));
        let mut lines: Vec<_> = lines.rev().take(60).collect();
        lines.reverse();
        lines.join("\n")
    }
}
