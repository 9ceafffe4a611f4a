//! Tests of `snapshot`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{Cloud, Content, NovaPages, Page, Password, Written};
use crate::secret::Secret;
use crate::source::SourceState;
use crate::store::tests::{id, record};

fn key(byte: u8) -> SealKey {
    SealKey::new(Secret::new(vec![byte; 32])).unwrap()
}

fn source(path: &str) -> config::Source {
    config::Source::Directory { path: path.into() }
}

fn store() -> Store {
    Store::new(Cloud::default())
}

/// A store with everything that an instance can have.
fn full() -> Store {
    let store = store();
    let mut first = record(1, "p", &["tap1", "tap2"]);
    first.user_data = Some(Bytes::from_static(b"#!/bin/sh\n\xff\0"));
    first.metadata = vec![("a".into(), "b\n\u{2028}\"".into())];
    store.put(first);
    store.put(record(2, "q", &["tap3"]));
    assert_eq!(store.set_password(id(2), Password::new("pass\nword\"").unwrap()), Written::Kept);
    let seed = format!(r#"{{"random_seed": "{}"}}"#, "z".repeat(684));
    let pages = [
        ("", Page::found(Some("text/plain; charset=UTF-8"), Bytes::from_static(b"latest"))),
        ("openstack/latest/meta_data.json", Page::found(Some("application/json"), seed.into())),
        ("openstack/latest/user_data", Page::found(Some("x/y"), Bytes::from_static(b"\0\xff\n"))),
        ("openstack/2012-08-10/user_data", Page::found(Some("x/y"), Bytes::from_static(b"\0\xff\n"))),
        ("latest/password", Page::found(None, Bytes::new())),
        ("openstack/latest/none", Page::not_found()),
    ];
    store.put_nova_pages(NovaPages::new(id(3), pages.map(|(path, page)| (path.to_owned(), page))));
    assert!(store.set_dynamic(id(1), "join", json!({"n": 0.1, "z": [1, null], "a": "é"})));
    store
}

fn header(source: &config::Source) -> file::Header {
    file::Header {
        key: String::new(),
        salt: String::new(),
        written_at: 1_700_000_002,
        as_of: 1_700_000_001,
        source: Origin::of(source),
        cluster: Some("c".to_owned()),
        revision: Some(7),
        instances: 0,
    }
}

fn write(path: &Path, store: &Store) {
    file::write(path, &key(1), header(&source("/docs")), &store.kept()).unwrap();
}

/// What two stores hold, in a form that can be compared.
fn content(store: &Store) -> Vec<String> {
    let in_words = |served: &Content| match served {
        Content::Rendered(instance) => {
            format!("{:?} {:?} {:?}", instance.record(), instance.password().map(Password::as_str), instance.dynamic())
        }
        Content::NovaPages(copied) => format!("{copied:?}"),
    };
    let kept = store.kept();
    let in_words = kept.iter().map(|kept| format!("{} {:?}", in_words(&kept.content), kept.user_data_read));
    let mut all: Vec<String> = in_words.collect();
    all.sort();
    all
}

fn read(path: &Path, key: &SealKey, origin: &str) -> Result<Store, Refused> {
    let store = store();
    for entry in file::read(path, key, &Origin::of(&source(origin)))?.expect("a snapshot").entries {
        entry.put_into(&store);
    }
    Ok(store)
}

#[test]
fn everything_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/snapshot");
    let before = full();
    for id in before.ids() {
        before.note_user_data_read(id, 1_700_000_000);
    }
    write(&path, &before);
    write(&path, &before);
    assert_eq!(content(&read(&path, &key(1), "/docs").unwrap()), content(&before));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(directory.path().join("state")).unwrap().count(), 2, "a draft is left");
    let bytes = fs::read(&path).unwrap();
    for secret in ["#!/bin/sh", "pass", "join", "tap1"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is in the clear");
    }
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("snapshot");
    write(&path, &full());
    let good = fs::read(&path).unwrap();
    let text = |old: &str, new: &str| {
        let at = good.windows(old.len()).position(|window| window == old.as_bytes()).expect(old);
        [&good[..at], new.as_bytes(), &good[at + old.len()..]].concat()
    };
    let head = good.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    let refused = |bytes: &[u8], expected: &[&str]| {
        fs::write(&path, bytes).unwrap();
        let message = error_text::chain(&read(&path, &key(1), "/docs").unwrap_err());
        for part in expected {
            assert!(message.contains(part), "{message}\n  does not say: {part}");
        }
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    };
    refused(&good[..good.len() - 1], &["is torn", "the source supplies the content again"]);
    refused(&good[..head + 2], &["is torn"]);
    refused(&good[..head - 2], &["is torn"]);
    refused(b"", &["is torn"]);
    refused(&[&good[..], b"x"].concat(), &["damaged or was altered", "check the disk"]);
    refused(&text("\"revision\":7", "\"revision\":8"), &["damaged or was altered"]);
    refused(&text("\"salt\"", "\"malt\""), &["damaged or was altered"]);
    refused(&text("snapshot 1", "snapshot 2"), &["version 2", "newer metadatad", "install that version again"]);
    refused(&text("snapshot 1", "snapshot 0"), &["version 0", "older metadatad", "supplies the content again"]);
    refused(&text("snapshot 1", "snapshot x"), &["damaged or was altered"]);
    refused(b"{\n\"a\": 1\n}\n", &["is not a snapshot of metadatad", "snapshot.path"]);
    refused(&vec![b'x'; 100_000], &["is not a snapshot of metadatad"]);

    fs::write(&path, &good).unwrap();
    let message = read(&path, &key(2), "/docs").unwrap_err().to_string();
    assert!(message.contains(key(1).id()) && message.contains(key(2).id()), "{message}");
    assert!(message.contains("bring the former key back"), "{message}");
    let message = read(&path, &key(1), "/others").unwrap_err().to_string();
    assert!(message.contains("`directory /docs`") && message.contains("`directory /others`"), "{message}");

    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(read(&path, &key(1), "/docs"), Err(Refused::Mode { mode: 0o640, .. })));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(LIMIT + 1).unwrap();
    assert!(matches!(read(&path, &key(1), "/docs"), Err(Refused::TooLarge { .. })));
    fs::remove_file(&path).unwrap();
    symlink("/etc/hostname", &path).unwrap();
    assert!(matches!(read(&path, &key(1), "/docs"), Err(Refused::Kind(_))));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(read(&path, &key(1), "/docs"), Err(Refused::Kind(_))));
    fs::remove_dir(&path).unwrap();
    assert!(file::read(&path, &key(1), &Origin::of(&source("/docs"))).unwrap().is_none());
    if nix::unistd::geteuid().is_root() {
        fs::write(&path, &good).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(matches!(read(&path, &key(1), "/docs"), Err(Refused::Owner { owner: 12345, .. })));
    }
}

