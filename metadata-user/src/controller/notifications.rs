//! Notifications of Nova and Neutron, consumed from RabbitMQ (AMQP 0-9-1): which instances to read again.
//!
//! Promises:
//! - a notification says that something changed, never what: only ids and the time of sending are taken from it (`envelope`);
//! - a message is acknowledged when its [`Receipt`] is dropped, which the controller does when the change is in etcd. Until then the broker
//!   keeps it, and gives it to the next leader if this one dies. At most [`UNSETTLED`] messages are kept so, none longer than [`SETTLE_AFTER`]:
//!   beyond that, the comparison of everything at a take-over finds what the former leader has not written;
//! - whatever may have been missed is one [`Event::Gap`], which is sent after the queue receives messages again, so that a comparison that
//!   begins then misses nothing (`amqp` has the list of causes, and how each is noticed);
//! - a message that cannot be understood is counted and acknowledged, and ends nothing;
//! - connections are made again for ever; what is wrong is one line with its remedy, in the log and in the [`View`].
//!
//! All controllers share one queue, and only the leader consumes it. What is published between two leaders waits in it; queues of each
//! controller would overflow at those that do not lead. A new leader consumes with a higher priority than the former one, so a leader that
//! hangs gets no further message, and what it holds returns to the queue when the broker misses its heartbeats.
//!
//! Left out: what a port or a security group means for instances, which needs Neutron.

mod amqp;
mod envelope;
mod event;
mod receipt;
mod view;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

pub use amqp::AmqpError;
pub use envelope::{Kind, Reading, read};
pub use event::{Event, GapReason, Notification};
pub use receipt::Receipt;
pub use view::{Connection, Counts, View};

use crate::config::controller::RabbitMq;

/// Most messages that wait for their receipt; the oldest are acknowledged without it beyond this number.
pub const UNSETTLED: usize = 8_000;
/// How long a message waits for its receipt at most. RabbitMQ closes a channel that leaves one unacknowledged for 30 minutes.
pub const SETTLE_AFTER: Duration = Duration::from_secs(600);

/// Notifications that are being consumed. Dropping it ends that: the broker gets back what is not acknowledged.
#[derive(Debug)]
pub struct Notifications {
    view: View,
    _task: AbortOnDropHandle<()>,
}

impl Notifications {
    /// Returns what is known of the connection and the messages. Clones show the same.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }
}

/// Consumes notifications on the current tokio runtime and sends what they name, until the result or the receiver is dropped. While the
/// channel to the receiver is full, the broker keeps further messages.
///
/// `term` grows from leader to leader, as the revision of the leader's key in etcd does.
///
/// # Panics
/// Outside of a tokio runtime.
#[must_use]
pub fn listen(settings: &RabbitMq, term: i64, sender: mpsc::Sender<Notification>) -> Notifications {
    let view = View::new();
    let task = tokio::spawn(amqp::run(settings.clone(), term, sender, view.clone()));
    Notifications { view, _task: AbortOnDropHandle::new(task) }
}
