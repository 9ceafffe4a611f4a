//! Disks, from the names that the EC2 tree gives them.

use super::answers::{Answers, or_null};
use crate::record::BlockDevice;

/// What Nova shows of an instance without a root device.
const ROOTLESS: [(&str, &str); 4] = [("ami", "sda1"), ("root", "/dev/sda1"), ("ephemeral0", "sda2"), ("swap", "sda3")];

/// Most disks of a kind that are looked for.
const MOST: usize = 1024;

/// An instance's disks.
pub(super) struct Disks {
    pub(super) root: Option<Box<str>>,
    pub(super) ephemeral: Option<Box<str>>,
    pub(super) swap: Option<Box<str>>,
    pub(super) mapping: Vec<BlockDevice>,
}

/// Returns disks that have these names.
pub(super) fn of(answers: &Answers<'_>) -> Disks {
    let device = |name: &str| answers.leaf(&format!("block-device-mapping/{name}"));
    let numbered =
        |kind: &str| -> Vec<&str> { (0..MOST).map_while(|number| device(&format!("{kind}{number}"))).collect() };
    let volumes = numbered("ebs");
    if volumes.is_empty() && ROOTLESS.iter().all(|(name, value)| device(name) == Some(*value)) {
        return Disks { root: None, ephemeral: None, swap: None, mapping: Vec::new() };
    }
    let disk = |name: Option<&str>, is_volume, guest_format: Option<&str>| BlockDevice {
        is_volume,
        is_blank: !is_volume,
        device_name: name.map(Into::into),
        guest_format: guest_format.map(Into::into),
    };
    let ephemerals = numbered("ephemeral");
    let swap = device("swap");
    let is_plain = |name: &&str| !name.is_empty() && *name != "None";
    let mut mapping: Vec<BlockDevice> = volumes.into_iter().map(|name| disk(or_null(name), true, None)).collect();
    // The default devices hold no empty name, no missing one, and one ephemeral disk.
    let ephemeral = match ephemerals.as_slice() {
        [only] if is_plain(only) => Some(*only),
        several => {
            mapping.extend(several.iter().map(|name| disk(or_null(name), false, None)));
            None
        }
    };
    if let Some(name) = swap.filter(|name| !is_plain(name)) {
        mapping.push(disk(or_null(name), false, Some("swap")));
    }
    Disks {
        root: match device("root") {
            Some(root) => Some(root.into()),
            None => Some("/dev/vda".into()),
        },
        ephemeral: ephemeral.map(Into::into),
        swap: swap.filter(is_plain).map(Into::into),
        mapping,
    }
}
