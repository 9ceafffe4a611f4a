//! What a notification names, and which instances that concerns.

use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;

use super::{Done, Leader, Work};
use crate::controller::notifications::{Event, Notification};
use crate::controller::openstack::{AskError, OpenStack, Port};
use crate::controller::shared::Shared;
use crate::record::{InstanceId, PortId};

/// After how long Nova has what Neutron sent a notification of: 0.8 s on an idle system, some seconds on a busy one.
const NOVA_KNOWS: Duration = Duration::from_secs(3);

impl<'a> Leader<'a> {
    /// Puts what a notification concerns into the queue, or begins to find out what that is.
    pub(super) fn heard(&mut self, notification: Notification, work: &mut FuturesUnordered<Work<'a>>) {
        match &notification.event {
            Event::Gap { why } => self.list_soon(true, &why.to_string()),
            event => match known(self.shared, event) {
                Some(ids) => self.resolved(&notification, &ids),
                None => work.push(Box::pin(resolve(self.shared, notification))),
            },
        }
    }
}

impl Leader<'_> {
    /// Puts the instances that a notification concerns into the queue. What Neutron says of is with Nova only later, and Nova sends no
    /// notification of its own then: they are read again.
    pub(super) fn resolved(&mut self, notification: &Notification, ids: &[InstanceId]) {
        self.push(notification, ids);
        if !matches!(notification.event, Event::Instance { .. }) {
            let at = Instant::now() + NOVA_KNOWS;
            let mut queue = self.shared.queue.lock();
            ids.iter().for_each(|id| queue.push_at(at, *id, notification.urgency, at, None));
        }
    }
}

/// Returns the instances that an event concerns, if that is known here.
fn known(shared: &Shared, event: &Event) -> Option<Vec<InstanceId>> {
    let table = shared.table.lock();
    match event {
        Event::Instance { id } => Some(vec![*id]),
        // The one that had it before, too.
        Event::Port { id, device_id: Some(device) } => {
            let mut ids = table.with_port(*id);
            ids.retain(|known| known != device);
            ids.push(*device);
            Some(ids)
        }
        // Detached or deleted: those that had it.
        Event::Port { id, device_id: None } => Some(table.with_port(*id)),
        Event::FloatingIp { port_id, address, .. } => {
            let mut ids: Vec<InstanceId> = address.map(|address| table.with_address(address)).unwrap_or_default();
            match port_id {
                None => Some(ids),
                Some(port) => {
                    let of_port = table.with_port(*port);
                    let is_known = !of_port.is_empty();
                    ids.extend(of_port);
                    is_known.then_some(ids)
                }
            }
        }
        Event::SecurityGroup { .. } => None,
        Event::Gap { .. } => Some(Vec::new()),
    }
}

/// Asks Neutron which instances an event concerns.
async fn resolve(shared: &Shared, notification: Notification) -> Done {
    let found = match &notification.event {
        Event::FloatingIp { port_id: Some(port), .. } => of_port(&shared.openstack, *port).await,
        Event::SecurityGroup { id } => {
            let ports = shared.openstack.ports_of_group(&id.to_string()).await;
            ports.map(|ports| ports.iter().filter_map(instance).collect())
        }
        _ => Ok(Vec::new()),
    };
    Done::Resolved(notification, found.map_err(|error| error.to_string()))
}

async fn of_port(openstack: &OpenStack, port: PortId) -> Result<Vec<InstanceId>, AskError> {
    Ok(openstack.port(port).await?.iter().filter_map(instance).collect())
}

/// Returns the instance that a port belongs to.
fn instance(port: &Port) -> Option<InstanceId> {
    port.is_of_instance().then(|| port.device_id.parse().ok()).flatten()
}
