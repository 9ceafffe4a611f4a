//! What notifications name, and what may have been missed.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use super::receipt::Receipt;
use crate::controller::queue::Urgency;
use crate::record::{InstanceId, PortId};

/// The oldest time of sending that is believed: what waited longer says nothing about the controller.
const OLDEST: Duration = Duration::from_secs(86_400);

/// Something to read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An instance.
    Instance {
        /// Which.
        id: InstanceId,
    },
    /// A port of Neutron's.
    Port {
        /// Which.
        id: PortId,
        /// The instance it belongs to, where the message says so; `None` for a port that has just been detached or deleted: it may still
        /// be in the document of the instance that had it.
        device_id: Option<InstanceId>,
    },
    /// A floating IP address.
    FloatingIp {
        /// Which.
        id: Uuid,
        /// The port it leads to, where the message says so; `None` when it has just been taken from one.
        port_id: Option<PortId>,
        /// The address itself, where the message says so: it may still be in the document of the instance that had it.
        address: Option<IpAddr>,
    },
    /// A security group: its name is in the metadata of the instances that have it.
    SecurityGroup {
        /// Which.
        id: Uuid,
    },
    /// Notifications may have been missed: everything is to be compared.
    Gap {
        /// Why.
        why: GapReason,
    },
}

/// An event as it is sent to whoever reads.
#[derive(Debug)]
pub struct Notification {
    /// What it names.
    pub event: Event,
    /// How soon it is to be read. `Slow` for audits, which say that an instance exists, not that it changed.
    pub urgency: Urgency,
    /// When the service sent it.
    pub sent_at: Option<SystemTime>,
    /// Dropping the last clone acknowledges the message.
    pub receipt: Receipt,
}

impl Notification {
    /// Returns since when the change waits, on the clock of the queue: the time of sending, if it is believable, or now.
    #[must_use]
    pub fn since(&self, now: Instant, wall: SystemTime) -> Instant {
        let age = self.sent_at.and_then(|sent| wall.duration_since(sent).ok()).filter(|age| *age <= OLDEST);
        age.and_then(|age| now.checked_sub(age)).unwrap_or(now)
    }
}

/// Why notifications may have been missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The queue did not exist: it is new, was deleted, or expired while no controller consumed it.
    QueueCreated {
        /// Its name.
        queue: String,
    },
    /// The queue was there, and its bindings may not have been: the broker has been restarted.
    BrokerRestarted,
    /// An exchange appeared that did not exist before.
    ExchangeBound {
        /// Its name.
        exchange: String,
    },
    /// The broker dropped messages, since the queue was full.
    Overflow {
        /// How many at least.
        dropped: u64,
    },
}

impl GapReason {
    /// Returns a short name, for the labels of metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::QueueCreated { .. } => "queue_created",
            Self::BrokerRestarted => "broker_restarted",
            Self::ExchangeBound { .. } => "exchange_bound",
            Self::Overflow { .. } => "overflow",
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueCreated { queue } => {
                write!(f, "queue {queue} did not exist: it is new, was deleted, or expired")
            }
            Self::BrokerRestarted => f.write_str("the broker was restarted"),
            Self::ExchangeBound { exchange } => write!(f, "exchange {exchange} did not exist before"),
            Self::Overflow { dropped } => {
                write!(f, "the queue was full, and the broker dropped messages ({dropped} or more)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_sending_counts_if_it_is_believable() {
        let (now, wall) = (Instant::now() + 2 * OLDEST, SystemTime::UNIX_EPOCH + 10 * OLDEST);
        let since = |sent_at| {
            let event = Event::Gap { why: GapReason::BrokerRestarted };
            Notification { event, urgency: Urgency::Change, sent_at, receipt: Receipt::none() }.since(now, wall)
        };
        let second = Duration::from_secs(1);
        assert_eq!(since(None), now);
        assert_eq!(since(Some(wall - 3 * second)), now - 3 * second);
        assert_eq!(since(Some(wall + second)), now, "the clocks of two hosts differ");
        assert_eq!(since(Some(SystemTime::UNIX_EPOCH)), now, "nonsense");
    }
}
