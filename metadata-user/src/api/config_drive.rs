//! The files of a config drive, as Nova 34 writes them (`metadata_for_config_drive`): both trees, from the same content that
//! answers over HTTP.
//!
//! | path | what |
//! |---|---|
//! | `ec2/{2009-04-04,latest}/meta-data.json` | the EC2 tree as one object |
//! | `ec2/{2009-04-04,latest}/user-data` | the user data, if there is any |
//! | `openstack/VERSION/{meta_data.json,user_data}` | in every version and `latest` |
//! | `openstack/VERSION/vendor_data.json` | from 2013-10-17 on |
//! | `openstack/VERSION/network_data.json` | from 2015-10-15 on |
//! | `openstack/VERSION/vendor_data2.json` | from 2016-10-06 on |
//! | `openstack/content/0000` | the settings of injected networks, if there are any |
//!
//! Promises: pure; the files are Nova's and no others, and every document is, byte for byte, what the guest would read over HTTP;
//! `random_seed` is fresh in each.
//!
//! Left out: the password, which a guest posts; `files` and `admin_pass`, which Nova has only while it makes a drive and keeps nowhere.
//! Where the provider `StaticJSON` is not configured Nova fails to make a drive; here `vendor_data.json` is then left out.

use bytes::Bytes;

use super::ec2::drive;
use super::openstack::{self, Version};
use super::{Content, Date, Reply, Request, Status};

/// A file of a config drive. `Debug` leaves the body out.
#[derive(Clone, PartialEq, Eq)]
pub struct DriveFile {
    /// Its path: names joined by slashes, none at either end.
    pub path: String,
    /// What is in it.
    pub body: Bytes,
}

impl std::fmt::Debug for DriveFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriveFile").field("path", &self.path).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// What is on a drive beside the rest of the OpenStack tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveParts {
    /// The EC2 tree.
    pub ec2: bool,
    /// User data.
    pub user_data: bool,
}

/// A path that has to be read from Nova first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what Nova answers at /{0} is not known yet")]
pub struct Incomplete(pub String);

