//! The thread that writes records: the only one that opens, writes and renames files of the audit log.
//!
//! Promises: whoever has a record never waits, for whatever this thread waits for; what it could not write, and what did
//! not fit into the queue meanwhile, is counted, and written down as a record once writing works again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::record::Record;
use crate::metrics;
use crate::privilege;
use crate::state_view::StateView;
use crate::worker::Worker;

/// How often missing records are written down, at most.
const PAUSE: Duration = Duration::from_secs(1);

/// Where records go.
pub(super) trait Sink: Send + 'static {
    /// Takes a record. Returns how many are written now, this one or those before it.
    fn add(&mut self, record: &Record) -> Result<u64, Failed>;
    /// Writes what was taken. Returns how many are written now.
    fn flush(&mut self) -> Result<u64, Failed>;
}

/// Records that are lost, and why.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) records: u64,
    pub(super) error: io::Error,
}

/// What comes through the queue.
#[expect(clippy::large_enum_variant, reason = "a record waits in its place of the queue: it is not allocated")]
#[derive(Debug)]
pub(super) enum Message {
    Record(Record),
    /// Wakes the thread.
    End,
}

/// How the audit log is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditState {
    /// Why it cannot be written now.
    pub error: Option<String>,
}

/// The thread. Dropping it writes what is in the queue, in bounded time.
#[derive(Debug)]
pub struct Writer {
    queue: SyncSender<Message>,
    ending: Arc<AtomicBool>,
    _worker: Worker,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If that is not possible.
    pub(super) fn start(
        sink: impl Sink,
        queue: SyncSender<Message>,
        messages: Receiver<Message>,
        counters: metrics::Audit,
        state: StateView<AuditState>,
    ) -> io::Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let mut writing = Writing { sink, counters, state, ending: Arc::clone(&ending), noted: (0, 0), tried: None };
        let worker = Worker::spawn_blocking_as(&privilege::AUDIT, "audit", move |_| writing.run(&messages))?;
        Ok(Self { queue, ending, _worker: worker })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        // Where the queue is full, the thread is awake, and finds out when it has emptied it.
        let _ = self.queue.try_send(Message::End);
    }
}

/// What the thread knows.
struct Writing<S> {
    sink: S,
    counters: metrics::Audit,
    state: StateView<AuditState>,
    ending: Arc<AtomicBool>,
    /// Records lost, by reason, that the log tells of.
    noted: (u64, u64),
    /// When it was last tried to write that down.
    tried: Option<Instant>,
}

impl<S: Sink> Writing<S> {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let message = match messages.try_recv() {
                Ok(message) => Some(message),
                Err(TryRecvError::Empty) => {
                    let flushed = self.sink.flush();
                    self.settle(flushed);
                    let is_ending = self.ending.load(Ordering::Acquire);
                    if is_ending {
                        self.tried = None;
                    }
                    let all_noted = self.note_lost();
                    if is_ending {
                        return;
                    }
                    let next =
                        if all_noted { messages.recv().map_err(Into::into) } else { messages.recv_timeout(PAUSE) };
                    match next {
                        Ok(message) => Some(message),
                        Err(RecvTimeoutError::Timeout) => None,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
                Err(TryRecvError::Disconnected) => return,
            };
            if let Some(Message::Record(record)) = message {
                self.note_lost();
                let added = self.sink.add(&record);
                self.settle(added);
            }
        }
    }

    /// Counts what became of records.
    fn settle(&self, outcome: Result<u64, Failed>) {
        match outcome {
            Ok(0) => {}
            Ok(records) => {
                self.counters.written.inc_by(records);
                if self.state.get().error.is_some() {
                    info!("the audit log can be written again");
                    self.state.publish(AuditState::default());
                }
            }
            Err(Failed { records, error }) => {
                self.counters.lost_write_failed.inc_by(records);
                let error = error.to_string();
                if self.state.get().error.as_ref() != Some(&error) {
                    warn!(error, "cannot write the audit log: records are lost until that works; guests are answered");
                    self.state.publish(AuditState { error: Some(error) });
                }
            }
        }
    }

