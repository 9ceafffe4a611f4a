//! What is read before any request asks for it: everything that Nova has for an instance.
//!
//! Promises: no page is read twice that is the same in all versions. Nova builds a value once, and a version decides only
//! whether it is there: so dated versions are read for what differs, which is their listings and `meta_data.json`, and
//! share the rest with `latest`.

use std::collections::BTreeMap;

use crate::api::Page;

/// The page that every instance has: an instance that lacks it is not known to Nova.
pub(crate) const PROOF: &str = "openstack/latest/meta_data.json";

/// The lists of versions, without which no path is known to be possible.
pub(crate) const LISTS: [&str; 2] = ["", "openstack"];

/// The version that has everything.
const LATEST: &str = "latest";

/// What there is in `latest` of the OpenStack tree beside its listing and `meta_data.json`.
const DOCUMENTS: [&str; 5] = ["user_data", "network_data.json", "password", "vendor_data.json", "vendor_data2.json"];

/// The document that versions have without listing it.
const UNLISTED: &str = "network_data.json";

/// What is compared with Nova at every refresh. The first holds what users set: properties, names, keys, devices; the second, interfaces
/// and addresses.
pub(crate) const CHECKED: [&str; 2] = [PROOF, "openstack/latest/network_data.json"];

/// What else changes while an instance runs and shows nowhere on the node: one of these is compared at two of three refreshes.
const OFTEN: [&str; 2] = ["latest/meta-data/public-ipv4", "latest/meta-data/security-groups"];

/// What changes seldom, or together with the instance's definition on the node: one of these at each third refresh.
const SELDOM: [&str; 6] = [
    "openstack/latest/password",
    "openstack/latest/vendor_data.json",
    "openstack/latest/user_data",
    "latest/meta-data/instance-type",
    "latest/meta-data/block-device-mapping",
    "latest/meta-data/ami-id",
];

/// Before the path of a file that Nova puts into a guest's network configuration, in `meta_data.json`.
const CONTENT_PATH: &str = "\"content_path\": \"/content/";

/// Documents of the OpenStack tree that Nova answers as `application/json`; everything else is text.
const JSON: [&str; 3] = ["meta_data.json", "vendor_data.json", "vendor_data2.json"];

/// The page that differs at every look, where an operator's service makes it so.
const DYNAMIC: &str = "/vendor_data2.json";

/// Returns the paths of the OpenStack tree that are read, given the list of its versions and an instance's
/// `meta_data.json`.
pub(crate) fn openstack(list: &[u8], meta_data: &[u8]) -> Vec<String> {
    let listings = versions(list)
        .flat_map(|version| [format!("openstack/{version}"), format!("openstack/{version}/meta_data.json")]);
    let documents = DOCUMENTS.iter().map(|document| format!("openstack/{LATEST}/{document}"));
    let text = String::from_utf8_lossy(meta_data);
    let files = text.split(CONTENT_PATH).skip(1).filter_map(|rest| rest.split('"').next());
    let files = files.filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !name.is_empty());
    let files: Vec<_> = files.map(|name| format!("openstack/content/{name}")).collect();
    listings.chain(documents).chain(files).collect()
}

/// Returns what is compared beside [`CHECKED`] at the refresh of this number.
pub(crate) fn also_checked(number: usize) -> &'static str {
    OFTEN.get(number % 3).unwrap_or(&SELDOM[number / 3 % SELDOM.len()])
}

/// Adds to the pages that were read those of dated versions of the OpenStack tree that are the same in `latest`.
pub(crate) fn share(list: &[u8], pages: &mut BTreeMap<String, Page>) {
    for version in versions(list) {
        let Some(listing) = pages.get(&format!("openstack/{version}")).filter(|page| page.is_found()).cloned() else {
            continue;
        };
        let has = |document: &str| document == UNLISTED || lines(listing.body()).any(|line| line == document);
        for document in DOCUMENTS.into_iter().filter(|document| has(document)) {
            if let Some(page) = pages.get(&format!("openstack/{LATEST}/{document}")).cloned() {
                pages.entry(format!("openstack/{version}/{document}")).or_insert(page);
            }
        }
        pages.entry(format!("openstack/{version}/version")).or_insert(listing);
    }
}

/// Returns the versions that a list of them names, `latest` first.
pub(crate) fn versions(list: &[u8]) -> impl Iterator<Item = &str> {
    let dated = lines(list).filter(|version| *version != LATEST && !version.is_empty() && !version.contains('/'));
    lines(list).filter(|version| *version == LATEST).take(1).chain(dated)
}

/// Returns the path in `latest` of what a dated version of the EC2 tree has at this path.
pub(crate) fn in_latest(path: &str) -> Option<String> {
    let (version, rest) = path.split_once('/')?;
    (version != LATEST && version != "openstack").then(|| format!("{LATEST}/{rest}"))
}

/// Returns whether a path is of the OpenStack tree.
pub(crate) fn is_openstack(path: &str) -> bool {
    path == "openstack" || path.starts_with("openstack/")
}

/// Returns whether a path of those in [`openstack`] is the listing of a version.
pub(crate) fn lists(path: &str) -> bool {
    path.split('/').count() == 2
}

