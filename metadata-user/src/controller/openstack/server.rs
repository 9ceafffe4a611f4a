//! What Nova's compute API says of servers and their moves: the fields that count here, and how they are read. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use crate::record::{InstanceId, ProjectId};

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its id.
    pub id: InstanceId,
    /// Its project.
    pub project: ProjectId,
    /// The compute host that it is on (`OS-EXT-SRV-ATTR:host`); `None`: it is not scheduled yet, or shelved.
    pub host: Option<String>,
    /// Its name.
    pub name: String,
    /// Its host name, without a domain.
    pub hostname: Option<String>,
    /// Its status: `ACTIVE`, `SHUTOFF`, `MIGRATING`, …
    pub status: String,
    /// What Nova is doing with it.
    pub task_state: Option<String>,
    /// When Nova last changed it, as Nova writes the time (UTC, in seconds). Not every change moves it: metadata does not.
    pub updated: String,
    /// The image that it was made of; `None`: it boots from a volume.
    pub image: Option<String>,
    /// Properties that its owner set.
    pub metadata: BTreeMap<String, String>,
    /// The name of its flavor.
    pub flavor: Option<String>,
    /// Names of its security groups; `None`: Nova says none.
    pub security_groups: Option<BTreeSet<String>>,
    /// Its addresses, in Nova's order.
    pub addresses: Vec<ServerAddress>,
    /// Volumes that are attached.
    pub volumes: Vec<String>,
    /// When Nova was asked.
    pub read_at: Instant,
}

/// An address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// The address.
    pub address: IpAddr,
    /// The MAC of its interface, as Nova writes it.
    pub mac: Option<String>,
    /// Whether it is a floating IP.
    pub is_floating: bool,
}

impl Server {
    /// Returns whether there may be unfinished moves: a server at rest has none.
    #[must_use]
    pub fn may_be_moving(&self) -> bool {
        self.task_state.is_some() || !matches!(&*self.status, "ACTIVE" | "SHUTOFF" | "PAUSED" | "SUSPENDED")
    }

    /// Returns the address from which Neutron's agent would see it: its first fixed IPv4, else its first fixed one.
    #[must_use]
    pub fn requester_address(&self) -> Option<IpAddr> {
        let fixed = || self.addresses.iter().filter(|address| !address.is_floating).map(|address| address.address);
        fixed().find(IpAddr::is_ipv4).or_else(|| fixed().next())
    }
}

/// A move of a server from one compute host to another that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The host that it leaves.
    pub source: Option<String>,
    /// The host that it goes to; `None`: not chosen yet.
    pub dest: Option<String>,
    /// Its status: `running`, `finished` (a resize that is not confirmed), …
    pub status: String,
    /// Its kind: `live-migration`, `migration`, `resize` or `evacuation`.
    pub kind: String,
}

/// Statuses of moves that are over (nova/objects/migration.py and nova/compute/manager.py, all releases since 2016). `done` is an
/// evacuation whose source host has yet to clean up; a resize that is `finished` may still be reverted.
const OVER: [&str; 8] = ["completed", "confirmed", "reverted", "failed", "error", "cancelled", "done", "deleted"];

/// A page of `GET /servers/detail`.
#[derive(Debug, Deserialize)]
pub(super) struct ServersAnswer {
    pub(super) servers: Vec<ServerFields>,
    #[serde(default)]
    servers_links: Vec<Link>,
}