impl Content {
    /// Returns the files of the instance's config drive, ascending by path.
    ///
    /// # Errors
    /// [`Incomplete`] if the content is Nova's pages, and one that a drive needs was not read yet.
    pub fn drive_files(
        &self,
        parts: DriveParts,
        today: fn() -> Date,
        seed: &dyn Fn(&mut [u8; 512]),
    ) -> Result<Vec<DriveFile>, Incomplete> {
        let mut read = |path: &str| self.body(path, today, seed);
        let mut files = Vec::new();
        let mut add = |path: String, body: Option<Bytes>| files.extend(body.map(|body| DriveFile { path, body }));
        for version in drive::VERSIONS.into_iter().filter(|_| parts.ec2) {
            add(format!("ec2/{version}/meta-data.json"), Some(self.ec2_object(version, &mut read)?));
            if parts.user_data {
                add(format!("ec2/{version}/user-data"), read(&format!("{version}/user-data"))?);
            }
        }
        for (version, since) in openstack::drive_versions() {
            let documents = [
                ("meta_data.json", Version::Folsom, true),
                ("user_data", Version::Folsom, parts.user_data),
                ("vendor_data.json", Version::Havana, true),
                ("network_data.json", Version::Liberty, true),
                ("vendor_data2.json", Version::NewtonTwo, true),
            ];
            for (name, ..) in documents.into_iter().filter(|(_, first, wanted)| *wanted && since >= *first) {
                let path = format!("openstack/{version}/{name}");
                let body = read(&path)?;
                add(path, body);
            }
        }
        let path = "openstack/content/0000";
        add(path.to_owned(), read(path)?);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Returns what a guest reads at a path, if there is something.
    fn body(
        &self,
        path: &str,
        today: fn() -> Date,
        seed: &dyn Fn(&mut [u8; 512]),
    ) -> Result<Option<Bytes>, Incomplete> {
        let request = Request {
            method: "GET",
            target: &format!("/{path}"),
            accept: None,
            content_length: None,
            body: b"",
            today,
            seed,
        };
        match self.reply(&request) {
            Reply::Answer(answer) => Ok((answer.status == Status::Ok).then_some(answer.body)),
            Reply::Keep(_) => Ok(None),
            Reply::Fetch(path) => Err(Incomplete(path)),
        }
    }

    fn ec2_object(
        &self,
        version: &str,
        read: &mut dyn FnMut(&str) -> Result<Option<Bytes>, Incomplete>,
    ) -> Result<Bytes, Incomplete> {
        match self {
            Self::Rendered(instance) if !instance.has_ec2_pages() => Ok(instance.ec2_object()),
            _ => drive::collect(&mut |path| read(&format!("{version}/{path}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::api::{Cloud, NovaPages, Page, RenderedInstance};
    use crate::record::{InstanceRecord, PageAnswer, PageRecord};
    use crate::store::tests::{id, record};

    const ALL: DriveParts = DriveParts { ec2: true, user_data: true };

    fn files(content: &Content, parts: DriveParts) -> Vec<DriveFile> {
        let number = Cell::new(0);
        let seed = |bytes: &mut [u8; 512]| bytes.fill(number.replace(number.get() + 1));
        content.drive_files(parts, || Date::new(2026, 1, 1), &seed).expect("complete")
    }

    fn content(change: impl FnOnce(&mut InstanceRecord)) -> Content {
        let mut record = record(1, "p", &["tap1"]);
        record.user_data = Some("#!/bin/sh\n".into());
        change(&mut record);
        Content::Rendered(Arc::new(RenderedInstance::new(Arc::new(record), Arc::new(Cloud::default()))))
    }

    fn paths(files: &[DriveFile]) -> Vec<&str> {
        files.iter().map(|file| &*file.path).collect()
    }

    #[test]
    fn the_files_are_those_of_nova_in_each_version() {
        let all = files(&content(|_| {}), ALL);
        let of = |version: &str| {
            let prefix = format!("openstack/{version}/");
            paths(&all).into_iter().filter_map(|path| path.strip_prefix(&prefix)).collect::<Vec<_>>()
        };
        for (version, names) in [
            ("2012-08-10", &["meta_data.json", "user_data"][..]),
            ("2013-10-17", &["meta_data.json", "user_data", "vendor_data.json"]),
            ("2016-06-30", &["meta_data.json", "network_data.json", "user_data", "vendor_data.json"]),
            ("latest", &["meta_data.json", "network_data.json", "user_data", "vendor_data.json", "vendor_data2.json"]),
        ] {
            assert_eq!(of(version), names, "{version}");
        }
        assert_eq!(all.len(), 4 + 2 * 2 + 3 + 2 * 4 + 6 * 5, "{:?}", paths(&all));
        let seeds: std::collections::BTreeSet<_> =
            all.iter().filter(|file| file.path.ends_with("/meta_data.json")).map(|file| &file.body).collect();
        assert_eq!(seeds.len(), 11, "no two have the same seed");
    }

    #[test]
    fn what_is_switched_off_is_not_there() {
        let without = files(&content(|_| {}), DriveParts { ec2: false, user_data: false });
        let all = files(&content(|_| {}), ALL);
        let expected: Vec<_> =
            paths(&all).into_iter().filter(|path| !path.starts_with("ec2/") && !path.ends_with("user_data")).collect();
        assert_eq!(paths(&without), expected);
    }

    #[test]
    fn pages_take_the_place_of_what_is_rendered_in_the_ec2_object_too() {
        let page = |path: &str, body: Option<&'static str>| PageRecord {
            path: path.into(),
            answer: body.map(|body| PageAnswer { content_type: None, body: body.into() }),
        };
        let content = content(|record| {
            record.pages =
                vec![page("latest/meta-data/hostname", Some("other")), page("openstack/latest/vendor_data.json", None)];
        });
        let files = files(&content, ALL);
        let text = |path: &str| {
            let file = files.iter().find(|file| file.path == path);
            file.map(|file| std::str::from_utf8(&file.body).unwrap())
        };
        assert!(text("ec2/latest/meta-data.json").unwrap().contains(r#""hostname": "other""#));
        assert!(text("ec2/2009-04-04/meta-data.json").unwrap().contains(r#""hostname": "host.novalocal""#));
        assert_eq!(text("openstack/latest/vendor_data.json"), None);
        assert_eq!(text("openstack/2025-04-04/vendor_data.json"), Some("{}"));
    }

    #[test]
    fn a_page_of_novas_that_was_not_read_is_named() {
        let page = |path: &str, body: &'static str| (path.to_owned(), Page::found(None, body.into()));
        let pages = [page("", "2009-04-04\nlatest"), page("openstack", "latest")];
        let content = Content::NovaPages(Arc::new(NovaPages::new(id(1), pages)));
        let missing = content.drive_files(ALL, || Date::new(2026, 1, 1), &|_| {}).unwrap_err();
        assert_eq!(missing, Incomplete("2009-04-04/meta-data".to_owned()));
    }
}
