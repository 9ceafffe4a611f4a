//! The OpenStack tree: `/openstack`.

use std::sync::LazyLock;

use bytes::Bytes;

use super::Date;

pub(super) mod injected;
pub(super) mod meta_data;
pub(super) mod network_data;
pub mod vendor_data;

/// A version of the tree, named by date; the order is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Folsom,
    Grizzly,
    Havana,
    Liberty,
    NewtonOne,
    NewtonTwo,
    Ocata,
    Rocky,
    Victoria,
    Epoxy,
}

/// All versions, ascending, with their dates.
const VERSIONS: [(Version, &str, Date); 10] = [
    (Version::Folsom, "2012-08-10", Date::new(2012, 8, 10)),
    (Version::Grizzly, "2013-04-04", Date::new(2013, 4, 4)),
    (Version::Havana, "2013-10-17", Date::new(2013, 10, 17)),
    (Version::Liberty, "2015-10-15", Date::new(2015, 10, 15)),
    (Version::NewtonOne, "2016-06-30", Date::new(2016, 6, 30)),
    (Version::NewtonTwo, "2016-10-06", Date::new(2016, 10, 6)),
    (Version::Ocata, "2017-02-22", Date::new(2017, 2, 22)),
    (Version::Rocky, "2018-08-27", Date::new(2018, 8, 27)),
    (Version::Victoria, "2020-10-14", Date::new(2020, 10, 14)),
    (Version::Epoxy, "2025-04-04", Date::new(2025, 4, 4)),
];

impl Version {
    /// Returns the version that a path segment names; `latest` is the last one, whatever the date is.
    pub(super) fn named(name: &str) -> Option<Self> {
        if name == "latest" {
            return Some(Self::Epoxy);
        }
        VERSIONS.iter().find(|(_, date, _)| *date == name).map(|(version, ..)| *version)
    }
}

/// Returns the list of versions that are not in the future.
pub(super) fn versions(today: Date) -> Bytes {
    /// A list for each number of versions shown.
    static LISTS: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
        (0..=VERSIONS.len())
            .map(|shown| {
                let mut names: Vec<&str> = VERSIONS[..shown].iter().map(|(_, name, _)| *name).collect();
                names.push("latest");
                Bytes::from(names.join("\n"))
            })
            .collect()
    });
    LISTS[VERSIONS.partition_point(|(.., date)| *date <= today)].clone()
}

/// Returns the names of the versions that a config drive has, which are all, each with the version that it is.
pub(super) fn drive_versions() -> impl Iterator<Item = (&'static str, Version)> {
    VERSIONS.into_iter().map(|(version, name, _)| (name, version)).chain([("latest", Version::Epoxy)])
}

/// Tells whether a path is that of the password, which is written too.
pub(super) fn is_password(path: &str) -> bool {
    let version = path.strip_prefix("openstack/").and_then(|rest| rest.strip_suffix("/password"));
    version.and_then(Version::named).is_some_and(|version| version >= Version::Grizzly)
}

/// What there is to read below a version, beside the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// The names of the documents.
    Listing,
    MetaData,
    UserData,
    VendorData,
    VendorData2,
    NetworkData,
}

impl Document {
    /// Returns the document with a name in a version. What is listed is another matter: `network_data.json` is there
    /// in versions that do not list it.
    pub(super) fn named(name: &str, version: Version) -> Option<Self> {
        let (document, since) = match name {
            "" | "version" => (Self::Listing, Version::Folsom),
            "meta_data.json" => (Self::MetaData, Version::Folsom),
            "user_data" => (Self::UserData, Version::Folsom),
            "vendor_data.json" => (Self::VendorData, Version::Havana),
            "vendor_data2.json" => (Self::VendorData2, Version::NewtonTwo),
            "network_data.json" => (Self::NetworkData, Version::Folsom),
            _ => return None,
        };
        (version >= since).then_some(document)
    }
}

/// Returns the list of documents.
pub(super) fn listing(version: Version, has_user_data: bool) -> Bytes {
    macro_rules! lists {
        ($rest:literal) => {
            [concat!("meta_data.json", $rest), concat!("meta_data.json\nuser_data", $rest)]
        };
    }
    let lists = match version {
        Version::Folsom => lists!(""),
        Version::Grizzly => lists!("\npassword"),
        Version::Havana => lists!("\npassword\nvendor_data.json"),
        Version::Liberty | Version::NewtonOne => {
            lists!("\npassword\nvendor_data.json\nnetwork_data.json")
        }
        _ => lists!("\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json"),
    };
    Bytes::from_static(lists[usize::from(has_user_data)].as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_future_are_not_listed_but_there() {
        for (today, last) in [
            (Date::new(2026, 11, 23), "2025-04-04"),
            (Date::new(2025, 4, 4), "2025-04-04"),
            (Date::new(2025, 4, 3), "2020-10-14"),
            (Date::new(2012, 8, 10), "2012-08-10"),
        ] {
            let list = versions(today);
            let text = std::str::from_utf8(&list).unwrap();
            assert!(text.ends_with(&format!("{last}\nlatest")), "{text}");
        }
        assert_eq!(versions(Date::new(2000, 1, 1)), "latest");
        assert_eq!(Version::named("2025-04-04"), Some(Version::Epoxy));
        assert_eq!(Version::named("latest"), Some(Version::Epoxy));
        assert_eq!(Version::named("2030-01-01"), None);
    }

    #[test]
    fn names_and_dates_of_versions_agree() {
        for (_, name, date) in VERSIONS {
            assert_eq!(date.to_string(), name);
        }
        assert!(VERSIONS.is_sorted_by_key(|(version, ..)| *version));
    }
}