#[test]
fn a_snapshot_cut_off_at_any_byte_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("snapshot");
    write(&path, &full());
    let good = fs::read(&path).unwrap();
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        let refused = read(&path, &key(1), "/docs").unwrap_err();
        assert!(matches!(refused, Refused::Torn(_)), "{length} bytes: {refused}");
    }
}

proptest! {
    #[test]
    fn a_changed_bit_is_refused(place in any::<prop::sample::Index>(), bit in 0..8) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot");
        write(&path, &full());
        let mut bytes = fs::read(&path).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1u8 << bit;
        fs::write(&path, &bytes).unwrap();
        prop_assert!(read(&path, &key(1), "/docs").is_err());
    }
}

fn settings(directory: &Path) -> config::snapshot::Snapshot {
    config::snapshot::Snapshot {
        path: directory.join("snapshot"),
        key_file: directory.join("key"),
        interval: Duration::from_millis(100),
        ..config::Config::default().snapshot
    }
}

/// A daemon's life as far as the snapshot is concerned.
struct Life {
    store: Arc<Store>,
    source: SourceView,
    state: StateView<SnapshotState>,
    keeper: Option<Keeper>,
}

fn begin(directory: &Path, origin: &str) -> Life {
    let store = Arc::new(store());
    let snapshot = Snapshot::open(&settings(directory), &source(origin), &store).unwrap();
    let written = store.revision();
    let (state, source) = (snapshot.state(), StateView::new(SourceState::new("directory", origin.to_owned())));
    let keeper = snapshot.keep(written, Arc::clone(&store), source.clone(), (Arc::default(), String::new())).unwrap();
    Life { store, source, state, keeper }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn on_disk(directory: &Path, origin: &str) -> Option<Vec<String>> {
    let settings = settings(directory);
    let key = key::find(&settings.key_file).unwrap();
    let found = file::read(&settings.path, &key, &Origin::of(&source(origin))).unwrap()?;
    let store = store();
    found.entries.into_iter().for_each(|entry| entry.put_into(&store));
    Some(content(&store))
}

#[test]
fn changes_removals_and_the_end_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let life = begin(directory.path(), "/docs");
    assert_eq!(life.state.get().written_at, None);
    life.store.put(record(1, "p", &["tap1"]));
    until("a change is written", || life.state.get().instances == 1);
    for (number, change) in [
        (
            "a password",
            &(|| life.store.set_password(id(1), Password::new("x").unwrap()) == Written::Kept) as &dyn Fn() -> bool,
        ),
        ("vendor data", &|| life.store.set_dynamic(id(1), "t", json!(1))),
        ("another instance", &|| life.store.put(record(2, "p", &["tap2"]))),
        ("a removal", &|| life.store.remove(id(1))),
    ] {
        assert!(change());
        until(number, || on_disk(directory.path(), "/docs") == Some(content(&life.store)));
    }
    // The keeper ends in the middle of whatever it does.
    life.store.put(record(3, "p", &["tap3"]));
    drop(life.keeper);
    assert_eq!(on_disk(directory.path(), "/docs"), Some(content(&life.store)));
}

