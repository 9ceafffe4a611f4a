//! From captured facts (`instance.json` of a golden case: what was in Nova's database) to a document of the directory
//! source and the cloud-wide settings that go with it.
//!
//! Promises: what Nova tells a guest of the facts, metadatad tells of the document. Facts of which Nova tells nothing
//! are left out.
//!
//! Left out: checks. Facts are taken as they are; the document is checked when it is read.

use anyhow::{Context as _, Result};
use metadata_user::api::vendor_data::{self, DynamicResults};
use metadata_user::api::{Cloud, StaticVendordata, VendordataProvider};
use metadata_user::record::InstanceRecord;
use serde_json::{Map, Value, json};

mod ports;

/// What a facts file becomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// The document.
    pub document: Value,
    /// The cloud-wide settings.
    pub cloud: CloudFacts,
}

/// Cloud-wide settings of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudFacts {
    /// Nova's `dhcp_domain`.
    pub dhcp_domain: String,
    /// Nova's `vendordata_providers`.
    pub vendordata_providers: Vec<String>,
    /// The content of Nova's `vendordata_jsonfile_path`.
    pub vendordata_static: Option<Value>,
    /// Nova's `vendordata_dynamic_targets`, with what each target answered.
    pub vendordata_dynamic_targets: Vec<TargetFacts>,
}

/// A dynamic target and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetFacts {
    /// As configured.
    pub target: String,
    /// The status of its answer.
    pub reply_status: u16,
    /// The body of its answer; `echo-request-body` is the body of the request.
    pub reply_body: String,
}

impl Golden {
    /// Converts the text of a facts file.
    ///
    /// # Errors
    /// If the text is not JSON or has no instance.
    pub fn from_facts(text: &[u8]) -> Result<Self> {
        let facts: Value = serde_json::from_slice(text).context("the facts are not JSON")?;
        facts["instance"]["uuid"].as_str().context("the facts have no instance.uuid")?;
        Ok(Self { document: document(&facts), cloud: CloudFacts::of(&facts["config"]) })
    }

    /// Returns the settings as the `[cloud]` table of metadatad's configuration.
    #[must_use]
    pub fn cloud_toml(&self, vendordata_jsonfile_path: &str) -> String {
        let cloud = &self.cloud;
        let mut out = format!(
            "[cloud]\ndhcp_domain = {}\nvendordata_providers = {}\n",
            json!(cloud.dhcp_domain),
            json!(cloud.vendordata_providers)
        );
        if cloud.vendordata_static.is_some() {
            out += &format!("vendordata_jsonfile_path = {}\n", json!(vendordata_jsonfile_path));
        }
        if !cloud.vendordata_dynamic_targets.is_empty() {
            let targets: Vec<&str> = cloud.vendordata_dynamic_targets.iter().map(|target| &*target.target).collect();
            out += &format!("vendordata_dynamic_targets = {}\n", json!(targets));
        }
        out
    }
}

