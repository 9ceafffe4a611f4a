//! Which instances have a port that the service is not reached from, as their content tells.
//!
//! Promises: pure. What is known is how a port is plugged (Nova's `vif_type`), not whether its tap exists: a drive has to be there before
//! the guest is. What observers report of guests that run comes to it (`keeper`).

use serde_json::Value;

use crate::api::{Content, NovaPages, Page};

/// Ways to plug a port without a tap, as Nova names them: functions of a network card that the guest has for itself, ports of a switch in
/// another process, and interfaces of which the kernel hands packets to the hypervisor directly.
const WITHOUT_TAP: [&str; 9] = [
    "hw_veb",
    "hostdev_physical",
    "ib_hostdev",
    "vhostuser",
    "agilio_ovs",
    "macvtap",
    "802.1qbg",
    "802.1qbh",
    // What `network_data.json` has for all that it does not name.
    "phy",
];

/// The page that says how ports are plugged, where there is no document.
const NETWORK_DATA: &str = "openstack/latest/network_data.json";

/// Tells whether a port of the instance has no tap, or it has no port that the guest sees: then its document has one that stands for none.
pub(super) fn is_unreachable(content: &Content) -> bool {
    match content {
        Content::Rendered(instance) => {
            let ports = &instance.record().ports;
            !ports.iter().any(|port| port.listed) || ports.iter().any(|port| has_no_tap(&port.vif_type))
        }
        Content::NovaPages(pages) => {
            links(pages).is_some_and(|links| links.is_empty() || links.iter().any(|link| has_no_tap(link)))
        }
    }
}

fn has_no_tap(vif_type: &str) -> bool {
    WITHOUT_TAP.contains(&vif_type)
}

/// Returns how the ports are plugged; `None`: that is not known.
fn links(pages: &NovaPages) -> Option<Vec<String>> {
    let page: Value = serde_json::from_str(pages.page(NETWORK_DATA).and_then(Page::text)?).ok()?;
    // Nova says `{}` where there is no port.
    let links = page.get("links").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Some(links.iter().map(|link| link["type"].as_str().unwrap_or_default().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{Cloud, RenderedInstance};
    use crate::store::tests::{id, record};

    #[test]
    fn an_instance_with_a_port_without_a_tap_is_unreachable_and_so_is_one_without_a_port() {
        let document = |types: &[&str]| {
            let taps: Vec<String> = (0..types.len()).map(|number| format!("tap{number}")).collect();
            let mut record = record(1, "p", &taps.iter().map(String::as_str).collect::<Vec<_>>());
            for (port, vif_type) in record.ports.iter_mut().zip(types) {
                port.vif_type = (*vif_type).into();
            }
            Content::Rendered(Arc::new(RenderedInstance::new(Arc::new(record), Arc::new(Cloud::default()))))
        };
        let pages = |types: Option<&[&str]>| {
            let links = |types: &[&str]| {
                let links = types.iter().map(|link| serde_json::json!({"type": link})).collect::<Vec<_>>();
                let text = serde_json::json!({"links": links}).to_string();
                (NETWORK_DATA.to_owned(), Page::found(None, text.into()))
            };
            Content::NovaPages(Arc::new(NovaPages::new(id(1), types.map(links))))
        };
        for (types, unreachable) in [
            (&["hw_veb"][..], true),
            (&["vhostuser", "hostdev_physical"], true),
            (&["hw_veb", "ovs"], true),
            (&["tap"], false),
            (&[], true),
        ] {
            assert_eq!(is_unreachable(&document(types)), unreachable, "{types:?}");
            assert_eq!(is_unreachable(&pages(Some(types))), unreachable, "{types:?} of Nova");
        }
        assert!(is_unreachable(&pages(Some(&["phy"]))));
        assert!(!is_unreachable(&pages(None)), "it is not known");
    }
}
