//! The names of the controller's keys.

use crate::config::etcd::Etcd;
use crate::record::InstanceId;

/// What the keys of all nodes' documents start with.
pub(super) fn nodes(settings: &Etcd) -> String {
    format!("{}/nodes/", settings.prefix)
}

/// The election: its candidates' keys start with this and a slash.
pub(super) fn election(settings: &Etcd) -> String {
    format!("{}/controller/election", settings.prefix)
}

/// The key of the cloud's id.
pub(super) fn cloud(settings: &Etcd) -> String {
    format!("{}/controller/cloud", settings.prefix)
}

/// What the keys of all notes start with.
pub(super) fn notes(settings: &Etcd) -> String {
    format!("{}/controller/instances/", settings.prefix)
}

/// The note of an instance.
pub(super) fn note(settings: &Etcd, id: InstanceId) -> String {
    format!("{}{id}", notes(settings))
}

/// Returns the instance of a note's key; `None` if it is another key.
pub(super) fn noted(key: &[u8], notes: &str) -> Option<InstanceId> {
    std::str::from_utf8(key).ok()?.strip_prefix(notes)?.parse().ok()
}

/// Returns node and instance of a document's key; `None` if it is another key. Only one spelling of an instance is one, as for
/// the nodes.
pub(super) fn document<'a>(key: &'a [u8], nodes: &str) -> Option<(&'a str, InstanceId)> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(nodes)?;
    let (node, id) = rest.split_once("/instances/")?;
    let parsed: InstanceId = id.parse().ok()?;
    (parsed.to_string() == id).then_some((node, parsed))
}

/// Returns whether a node of this name can be in a key.
pub(super) fn is_node(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documents_key_is_told_from_others() {
        let id = "12345678-1234-4234-8234-123456789abc";
        let key = format!("/m/nodes/n1/instances/{id}");
        assert_eq!(document(key.as_bytes(), "/m/nodes/"), Some(("n1", id.parse().unwrap())));
        for other in [
            format!("/m/nodes/n1/instances/{}", id.to_uppercase()),
            format!("/m/nodes/n1/instances/{id}/x"),
            format!("/m/nodes/n1/other/{id}"),
            format!("/n/nodes/n1/instances/{id}"),
        ] {
            assert_eq!(document(other.as_bytes(), "/m/nodes/"), None, "{other}");
        }
        assert!(is_node("compute-1.example") && !is_node("") && !is_node("a/b") && !is_node("a b"));
    }
}
