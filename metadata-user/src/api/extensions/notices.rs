//! What a document says beyond what Nova has: tags, as EC2 shows them, and events of maintenance.
//!
//! Promises: the list of events is there, and can be waited for, also while it is empty; a tag whose key no path spells, or
//! whose line would lead elsewhere, is not listed.

use bytes::Bytes;
use serde_json::json;

use crate::api::own::TAGS;
use crate::api::{ec2, route};
use crate::record::{Attributes, EventRecord, Notices};

/// Returns the document with the events; those that the guest is asked to acknowledge say whether it has.
pub(super) fn events(notices: Option<&Notices>, attributes: Option<&Attributes>) -> Vec<u8> {
    let event = |event: &EventRecord| {
        let EventRecord { id, kind, state, time, description, acknowledge } = event;
        let mut shown =
            json!({"id": id, "type": kind.name(), "state": state.name(), "time": time, "description": description});
        if *acknowledge {
            shown["acknowledged"] = attributes.is_some_and(|attributes| attributes.has_acknowledged(id)).into();
        }
        shown
    };
    let events: Vec<_> = notices.into_iter().flat_map(|notices| &notices.events).map(event).collect();
    let mut bytes = json!({"events": events}).to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// Returns what is at the target of a request, at or below [`TAGS`]; `None`: nothing.
pub(super) fn tag(notices: Option<&Notices>, target: &str) -> Option<Bytes> {
    let tags = &notices.filter(|notices| !notices.tags.is_empty())?.tags;
    let path = route::path(target)?;
    let path = path.strip_prefix("ec2/").unwrap_or(&path);
    match path.strip_prefix(TAGS)? {
        "" => Some(Bytes::from_static(b"instance/")),
        "/instance" => {
            let mut keys: Vec<&str> = tags.iter().map(|(key, _)| &**key).filter(|key| ec2::is_listed(key)).collect();
            keys.sort_unstable();
            Some(keys.join("\n").into())
        }
        rest => {
            let wanted = rest.strip_prefix("/instance/")?;
            let (_, value) = tags.iter().find(|(key, _)| &**key == wanted)?;
            Some(Bytes::copy_from_slice(value.as_bytes()))
        }
    }
}