impl ServersAnswer {
    /// Returns whether there is another page.
    pub(super) fn goes_on(&self) -> bool {
        self.servers_links.iter().any(|link| link.rel == "next")
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Link {
    pub(super) rel: String,
    #[serde(default)]
    pub(super) href: String,
}

/// `GET /servers/{id}`.
#[derive(Debug, Deserialize)]
pub(super) struct ServerAnswer {
    pub(super) server: ServerFields,
}

/// A server as Nova writes it. `None` for a field that may be hidden by policy means that it is.
#[derive(Debug, Deserialize)]
pub(super) struct ServerFields {
    pub(super) id: Uuid,
    pub(super) status: String,
    #[serde(default)]
    tenant_id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    updated: Option<String>,
    #[serde(default)]
    image: Value,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    flavor: Value,
    #[serde(default)]
    security_groups: Option<Vec<Name>>,
    #[serde(default)]
    addresses: serde_json::Map<String, Value>,
    #[serde(default, rename = "os-extended-volumes:volumes_attached")]
    volumes: Vec<Volume>,
    #[serde(default, rename = "OS-EXT-SRV-ATTR:host", deserialize_with = "present")]
    host: Option<Option<String>>,
    #[serde(default, rename = "OS-EXT-SRV-ATTR:hostname")]
    hostname: Option<String>,
    #[serde(default, rename = "OS-EXT-STS:task_state")]
    task_state: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Name {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Volume {
    id: String,
}

#[derive(Debug, Deserialize)]
struct AddressFields {
    addr: IpAddr,
    #[serde(default, rename = "OS-EXT-IPS:type")]
    kind: Option<String>,
    #[serde(default, rename = "OS-EXT-IPS-MAC:mac_addr")]
    mac: Option<String>,
}

/// Tells a field that is null from one that is absent.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What keeps a server from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Its cell does not answer: Nova knows that it exists, and no more.
    CellDown,
    /// Policy hides the host.
    HostHidden,
}

impl ServerFields {
    /// Returns the server.
    pub(super) fn server(self, read_at: Instant) -> Result<Server, Unusable> {
        // Nova's name for a server whose cell is down (microversion 2.69).
        if self.status == "UNKNOWN" && self.host.is_none() {
            return Err(Unusable::CellDown);
        }
        let host = self.host.ok_or(Unusable::HostHidden)?.filter(|host| !host.is_empty());
        let lists = self.addresses.into_iter().map(|(_, list)| serde_json::from_value::<Vec<AddressFields>>(list));
        let addresses = lists.flatten().flatten().map(|fields| ServerAddress {
            address: fields.addr,
            mac: fields.mac,
            is_floating: fields.kind.as_deref() == Some("floating"),
        });
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok(Server {
            id: InstanceId(self.id),
            project: ProjectId::from(&*self.tenant_id),
            host,
            name: self.name.unwrap_or_default(),
            hostname: self.hostname,
            status: self.status,
            task_state: self.task_state,
            updated: self.updated.unwrap_or_default(),
            image: text(&self.image, "id"),
            metadata: self.metadata,
            flavor: text(&self.flavor, "original_name"),
            security_groups: self.security_groups.map(|groups| groups.into_iter().map(|group| group.name).collect()),
            addresses: addresses.collect(),
            volumes: self.volumes.into_iter().map(|volume| volume.id).collect(),
            read_at,
        })
    }
}

/// `GET /os-migrations`.
#[derive(Debug, Deserialize)]
pub(super) struct MigrationsAnswer {
    pub(super) migrations: Vec<MigrationFields>,
}

#[derive(Debug, Deserialize)]
pub(super) struct MigrationFields {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    migration_type: Option<String>,
    #[serde(default)]
    source_compute: Option<String>,
    #[serde(default)]
    dest_compute: Option<String>,
}

impl MigrationFields {
    /// Returns the move, unless it is over.
    pub(super) fn unfinished(self) -> Option<Move> {
        let status = self.status.unwrap_or_default();
        (!OVER.contains(&&*status)).then(|| Move {
            source: self.source_compute,
            dest: self.dest_compute,
            status,
            kind: self.migration_type.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A server as Nova 34 writes it at microversion 2.79, less what is not read.
    pub(in crate::controller::openstack) const SERVER: &str = r#"{
        "id": "0d1f4f1e-5d6c-4d60-9d5d-1f5d5b0f5a01", "name": "web 1", "status": "ACTIVE", "tenant_id": "p1", "user_id": "u",
        "metadata": {"role": "web"}, "hostId": "x", "image": {"id": "cafe", "links": []},
        "flavor": {"vcpus": 1, "original_name": "m1.small", "extra_specs": {}}, "created": "2026-01-01T00:00:00Z",
        "updated": "2026-01-02T00:00:00Z", "addresses": {"net": [
            {"version": 6, "addr": "fd00::5", "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:00:00:01"},
            {"version": 4, "addr": "10.0.0.5", "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:00:00:01"},
            {"version": 4, "addr": "203.0.113.5", "OS-EXT-IPS:type": "floating", "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:00:00:01"}]},
        "OS-EXT-SRV-ATTR:host": "cmp1", "OS-EXT-SRV-ATTR:hostname": "web-1", "OS-EXT-STS:task_state": null,
        "OS-EXT-SRV-ATTR:user_data": "IyEvYmluL3No", "os-extended-volumes:volumes_attached": [{"id": "v1"}],
        "security_groups": [{"name": "default"}, {"name": "web"}, {"name": "default"}]}"#;

    pub(in crate::controller) fn server() -> Server {
        serde_json::from_str::<ServerFields>(SERVER).expect("fields").server(Instant::now()).expect("a server")
    }

    #[test]
    fn a_server_is_read() {
        let server = server();
        assert_eq!((server.host.as_deref(), server.image.as_deref()), (Some("cmp1"), Some("cafe")));
        assert_eq!(server.requester_address(), Some("10.0.0.5".parse().expect("an address")));
        assert_eq!(server.security_groups.as_ref().map(BTreeSet::len), Some(2));
        assert_eq!((server.flavor.as_deref(), server.hostname.as_deref()), (Some("m1.small"), Some("web-1")));
        assert!(!server.may_be_moving());
    }

    #[test]
    fn a_server_without_a_host_is_told_from_one_whose_host_is_hidden_and_from_a_cell_that_is_down() {
        let read = |text: &str| serde_json::from_str::<ServerFields>(text).expect("fields").server(Instant::now());
        let null = SERVER.replace("\"cmp1\"", "null");
        assert_eq!(read(&null).map(|server| server.host), Ok(None));
        let hidden = SERVER.replace("OS-EXT-SRV-ATTR:host\"", "x\"");
        assert_eq!(read(&hidden), Err(Unusable::HostHidden));
        let down =
            r#"{"id": "0d1f4f1e-5d6c-4d60-9d5d-1f5d5b0f5a01", "status": "UNKNOWN", "tenant_id": "p1", "created": "x"}"#;
        assert_eq!(read(down), Err(Unusable::CellDown));
    }

    #[test]
    fn moves_that_are_over_are_none() {
        let unfinished = |status: &str| {
            let text = format!(
                r#"{{"status": "{status}", "migration_type": "resize", "source_compute": "a", "dest_compute": null}}"#
            );
            serde_json::from_str::<MigrationFields>(&text).expect("a migration").unfinished()
        };
        for status in OVER {
            assert_eq!(unfinished(status), None);
        }
        for status in [
            "accepted",
            "queued",
            "preparing",
            "running",
            "post-migrating",
            "pre-migrating",
            "migrating",
            "finished",
            "?",
        ] {
            assert_eq!(
                unfinished(status).map(|unfinished| (unfinished.source, unfinished.dest)),
                Some((Some("a".into()), None))
            );
        }
    }
}
