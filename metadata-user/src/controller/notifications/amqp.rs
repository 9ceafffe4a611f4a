//! The connection to RabbitMQ: made again for ever, with a back-off, to one broker after the other.
//!
//! What may be missed, how it is noticed, and what is sent for it after messages are received again:
//!
//! | what | noticed by | sent |
//! |---|---|---|
//! | the queue is new, was deleted, or expired while nobody consumed it | a passive declaration that finds none (deletion while it is consumed: the broker cancels the consumer) | `QueueCreated` |
//! | the broker was restarted, and the exchanges of services are not durable (oslo.messaging's default), so the bindings are gone | an exchange of our own that is not durable either, `<queue>.bound`, is gone | `BrokerRestarted` |
//! | an exchange did not exist, since its service has not started | binding to it fails, and succeeds later | `ExchangeBound` |
//! | the queue was full | the broker puts what it drops into a queue of length one, `<queue>.dropped` (dead lettering) | `Overflow` |
//!
//! A connection or channel that breaks is none of these: what was not acknowledged is in the queue, and comes again.
//!
//! The queue is a quorum queue: in a cluster it outlives the loss of a member, where a classic one cannot be used until its member is
//! back. It is declared with `x-max-length`, `x-overflow: drop-head` and `x-expires`. Exchanges are never declared, since the
//! services would have to declare them alike.

mod broker;
mod error;
mod session;
mod transport;
mod unsettled;

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tracing::warn;

use self::broker::Broker;
pub use self::error::AmqpError;
use super::event::Notification;
use super::view::View;
use crate::backoff::{self, Backoff};
use crate::config::controller::RabbitMq;
use crate::error_text;

/// Delays after all brokers have failed: a broker's return is noticed within the longest.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10), 50);

/// Consumes for ever; returns when the receiver is gone.
pub(super) async fn run(settings: RabbitMq, term: i64, sender: mpsc::Sender<Notification>, view: View) {
    let mut failures: u32 = 0;
    let mut reported = String::new();
    loop {
        let connections = view.counts().connections;
        let (error, brokers) = attempt(&settings, term, &sender, &view, failures).await;
        let Some(error) = error else { return };
        if view.counts().connections != connections {
            (failures, reported) = (0, String::new());
        }
        let text = error_text::chain(&error);
        if reported != text {
            warn!("notifications: {text}");
        }
        reported.clone_from(&text);
        view.note_failure(text, SystemTime::now());
        failures = failures.saturating_add(1);
        // The other brokers first, at once.
        if failures.is_multiple_of(brokers) {
            tokio::time::sleep(BACKOFF.delay(failures / brokers, backoff::random())).await;
        }
    }
}

/// Consumes from one of the brokers until that fails. Returns why, or `None` if the receiver is gone; and the number of brokers.
async fn attempt(
    settings: &RabbitMq,
    term: i64,
    sender: &mpsc::Sender<Notification>,
    view: &View,
    failures: u32,
) -> (Option<AmqpError>, u32) {
    let brokers = match Broker::read(&settings.urls_file) {
        Ok(brokers) => brokers,
        Err(error) => return (Some(error.into()), 1),
    };
    let number = u32::try_from(brokers.len()).unwrap_or(u32::MAX);
    let Some(broker) = brokers.get(failures as usize % brokers.len()) else { return (None, 1) };
    let ended = session::run(settings, broker, term, sender, view, Instant::now).await;
    (ended.err(), number)
}
