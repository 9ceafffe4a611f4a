//! `block-device-mapping`.

use crate::record::InstanceRecord;

/// Returns the names, each once, with their devices, in the order in which Nova puts them there; a device without a name is `None`.
pub(super) fn mapping(record: &InstanceRecord) -> Vec<(String, Option<String>)> {
    let mut mapping: Vec<(String, Option<String>)> = Vec::new();
    let mut set = |name: &str, device: Option<&str>| {
        let device = device.map(str::to_owned);
        match mapping.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = device,
            None => mapping.push((name.to_owned(), device)),
        }
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
    let blanks = others.into_iter().filter(|device| device.is_blank);
    let (swaps, ephemerals): (Vec<_>, Vec<_>) =
        blanks.partition(|device| device.guest_format.as_deref() == Some("swap"));
    if let Some(swap) = swaps.last() {
        set("swap", swap.device_name.as_deref());
    }
    for (number, device) in ephemerals.into_iter().enumerate() {
        set(&format!("ephemeral{number}"), device.device_name.as_deref());
    }
    mapping
}
