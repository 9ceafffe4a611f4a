//! `sync`: from a change in a controller to the guest's eyes.
//!
//! A writer changes one value, and a guest that never stops asking says when it reads the new one. In turns with that, the
//! same change is seen by a bare client of the same controller, which is as soon as anybody can know of it. So the time
//! starts before the write (with Nova: when its database has it), and holds the controller's own part.
//!
//! With etcd also the other way round: the guest's requests wait for the change, among many others that do.

mod directory;
mod etcd;
mod nova;
mod waiting;

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use lab::{Guest, Namespace, Request};

use crate::Effort;
use crate::load::histogram;
use crate::progress;
use crate::result::{Case, Ratio, Run};
pub(super) use etcd::connect;

const USER_DATA: &str = "/openstack/latest/user_data";
/// Changes of each slice: with the usual nine pairs, 225 of each side.
const BATCH: u32 = 25;
/// Longest time until a change is seen; one that takes longer is a failure of the measurement.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    let sources: [fn(Effort) -> Result<Case>; 4] = [directory::measure, etcd::measure, waiting::measure, nova::measure];
    for measure in sources {
        let case = measure(effort)?;
        progress::say(&format!("{}: {}", case.name, crate::page::ratios(&case)));
        run.cases.push(case);
    }
    Ok(())
}

/// A thread that writes what it is told, inside a namespace.
struct Writer {
    orders: Option<Sender<u32>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Starts it: `make` runs in the namespace, and returns what writes.
    fn start<W: FnMut(u32) -> Result<()>>(
        namespace: &Namespace,
        make: impl FnOnce() -> Result<W> + Send + 'static,
    ) -> Self {
        let (orders, inbox) = mpsc::channel();
        let namespace = Namespace::existing(namespace.name());
        let thread = std::thread::spawn(move || {
            namespace.enter()?;
            write_all(&inbox, make()?)
        });
        Self { orders: Some(orders), thread: Some(thread) }
    }

    fn order(&self, change: u32) -> Result<()> {
        self.orders.as_ref().context("the writer ended")?.send(change).context("the writer ended")
    }

    /// Ends it, and returns what went wrong.
    fn finish(&mut self) -> Result<()> {
        self.orders = None;
        let outcome = self.thread.take().map(JoinHandle::join);
        outcome.transpose().ok().context("the writer panicked")?.unwrap_or(Ok(()))
    }
}

fn write_all(inbox: &Receiver<u32>, mut write: impl FnMut(u32) -> Result<()>) -> Result<()> {
    while let Ok(change) = inbox.recv() {
        write(change).with_context(|| format!("writing change {change}"))?;
    }
    Ok(())
}

/// Changes as the guest sees them, and as a bare client does.
pub(super) struct Seen {
    pub(super) guest: Histogram<u64>,
    bare: Histogram<u64>,
    pairs: Vec<f64>,
}

impl Seen {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { guest: histogram()?, bare: histogram()?, pairs: Vec::new() })
    }

    /// Adds a pair of slices. `least` is a time that the guest's side waits on purpose, and the bare one does not.
    pub(super) fn add(&mut self, guest: &Histogram<u64>, bare: &Histogram<u64>, least: Duration) -> Result<()> {
        let median = |seen: &Histogram<u64>| seen.value_at_quantile(0.5) as f64;
        self.pairs.push(median(guest) / (median(bare) + least.as_nanos() as f64));
        self.guest.add(guest).context("adding histograms")?;
        self.bare.add(bare).context("adding histograms")
    }

    /// Makes a case of it.
    pub(super) fn case(self, scenario: &str, name: &str, bare: &str, to: &str) -> Case {
        let mut case = Case::new(scenario, name);
        for (side, seen) in [("guest", &self.guest), (bare, &self.bare)] {
            for (what, value) in
                [("p50", seen.value_at_quantile(0.5)), ("p99", seen.value_at_quantile(0.99)), ("slowest", seen.max())]
            {
                case.figure(format!("{side}, {what} ms"), value as f64 / 1e6);
            }
            case.figure(format!("{side}, changes"), seen.len() as f64);
            let quantiles = crate::load::QUANTILES.map(|at| (at, seen.value_at_quantile(at) as f64 / 1000.0));
            case.latencies.insert(side.to_owned(), quantiles.to_vec());
        }
        case.ratios.push(Ratio {
            metric: "median".to_owned(),
            of: "guest".to_owned(),
            to: to.to_owned(),
            pairs: self.pairs,
            goal: None,
        });
        case
    }
}

/// Orders changes one after the other, each when the former was seen, and takes the time of each.
fn changes(writer: &Writer, first: u32, mut see: impl FnMut(u32) -> Result<()>) -> Result<Histogram<u64>> {
    let mut seen = histogram()?;
    for change in first..first + BATCH {
        let start = Instant::now();
        writer.order(change)?;
        see(change).with_context(|| format!("waiting for change {change}"))?;
        seen.saturating_record(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(seen)
}

/// Changes as a guest sees them that asks again at once, on one connection.
fn as_guest(guest: &Guest, writer: &Writer, first: u32) -> Result<Histogram<u64>> {
    guest.namespace().run(|| {
        let request = Request::get(USER_DATA);
        let mut connection = request.connect()?;
        changes(writer, first, |change| {
            let (start, wanted) = (Instant::now(), change.to_string());
            while connection.exchange(&request)?.text() != wanted {
                ensure!(start.elapsed() < PATIENCE, "the guest does not see it");
            }
            Ok(())
        })
    })
}

/// Measures pairs of slices, with a guest that asks again and again: `bare` sees a batch of changes from the given one.
fn in_turns(
    name: &str,
    effort: Effort,
    guest: &Guest,
    writer: &mut Writer,
    least: Duration,
    bare: impl FnMut(&Writer, u32) -> Result<Histogram<u64>>,
) -> Result<Seen> {
    pairs(name, effort, writer, least, |writer, first| as_guest(guest, writer, first), bare)
}

/// Measures pairs of slices: either side sees a batch of changes from the given one.
fn pairs(
    name: &str,
    effort: Effort,
    writer: &mut Writer,
    least: Duration,
    mut by_guest: impl FnMut(&Writer, u32) -> Result<Histogram<u64>>,
    mut bare: impl FnMut(&Writer, u32) -> Result<Histogram<u64>>,
) -> Result<Seen> {
    let mut seen = Seen::new()?;
    let mut next = 1;
    for pair in effort.turns(name) {
        let mut slice = |is_guest: bool| {
            let first = next;
            next += BATCH;
            if is_guest { by_guest(writer, first) } else { bare(writer, first) }
        };
        let outcome = if pair % 2 == 0 {
            slice(true).and_then(|guest| Ok((guest, slice(false)?)))
        } else {
            slice(false).and_then(|bare| Ok((slice(true)?, bare)))
        };
        let (guest, bare) = match outcome {
            Ok(both) => both,
            // What went wrong with the writer says more than that nothing came.
            Err(error) => return writer.finish().and(Err(error)),
        };
        seen.add(&guest, &bare, least)?;
    }
    writer.finish()?;
    Ok(seen)
}

/// Asks again after a pause, until it is so.
pub(super) fn until(pause: Duration, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is()? {
        ensure!(start.elapsed() < PATIENCE, "not seen within {PATIENCE:?}");
        std::thread::sleep(pause);
    }
    Ok(())
}