#[test]
fn what_was_restored_is_not_written_again_until_the_source_was_read() {
    let directory = tempfile::tempdir().unwrap();
    let life = begin(directory.path(), "/docs");
    let mut state = SourceState::new("directory", "/docs".to_owned());
    state.synced_at = Some(SystemTime::now() - Duration::from_secs(1000));
    state.lagging_since = Some(SystemTime::now() - Duration::from_secs(500));
    (state.cluster, state.revision) = (Some("c".to_owned()), Some(5));
    life.source.publish(state.clone());
    life.store.put(record(1, "p", &["tap1"]));
    drop(life.keeper);
    let bytes = fs::read(directory.path().join("snapshot")).unwrap();

    let life = begin(directory.path(), "/docs");
    let restored = life.state.get().restored.clone().unwrap();
    assert_eq!((restored.instances, restored.cluster.as_deref(), restored.revision), (1, Some("c"), Some(5)));
    let age = SystemTime::now().duration_since(restored.as_of).unwrap().as_secs();
    assert!((500..520).contains(&age), "{age}");
    drop(life.keeper);
    assert_eq!(fs::read(directory.path().join("snapshot")).unwrap(), bytes);

    let life = begin(directory.path(), "/docs");
    state.lagging_since = None;
    life.source.publish(state);
    until("it is written again", || fs::read(directory.path().join("snapshot")).unwrap() != bytes);
    drop(life.keeper);
    let life = begin(directory.path(), "/docs");
    let age = SystemTime::now().duration_since(life.state.get().restored.clone().unwrap().as_of).unwrap().as_secs();
    assert!(age < 20, "{age}");
}

#[test]
fn a_refused_snapshot_is_kept_aside_and_another_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let life = begin(directory.path(), "/docs");
    life.store.put(record(1, "p", &["tap1"]));
    drop(life.keeper);
    let bytes = fs::read(directory.path().join("snapshot")).unwrap();
    let life = begin(directory.path(), "/others");
    assert!(life.store.is_empty());
    let state = life.state.get();
    assert!(state.refused.as_ref().unwrap().contains("snapshot.refused"), "{state:?}");
    assert_eq!(fs::read(directory.path().join("snapshot.refused")).unwrap(), bytes);
    drop(life.keeper);
    assert!(!directory.path().join("snapshot").exists(), "nothing was known, and it was written");
}

