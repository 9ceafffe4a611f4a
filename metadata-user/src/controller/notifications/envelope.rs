//! From the bytes of a notification to what it names: pure.
//!
//! Takes messages of oslo.messaging, in its envelope 2.0 (JSON whose `oslo.message` is JSON as text) and without it
//! (`[oslo_messaging_notifications]`, older services), in these formats:
//! - Nova, versioned: an object `nova_object.data`, whose `uuid` is the instance's if the event is `instance.*`, and elsewhere `instance_uuid`;
//! - Nova, unversioned: `instance_id` (events `compute.instance.*`), `instance_uuid`, and what `request_spec` has of them;
//! - Neutron: the resource by its name (`port`, `floatingip`, `security_group`), its plural where one request made several, and `*_id` of
//!   what is deleted. Events that end in `.start` are before the change, and are ignored.
//!
//! Left out: everything else that messages say. Events of flavors, key pairs, aggregates, networks and subnets do not name an instance:
//! Nova has copied the first two into the instance, and notices the others itself, after up to an hour, without a notification.

use std::net::IpAddr;
use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::event::Event;
use crate::controller::queue::Urgency;
use crate::record::{InstanceId, PortId};

/// Largest message that is read, in bytes. Nova's are 5 to 20 KiB.
pub(super) const LONGEST: usize = 1 << 20;
/// Most events of one message: as many ports as one request of Neutron's makes, and some more.
const MOST_EVENTS: usize = 1_000;

/// Kinds of messages, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Names an instance.
    Instance,
    /// Names a port.
    Port,
    /// Names a floating IP address.
    FloatingIp,
    /// Names a security group.
    SecurityGroup,
    /// Names nothing that is in a document.
    Ignored,
    /// Is no notification.
    Malformed,
    /// Is longer than 1 MiB.
    TooLong,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Instance,
        Self::Port,
        Self::FloatingIp,
        Self::SecurityGroup,
        Self::Ignored,
        Self::Malformed,
        Self::TooLong,
    ];

    /// Returns its name in labels of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Port => "port",
            Self::FloatingIp => "floating_ip",
            Self::SecurityGroup => "security_group",
            Self::Ignored => "ignored",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its kind.
    pub kind: Kind,
    /// What it names; empty unless the kind names something.
    pub events: Vec<Event>,
    /// How soon that is to be read.
    pub urgency: Urgency,
    /// When it was sent.
    pub sent_at: Option<SystemTime>,
}

impl Reading {
    fn nothing(kind: Kind) -> Self {
        Self { kind, events: Vec::new(), urgency: Urgency::Change, sent_at: None }
    }
}

/// Reads a message.
#[must_use]
pub fn read(body: &[u8]) -> Reading {
    if body.len() > LONGEST {
        return Reading::nothing(Kind::TooLong);
    }
    let Some(message) = message(body) else { return Reading::nothing(Kind::Malformed) };
    let Some(event_type) = message.get("event_type").and_then(Value::as_str) else {
        return Reading::nothing(Kind::Malformed);
    };
    let sent_at = message.get("timestamp").and_then(Value::as_str).and_then(time);
    // An audit of Nova's: the instance existed during the last hour, or whatever the period is.
    let is_audit = matches!(event_type, "instance.exists" | "compute.instance.exists");
    let urgency = if is_audit { Urgency::Slow } else { Urgency::Change };
    // Some of other services' payloads are lists.
    let Some(payload) = message.get("payload").and_then(Value::as_object) else {
        return Reading { sent_at, ..Reading::nothing(Kind::Ignored) };
    };
    let (kind, mut events) = events(event_type, payload);
    events.truncate(MOST_EVENTS);
    let kind = if events.is_empty() { Kind::Ignored } else { kind };
    Reading { kind, events, urgency, sent_at }
}

/// Returns the notification itself, out of its envelope if it has one.
fn message(body: &[u8]) -> Option<Map<String, Value>> {
    let mut outer = object(body)?;
    match outer.remove("oslo.message") {
        Some(Value::String(inner)) => object(inner.as_bytes()),
        Some(Value::Object(inner)) => Some(inner),
        Some(_) => None,
        None => Some(outer),
    }
}

