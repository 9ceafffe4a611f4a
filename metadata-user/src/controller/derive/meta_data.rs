//! Facts that `meta_data.json` shows, with the EC2 tree's where it does not.

use serde_json::Value;

use super::answers::{Answers, or_null};
use crate::record::{KeyKind, KeyPair};
use crate::source::wire;

/// Returns the host name without the cloud's domain. One that no document may give is left out: the answers that have it are
/// kept as pages.
pub(super) fn hostname(answers: &Answers<'_>, domain: &str) -> Box<str> {
    let shown = answers.meta_data.get("hostname").and_then(Value::as_str).or_else(|| answers.leaf("hostname"));
    let shown = shown.unwrap_or_default();
    let name = match domain {
        "" => shown,
        domain => shown.strip_suffix(domain).and_then(|name| name.strip_suffix('.')).unwrap_or(shown),
    };
    if wire::is_host_name(name) { name.into() } else { format!("server-{}", answers.uuid).into() }
}

/// Returns the name that the owner gave.
pub(super) fn display_name(answers: &Answers<'_>, hostname: &str) -> Option<Box<str>> {
    match answers.meta_data.get("name") {
        Some(Value::String(name)) => Some(name.as_str().into()),
        Some(Value::Null) => None,
        _ => Some(hostname.into()),
    }
}

/// Returns the availability zone.
pub(super) fn availability_zone(answers: &Answers<'_>) -> Option<Box<str>> {
    match answers.meta_data.get("availability_zone") {
        Some(zone) => zone.as_str().map(Into::into),
        None => answers.leaf("placement/availability-zone").and_then(or_null).map(Into::into),
    }
}

/// Returns the place among the instances of one request.
pub(super) fn launch_index(answers: &Answers<'_>) -> Option<i64> {
    match answers.meta_data.get("launch_index") {
        Some(index) => index.as_i64(),
        None => answers.leaf("ami-launch-index").and_then(|text| text.parse().ok()),
    }
}

/// Returns the owner's keys and values.
pub(super) fn metadata(answers: &Answers<'_>) -> Vec<(Box<str>, Box<str>)> {
    let pairs = answers.meta_data.get("meta").and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into()))).collect()
}

/// Returns the key pairs.
pub(super) fn keypairs(answers: &Answers<'_>) -> Vec<KeyPair> {
    let pair = |pair: &Value| {
        Some(KeyPair {
            name: pair.get("name")?.as_str()?.into(),
            kind: match pair.get("type")?.as_str()? {
                "ssh" => KeyKind::Ssh,
                "x509" => KeyKind::X509,
                _ => return None,
            },
            public_key: pair.get("data")?.as_str()?.into(),
        })
    };
    let pairs = answers.meta_data.get("keys").and_then(Value::as_array);
    pairs.into_iter().flatten().filter_map(pair).collect()
}

/// Returns the CPUs that are the instance's own.
pub(super) fn dedicated_cpus(answers: &Answers<'_>) -> Vec<u32> {
    let cpus = answers.meta_data.get("dedicated_cpus").and_then(Value::as_array);
    let mut cpus: Vec<u32> = cpus.into_iter().flatten().filter_map(|cpu| cpu.as_u64()?.try_into().ok()).collect();
    cpus.sort_unstable();
    cpus
}
