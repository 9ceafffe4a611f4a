//! The members `tags` and `events`.

use super::{SHORT, parse, read, read_back, with, write};
use crate::record::{EventKind, EventRecord, EventState, Notices};
use crate::source::wire::document;

#[test]
fn tags_and_events_are_read_and_written() {
    for nothing in ["\"tags\": {}", "\"tags\": null, \"events\": null", "\"events\": []"] {
        assert_eq!(read(&with(nothing)), read(SHORT), "{nothing}");
    }
    let record = read(&with(
        r#""tags": {"team": "web", "a b": ""}, "events": [
            {"id": "evt-1", "type": "migration", "time": "2026-12-01T02:00:00Z"},
            {"id": "evt-2", "type": "stop", "state": "canceled", "time": "2026-12-01T02:00:00Z", "description": "d",
             "acknowledge": true}
        ]"#,
    ));
    let event = |id: &str, kind, state, description: Option<&str>| EventRecord {
        id: id.into(),
        kind,
        state,
        time: "2026-12-01T02:00:00Z".into(),
        description: description.map(Into::into),
        acknowledge: description.is_some(),
    };
    let expected = Notices {
        tags: vec![("team".into(), "web".into()), ("a b".into(), "".into())],
        events: vec![
            event("evt-1", EventKind::Migration, EventState::Scheduled, None),
            event("evt-2", EventKind::Stop, EventState::Canceled, Some("d")),
        ],
    };
    assert_eq!(record.notices.as_deref(), Some(&expected));
    let mut written = Vec::new();
    write(&record, &mut written).expect("written");
    assert_eq!(read_back(&written).expect("reads back"), record);
    assert_eq!(parse(&document(&record).expect("a document")).expect("reads back"), record);
}

#[test]
fn what_is_wrong_with_an_event_is_said_with_its_place() {
    let event = |id: &str, time: &str| format!(r#"{{"id": {id:?}, "type": "reboot", "time": {time:?}}}"#);
    let (time, many) = ("2026-12-01T02:00:00Z", "e".repeat(65));
    let all: Vec<_> = (0..65).map(|number| event(&number.to_string(), time)).collect();
    for (events, place, problem) in [
        (event("", time), "at events[0].id: ", "\"\" is not an event's id"),
        (event("a b", time), "at events[0].id: ", "is not an event's id"),
        (event(&many, time), "at events[0].id: ", "is not an event's id"),
        (event("a", "tomorrow"), "at events[0].time: ", "\"tomorrow\" is not a time in UTC"),
        ([event("a", time), event("a", time)].join(", "), "at events[1].id: ", "another event has this id"),
        (all.join(", "), "at events: ", "65 events are too many"),
        (event("a", time).replace("reboot", "party"), "at events[0].type: ", "party"),
    ] {
        let error = parse(with(&format!("\"events\": [{events}]")).as_bytes()).expect_err(problem).to_string();
        assert!(error.contains(place) && error.contains(problem), "{error}");
    }
}
