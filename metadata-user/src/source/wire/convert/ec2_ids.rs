//! Ids in the EC2 tree, and the reservation's id, where the document does not give them.
//!
//! Each is a prefix and 8 hex digits, as in Nova. Nova numbers its instances; here the digits are the start of a SHA-256,
//! so every bit of a UUID counts: time-ordered UUIDs (version 7) share their first digits with all that were made in
//! the same minute. Of n ids, two are equal with a probability of about n²/2³³: 0.01 % for 1,000, 1 % for 10,000. Whoever
//! needs certainty gives `ec2_ids` in the document.

use uuid::Uuid;

use super::super::document::Ec2IdsDocument;
use crate::record::Ec2Ids;
use crate::secret::digest;

/// Returns the ids of an instance and of its image, kernel and RAM disk. Given ones win.
pub(in crate::source::wire) fn complete(
    given: Ec2IdsDocument,
    uuid: Uuid,
    [image, kernel, ramdisk]: [Option<&str>; 3],
) -> Ec2Ids {
    let of_image = |given: Option<Option<Box<str>>>, prefix: &str, id: Option<&str>| match given {
        Some(given) => given,
        None => id.filter(|id| !id.is_empty()).map(|id| derived(prefix, id)),
    };
    Ec2Ids {
        instance_id: match given.instance_id {
            Some(instance_id) => instance_id.0,
            None => derived("i", &uuid.to_string()),
        },
        ami_id: of_image(given.ami_id, "ami", image),
        kernel_id: of_image(given.kernel_id, "aki", kernel),
        ramdisk_id: of_image(given.ramdisk_id, "ari", ramdisk),
    }
}

/// Returns an instance's reservation: its own, as if one request had created each instance.
pub(in crate::source::wire) fn reservation(uuid: Uuid) -> Box<str> {
    derived("r", &uuid.to_string())
}

/// Returns a prefix with the number of an id. All spellings of a UUID have one number.
fn derived(prefix: &str, id: &str) -> Box<str> {
    let number = match Uuid::try_parse(id) {
        Ok(uuid) => digest::short(&uuid.to_string()),
        Err(_) => digest::short(id),
    };
    format!("{prefix}-{number:08x}").into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn spellings_of_a_uuid_have_one_id() {
        let expected = "i-40f244f0";
        for id in [
            "0171c6ae-ed6b-4787-bf6b-45a1db501aa3",
            "0171C6AE-ED6B-4787-BF6B-45A1DB501AA3",
            "0171c6aeed6b4787bf6b45a1db501aa3",
        ] {
            assert_eq!(&*derived("i", id), expected, "{id}");
        }
        assert_ne!(&*derived("i", "cirros"), &*derived("i", "Cirros"));
    }

    #[test]
    fn uuids_that_share_most_of_their_bits_have_different_ids() {
        let base = 0x0193_662f_9a01_7a11_8c01_0000_0000_0001_u128;
        // Each of the 128 bits on its own, and 1,000 that count in the time, the middle and the end.
        let single = (0..128).map(|bit| base ^ (1 << bit));
        let counted = (1..1000).flat_map(|n: u128| [base + (n << 80), base + (n << 48), base + (n << 16)]);
        let uuids: HashSet<u128> = single.chain(counted).chain([base]).collect();
        let ids: HashSet<_> = uuids.iter().map(|uuid| derived("i", &Uuid::from_u128(*uuid).to_string())).collect();
        assert_eq!(ids.len(), uuids.len());
    }
}
