//! Documents: bytes into `source::wire`, and what is made of an accepted one for its guest.
//!
//! Checked: an accepted document reads back equal after it was written; everything that a guest can list can be read, and
//! JSON is JSON; its config drive has what the guest reads, and an image can be made of it; a refusal names a place that the text has, in one bounded line.

use std::collections::BTreeSet;

use metadata_user::api::{Cloud, Content, Date, DriveParts, Reply, Request};
use metadata_user::config_drive::{self, Format};
use metadata_user::source::wire::{self, DocumentError};
use metadata_user::store::Store;

use crate::input::check_message;

/// A problem has at most 1,000 characters, and a place 16 steps of 60.
const LONGEST_MESSAGE: usize = 8 << 10;

/// Paths of both trees that are asked of each accepted document.
const PATHS: usize = 400;

const TODAY: fn() -> Date = || Date::new(2026, 1, 1);
const SEED: fn(&mut [u8; 512]) = |seed| seed.fill(7);

/// Runs an input.
pub fn run(bytes: &[u8]) {
    match wire::parse(bytes) {
        Err(error) => refused(bytes, &error),
        Ok(record) => {
            let mut written = Vec::new();
            wire::write(&record, &mut written).expect("a vector takes it");
            let back = wire::read_back(&written).unwrap_or_else(|error| panic!("{error}: {written:?}"));
            assert!(back == record, "it is another one after it was written");
            let store = Store::new(Cloud::default());
            let id = record.uuid;
            assert!(store.put(record));
            assert!(!store.put(back), "an equal record changes nothing");
            let content = store.served(id).expect("it was put there");
            crawl(&content);
            drive(&content);
        }
    }
}

/// Makes the config drive.
fn drive(content: &Content) {
    const SECTOR: usize = 2048;
    let parts = DriveParts { ec2: true, user_data: true };
    let files = content.drive_files(parts, TODAY, &SEED).expect("nothing of a document has to be asked for");
    let image = config_drive::image(&files, Format::Iso9660).expect("a document changes no path");
    for file in &files {
        let is_there = |at: usize| image[at..].starts_with(&file.body);
        assert!((0..image.len()).step_by(SECTOR).any(is_there), "{} is not in the image", file.path);
        if file.path.starts_with("openstack/") {
            let read = get(content, &format!("/{}", file.path));
            assert!(read.is_some_and(|(status, body)| status == 200 && file.body == body), "{} over HTTP", file.path);
        }
    }
}

fn refused(bytes: &[u8], error: &DocumentError) {
    check_message(&error.to_string(), LONGEST_MESSAGE);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!((1..=lines).contains(&error.line), "{error}: it has {lines} lines");
    assert!((1..=bytes.len() + 1).contains(&error.column), "{error}: it has {} bytes", bytes.len());
    assert!(!error.problem.is_empty() && !error.remedy.is_empty());
}

/// Reads what the listings name, from both roots.
pub(crate) fn crawl(content: &Content) {
    let mut todo = vec!["/".to_owned(), "/openstack".to_owned(), "/openstack/latest/network_data.json".to_owned()];
    let mut seen: BTreeSet<String> = todo.iter().cloned().collect();
    while let Some(path) = todo.pop() {
        let Some((status, body)) = get(content, &path) else { continue };
        // What a document has not, its guest does not see in a listing.
        assert!(status == 200 || matches!(content, Content::NovaPages(_)), "{path}: {status}");
        if path.ends_with(".json") && matches!(content, Content::Rendered(_)) {
            let json = serde_json::from_slice::<serde_json::Value>(&body);
            assert!(json.is_ok(), "{path} is not JSON: {}", String::from_utf8_lossy(&body));
        }
        // User data, keys and names are texts of others, not listings.
        let depth = if path.starts_with("/openstack/") { 2 } else { 1 };
        let is_listing = path.ends_with('/') || path.matches('/').count() == depth;
        if !is_listing || seen.len() > PATHS {
            continue;
        }
        let base = path.trim_end_matches('/');
        // The name of a key, which may be of several lines, is part of one listing; there is one key.
        let lines = if base.ends_with("public-keys") { 1 } else { usize::MAX };
        for name in String::from_utf8_lossy(&body).lines().take(lines) {
            // `0=name` stands for a directory called `0`.
            let name = name.split_once('=').map_or(name.to_owned(), |(index, _)| format!("{index}/"));
            let child = format!("{base}/{name}");
            if seen.insert(child.clone()) {
                todo.push(child);
            }
        }
    }
}

/// Returns status and body of an answer that is there at once.
fn get(content: &Content, path: &str) -> Option<(u16, Vec<u8>)> {
    let request = Request {
        method: "GET",
        target: path,
        accept: None,
        content_length: None,
        body: b"",
        today: TODAY,
        seed: &SEED,
    };
    match content.reply(&request) {
        Reply::Answer(answer) => Some((answer.status.code(), answer.body.to_vec())),
        Reply::Keep(_) | Reply::Fetch(_) => None,
    }
}
