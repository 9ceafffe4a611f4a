//! Facts that only the EC2 tree shows.

use super::answers::{Answers, or_null};
use crate::record::{Ec2Ids, KeyPair};
use crate::source::wire;

/// Returns the request that created the instance.
pub(super) fn reservation(answers: &Answers<'_>) -> Option<Box<str>> {
    answers.leaf("reservation-id").and_then(or_null).map(Into::into)
}

/// Returns the flavor's name.
pub(super) fn flavor(answers: &Answers<'_>) -> Option<Box<str>> {
    answers.leaf("instance-type").and_then(or_null).map(Into::into)
}

/// Returns the names of instance and image; what Nova does not show is what a document derives.
pub(super) fn ids(answers: &Answers<'_>, image: Option<&str>) -> Ec2Ids {
    let derived = wire::ec2_ids(answers.uuid, image);
    Ec2Ids {
        instance_id: match answers.leaf("instance-id").filter(|id| !id.is_empty()) {
            Some(id) => id.into(),
            None => derived.instance_id,
        },
        ami_id: match answers.leaf("ami-id") {
            Some(id) => or_null(id).map(Into::into),
            None => derived.ami_id,
        },
        kernel_id: answers.leaf("kernel-id").map(Into::into),
        ramdisk_id: answers.leaf("ramdisk-id").map(Into::into),
    }
}

/// Returns the key's name and its text, given the key pairs; no name: there is no key.
pub(super) fn key(answers: &Answers<'_>, pairs: &[KeyPair]) -> (Option<Box<str>>, Option<Box<str>>) {
    let shown = answers.leaf("public-keys").or_else(|| answers.leaf("public-keys/0/_name"));
    let shown = shown.and_then(|line| line.strip_prefix("0=")).map(Into::into);
    let Some(name) = shown.or_else(|| pairs.first().map(|pair| pair.name.clone())) else { return (None, None) };
    let data = match answers.leaf("public-keys/0/openssh-key") {
        Some(data) => or_null(data).map(Into::into),
        None => pairs.first().map(|pair| pair.public_key.clone()),
    };
    (Some(name), data)
}

/// Returns the names of the security groups.
pub(super) fn security_groups(answers: &Answers<'_>) -> Vec<Box<str>> {
    match answers.leaf("security-groups") {
        None | Some("") => Vec::new(),
        Some(names) => names.split('\n').map(Into::into).collect(),
    }
}
