//! `block-device-mapping`.

use std::collections::BTreeMap;

use crate::record::InstanceRecord;

/// Returns the names and devices; a device without a name is `None`.
pub(super) fn mapping(record: &InstanceRecord) -> BTreeMap<String, Option<String>> {
    let mut mapping = BTreeMap::new();
    let mut set = |name: &str, device: Option<&str>| {
        mapping.insert(name.to_owned(), device.map(str::to_owned));
    };
    let Some(root) = record.root_device_name.as_deref() else {
        for (name, device) in [("ami", "sda1"), ("ephemeral0", "sda2"), ("root", "/dev/sda1"), ("swap", "sda3")] {
            set(name, Some(device));
        }
        return mapping;
    };
    set("ami", Some(root.strip_prefix("/dev/").unwrap_or(root)));
    set("root", Some(root));
    for (name, device) in [("ephemeral0", &record.default_ephemeral_device), ("swap", &record.default_swap_device)] {
        if let Some(device) = device.as_deref().filter(|device| !device.is_empty()) {
            set(name, Some(device));
        }
    }
    let (volumes, others): (Vec<_>, Vec<_>) = record.block_device_mapping.iter().partition(|device| device.is_volume);
    let mut volumes: Vec<_> = volumes.into_iter().map(|device| device.device_name.as_deref()).collect();
    // Devices without a name come first, as `None` does in the order of options.
    volumes.sort_unstable();
    for (number, device) in volumes.into_iter().enumerate() {
        set(&format!("ebs{number}"), device);
    }
    let mut ephemeral = 0;
    for device in others.into_iter().filter(|device| device.is_blank) {
        if device.guest_format.as_deref() == Some("swap") {
            set("swap", device.device_name.as_deref());
        } else {
            set(&format!("ephemeral{ephemeral}"), device.device_name.as_deref());
            ephemeral += 1;
        }
    }
    mapping
}