/// Returns whether a listing is of a dated version, in either tree.
pub(crate) fn is_dated(path: &str) -> bool {
    let mut segments = path.strip_prefix("openstack/").unwrap_or(path).split('/');
    segments.next() != Some(LATEST)
}

/// Returns what a listing of the EC2 tree names below its path.
pub(crate) fn listed(path: &str, listing: &[u8]) -> Vec<String> {
    let is_keys = path.ends_with("/public-keys");
    let names = lines(listing).filter(|name| !name.is_empty());
    let names = names.map(|name| match name.split_once('=') {
        // `0=name`, and `0` is what there is.
        Some((number, _)) if is_keys => number,
        _ => name.trim_end_matches('/'),
    });
    let unlisted = path.rsplit_once('/').is_some_and(|(above, _)| above.ends_with("/public-keys")).then_some("_name");
    names.chain(unlisted).map(|name| format!("{path}/{name}")).collect()
}

/// Returns whether a path of the EC2 tree is a listing, given the listing that names it.
pub(crate) fn is_listing(path: &str, listing: &[u8]) -> bool {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    above.ends_with("/public-keys") || lines(listing).any(|line| line.strip_suffix('/') == Some(name))
}

/// Returns whether a page is JSON or text as Nova has its path.
pub(crate) fn has_its_type(path: &str, page: &Page) -> bool {
    let is_json = page.content_type().is_some_and(|kind| kind.starts_with("application/json"));
    let name = path.rsplit('/').next().unwrap_or_default();
    !page.is_found() || is_json == (is_openstack(path) && JSON.contains(&name))
}

/// Returns whether a page may differ at every look, with nothing changed.
pub(crate) fn is_dynamic(path: &str) -> bool {
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
    fn a_content_type_that_another_answer_had_is_noticed() {
        let page = |kind| Page::found(Some(kind), bytes::Bytes::new());
        let (json, text) = (page("application/json"), page("text/plain; charset=UTF-8"));
        for path in ["openstack/latest/meta_data.json", "openstack/2016-10-06/vendor_data2.json"] {
            assert!(has_its_type(path, &json) && !has_its_type(path, &text), "{path}");
        }
        for path in
            ["openstack/latest/network_data.json", "openstack/latest", "latest/meta-data/hostname", "latest/user-data"]
        {
            assert!(has_its_type(path, &text) && !has_its_type(path, &json), "{path}");
        }
        assert!(has_its_type("openstack/latest/user_data", &Page::not_found()));
    }

    fn page(body: &'static str) -> Page {
        Page::found(Some("text/plain"), bytes::Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn a_version_is_read_for_what_differs_and_shares_the_rest() {
        let list = b"2012-08-10\n2015-10-15\nlatest";
        let meta_data = br#"{"meta": {"a": "\"content_path\": \"/content/7"}, "x": {"content_path": "/content/0000"}}"#;
        let paths = openstack(list, meta_data);
        assert_eq!(paths.len(), 3 * 2 + DOCUMENTS.len() + 1, "{paths:?}");
        assert_eq!(paths.last().map(String::as_str), Some("openstack/content/0000"));
        assert!(paths.iter().any(|path| path == PROOF));

        let read = [
            ("openstack/latest", page("meta_data.json\npassword")),
            ("openstack/2012-08-10", page("meta_data.json")),
            ("openstack/2015-10-15", page("meta_data.json\npassword")),
            ("openstack/latest/password", page("")),
            ("openstack/latest/network_data.json", page("{}")),
            ("openstack/latest/user_data", Page::not_found()),
        ];
        let mut pages: BTreeMap<String, Page> = read.map(|(path, page)| (path.to_owned(), page)).into();
        share(list, &mut pages);
        let there = |path: &str| pages.get(path).map(Page::is_found);
        assert_eq!(there("openstack/2015-10-15/password"), Some(true));
        assert_eq!(there("openstack/2012-08-10/password"), None, "this version has none");
        assert_eq!(there("openstack/2012-08-10/network_data.json"), Some(true), "it is not listed, and there");
        assert_eq!(there("openstack/2012-08-10/user_data"), None);
        assert_eq!(pages["openstack/2012-08-10/version"], page("meta_data.json"));
    }

    #[test]
    fn everything_is_checked_in_turn_and_the_volatile_often() {
        let checked: Vec<_> = (0..18).map(also_checked).collect();
        for path in OFTEN {
            assert_eq!(checked.iter().filter(|checked| **checked == path).count(), 6, "{path}");
        }
        for path in SELDOM {
            assert_eq!(checked.iter().filter(|checked| **checked == path).count(), 1, "{path}");
        }
    }

    #[test]
    fn values_of_dated_versions_are_those_of_latest() {
        assert_eq!(in_latest("1.0/meta-data/hostname").as_deref(), Some("latest/meta-data/hostname"));
        assert_eq!(
            (in_latest("latest/user-data"), in_latest("1.0"), in_latest("openstack/content")),
            (None, None, None)
        );
        assert_eq!(versions(b"1.0\n2009-04-04\nlatest").collect::<Vec<_>>(), ["latest", "1.0", "2009-04-04"]);
        let key = listed("1.0/meta-data/public-keys/0", b"openssh-key");
        assert_eq!(key, ["1.0/meta-data/public-keys/0/openssh-key", "1.0/meta-data/public-keys/0/_name"]);
    }
}
