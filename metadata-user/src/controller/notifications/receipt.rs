//! Receipts: when the last clone of one is dropped, its message is acknowledged.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The receipt of a message. Cheap to clone: a message that names several instances is acknowledged when all have been read.
#[derive(Clone, Debug, Default)]
pub struct Receipt(#[expect(dead_code, reason = "held for its drop")] Option<Arc<Settle>>);

#[derive(Debug)]
struct Settle {
    tag: u64,
    settled: UnboundedSender<u64>,
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
}

/// Makes receipts for the messages of one channel: delivery tags mean nothing on another.
#[derive(Debug)]
pub(super) struct Receipts(UnboundedSender<u64>);

impl Receipts {
    /// Returns receipts, and where the tags arrive of those that are dropped.
    pub(super) fn new() -> (Self, UnboundedReceiver<u64>) {
        let (settled, tags) = unbounded_channel();
        (Self(settled), tags)
    }

    /// Returns the receipt of the message with this delivery tag.
    pub(super) fn of(&self, tag: u64) -> Receipt {
        Receipt(Some(Arc::new(Settle { tag, settled: self.0.clone() })))
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
        let late = receipts.of(3);
        drop(tags);
        drop((late, Receipt::none()));
    }
}