impl CloudFacts {
    fn of(config: &Value) -> Self {
        let target = |facts: &Value| TargetFacts {
            target: text(&facts["target"]),
            reply_status: facts["reply_status"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or(0),
            reply_body: text(&facts["reply_body"]),
        };
        Self {
            dhcp_domain: config["dhcp_domain"].as_str().unwrap_or("novalocal").to_owned(),
            vendordata_providers: match config["vendordata_providers"].as_array() {
                Some(providers) => providers.iter().map(text).collect(),
                None => vec!["StaticJSON".to_owned()],
            },
            vendordata_static: config.get("vendordata_static").filter(|value| !value.is_null()).cloned(),
            vendordata_dynamic_targets: list(&config["vendordata_dynamic_targets"]).iter().map(target).collect(),
        }
    }

    /// Returns the settings as the daemon holds them.
    #[must_use]
    pub fn settings(&self) -> Cloud {
        let provider = |name: &String| match &**name {
            "StaticJSON" => Some(VendordataProvider::StaticJson),
            "DynamicJSON" => Some(VendordataProvider::DynamicJson),
            _ => None,
        };
        Cloud {
            dhcp_domain: self.dhcp_domain.clone(),
            vendordata_providers: self.vendordata_providers.iter().filter_map(provider).collect(),
            vendordata_static: self.vendordata_static.as_ref().map(StaticVendordata::from).unwrap_or_default(),
            vendordata_dynamic_targets: self.targets(),
        }
    }

    fn targets(&self) -> Vec<String> {
        self.vendordata_dynamic_targets.iter().map(|target| target.target.clone()).collect()
    }

    /// Returns what the targets answer for an instance, as if they had been asked.
    #[must_use]
    pub fn results(&self, record: &InstanceRecord) -> DynamicResults {
        let configured = self.targets();
        let asked = vendor_data::targets(&configured).into_iter().filter_map(|asked| {
            let wanted = format!("{}@{}", asked.name, asked.url);
            let facts = self.vendordata_dynamic_targets.iter().find(|facts| facts.target == wanted)?;
            let body = match &*facts.reply_body {
                "echo-request-body" => vendor_data::request_body(record),
                body => body.as_bytes().to_vec(),
            };
            Some((asked.name.to_owned(), vendor_data::result(facts.reply_status, &body)))
        });
        asked.collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn document(facts: &Value) -> Value {
    let instance = &facts["instance"];
    let mut document = Map::new();
    let same =
        ["uuid", "project_id", "display_name", "hostname", "availability_zone", "launch_index", "reservation_id"];
    let keys = ["key_name", "key_data", "keypairs"];
    let devices = ["root_device_name", "default_ephemeral_device", "default_swap_device"];
    let images = ["image_ref", "kernel_id", "ramdisk_id"];
    for field in same.into_iter().chain(keys).chain(devices).chain(images) {
        document.insert(field.to_owned(), instance[field].clone());
    }
    let mut set = |field: &str, value: Value| {
        document.insert(field.to_owned(), value);
    };
    if instance["metadata"].is_object() {
        set("metadata", instance["metadata"].clone());
    }
    set("flavor", instance["flavor"]["name"].clone());
    set("ec2_ids", ec2_ids(instance, &facts["ec2_ints"]));
    set("user_data_b64", instance["user_data_b64"].clone());
    set("block_device_mapping", list(&instance["block_device_mappings"]).iter().map(block_device).collect());
    set("device_metadata", list(&instance["device_metadata"]).iter().filter_map(device).collect());
    set("dedicated_cpus", dedicated_cpus(&instance["numa_topology"]));
    set("security_groups", security_groups(facts));
    set("local_ipv4", ports::local_ipv4(facts));
    set("password", password(&instance["system_metadata"]));
    set("boot_roles", instance["system_metadata"]["boot_roles"].clone());
    set("ports", ports::documents(facts));
    // No host name is "derive one" in a document; facts always have one.
    document.retain(|field, value| !(value.is_null() && matches!(&**field, "hostname" | "keypairs")));
    Value::Object(document)
}

/// Nova counts; documents have the names that come of it.
fn ec2_ids(instance: &Value, ints: &Value) -> Value {
    let mut ids = Map::new();
    if let Some(number) = ints["instance"].as_u64() {
        ids.insert("instance_id".to_owned(), json!(format!("i-{number:08x}")));
    }
    for (id, prefix, field, int) in [
        ("ami_id", "ami", "image_ref", "image"),
        ("kernel_id", "aki", "kernel_id", "kernel"),
        ("ramdisk_id", "ari", "ramdisk_id", "ramdisk"),
    ] {
        let exists = instance[field].as_str().is_some_and(|id| !id.is_empty());
        match ints[int].as_u64() {
            Some(number) if exists => {
                ids.insert(id.to_owned(), json!(format!("{prefix}-{number:08x}")));
            }
            _ if exists => {}
            _ => {
                ids.insert(id.to_owned(), Value::Null);
            }
        }
    }
    Value::Object(ids)
}

fn block_device(facts: &Value) -> Value {
    let known = |source: &&str| matches!(*source, "volume" | "snapshot" | "blank");
    let source = facts["source_type"].as_str().filter(known).unwrap_or("image");
    let destination = if facts["destination_type"] == "volume" { "volume" } else { "local" };
    json!({
        "source_type": source,
        "destination_type": destination,
        "device_name": facts["device_name"],
        "guest_format": facts["guest_format"],
    })
}

/// Nova does not list a device of an unknown kind or on an unknown bus.
fn device(facts: &Value) -> Option<Value> {
    let kind = facts["kind"].as_str().filter(|kind| matches!(*kind, "nic" | "disk" | "share"))?;
    let mut device = Map::from_iter([("type".to_owned(), json!(kind))]);
    if let Some(bus) = facts.get("bus").filter(|bus| !bus.is_null()) {
        let name = bus["type"].as_str().filter(|name| matches!(*name, "pci" | "usb" | "scsi" | "ide" | "xen"))?;
        device.insert("bus".to_owned(), json!({"type": name, "address": bus["address"]}));
    }
    let fields: &[&str] = match kind {
        "nic" => &["mac", "vlan", "vf_trusted"],
        "disk" => &["serial", "path"],
        _ => &["share_id", "tag"],
    };
    for field in fields.iter().copied().chain(["tags"]) {
        if let Some(value) = facts.get(field) {
            device.insert(field.to_owned(), value.clone());
        }
    }
    Some(Value::Object(device))
}

fn dedicated_cpus(topology: &Value) -> Value {
    list(&topology["cells"]).iter().flat_map(|cell| list(&cell["pcpuset"])).cloned().collect()
}

/// In the order of Neutron's ports; a group without a name shows its id, a missing one is skipped.
fn security_groups(facts: &Value) -> Value {
    let groups = list(&facts["neutron_security_groups"]);
    let ids = list(&facts["neutron_ports"]).iter().flat_map(|port| list(&port["security_groups"]));
    let names = ids.filter_map(|id| {
        let group = groups.iter().find(|group| group["id"] == *id)?;
        Some(if group["name"].as_str().is_some_and(|name| !name.is_empty()) { &group["name"] } else { id })
    });
    names.cloned().collect()
}

/// The pieces `password_0` and so on, in the order of their names.
fn password(system_metadata: &Value) -> Value {
    let mut pieces: Vec<(&String, &str)> = system_metadata
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with("password_"))
        .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
        .collect();
    pieces.sort_unstable();
    let password: String = pieces.into_iter().map(|(_, piece)| piece).collect();
    if password.is_empty() { Value::Null } else { Value::String(password) }
}
