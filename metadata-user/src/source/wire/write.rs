//! From a record back to a document: every field is written, so nothing depends on a default.
//!
//! Promises: what is written reads back as an equal record; it borrows, so no secret is copied on the way to the writer.
//!
//! Left out: what a record does not hold, such as the id of an image's kernel, or a DHCP server's address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::io;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::notices::EventDocument;
use super::policy::PolicyDocument;
use crate::base64::Encoded;
use crate::record::{
    AddressPair, BlockDevice, Bus, Device, DeviceKind, Ec2Ids, FixedIp, InstanceRecord, KeyPair, NetworkRecord,
    PageAnswer, PageRecord, PortRecord, Route, SubnetRecord,
};

/// Writes a record as a document in one line, without a newline at its end.
///
/// # Errors
/// Those of the writer.
pub(super) fn write(record: &InstanceRecord, out: &mut dyn io::Write) -> io::Result<()> {
    serde_json::to_writer(out, &InstanceText::of(record)).map_err(io::Error::from)
}

/// A value that is written as text.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Pairs<'a>(&'a [(Box<str>, Box<str>)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Bodies from this length on are written once.
const REPEATED: usize = 64;

/// Pages by path. A longer answer that several have is written once.
struct Pages<'a>(&'a [PageRecord]);

impl Pages<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut firsts: HashMap<(Option<&str>, &[u8]), &str> = HashMap::new();
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for PageRecord { path, answer } in self.0 {
            let Some(answer) = answer else {
                map.serialize_entry(path, &None::<()>)?;
                continue;
            };
            match firsts.entry((answer.content_type.as_deref(), &answer.body)) {
                Entry::Occupied(first) if answer.body.len() >= REPEATED => {
                    map.serialize_entry(path, &SameText { same_as: first.get() })?;
                }
                entry => {
                    entry.or_insert(path);
                    map.serialize_entry(path, &PageText::of(answer))?;
                }
            }
        }
        map.end()
    }
}

#[derive(serde::Serialize)]
struct SameText<'a> {
    same_as: &'a str,
}

#[derive(serde::Serialize)]
struct PageText<'a> {
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<Text<Encoded<'a>>>,
}

impl<'a> PageText<'a> {
    fn of(answer: &'a PageAnswer) -> Self {
        let PageAnswer { content_type, body } = answer;
        let text = std::str::from_utf8(body).ok();
        Self { content_type: content_type.as_deref(), text, base64: text.is_none().then_some(Text(Encoded(body))) }
    }
}

/// A record as a document, every field of it.
#[derive(serde::Serialize)]
pub(super) struct InstanceText<'a> {
    uuid: Text<uuid::Uuid>,
    project_id: &'a str,
    display_name: Option<&'a str>,
    hostname: &'a str,
    availability_zone: Option<&'a str>,
    launch_index: Option<i64>,
    reservation_id: Option<&'a str>,
    flavor: Option<&'a str>,
    image_ref: Option<&'a str>,
    ec2_ids: Ec2IdsText<'a>,
    key_name: Option<&'a str>,
    key_data: Option<&'a str>,
    keypairs: Vec<KeyPairText<'a>>,
    metadata: Pairs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data_b64: Option<Text<Encoded<'a>>>,
    root_device_name: Option<&'a str>,
    default_ephemeral_device: Option<&'a str>,
    default_swap_device: Option<&'a str>,
    block_device_mapping: Vec<BlockDeviceText<'a>>,
    device_metadata: Vec<DeviceText<'a>>,
    dedicated_cpus: &'a [u32],
    security_groups: &'a [Box<str>],
    local_ipv4: Option<&'a str>,
    password: Option<&'a str>,
    boot_roles: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PolicyDocument>,
    ports: Vec<PortText<'a>>,
    #[serde(skip_serializing_if = "Pages::is_empty")]
    pages: Pages<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Pairs<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<EventDocument>,
}

