//! What is read ahead of any request: what clients of guests ask for.
//!
//! cloud-init takes the newest version up to 2018-08-27 that is listed, and has asked for older ones; Cloudbase-Init,
//! Ignition and Afterburn take `latest`, CirrOS 2009-04-04 of the EC2 tree. Everything else is read when it is first asked
//! for.

/// The page that every instance has: an instance that lacks it is not known to Nova.
pub(super) const PROOF: &str = "openstack/latest/meta_data.json";

/// The lists of versions, without which no path is known to be possible.
pub(super) const LISTS: [&str; 2] = ["", "openstack"];

/// Versions of the OpenStack tree that are read as a whole.
const OPENSTACK_VERSIONS: [&str; 5] = ["latest", "2018-08-27", "2016-10-06", "2015-10-15", "2012-08-10"];

/// What there is in each version. Older ones lack the last ones, which is an answer too.
const DOCUMENTS: [&str; 7] =
    ["", "/meta_data.json", "/user_data", "/network_data.json", "/password", "/vendor_data.json", "/vendor_data2.json"];

/// Where a file is that Nova puts into a guest's network configuration, if it does.
const CONTENT: &str = "openstack/content/0000";

/// Versions of the EC2 tree whose listings are followed to their leaves.
pub(super) const EC2_VERSIONS: [&str; 2] = ["latest", "2009-04-04"];

/// The page that differs at every look, where an operator's service makes it so.
const DYNAMIC: &str = "/vendor_data2.json";

/// Returns the paths of the OpenStack tree that are read, given the list of its versions.
pub(super) fn openstack(versions: &[u8]) -> Vec<String> {
    let is_listed = |version: &&str| lines(versions).any(|line| line == *version);
    let versions = OPENSTACK_VERSIONS.into_iter().filter(is_listed);
    let documents = versions.flat_map(|version| DOCUMENTS.map(|document| format!("openstack/{version}{document}")));
    documents.chain([CONTENT.to_owned()]).collect()
}

/// Returns what a listing of the EC2 tree names below its path.
pub(super) fn listed(path: &str, listing: &[u8]) -> Vec<String> {
    let is_keys = path.ends_with("/public-keys");
    let names = lines(listing).filter(|name| !name.is_empty());
    let names = names.map(|name| match name.split_once('=') {
        // `0=name`, and `0` is what there is.
        Some((number, _)) if is_keys => number,
        _ => name.trim_end_matches('/'),
    });
    names.map(|name| format!("{path}/{name}")).collect()
}

/// Tells whether a path of the EC2 tree is a listing, given the listing that names it.
pub(super) fn is_listing(path: &str, listing: &[u8]) -> bool {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    above.ends_with("/public-keys") || lines(listing).any(|line| line.strip_suffix('/') == Some(name))
}

/// Tells whether a page may differ at every look, with nothing changed.
pub(super) fn is_dynamic(path: &str) -> bool {
    path.ends_with(DYNAMIC)
}

fn lines(listing: &[u8]) -> impl Iterator<Item = &str> {
    listing.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_lead_to_their_leaves() {
        let listing = b"hostname\nplacement/\npublic-keys/";
        let path = "latest/meta-data";
        let listed_there = listed(path, listing);
        assert_eq!(listed_there[0], "latest/meta-data/hostname");
        let kinds: Vec<bool> = listed_there.iter().map(|path| is_listing(path, listing)).collect();
        assert_eq!(kinds, [false, true, true]);
        let keys = listed("latest/meta-data/public-keys", b"0=my/key");
        assert_eq!(keys, ["latest/meta-data/public-keys/0"]);
        assert!(is_listing(&keys[0], b"0=my/key"));
    }

    #[test]
    fn only_versions_that_this_nova_has_are_read() {
        let paths = openstack(b"2012-08-10\n2015-10-15\nlatest");
        assert_eq!(paths.len(), 3 * DOCUMENTS.len() + 1);
        assert!(paths.iter().any(|path| path == PROOF) && !paths.iter().any(|path| path.contains("2018")));
    }
}
