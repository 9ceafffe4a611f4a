//! An audit log for fuzzers: what its thread would write, in memory.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::writer::Message;
use super::{Audit, AuditState, Log, Watch, line};
use crate::metrics;
use crate::state_view::StateView;

/// Records that wait.
#[derive(Debug)]
pub struct Records(Receiver<Message>);

/// Returns an audit log, and where its records are.
#[must_use]
pub fn audit() -> (Arc<Audit>, Records) {
    let (queue, records) = sync_channel(1024);
    let log = Log::of(queue, metrics::Audit::default(), StateView::new(AuditState::default()));
    let audit = Audit { log: Some(log), watch: Watch::new(&metrics::Anomalies::default()) };
    (Arc::new(audit), Records(records))
}

impl Records {
    /// Returns each record that has come, as the file has it and as the journal gets it.
    pub fn take(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let records = self.0.try_iter().filter_map(|message| match message {
            Message::Record(record) => Some(record),
            Message::End => None,
        });
        let texts = records.map(|record| {
            let (mut json, mut entry) = (Vec::new(), Vec::new());
            line::json(&record, &mut json);
            line::journal(&record, &mut entry);
            (json, entry)
        });
        texts.collect()
    }
}
