//! Reads of Neutron: ports of instances, and of security groups.
//!
//! Promises: a list is whole, however many pages Neutron makes of it; a port counts as gone only where Neutron itself says so.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::Value;

use super::error::{AskError, Failure, Service};
use super::gate::Urgency;
use super::port::{FIELDS, FloatingIpsAnswer, Port, PortAnswer, PortFields, PortProblem, PortsAnswer};
use super::server::Server;
use super::session::{Api, Asked, Session};
use crate::record::{InstanceId, PortId};

/// Most instances that one request asks for: their ids have to fit into a URL (8 KiB in most servers).
const MOST_AT_ONCE: usize = 50;
/// Most pages of one list: far above what a security group has, should a list lead in circles.
const MOST_PAGES: usize = 10_000;

/// Reads the ports of instances.
pub(super) async fn ports_of(
    session: &Session,
    api: &Api,
    ids: &[InstanceId],
    urgency: Urgency,
) -> Result<Vec<Port>, AskError> {
    let mut ports = Vec::new();
    for some in ids.chunks(MOST_AT_ONCE) {
        let doing = match some {
            [id] => format!("reading the ports of the server {id}"),
            some => format!("reading the ports of {} servers", some.len()),
        };
        let mut query = String::new();
        for id in some {
            // Writing to a string does not fail.
            let _ = write!(query, "device_id={id}&");
        }
        ports.extend(list(session, api, &doing, &query, urgency).await?);
    }
    Ok(ports)
}

/// Reads the ports of instances that have a security group.
pub(super) async fn ports_of_group(session: &Session, api: &Api, group: &str) -> Result<Vec<Port>, AskError> {
    let doing = format!("reading the ports of the security group {group}");
    let query = format!("security_groups={}&", crate::percent::encode(group));
    let ports = list(session, api, &doing, &query, Urgency::Change).await?;
    Ok(ports.into_iter().filter(Port::is_of_instance).collect())
}

/// Asks Neutron whether it answers, if it did not when it was last asked.
pub(super) async fn look_after(session: &Session, api: &Api) {
    if api.gate.is_failing() {
        let doing = "asking whether Neutron answers";
        let asked = Asked { doing, path: "/ports?limit=1&fields=id", urgency: Urgency::Background };
        // The gate notes what comes of it.
        let _ = session.get(api, asked).await;
    }
}

/// Reads a port; `None`: it is gone.
pub(super) async fn port(session: &Session, api: &Api, id: PortId) -> Result<Option<Port>, AskError> {
    let doing = format!("reading the port {id}");
    let path = format!("/ports/{id}?{}", fields());
    let answer = session.get(api, Asked { doing: &doing, path: &path, urgency: Urgency::Change }).await?;
    if answer.status == 404 {
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let kind = body.as_ref().and_then(|body| body.pointer("/NeutronError/type")?.as_str());
        return if kind == Some("PortNotFound") { Ok(None) } else { Err(answer.unexpected(api, &doing)) };
    }
    if answer.status != 200 {
        return Err(answer.unexpected(api, &doing));
    }
    let fields = answer.read::<PortAnswer>(api, &doing)?.port;
    read(api, &doing, fields).map(Some)
}

async fn list(session: &Session, api: &Api, doing: &str, query: &str, urgency: Urgency) -> Result<Vec<Port>, AskError> {
    let mut ports = Vec::new();
    let mut path = format!("/ports?{query}{}", fields());
    for _ in 0..MOST_PAGES {
        let answer = session.get(api, Asked { doing, path: &path, urgency }).await?;
        if answer.status != 200 {
            return Err(answer.unexpected(api, doing));
        }
        let page: PortsAnswer = answer.read(api, doing)?;
        let next = page.next().map(|query| format!("/ports?{query}"));
        for fields in page.ports {
            ports.push(read(api, doing, fields)?);
        }
        match next.filter(|next| *next != path) {
            Some(next) => path = next,
            None => return Ok(ports),
        }
    }
    let problem = "has a list without an end";
    Err(api.gate.count_failure(AskError::new(Service::Neutron, doing, Failure::NotUnderstood, problem)))
}

fn read(api: &Api, doing: &str, fields: PortFields) -> Result<Port, AskError> {
    fields.port().map_err(|problem| {
        let (failure, problem) = match problem {
            PortProblem::BindingHidden => {
                (Failure::Refused, "does not show bindings of ports (policy get_port:binding:vif_type)")
            }
            PortProblem::Mac => (Failure::NotUnderstood, "has a port whose MAC address is none"),
        };
        api.gate.failed(AskError::new(Service::Neutron, doing, failure, problem), false)
    })
}

fn fields() -> String {
    FIELDS.map(|field| format!("fields={field}")).join("&")
}

/// Reads the floating IPs of ports; `None`: this Neutron has none at all.
pub(super) async fn floating_ips(
    session: &Session,
    api: &Api,
    ports: &[Port],
    urgency: Urgency,
) -> Result<Option<BTreeSet<IpAddr>>, AskError> {
    if ports.is_empty() {
        return Ok(Some(BTreeSet::new()));
    }
    let doing = "reading floating IPs";
    let mut path = "/floatingips?fields=floating_ip_address".to_owned();
    for port in ports.iter().take(MOST_AT_ONCE) {
        // Writing to a string does not fail.
        let _ = write!(path, "&port_id={}", port.id);
    }
    let answer = session.get(api, Asked { doing, path: &path, urgency }).await?;
    match answer.status.as_u16() {
        200 => {
            let found: FloatingIpsAnswer = answer.read(api, doing)?;
            Ok(Some(found.floatingips.into_iter().map(|found| found.floating_ip_address).collect()))
        }
        404 => Ok(None),
        _ => Err(answer.unexpected(api, doing)),
    }
}

/// Returns whether Nova has read back what Neutron has: addresses of interfaces, and floating IPs. Neutron tells it some seconds
/// after a change, and Nova sends no notification then.
pub(super) fn has_reached_nova(server: &Server, ports: &[Port], floating: Option<&BTreeSet<IpAddr>>) -> bool {
    let fixed = ports.iter().flat_map(|port| port.fixed_ips.iter().map(|address| (port.mac.to_string(), *address)));
    let fixed: BTreeSet<(String, IpAddr)> = fixed.collect();
    let of_nova = |is_floating| server.addresses.iter().filter(move |address| address.is_floating == is_floating);
    let known: BTreeSet<(String, IpAddr)> = of_nova(false)
        .map(|address| (address.mac.as_deref().unwrap_or_default().to_ascii_lowercase(), address.address))
        .collect();
    fixed == known
        && floating.is_none_or(|floating| *floating == of_nova(true).map(|address| address.address).collect())
}

/// Checks that Neutron knows ports of a server that has fixed addresses, as Nova says.
pub(super) fn agrees(api: &Api, server: &Server, ports: &[Port]) -> Result<(), AskError> {
    if !ports.is_empty() || server.addresses.iter().all(|address| address.is_floating) {
        return Ok(());
    }
    let doing = format!("reading the ports of the server {}", server.id);
    let problem = "knows no port of it, and Nova says that it has addresses: Neutron's database may be another one, or they are \
                   just being changed";
    Err(api.gate.count_failure(AskError::new(Service::Neutron, &doing, Failure::OtherCloud, problem)))
}
