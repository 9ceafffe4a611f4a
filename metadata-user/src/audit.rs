//! The audit log: a record of each request of a guest; and what is unusual about guests' traffic.
//!
//! Promises to the guest: nobody's request waits for the log; bodies, tokens and queries are never in it.
//!
//! Promises to the operator: each request is recorded once, with its instance as the kernel half knows it, or counted as
//! lost; a guest can neither forge a record nor fill the disk; anomalies are counted for each instance, with the log or
//! without. While the log is off, it costs no memory and no allocation.
//!
//! Records wait in a queue of fixed size for a thread of their own (`writer`), which alone touches files.
//!
//! Left out: what is a request and when it ends (`http` reports both), and the daemon's own log (`telemetry`).

mod anomaly;
mod file;
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod line;
mod quota;
mod record;
mod text;
mod writer;

use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::config::{self, AuditTarget};
use crate::metrics;
use crate::state_view::StateView;

pub use anomaly::{Anomalies, Anomaly, Seen, Watch};
pub use record::{Connection, Dropped, Record, Request, Subject, TokenMode};
pub use text::Text;
pub use writer::{AuditState, Writer};

use file::LogFile;
use journal::Journal;
use quota::Quotas;
use writer::Message;

/// Where everything that is recorded of guests goes, beyond the counters.
#[derive(Debug)]
pub struct Audit {
    /// `None`: the log is off.
    log: Option<Log>,
    watch: Watch,
}

/// The log, as those see it who have records.
#[derive(Debug)]
pub struct Log {
    queue: SyncSender<Message>,
    counters: metrics::Audit,
    state: StateView<AuditState>,
    quotas: Quotas,
}

impl Audit {
    /// Starts the log's thread, if it is on. The log ends when that is dropped.
    ///
    /// # Errors
    /// If the thread cannot be started. A file that cannot be opened is no error: it is tried again and again, and the
    /// [`Log::state`] says so.
    pub fn start(
        settings: &config::Audit,
        counters: &metrics::Audit,
        anomalies: &metrics::Anomalies,
    ) -> io::Result<(Self, Option<Writer>)> {
        let watch = Watch::new(anomalies);
        if settings.to == AuditTarget::None {
            return Ok((Self { log: None, watch }, None));
        }
        let (queue, messages) = sync_channel(settings.queue);
        let log = Log::of(queue.clone(), counters.clone(), StateView::new(AuditState::default()));
        let (counters, state) = (counters.clone(), log.state.clone());
        let writer = match settings.to {
            AuditTarget::Journald => {
                Writer::start(Journal::new(Path::new(journal::SOCKET)), queue, messages, counters, state)?
            }
            AuditTarget::File | AuditTarget::None => {
                let file = LogFile::new(&settings.path, settings.rotate_size << 20, settings.rotate_keep);
                Writer::start(file, queue, messages, counters, state)?
            }
        };
        Ok((Self { log: Some(log), watch }, Some(writer)))
    }

    /// Returns the log; `None`: it is off, and a record need not be made.
    #[must_use]
    pub fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// Returns the anomalies of all instances.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }
}

impl Log {
    fn of(queue: SyncSender<Message>, counters: metrics::Audit, state: StateView<AuditState>) -> Self {
        Self { queue, counters, state, quotas: Quotas::new() }
    }

    /// Gives a record to the thread that writes it. Does not wait: where the queue is full, the record is lost and counted.
    pub fn send(&self, record: Record) {
        if self.queue.try_send(Message::Record(record)).is_err() {
            self.counters.lost_queue_full.inc();
        }
    }

    /// Takes a place for a record that a guest could cause in any number (`quota` says which are), and returns how many of
    /// this port were left out since the last one; `None`: this one is left out too.
    #[must_use]
    pub fn admit(&self, tag: u32) -> Option<u64> {
        let admitted = self.quotas.admit(tag);
        if admitted.is_none() {
            self.counters.left_out.inc();
        }
        admitted
    }

    /// Returns how writing does.
    #[must_use]
    pub fn state(&self) -> &StateView<AuditState> {
        &self.state
    }

    /// Returns the log's counters.
    #[must_use]
    pub fn counters(&self) -> &metrics::Audit {
        &self.counters
    }
}
