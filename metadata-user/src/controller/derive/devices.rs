//! Devices with tags, VLANs and the like, from `meta_data.json`.

use serde_json::{Map, Value};

use super::answers::Answers;
use crate::record::{Bus, Device, DeviceKind};

/// Returns the devices. One that makes no sense is left out.
pub(super) fn of(answers: &Answers<'_>) -> Vec<Device> {
    let devices = answers.meta_data.get("devices").and_then(Value::as_array);
    devices.into_iter().flatten().filter_map(|value| device(value.as_object()?)).collect()
}

fn device(value: &Map<String, Value>) -> Option<Device> {
    let text = |name: &str| value.get(name)?.as_str();
    let kind = match text("type")? {
        "nic" => DeviceKind::Nic {
            mac: text("mac")?.parse().ok()?,
            vlan: value.get("vlan").and_then(|vlan| vlan.as_u64()?.try_into().ok()),
            vf_trusted: value.get("vf_trusted").and_then(Value::as_bool).unwrap_or(false),
        },
        "disk" => {
            let nullable = |name: &str| value.get(name).map(|value| value.as_str().map(Into::into));
            DeviceKind::Disk { serial: nullable("serial"), path: nullable("path") }
        }
        "share" => DeviceKind::Share { share_id: text("share_id")?.into(), tag: text("tag")?.into() },
        _ => return None,
    };
    let bus = match text("bus") {
        Some("none") | None => None,
        Some(bus) => {
            let known = ["pci", "usb", "scsi", "ide", "xen"].into_iter().find(|known| *known == bus)?;
            let address = text("address").filter(|address| *address != "none").map(Into::into);
            Some(Bus { kind: known, address })
        }
    };
    let tags = value.get("tags").and_then(Value::as_array);
    let tags = tags.map(|tags| tags.iter().filter_map(|tag| tag.as_str().map(Into::into)).collect());
    Some(Device { kind, bus, tags })
}
