//! Receipts: when the last clone of one is dropped, its message is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The receipt of a message. Cheap to clone: a message that names several instances is acknowledged when all have been read.
#[derive(Clone, Debug, Default)]
pub struct Receipt(Option<Arc<Settle>>);

#[derive(Debug)]
struct Settle {
    tag: u64,
    settled: UnboundedSender<u64>,
    /// All messages up to this tag are acknowledged.
    early: Arc<AtomicU64>,
}

impl Drop for Settle {
    fn drop(&mut self) {
        // An error: the connection has ended, and the broker gives the message out again.
        let _ = self.settled.send(self.tag);
    }
}

impl Receipt {
    /// Returns a receipt of no message.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Returns whether its message is still to be acknowledged by it: not where that was done early, or the connection has ended.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        let is_open = |settle: &Arc<Settle>| !settle.settled.is_closed();
        self.0.as_ref().is_some_and(|settle| is_open(settle) && settle.tag > settle.early.load(Ordering::Relaxed))
    }
}

/// Makes receipts for the messages of one channel: delivery tags mean nothing on another.
#[derive(Debug)]
pub(super) struct Receipts {
    settled: UnboundedSender<u64>,
    early: Arc<AtomicU64>,
}

impl Receipts {
    /// Returns receipts, and where the tags arrive of those that are dropped.
    pub(super) fn new() -> (Self, UnboundedReceiver<u64>) {
        let (settled, tags) = unbounded_channel();
        (Self { settled, early: Arc::default() }, tags)
    }

    /// Returns the receipt of the message with this delivery tag.
    pub(super) fn of(&self, tag: u64) -> Receipt {
        let (settled, early) = (self.settled.clone(), Arc::clone(&self.early));
        Receipt(Some(Arc::new(Settle { tag, settled, early })))
    }

    /// Notes that the message with this delivery tag was acknowledged without its receipt, as all before it were.
    pub(super) fn note_early(&self, tag: u64) {
        self.early.fetch_max(tag, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_settled_when_the_last_clone_is_dropped() {
        let (receipts, mut tags) = Receipts::new();
        let first = receipts.of(1);
        let clone = first.clone();
        drop(receipts.of(2));
        drop(first);
        assert_eq!(tags.try_recv(), Ok(2));
        assert!(tags.try_recv().is_err());
        drop(clone);
        assert_eq!(tags.try_recv(), Ok(1));
        let (early, late) = (receipts.of(3), receipts.of(4));
        receipts.note_early(3);
        assert!(!early.is_needed() && late.is_needed() && !Receipt::none().is_needed());
        drop((early, tags));
        assert!(!late.is_needed());
        drop((late, Receipt::none()));
    }
}
