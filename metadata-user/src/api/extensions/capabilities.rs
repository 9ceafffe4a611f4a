//! `/openstack/latest/capabilities`: what a guest may count on here, with the limits of its own instance.

use serde_json::json;

use crate::policy::Policy;
use crate::record::{LONGEST_ATTRIBUTE, MOST_ATTRIBUTE_BYTES};

/// Returns the document of an instance with this policy.
pub(super) fn render(policy: &Policy) -> Vec<u8> {
    let Policy { connections_per_port, connections_per_instance, requests, access, extensions, identity } = policy;
    let token = identity.enabled.then(|| {
        json!({
            "algorithm": "ES256",
            "lifetime_seconds": identity.lifetime.as_secs(),
            "most_per_second": identity.per_second,
        })
    });
    let wait = (extensions.waits_per_instance > 0).then(|| {
        json!({
            "most_per_instance": extensions.waits_per_instance,
            "longest_seconds": extensions.longest_wait.as_secs_f64(),
        })
    });
    let attributes = (extensions.attributes_per_instance > 0).then(|| {
        json!({
            "most_per_instance": extensions.attributes_per_instance,
            "bytes": LONGEST_ATTRIBUTE,
            "bytes_per_instance": MOST_ATTRIBUTE_BYTES,
        })
    });
    let document = json!({
        "capabilities": {
            "etag": {},
            "events": {},
            "guest_attributes": attributes,
            "identity": token,
            "recursive": { "alt": ["json"] },
            "tags": {},
            "wait_for_change": wait,
        },
        "limits": {
            "connections_per_instance": connections_per_instance,
            "connections_per_port": connections_per_port,
            "requests_per_second": requests.per_second,
            "request_burst": requests.burst,
        },
        "session_tokens": access.session.name(),
    });
    let mut bytes = document.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}