#[test]
fn a_directory_that_cannot_be_written_is_told_once_it_matters() {
    let directory = tempfile::tempdir().unwrap();
    let life = begin(directory.path(), "/docs");
    fs::create_dir_all(directory.path().join("snapshot/in/the/way")).unwrap();
    life.store.put(record(1, "p", &["tap1"]));
    until("the error is reported", || life.state.get().error.is_some());
    assert!(life.state.get().error.as_ref().unwrap().contains("cannot be written"), "{:?}", life.state.get());
    fs::remove_dir_all(directory.path().join("snapshot")).unwrap();
    drop(life.keeper);
    assert_eq!(life.state.get().error, None, "the end tries again");
    assert!(on_disk(directory.path(), "/docs").is_some());
}

/// A life in which two instances were written, and nothing can be written any more.
fn full_disk(directory: &Path) -> Life {
    let life = begin(directory, "/docs");
    life.store.put(record(1, "p", &["tap1"]));
    life.store.put(record(2, "p", &["tap2"]));
    until("both are written", || life.state.get().instances == 2);
    fs::create_dir_all(directory.join("snapshot.new/in/the/way")).unwrap();
    life
}

#[test]
fn a_removal_lasts_though_no_snapshot_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let life = full_disk(directory.path());
    let bytes = fs::read(directory.path().join("snapshot")).unwrap();
    life.store.remove(id(1));
    until("it is recorded", || life.state.get().instances == 1);
    until("that is reported", || life.state.get().error.as_ref().is_some_and(|error| error.contains("make room")));
    // One more, before it is tried again to write all of it.
    life.store.put(record(3, "p", &["tap3"]));
    life.store.remove(id(3));
    life.store.remove(id(2));
    until("the other too", || life.state.get().instances == 0);
    drop(life.keeper);
    assert_eq!(fs::read(directory.path().join("snapshot")).unwrap(), bytes);

    // As after a crash: what was removed stays so, also while it cannot be written still, and over another start.
    for _ in 0..2 {
        let life = begin(directory.path(), "/docs");
        assert!(life.store.is_empty());
        drop(life.keeper);
    }
    fs::remove_dir_all(directory.path().join("snapshot.new")).unwrap();
    let life = begin(directory.path(), "/docs");
    life.store.put(record(1, "p", &["tap1"]));
    until("one that is back is written", || life.state.get().instances == 1);
    drop(life.keeper);
    assert_eq!(begin(directory.path(), "/docs").store.len(), 1, "of the former snapshot nothing is left");
}

#[test]
fn what_was_not_removed_is_kept_beside_what_was() {
    let directory = tempfile::tempdir().unwrap();
    let life = full_disk(directory.path());
    life.store.remove(id(1));
    until("it is recorded", || life.state.get().instances == 1);
    drop(life.keeper);
    let life = begin(directory.path(), "/docs");
    assert_eq!(life.store.ids(), [id(2)]);
    assert_eq!(life.state.get().restored.as_ref().unwrap().instances, 1);
}

#[test]
fn without_a_place_for_removals_the_snapshot_goes() {
    let directory = tempfile::tempdir().unwrap();
    let life = full_disk(directory.path());
    fs::remove_file(directory.path().join("snapshot.removed")).unwrap();
    fs::create_dir_all(directory.path().join("snapshot.removed/in/the/way")).unwrap();
    life.store.remove(id(1));
    until("it is gone", || !directory.path().join("snapshot").exists());
    until("that is reported", || {
        life.state.get().error.as_ref().is_some_and(|error| error.contains("was removed, since"))
    });
    assert_eq!(life.state.get().written_at, None);
    drop(life.keeper);
    assert!(begin(directory.path(), "/docs").store.is_empty());
}

/// A crash between the two renames of a write leaves the removals of the former snapshot beside the new one.
#[test]
fn removals_of_another_snapshot_are_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let life = full_disk(directory.path());
    life.store.remove(id(1));
    until("it is recorded", || life.state.get().instances == 1);
    drop(life.keeper);
    let before = fs::read(directory.path().join("snapshot.removed")).unwrap();
    fs::remove_dir_all(directory.path().join("snapshot.new")).unwrap();
    let life = begin(directory.path(), "/docs");
    life.store.put(record(1, "back", &["tap1"]));
    until("it is written", || life.state.get().instances == 2);
    drop(life.keeper);
    fs::write(directory.path().join("snapshot.removed"), before).unwrap();
    assert_eq!(begin(directory.path(), "/docs").store.len(), 2);
}
