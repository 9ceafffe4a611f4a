//! The document's members `tags` and `events`: read, checked, and written.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::excerpt::quoted;
use super::place::Step;
use super::value::{Metadata, choice, choice_or_default};
use crate::record::{EventKind, EventRecord, EventState, Notices};

/// Most events of an instance.
const MOST_EVENTS: usize = 64;
/// Longest id of an event.
const LONGEST_ID: usize = 64;

/// Something that is going to happen to the instance, or has happened.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventDocument {
    /// Its name, which stays as its state changes: 1 to 64 letters, digits, dots, dashes and underscores.
    #[schemars(length(min = 1, max = 64), pattern(r"^[0-9A-Za-z._-]+$"))]
    id: Box<str>,

    /// What happens.
    #[serde(rename = "type", deserialize_with = "choice")]
    kind: KindDocument,

    /// How far it is. Default: `scheduled`.
    #[serde(default, deserialize_with = "choice_or_default")]
    #[schemars(with = "Option<StateDocument>")]
    state: StateDocument,

    /// When it happens at the earliest: date and time in UTC, like `2026-12-01T02:00:00Z`.
    #[schemars(pattern(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"))]
    time: Box<str>,

    /// What the guest's owner should know; any text. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<Box<str>>,

    /// Whether the guest is asked to acknowledge it. Default: no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acknowledge: Option<bool>,
}

/// What happens to an instance.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum KindDocument {
    /// It moves to another node.
    Migration,
    /// It is restarted.
    Reboot,
    /// It is stopped.
    Stop,
}

/// How far an event is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StateDocument {
    /// It has not begun.
    #[default]
    Scheduled,
    /// It has begun.
    Started,
    /// It is over.
    Completed,
    /// It does not happen.
    Canceled,
}

impl KindDocument {
    fn kind(self) -> EventKind {
        match self {
            Self::Migration => EventKind::Migration,
            Self::Reboot => EventKind::Reboot,
            Self::Stop => EventKind::Stop,
        }
    }

    fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::Migration => Self::Migration,
            EventKind::Reboot => Self::Reboot,
            EventKind::Stop => Self::Stop,
        }
    }
}

impl StateDocument {
    fn state(self) -> EventState {
        match self {
            Self::Scheduled => EventState::Scheduled,
            Self::Started => EventState::Started,
            Self::Completed => EventState::Completed,
            Self::Canceled => EventState::Canceled,
        }
    }

    fn of(state: EventState) -> Self {
        match state {
            EventState::Scheduled => Self::Scheduled,
            EventState::Started => Self::Started,
            EventState::Completed => Self::Completed,
            EventState::Canceled => Self::Canceled,
        }
    }
}

impl EventDocument {
    /// Returns what a record's event looks like in a document.
    pub(super) fn of(event: &EventRecord) -> Self {
        let EventRecord { id, kind, state, time, description, acknowledge } = event;
        Self {
            id: id.clone(),
            kind: KindDocument::of(*kind),
            state: StateDocument::of(*state),
            time: time.clone(),
            description: description.clone(),
            acknowledge: acknowledge.then_some(true),
        }
    }
}

/// Checks both members; `None`: there is nothing in them.
pub(super) fn record(tags: Metadata, events: Vec<EventDocument>) -> Result<Option<Box<Notices>>, Fault> {
    let fault = |path: Vec<Step>, problem: String, remedy| Err(Fault { path, problem, remedy });
    if events.len() > MOST_EVENTS {
        let problem = format!("{} events are too many", events.len());
        return fault(vec!["events".into()], problem, "keep at most 64: remove those that are over");
    }
    let mut ids = HashSet::new();
    for (index, event) in events.iter().enumerate() {
        let at = |field: &str| vec![Step::from("events"), Step::from(index), Step::from(field)];
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if event.id.is_empty() || event.id.len() > LONGEST_ID || !event.id.bytes().all(is_plain) {
            let problem = format!("{} is not an event's id", quoted(&event.id));
            return fault(at("id"), problem, "write 1 to 64 letters, digits, dots, dashes and underscores");
        }
        if !ids.insert(&event.id) {
            return fault(at("id"), "another event has this id".to_owned(), "give each event an id of its own");
        }
        if !is_time(&event.time) {
            let problem = format!("{} is not a time in UTC", quoted(&event.time));
            return fault(at("time"), problem, "write date and time like 2026-12-01T02:00:00Z");
        }
    }
    if tags.0.is_empty() && events.is_empty() {
        return Ok(None);
    }
    let events = events.into_iter().map(|event| EventRecord {
        id: event.id,
        kind: event.kind.kind(),
        state: event.state.state(),
        time: event.time,
        description: event.description,
        acknowledge: event.acknowledge.unwrap_or_default(),
    });
    Ok(Some(Box::new(Notices { tags: tags.0, events: events.collect() })))
}

/// Tells whether a text is a time of RFC 3339 in UTC, without fractions of a second.
fn is_time(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    let is_formed = text.len() == FORM.len()
        && text.bytes().zip(FORM).all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form });
    if !is_formed {
        return false;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u16>().unwrap_or(u16::MAX);
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u16::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day) && number(11, 13) < 24 && number(14, 16) < 60 && number(17, 19) < 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_that_the_calendar_has() {
        for (text, expected) in [
            ("2026-12-01T02:00:00Z", true),
            ("2028-02-29T23:59:59Z", true),
            ("2026-02-29T00:00:00Z", false),
            ("2100-02-29T00:00:00Z", false),
            ("2026-13-01T00:00:00Z", false),
            ("2026-04-31T00:00:00Z", false),
            ("2026-00-00T00:00:00Z", false),
            ("2026-12-01T24:00:00Z", false),
            ("2026-12-01T02:00:00+01:00", false),
            ("2026-12-01 02:00:00Z", false),
            ("2026-12-01T02:00:00.5Z", false),
            ("\u{664}026-12-01T02:00:00", false),
            ("", false),
        ] {
            assert_eq!(is_time(text), expected, "{text}");
        }
    }
}
