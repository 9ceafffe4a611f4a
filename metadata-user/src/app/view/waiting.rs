//! Waiting until an instance can be answered.
//!
//! Promises: only the instance's slot in the store, a change of a tap, and the end of the daemon's start wake a wait; what is missing
//! is decided by a pure function.

use std::time::Instant;

use crate::admin::wait::WaitFor;
use crate::admin::wire::Waited;
use crate::api::Content;
use crate::port::{PortState, PortView};
use crate::record::InstanceId;

use super::View;

impl View {
    /// Waits until nothing is missing, or for the time-out.
    pub(super) async fn wait_for(&self, instance: InstanceId, asked: &WaitFor) -> Waited {
        let (start, deadline) = (Instant::now(), tokio::time::Instant::now() + asked.timeout);
        let waited = |missing: Option<String>| Waited {
            instance: instance.to_string(),
            ready: missing.is_none(),
            waited_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            missing,
        };
        // Before that, not every tap is known.
        if tokio::time::timeout_at(deadline, self.readiness.ready()).await.is_err() {
            let parts = self.readiness.pending().join(", ");
            return waited(Some(format!("the daemon is starting and waits for: {parts}")));
        }
        let waiter = self.store.wait(instance);
        loop {
            // Made before the look, so that no change is missed between the two.
            let port_changed = self.kernel.port_changed();
            let content = self.store.served(instance);
            let ports: Vec<_> = self.kernel.ports().into_iter().map(|(_, port)| port).collect();
            let Some(missing) = missing(instance, content.as_ref(), &ports, asked.port.as_deref()) else {
                return waited(None);
            };
            tokio::select! {
                _ = waiter.content(), if content.is_none() => {}
                () = port_changed, if content.is_some() => {}
                () = tokio::time::sleep_until(deadline) => return waited(Some(missing)),
            }
        }
    }
}

/// Says what is missing for an instance to be answered; `None`: nothing. `port`: a tap that has to exist.
fn missing(instance: InstanceId, content: Option<&Content>, ports: &[PortView], port: Option<&str>) -> Option<String> {
    let Some(content) = content else {
        return Some("its content has not arrived: `metadatad source` shows where content comes from".to_owned());
    };
    let find = |name: &str| ports.iter().find(|port| port.name == name);
    if let Some(name) = port {
        let Some(port) = find(name) else { return Some(format!("there is no tap {name} that ports.match matches")) };
        return unbound(instance, port);
    }
    let taps = content.taps();
    taps.iter().filter_map(|name| find(name)).find_map(|port| unbound(instance, port))
}

/// Says why a tap is not bound to this instance; `None`: it is bound.
fn unbound(instance: InstanceId, port: &PortView) -> Option<String> {
    let name = &port.name;
    match &port.state {
        PortState::Bound(assignment) if assignment.instance == instance => None,
        PortState::Bound(assignment) => Some(format!("the tap {name} is bound to {}", assignment.instance)),
        state => Some(format!("the tap {name} is not bound: {}", state.reason().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Cloud;
    use crate::app::view::ports::tests::bound;
    use crate::store::Store;
    use crate::store::tests::{id, record};

    #[test]
    fn content_is_needed_and_each_tap_that_is_there_has_to_be_bound() {
        let store = Store::new(Cloud::default());
        store.put(record(1, "p", &["tap1", "tap2"]));
        let content = store.served(id(1));
        for (ports, port, expected) in [
            (&[][..], None, None),
            (&[bound("tap1", id(1))], None, None),
            (&[bound("tap1", id(1)), PortView::held("tap2"), PortView::held("tap3")], None, Some("tap2 is not bound")),
            (&[bound("tap2", id(2))], None, Some("is bound to")),
            (&[bound("tap1", id(1)), PortView::held("tap2")], Some("tap1"), None),
            (&[bound("tap1", id(1))], Some("tap2"), Some("no tap tap2")),
            // Named by Open vSwitch or libvirt, and by no document.
            (&[bound("vnet0", id(1))], Some("vnet0"), None),
        ] {
            let found = missing(id(1), content.as_ref(), ports, port);
            assert_eq!(found.is_some(), expected.is_some(), "{found:?} {expected:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{expected:?}");
        }
        assert!(missing(id(1), None, &[bound("tap1", id(1))], None).is_some_and(|missing| missing.contains("content")));
    }
}
