//! What status and metrics show of notifications.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::envelope::Kind;
use super::event::GapReason;

/// A view of the notifications, always the latest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    connection: Connection,
    counts: Counts,
}

/// The connection to RabbitMQ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The broker (host and port) and the time since which messages are received from it; `None`: not connected.
    pub connected: Option<(String, SystemTime)>,
    /// The last error, in one line with its remedy, and its time. It stays after the next connection.
    pub last_error: Option<(String, SystemTime)>,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// Exchanges that do not exist, so that nothing is received from their services.
    pub missing_exchanges: Vec<String>,
    /// Messages that wait in the queue, as of some seconds ago.
    pub waiting: Option<u32>,
    /// Messages that were received and are not acknowledged yet.
    pub unsettled: usize,
}

/// Messages since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages by [`Kind`], in the order of [`Kind::ALL`].
    pub messages: [u64; Kind::ALL.len()],
    /// Time of the last message.
    pub last_message: Option<SystemTime>,
    /// Messages that were acknowledged before their change was written, since too many were waiting.
    pub settled_early: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Gaps by [`GapReason::as_str`].
    pub gaps: Vec<(&'static str, u64)>,
    /// The last gap and its time.
    pub last_gap: Option<(GapReason, SystemTime)>,
}

impl Counts {
    /// Returns the number of messages of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u64 {
        self.messages[kind as usize]
    }
}

impl View {
    /// Returns a view of nothing yet.
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Returns what is known of the connection.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.0.lock().connection.clone()
    }

    /// Returns the counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.lock().counts.clone()
    }

    /// Changes what is shown of the connection.
    pub(super) fn update(&self, change: impl FnOnce(&mut Connection)) {
        change(&mut self.0.lock().connection);
    }

    /// Notes a connection that receives messages.
    pub(super) fn note_connected(&self, broker: String, missing_exchanges: Vec<String>, now: SystemTime) {
        let mut shown = self.0.lock();
        shown.counts.connections += 1;
        let connection = &mut shown.connection;
        (connection.connected, connection.failures) = (Some((broker, now)), 0);
        connection.missing_exchanges = missing_exchanges;
    }

    /// Notes that there is no connection, and why.
    pub(super) fn note_failure(&self, error: String, now: SystemTime) {
        let connection = &mut self.0.lock().connection;
        let last_error = Some((error, now));
        let failures = connection.failures.saturating_add(1);
        *connection = Connection { last_error, failures, ..Connection::default() };
    }

    /// Counts a message.
    pub(super) fn note_message(&self, kind: Kind, now: SystemTime) {
        let counts = &mut self.0.lock().counts;
        counts.messages[kind as usize] += 1;
        counts.last_message = Some(now);
    }

    /// Counts messages that were acknowledged early.
    pub(super) fn note_early(&self, messages: usize) {
        self.0.lock().counts.settled_early += messages as u64;
    }

    /// Counts a gap.
    pub(super) fn note_gap(&self, why: &GapReason, now: SystemTime) {
        let counts = &mut self.0.lock().counts;
        match counts.gaps.iter_mut().find(|(name, _)| *name == why.as_str()) {
            Some((_, count)) => *count += 1,
            None => counts.gaps.push((why.as_str(), 1)),
        }
        counts.last_gap = Some((why.clone(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_a_connection_and_the_error_stays_after_the_next() {
        let view = View::new();
        let now = SystemTime::UNIX_EPOCH;
        view.note_connected("a:5672".to_owned(), vec!["neutron".to_owned()], now);
        view.update(|connection| connection.waiting = Some(3));
        view.note_failure("gone".to_owned(), now);
        view.note_failure("gone".to_owned(), now);
        let last_error = Some(("gone".to_owned(), now));
        let failed = Connection { last_error: last_error.clone(), failures: 2, ..Connection::default() };
        assert_eq!(view.connection(), failed);
        view.note_connected("b:5672".to_owned(), Vec::new(), now);
        let connected = Some(("b:5672".to_owned(), now));
        assert_eq!(view.connection(), Connection { connected, last_error, ..Connection::default() });
        view.note_message(Kind::Port, now);
        view.note_gap(&GapReason::BrokerRestarted, now);
        view.note_gap(&GapReason::BrokerRestarted, now);
        let counts = view.counts();
        assert_eq!((counts.of(Kind::Port), counts.of(Kind::Instance), counts.connections), (1, 0, 2));
        assert_eq!(counts.gaps, [("broker_restarted", 2)]);
    }
}
