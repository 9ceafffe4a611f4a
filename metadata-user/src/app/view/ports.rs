//! Ports as the admin API shows them.

use std::collections::BTreeMap;

use metadata_ebpf::abi::Counters;

use crate::admin::wire::{Allowed, PortStatus, State};
use crate::dataplane::IfIndex;
use crate::error_text;
use crate::port::reconcile::Assignment;
use crate::port::{GuardState, PortState, PortView};

/// Returns packets by verdict or drop reason.
pub(super) fn packets(counters: &Counters) -> BTreeMap<String, u64> {
    let named = Counters::NAMES.into_iter().zip(counters.values());
    named.filter(|(name, _)| !name.is_empty()).map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Returns the name of a state.
pub(super) fn state(state: &PortState) -> State {
    match state {
        PortState::Bound(_) => State::Bound,
        PortState::Held => State::Held,
        PortState::Passed => State::Passed,
        PortState::Refused(_) => State::Refused,
        PortState::Failed(_) => State::Failed,
    }
}

/// Returns a port as it is shown.
pub(super) fn port_status(ifindex: IfIndex, view: PortView) -> PortStatus {
    let mut status = PortStatus {
        ifindex: ifindex.0,
        tap: view.name.clone(),
        name: view.name,
        tag: view.tag.map(|tag| tag.0),
        state: state(&view.state),
        instance: None,
        project: None,
        port: None,
        origin: None,
        mac: None,
        sources: Vec::new(),
        attached: view.attached.map(|kind| kind.name().to_owned()),
        guarded: view.guarded,
        guard: (view.guard == GuardState::Xdp).then(|| "xdp".to_owned()),
        guard_missing: match view.guard {
            GuardState::Missing { reason, .. } => Some(error_text::one_line(&reason)),
            GuardState::Off | GuardState::Xdp => None,
        },
        reason: view.state.reason(),
    };
    match view.state {
        PortState::Bound(Assignment { instance, project, port, mac, sources, origin, .. }) => {
            status.instance = Some(instance.to_string());
            status.project = project;
            status.port = port.map(|port| port.to_string());
            status.origin = Some(origin.name().to_owned());
            status.mac = Some(mac.to_string());
            status.sources = sources
                .into_iter()
                .map(|(mac, prefix)| Allowed { mac: mac.to_string(), prefix: prefix.to_string() })
                .collect();
        }
        PortState::Held | PortState::Passed | PortState::Refused(_) | PortState::Failed(_) => {}
    }
    status
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::identity::Tag;
    use crate::port::reconcile::BindingSource;
    use crate::record::{InstanceId, MacAddress, PortId};
    use crate::store::tests::id;

    /// A tap that is bound to an instance.
    pub(in crate::app::view) fn bound(name: &str, instance: InstanceId) -> PortView {
        let state = PortState::Bound(Assignment {
            instance,
            project: None,
            port: None,
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            sources: Vec::new(),
            any_address: false,
            origin: BindingSource::Document,
            warning: None,
        });
        PortView { state, ..PortView::held(name) }
    }

    #[test]
    fn ports_are_shown_as_they_are() {
        let bound = PortState::Bound(Assignment {
            instance: id(1),
            project: Some("p".to_owned()),
            port: Some(PortId(id(2).0)),
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            sources: vec![(MacAddress([2, 0, 0, 0, 0, 1]), "10.0.0.0/24".parse().expect("a prefix"))],
            any_address: false,
            origin: BindingSource::Document,
            warning: Some("wider sources".to_owned()),
        });
        let view = PortView {
            name: "tap1".to_owned(),
            tag: Some(Tag(4)),
            state: bound,
            attached: None,
            guarded: true,
            guard: GuardState::Xdp,
        };
        let shown = port_status(IfIndex(3), view.clone());
        assert_eq!((shown.ifindex, shown.tag, shown.state), (3, Some(4), State::Bound));
        assert_eq!(shown.instance, Some(id(1).to_string()));
        assert_eq!(shown.origin.as_deref(), Some("document"));
        assert!(shown.guarded);
        assert_eq!((shown.guard.as_deref(), shown.guard_missing), (Some("xdp"), None));
        let missing = GuardState::Missing { name: "mtu", reason: "too large".to_owned() };
        let missing = port_status(IfIndex(3), PortView { guard: missing, ..view.clone() });
        assert_eq!((missing.guard, missing.guard_missing.as_deref()), (None, Some("too large")));
        assert_eq!(shown.reason.as_deref(), Some("wider sources"));
        assert_eq!(
            (shown.sources[0].mac.as_str(), shown.sources[0].prefix.as_str()),
            ("02:00:00:00:00:01", "10.0.0.0/24")
        );
        let refused = PortView { state: PortState::Refused("two documents".to_owned()), ..view };
        assert_eq!(port_status(IfIndex(3), refused).reason.as_deref(), Some("two documents"));
    }

    #[test]
    fn every_named_counter_is_shown() {
        let shown = packets(&Counters { drop_spoofed_ip: 2, ..Counters::default() });
        assert_eq!(shown.get("spoofed_ip"), Some(&2));
        assert_eq!(shown.len(), Counters::NAMES.iter().filter(|name| !name.is_empty()).count());
    }
}