    /// Writes down how many records are missing, if any are of which the log does not tell. Returns whether it tells of all.
    fn note_lost(&mut self) -> bool {
        let lost = (self.counters.lost_queue_full.get(), self.counters.lost_write_failed.get());
        if lost == self.noted {
            return true;
        }
        if self.tried.is_some_and(|tried| tried.elapsed() < PAUSE) {
            return false;
        }
        self.tried = Some(Instant::now());
        // What it has taken first: if that fails, it is part of what is missing next time.
        let flushed = self.sink.flush();
        if flushed.is_err() {
            self.settle(flushed);
            return false;
        }
        self.settle(flushed);
        let record = Record::Lost {
            at: SystemTime::now(),
            queue_full: lost.0 - self.noted.0,
            write_failed: lost.1 - self.noted.1,
        };
        // A failure loses no record: it is written next time.
        let none_lost = |failed: Failed| Failed { records: 0, ..failed };
        let added = self.sink.add(&record).map_err(none_lost);
        let added = added.and_then(|added| Ok(added + self.sink.flush().map_err(none_lost)?));
        let is_written = added.is_ok();
        if is_written {
            self.noted = lost;
        }
        self.settle(added);
        is_written
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use parking_lot::Mutex;

    use super::super::line::tests::request;
    use super::*;

    /// Keeps records; each takes a permit, and fails without one.
    struct Kept {
        permits: Receiver<bool>,
        records: Arc<Mutex<Vec<String>>>,
    }

    impl Sink for Kept {
        fn add(&mut self, record: &Record) -> Result<u64, Failed> {
            if !self.permits.recv().unwrap_or(true) {
                return Err(Failed { records: 1, error: io::ErrorKind::StorageFull.into() });
            }
            self.records.lock().push(match record {
                Record::Request(request) => request.path.as_str().to_owned(),
                Record::Lost { queue_full, write_failed, .. } => format!("lost {queue_full} {write_failed}"),
                Record::Connection(_) | Record::Dropped(_) => unreachable!("not sent here"),
            });
            Ok(1)
        }

        fn flush(&mut self) -> Result<u64, Failed> {
            Ok(0)
        }
    }

    #[test]
    fn a_sink_that_hangs_or_fails_delays_nobody_and_the_loss_is_counted_and_noted() {
        let (permit, permits) = channel();
        let records = Arc::default();
        let (queue, messages) = sync_channel(2);
        let (counters, state) = (metrics::Audit::default(), StateView::new(AuditState::default()));
        let sink = Kept { permits, records: Arc::clone(&records) };
        let writer = Writer::start(sink, queue.clone(), messages, counters.clone(), state.clone()).unwrap();
        let log = super::super::Log::of(queue, counters.clone(), state.clone());
        // It hangs: the queue takes two more, or three while the thread has not taken the first.
        for number in 0..50 {
            log.send(request(&format!("/{number}")));
        }
        let full = counters.lost_queue_full.get();
        assert!((47..=48).contains(&full), "{full}");
        // It fails for what it hangs on, then for the note of what is lost; then it works.
        permit.send(false).unwrap();
        permit.send(false).unwrap();
        drop(permit);
        // Ends when all is written.
        drop(writer);
        let records = records.lock();
        let lost = counters.lost_write_failed.get();
        let requests = records.iter().filter(|record| record.starts_with('/')).count();
        assert_eq!(full + lost + requests as u64, 50, "{records:?}");
        assert_eq!(counters.written.get(), records.len() as u64);
        assert_eq!(records.last().unwrap(), &format!("lost {full} {lost}"));
        assert_eq!(state.get().error, None);
    }

    #[test]
    fn what_is_missing_is_written_down_once() {
        let (permit, permits) = channel();
        let records: Arc<Mutex<Vec<String>>> = Arc::default();
        let (_queue, messages) = sync_channel(2);
        drop(permit);
        let mut writing = Writing {
            sink: Kept { permits, records: Arc::clone(&records) },
            counters: metrics::Audit::default(),
            state: StateView::new(AuditState::default()),
            ending: Arc::new(AtomicBool::new(true)),
            noted: (0, 0),
            tried: None,
        };
        writing.counters.lost_queue_full.inc_by(5);
        writing.run(&messages);
        assert!(writing.note_lost());
        writing.counters.lost_write_failed.inc_by(2);
        assert!(!writing.note_lost(), "not more often than once a second");
        writing.tried = None;
        assert!(writing.note_lost());
        assert_eq!(*records.lock(), ["lost 5 0", "lost 0 2"]);
    }
}