impl<'a> InstanceText<'a> {
    pub(super) fn of(record: &'a InstanceRecord) -> Self {
        // By name and without `..`: a field that is added to the record must be written too.
        let InstanceRecord {
            uuid,
            project_id,
            display_name,
            hostname,
            availability_zone,
            launch_index,
            reservation_id,
            flavor,
            image_ref,
            ec2_ids,
            key_name,
            key_data,
            keypairs,
            metadata,
            user_data,
            root_device_name,
            default_ephemeral_device,
            default_swap_device,
            block_device_mapping,
            devices,
            dedicated_cpus,
            security_groups,
            local_ipv4,
            password,
            boot_roles,
            policy,
            ports,
            pages,
            notices,
        } = record;
        let tags = notices.as_deref().map(|notices| &*notices.tags).filter(|tags| !tags.is_empty());
        let events = notices.as_deref().into_iter().flat_map(|notices| &notices.events);
        let user_data = user_data.as_deref();
        let text = user_data.and_then(|data| std::str::from_utf8(data).ok());
        Self {
            uuid: Text(uuid.0),
            project_id: project_id.as_str(),
            display_name: display_name.as_deref(),
            hostname,
            availability_zone: availability_zone.as_deref(),
            launch_index: *launch_index,
            reservation_id: reservation_id.as_deref(),
            flavor: flavor.as_deref(),
            image_ref: image_ref.as_deref(),
            ec2_ids: Ec2IdsText::of(ec2_ids),
            key_name: key_name.as_deref(),
            key_data: key_data.as_deref(),
            keypairs: keypairs.iter().map(KeyPairText::of).collect(),
            metadata: Pairs(metadata),
            user_data: text,
            user_data_b64: user_data.filter(|_| text.is_none()).map(|data| Text(Encoded(data))),
            root_device_name: root_device_name.as_deref(),
            default_ephemeral_device: default_ephemeral_device.as_deref(),
            default_swap_device: default_swap_device.as_deref(),
            block_device_mapping: block_device_mapping.iter().map(BlockDeviceText::of).collect(),
            device_metadata: devices.iter().map(DeviceText::of).collect(),
            dedicated_cpus,
            security_groups,
            local_ipv4: local_ipv4.as_deref(),
            password: password.as_deref(),
            boot_roles: boot_roles.as_deref(),
            policy: PolicyDocument::of(policy),
            ports: ports.iter().map(PortText::of).collect(),
            pages: Pages(pages),
            tags: tags.map(Pairs),
            events: events.map(EventDocument::of).collect(),
        }
    }
}

#[derive(serde::Serialize)]
struct Ec2IdsText<'a> {
    instance_id: &'a str,
    ami_id: Option<&'a str>,
    kernel_id: Option<&'a str>,
    ramdisk_id: Option<&'a str>,
}

impl<'a> Ec2IdsText<'a> {
    fn of(ids: &'a Ec2Ids) -> Self {
        let Ec2Ids { instance_id, ami_id, kernel_id, ramdisk_id } = ids;
        Self {
            instance_id,
            ami_id: ami_id.as_deref(),
            kernel_id: kernel_id.as_deref(),
            ramdisk_id: ramdisk_id.as_deref(),
        }
    }
}

#[derive(serde::Serialize)]
struct KeyPairText<'a> {
    name: &'a str,
    r#type: &'static str,
    public_key: &'a str,
}

impl<'a> KeyPairText<'a> {
    fn of(pair: &'a KeyPair) -> Self {
        let KeyPair { name, kind, public_key } = pair;
        Self { name, r#type: kind.as_str(), public_key }
    }
}

#[derive(serde::Serialize)]
struct BlockDeviceText<'a> {
    source_type: &'static str,
    destination_type: &'static str,
    device_name: Option<&'a str>,
    guest_format: Option<&'a str>,
}

impl<'a> BlockDeviceText<'a> {
    fn of(disk: &'a BlockDevice) -> Self {
        let BlockDevice { is_volume, is_blank, device_name, guest_format } = disk;
        Self {
            source_type: if *is_blank { "blank" } else { "image" },
            destination_type: if *is_volume { "volume" } else { "local" },
            device_name: device_name.as_deref(),
            guest_format: guest_format.as_deref(),
        }
    }
}

#[derive(Default, serde::Serialize)]
struct DeviceText<'a> {
    r#type: &'static str,
    bus: Option<BusText<'a>>,
    tags: Option<&'a [Box<str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<Text<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vf_trusted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
}

#[derive(serde::Serialize)]
struct BusText<'a> {
    r#type: &'static str,
    address: Option<&'a str>,
}