fn object(text: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

fn events(event_type: &str, payload: &Map<String, Value>) -> (Kind, Vec<Event>) {
    match event_type.split('.').next().unwrap_or_default() {
        resource @ ("port" | "floatingip" | "security_group") if event_type.ends_with(".start") => {
            (kind_of(resource), Vec::new())
        }
        "port" => (Kind::Port, resources(payload, "port", "ports", port)),
        "floatingip" => (Kind::FloatingIp, resources(payload, "floatingip", "floatingips", floating_ip)),
        "security_group" => {
            let group = |group: &Map<String, Value>| Some(Event::SecurityGroup { id: uuid(group, "id")? });
            (Kind::SecurityGroup, resources(payload, "security_group", "security_groups", group))
        }
        _ => (Kind::Instance, instance(event_type, payload).map(|id| Event::Instance { id }).into_iter().collect()),
    }
}

fn kind_of(resource: &str) -> Kind {
    match resource {
        "port" => Kind::Port,
        "floatingip" => Kind::FloatingIp,
        _ => Kind::SecurityGroup,
    }
}

/// Returns the instance that a message of Nova's names.
fn instance(event_type: &str, payload: &Map<String, Value>) -> Option<InstanceId> {
    let find = |object: &Map<String, Value>| {
        uuid(object, "instance_uuid").or_else(|| uuid(object, "instance_id")).map(InstanceId)
    };
    if let Some(data) = payload.get("nova_object.data").and_then(Value::as_object) {
        let named = |prefix: &str| payload.get("nova_object.name").and_then(Value::as_str)?.strip_prefix(prefix);
        // Other objects have an `uuid` as well: services, aggregates, groups of servers.
        if event_type.starts_with("instance.") || named("Instance").is_some() {
            return uuid(data, "uuid").or_else(|| uuid(data, "instance_uuid")).map(InstanceId);
        }
        return find(data);
    }
    let request = || {
        let request = payload.get("request_spec").and_then(Value::as_object)?;
        let properties = || request.get("instance_properties").and_then(Value::as_object);
        find(request).or_else(|| uuid(properties()?, "uuid").map(InstanceId))
    };
    find(payload).or_else(request)
}

/// Returns the events of a resource by its name, of several by its plural, and of one that is known by its id alone.
fn resources(
    payload: &Map<String, Value>,
    one: &str,
    many: &str,
    event: impl Fn(&Map<String, Value>) -> Option<Event>,
) -> Vec<Event> {
    let listed = payload.get(many).and_then(Value::as_array).into_iter().flatten();
    let mut events: Vec<Event> =
        payload.get(one).into_iter().chain(listed).filter_map(Value::as_object).filter_map(&event).collect();
    if events.is_empty()
        && let Some(id) = payload.get(&format!("{one}_id"))
    {
        events.extend(event(&Map::from_iter([("id".to_owned(), id.clone())])));
    }
    events
}

/// Returns the event of a port; `None` for those of networks themselves, such as routers' and DHCP servers'.
fn port(port: &Map<String, Value>) -> Option<Event> {
    let owner = port.get("device_owner").and_then(Value::as_str).unwrap_or_default();
    if owner.starts_with("network:") {
        return None;
    }
    Some(Event::Port { id: PortId(uuid(port, "id")?), device_id: uuid(port, "device_id").map(InstanceId) })
}

fn floating_ip(floating_ip: &Map<String, Value>) -> Option<Event> {
    let address = floating_ip.get("floating_ip_address").and_then(Value::as_str);
    Some(Event::FloatingIp {
        id: uuid(floating_ip, "id")?,
        port_id: uuid(floating_ip, "port_id").map(PortId),
        address: address.and_then(|address| address.parse::<IpAddr>().ok()),
    })
}

fn uuid(object: &Map<String, Value>, key: &str) -> Option<Uuid> {
    object.get(key)?.as_str()?.parse().ok()
}

/// Reads a time as oslo.messaging writes it: UTC, without a zone (`2026-11-27 11:30:00.123456`). One with a zone is taken as well.
fn time(text: &str) -> Option<SystemTime> {
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp.into());
    }
    let time: DateTime = text.parse().ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().into())
}

#[cfg(test)]
mod tests;
