//! The tree's leaves and the listings of its directories.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::block_device;
use crate::record::{InstanceRecord, PortRecord};

/// A value, at a path below the version.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) path: String,
    /// The place of the first version that has it.
    pub(super) since: u8,
    pub(super) value: Value,
    /// Whether its directory leaves it out of the listing and shows this value in its own stead.
    is_name: bool,
}

/// What Nova has there, before it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Number(i64),
    Text(String),
    List(Vec<Box<str>>),
}

impl Value {
    fn or_null(value: Option<&str>) -> Self {
        value.map_or(Self::Null, |text| Self::Text(text.to_owned()))
    }

    /// Returns it as Nova prints it.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Null => NULL.into(),
            Self::Number(number) => number.to_string().into(),
            Self::Text(text) => text.into(),
            Self::List(names) => names.join("\n").into(),
        }
    }
}

/// How Nova prints what is null.
pub(super) const NULL: &str = "None";

/// Returns all values of an instance, in the order in which Nova has them.
pub(super) fn leaves(record: &InstanceRecord, hostname: &str) -> Vec<Leaf> {
    let mut leaves = Vec::with_capacity(32);
    let mut add = |since: u8, name: &str, value: Value| {
        let is_name = name.ends_with("/_name");
        leaves.push(Leaf { path: format!("meta-data/{name}"), since, value, is_name });
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let ids = &record.ec2_ids;
    add(0, "ami-id", Value::or_null(ids.ami_id.as_deref()));
    add(0, "ami-launch-index", record.launch_index.map_or(Value::Null, Value::Number));
    add(0, "ami-manifest-path", text("FIXME"));
    add(0, "instance-id", text(&ids.instance_id));
    add(0, "hostname", text(hostname));
    add(0, "local-ipv4", Value::or_null(record.local_ipv4.as_deref()));
    add(0, "reservation-id", Value::or_null(record.reservation_id.as_deref()));
    add(0, "security-groups", Value::List(record.security_groups.clone()));
    if let Some(name) = &record.key_name {
        add(0, "public-keys/0/_name", Value::Text(format!("0={name}")));
        add(0, "public-keys/0/openssh-key", Value::or_null(record.key_data.as_deref()));
    }
    add(1, "local-hostname", text(hostname));
    add(1, "public-hostname", text(hostname));
    add(1, "public-ipv4", Value::Text(public_ipv4(record)));
    add(3, "instance-type", Value::or_null(record.flavor.as_deref()));
    for (name, device) in block_device::mapping(record) {
        add(5, &format!("block-device-mapping/{name}"), Value::or_null(device.as_deref()));
    }
    for (name, id) in [("kernel-id", &ids.kernel_id), ("ramdisk-id", &ids.ramdisk_id)] {
        if let Some(id) = id {
            add(5, name, text(id));
        }
    }
    add(6, "placement/availability-zone", Value::or_null(record.availability_zone.as_deref()));
    add(7, "instance-action", text("none"));
    leaves
}

/// The first floating address of all; empty if there is none.
fn public_ipv4(record: &InstanceRecord) -> String {
    let ports = record.ports.iter().filter(|port| port.listed);
    let mut floating = ports.flat_map(PortRecord::addresses).flat_map(|ip| &ip.floating_ips);
    floating.next().map(ToString::to_string).unwrap_or_default()
}

/// A directory, or a leaf when nothing is in it.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    children: BTreeMap<&'a str, Node<'a>>,
    since: u8,
    /// What the parent's listing shows instead of the name.
    shown_as: Option<&'a str>,
}

impl<'a> Node<'a> {
    /// Returns the root of the leaves.
    pub(super) fn of(leaves: &'a [Leaf]) -> Self {
        let mut root = Self::default();
        for leaf in leaves {
            let (path, name) = leaf.path.rsplit_once('/').unwrap_or(("", &leaf.path));
            let mut node = &mut root;
            for segment in path.split('/') {
                node = node
                    .children
                    .entry(segment)
                    .and_modify(|node| node.since = node.since.min(leaf.since))
                    .or_insert_with(|| Node { since: leaf.since, ..Node::default() });
            }
            if let (true, Value::Text(text)) = (leaf.is_name, &leaf.value) {
                node.shown_as = Some(text);
            } else {
                node.children.insert(name, Node { since: leaf.since, ..Node::default() });
            }
        }
        root
    }

    fn is_directory(&self) -> bool {
        !self.children.is_empty()
    }

    /// Returns the directories in this one.
    pub(super) fn directories(&self) -> impl Iterator<Item = (&'a str, &Self)> {
        self.children.iter().filter(|(_, node)| node.is_directory()).map(|(name, node)| (*name, node))
    }

    /// Returns the listing in a version; `None` if the directory is not there yet.
    pub(super) fn listing(&self, version: u8) -> Option<String> {
        if version < self.since {
            return None;
        }
        let visible = self.children.iter().filter(|(_, node)| node.since <= version);
        let names: Vec<String> = visible
            .map(|(name, node)| match node.shown_as {
                Some(text) => text.to_owned(),
                None if node.is_directory() => format!("{name}/"),
                None => (*name).to_owned(),
            })
            .collect();
        Some(names.join("\n"))
    }
}
