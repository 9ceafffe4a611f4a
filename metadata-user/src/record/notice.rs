//! What a document says beyond what Nova has: tags, and notices of maintenance.

/// An instance's tags and events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Keys and values, in order. Keys are unique.
    pub tags: Vec<(Box<str>, Box<str>)>,
    /// Events, in order. Ids are unique.
    pub events: Vec<EventRecord>,
}

/// What is going to happen to an instance, or has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Its name, which stays as its state changes.
    pub id: Box<str>,
    /// What happens.
    pub kind: EventKind,
    /// How far it is.
    pub state: EventState,
    /// When it happens at the earliest, UTC, as `2026-12-01T02:00:00Z`.
    pub time: Box<str>,
    /// What the guest's owner should know; any text.
    pub description: Option<Box<str>>,
    /// Whether the guest is asked to acknowledge it.
    pub acknowledge: bool,
}

impl Notices {
    /// Returns the event of this id.
    #[must_use]
    pub fn event(&self, id: &str) -> Option<&EventRecord> {
        self.events.iter().find(|event| &*event.id == id)
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The instance moves to another node.
    Migration,
    /// It is restarted.
    Reboot,
    /// It is stopped.
    Stop,
}

/// How far an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// It has not begun.
    Scheduled,
    /// It has begun.
    Started,
    /// It is over.
    Completed,
    /// It does not happen.
    Canceled,
}

impl EventKind {
    /// Each with its name, for guests and in documents.
    pub const NAMES: [(&'static str, Self); 3] =
        [("migration", Self::Migration), ("reboot", Self::Reboot), ("stop", Self::Stop)];

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl EventState {
    /// Each with its name, for guests and in documents.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("scheduled", Self::Scheduled),
        ("started", Self::Started),
        ("completed", Self::Completed),
        ("canceled", Self::Canceled),
    ];

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, state)| *state == self).map_or("", |(name, _)| name)
    }
}