impl<'a> DeviceText<'a> {
    fn of(device: &'a Device) -> Self {
        let Device { kind, bus, tags } = device;
        let bus = bus.as_ref().map(|Bus { kind, address }| BusText { r#type: kind, address: address.as_deref() });
        let common = Self { bus, tags: tags.as_deref(), ..Self::default() };
        match kind {
            DeviceKind::Nic { mac, vlan, vf_trusted } => Self {
                r#type: "nic",
                mac: Some(Text(mac.to_string())),
                vlan: *vlan,
                vf_trusted: Some(*vf_trusted),
                ..common
            },
            DeviceKind::Disk { serial, path } => Self {
                r#type: "disk",
                serial: serial.as_ref().map(Option::as_deref),
                path: path.as_ref().map(Option::as_deref),
                ..common
            },
            DeviceKind::Share { share_id, tag } => {
                Self { r#type: "share", share_id: Some(share_id), tag: Some(tag), ..common }
            }
        }
    }
}

#[derive(serde::Serialize)]
struct PortText<'a> {
    id: Text<uuid::Uuid>,
    mac_address: Text<String>,
    tap: Option<&'a str>,
    port_security: bool,
    listed: bool,
    vif_type: &'a str,
    fixed_ips: Vec<FixedIpText<'a>>,
    allowed_address_pairs: Vec<AddressPairText>,
    security_groups: &'a [Box<str>],
    network: NetworkText<'a>,
}

impl<'a> PortText<'a> {
    fn of(port: &'a PortRecord) -> Self {
        let PortRecord {
            id,
            mac_address,
            tap,
            port_security,
            listed,
            vif_type,
            fixed_ips,
            allowed_address_pairs,
            security_groups,
            network,
        } = port;
        let mut subnets = vec![None; fixed_ips.len()];
        for (place, subnet) in network.subnets.iter().enumerate() {
            for index in &subnet.fixed_ips {
                if let Some(subnet) = subnets.get_mut(*index) {
                    *subnet = Some(place);
                }
            }
        }
        let fixed_ips = fixed_ips.iter().zip(subnets).map(|(ip, subnet)| FixedIpText::of(ip, subnet));
        Self {
            id: Text(id.0),
            mac_address: Text(mac_address.to_string()),
            tap: tap.as_deref(),
            port_security: *port_security,
            listed: *listed,
            vif_type,
            fixed_ips: fixed_ips.collect(),
            allowed_address_pairs: allowed_address_pairs.iter().map(AddressPairText::of).collect(),
            security_groups,
            network: NetworkText::of(network),
        }
    }
}

#[derive(serde::Serialize)]
struct FixedIpText<'a> {
    ip_address: Text<&'a dyn Display>,
    subnet_id: Option<Text<usize>>,
    floating_ips: Vec<Text<&'a dyn Display>>,
}

impl<'a> FixedIpText<'a> {
    fn of(ip: &'a FixedIp, subnet: Option<usize>) -> Self {
        let FixedIp { ip_address, floating_ips } = ip;
        Self { ip_address: Text(ip_address), subnet_id: subnet.map(Text), floating_ips: texts(floating_ips) }
    }
}

#[derive(serde::Serialize)]
struct AddressPairText {
    ip_address: Text<ipnet::IpNet>,
    mac_address: Option<Text<String>>,
}

impl AddressPairText {
    fn of(pair: &AddressPair) -> Self {
        let AddressPair { ip_address, mac_address } = pair;
        Self { ip_address: Text(*ip_address), mac_address: mac_address.map(|mac| Text(mac.to_string())) }
    }
}

#[derive(serde::Serialize)]
struct NetworkText<'a> {
    id: Text<uuid::Uuid>,
    mtu: Option<u32>,
    injected: bool,
    subnets: Vec<SubnetText<'a>>,
}

impl<'a> NetworkText<'a> {
    fn of(network: &'a NetworkRecord) -> Self {
        let NetworkRecord { id, mtu, injected, subnets } = network;
        let subnets = subnets.iter().enumerate().map(|(place, subnet)| SubnetText::of(subnet, place));
        Self { id: Text(*id), mtu: *mtu, injected: *injected, subnets: subnets.collect() }
    }
}

#[derive(serde::Serialize)]
struct SubnetText<'a> {
    /// Its place in the list: only `subnet_id` refers to it.
    id: Text<usize>,
    cidr: Text<ipnet::IpNet>,
    gateway_ip: Option<Text<&'a dyn Display>>,
    dns_nameservers: Vec<Text<&'a dyn Display>>,
    host_routes: Vec<RouteText<'a>>,
    enable_dhcp: bool,
    dhcp_server: Option<&'static str>,
    ipv6_address_mode: Option<&'static str>,
}

impl<'a> SubnetText<'a> {
    fn of(subnet: &'a SubnetRecord, place: usize) -> Self {
        let SubnetRecord {
            cidr,
            gateway_ip,
            dns_nameservers,
            host_routes,
            enable_dhcp,
            dhcp_server,
            ipv6_address_mode,
            // Each address names its subnet.
            fixed_ips: _,
        } = subnet;
        Self {
            id: Text(place),
            cidr: Text(*cidr),
            gateway_ip: gateway_ip.as_ref().map(|gateway| Text(gateway as &dyn Display)),
            dns_nameservers: texts(dns_nameservers),
            host_routes: host_routes.iter().map(RouteText::of).collect(),
            enable_dhcp: *enable_dhcp,
            // Only whether there is one is known.
            dhcp_server: dhcp_server.then_some("0.0.0.0"),
            ipv6_address_mode: *ipv6_address_mode,
        }
    }
}

#[derive(serde::Serialize)]
struct RouteText<'a> {
    destination: Text<ipnet::IpNet>,
    nexthop: Option<Text<&'a dyn Display>>,
}

impl<'a> RouteText<'a> {
    fn of(route: &'a Route) -> Self {
        let Route { destination, nexthop } = route;
        Self { destination: Text(*destination), nexthop: nexthop.as_ref().map(|nexthop| Text(nexthop as &dyn Display)) }
    }
}

fn texts<T: Display>(values: &[T]) -> Vec<Text<&dyn Display>> {
    values.iter().map(|value| Text(value as &dyn Display)).collect()
}
