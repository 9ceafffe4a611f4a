//! What the kernel has: links, programs, maps, the responder's namespace.

use std::collections::BTreeMap;
use std::fs;

use super::super::evidence::{Kernel, Port, Settings};
use crate::cli::converse;
use crate::config::Config;
use crate::dataplane::inspect::{Pinned, Way, on_hook};
use crate::dataplane::responder::inspect;
use crate::error_text;
use crate::port::look;

/// Looks at everything; ports are by tap.
///
/// # Errors
/// If nothing can be looked at, mostly for lack of privilege.
pub(super) fn look(config: &Config, settings: &Settings) -> Result<(Kernel, BTreeMap<String, Port>), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root may look at programs and namespaces".to_owned());
    }
    let links = converse(async { Ok(look::links().await) }).map_err(|error| error.message())?;
    let links = links.map_err(|error| error_text::chain(&error))?;
    let (pinned, maps_error) = match Pinned::open(&settings.pin_dir) {
        Ok(pinned) => (pinned, None),
        Err(error) => (None, Some(error_text::chain(&error))),
    };
    let entries = pinned.as_ref().map(Pinned::ports).unwrap_or_default();
    let mut ports = BTreeMap::new();
    for link in links.iter().filter(|link| config.ports.matches(&link.name) && link.name != settings.interface) {
        let port = Port {
            tap: link.name.clone(),
            link: Some(link.clone()),
            entry: entries.get(&link.ifindex).cloned(),
            from_guest: on_hook(&link.name, link.ifindex, Way::FromGuest),
            to_guest: on_hook(&link.name, link.ifindex, Way::ToGuest),
            packets: pinned.as_ref().and_then(|pinned| pinned.counters(link.ifindex)).unwrap_or_default(),
            ..Port::default()
        };
        ports.insert(link.name.clone(), port);
    }
    let responder = inspect::view(&settings.namespace, &settings.interface).map_err(|error| error_text::chain(&error));
    let pair = responder.as_ref().ok().and_then(|view| view.pair);
    let of_pair = |way| pair.map(|end| on_hook(&settings.interface, end.ifindex, way)).unwrap_or_default();
    let kernel = Kernel {
        is_pinned: pinned.is_some() || maps_error.is_some(),
        is_of_this_version: pinned.as_ref().is_none_or(Pinned::is_of_this_version),
        maps_error,
        pair_from: of_pair(Way::FromGuest),
        pair_to: of_pair(Way::ToGuest),
        responder,
        bridge_netfilter: ["iptables", "ip6tables"]
            .iter()
            .any(|table| is_set(&format!("bridge/bridge-nf-call-{table}"))),
    };
    Ok((kernel, ports))
}

fn is_set(setting: &str) -> bool {
    fs::read_to_string(format!("/proc/sys/net/{setting}")).is_ok_and(|value| value.trim() == "1")
}
