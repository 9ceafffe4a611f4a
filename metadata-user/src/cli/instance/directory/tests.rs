//! Tests of `cli::instance::directory`.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::cli::instance::change::Decision::{Leave, Remove, Write as Put};

const ID: &str = "0171c6ae-ed6b-4787-bf6b-45a1db501aa3";

fn id() -> InstanceId {
    ID.parse().expect("a uuid")
}

fn named(text: &str) -> Vec<u8> {
    format!("{{\"uuid\": \"{ID}\", \"hostname\": \"{text}\"}}").into_bytes()
}

fn world() -> (tempfile::TempDir, DocumentDirectory) {
    let temporary = tempfile::tempdir().expect("a directory");
    let directory = DocumentDirectory::new(temporary.path().to_owned());
    (temporary, directory)
}

/// Names in the directory, hidden ones too.
fn names(directory: &DocumentDirectory) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

#[test]
fn a_document_comes_changes_and_goes_and_nothing_else_is_left() {
    let (_directory, directory) = world();
    let file = format!("{ID}.json");
    assert_eq!(directory.change(id(), &mut |_| Ok(Put(named("a")))).expect("written"), Outcome::Created);
    let mode = fs::metadata(directory.path().join(&file)).expect("a file").mode();
    assert_eq!(mode & 0o7777, PRIVATE, "user data may be secret");
    assert_eq!(directory.change(id(), &mut |_| Ok(Put(named("a")))).expect("read"), Outcome::Unchanged);
    assert_eq!(directory.change(id(), &mut |_| Ok(Leave)).expect("read"), Outcome::Unchanged);
    assert_eq!(directory.change(id(), &mut |_| Ok(Put(named("b")))).expect("written"), Outcome::Changed);
    assert_eq!(names(&directory), [file]);
    assert_eq!(directory.change(id(), &mut |_| Ok(Remove)).expect("removed"), Outcome::Deleted);
    assert_eq!(directory.change(id(), &mut |_| Ok(Remove)).expect("looked"), Outcome::Unchanged);
    assert!(names(&directory).is_empty());
}

#[test]
fn a_file_keeps_its_name_mode_and_owner() {
    let (_directory, directory) = world();
    let path = directory.path().join("web.json");
    fs::write(&path, named("a")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).expect("root");
    assert_eq!(directory.change(id(), &mut |_| Ok(Put(named("b")))).expect("written"), Outcome::Changed);
    let metadata = fs::metadata(&path).expect("a file");
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 65534, 65534));
    assert_eq!(fs::read(&path).expect("a file"), named("b"));
    assert_eq!(names(&directory), ["web.json"]);
}

#[test]
fn the_instance_of_a_file_is_in_its_content() {
    let (_directory, directory) = world();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).expect("a file");
    write(&format!("{ID}.json"), b"{ broken");
    write(".hidden.json", &named("h"));
    write("other.txt", &named("o"));
    assert_eq!(directory.find(id()).expect("one").expect("by its name").name, format!("{ID}.json"));
    write("b.json", &named("b"));
    assert_eq!(directory.find(id()).expect("one").expect("by its content").name, "b.json");
    write("a.json", &named("a"));
    let error = directory.find(id()).expect_err("two").to_string();
    assert!(error.contains("a.json and b.json; remove one"), "{error}");
    assert_eq!(directory.list().expect("a list").len(), 3);
}

#[test]
fn what_would_destroy_something_is_refused() {
    let (_directory, directory) = world();
    let stranger = named("x").as_slice().to_vec();
    let stranger = String::from_utf8(stranger).expect("text").replace("0171c6ae", "ffffffff");
    fs::write(directory.path().join(format!("{ID}.json")), &stranger).expect("a file");
    let error = directory.change(id(), &mut |_| Ok(Put(named("a")))).expect_err("taken").to_string();
    assert!(error.contains("is the name of another document"), "{error}");
    fs::remove_file(directory.path().join(format!("{ID}.json"))).expect("a file");
    let elsewhere = tempfile::NamedTempFile::new().expect("a file");
    fs::write(elsewhere.path(), named("a")).expect("a file");
    symlink(elsewhere.path(), directory.path().join("link.json")).expect("a link");
    let error = directory.change(id(), &mut |_| Ok(Put(named("b")))).expect_err("a link").to_string();
    assert!(error.contains("link.json is a symbolic link"), "{error}");
    assert_eq!(names(&directory), ["link.json"]);
}

#[test]
fn a_change_that_took_no_lock_is_not_lost() {
    let (_directory, directory) = world();
    let path = directory.path().join("web.json");
    fs::write(&path, named("0")).expect("a file");
    let mut asked = 0;
    let outcome = directory.change(id(), &mut |stored| {
        asked += 1;
        if asked == 1 {
            fs::write(&path, named("theirs")).expect("a file");
        }
        let text = String::from_utf8(stored.expect("there").text()?.to_vec()).expect("text");
        Ok(Put(text.replace("\"}", " and ours\"}").into_bytes()))
    });
    assert_eq!((outcome.expect("written"), asked), (Outcome::Changed, 2));
    assert_eq!(fs::read(&path).expect("a file"), named("theirs and ours"));
}

#[test]
fn a_document_that_never_rests_is_given_up() {
    let (_directory, directory) = world();
    let path = directory.path().join("web.json");
    fs::write(&path, named("0")).expect("a file");
    let mut asked = 0;
    let error = directory.change(id(), &mut |_| {
        asked += 1;
        fs::write(&path, named(&asked.to_string())).expect("a file");
        Ok(Put(named("ours")))
    });
    assert!(matches!(error, Err(InstanceError::Raced { attempts: ATTEMPTS, .. })), "{error:?}");
    assert_eq!(names(&directory), ["web.json"]);
}

#[test]
fn a_missing_directory_is_named() {
    let directory = DocumentDirectory::new("/nonexistent/instances".into());
    for error in [directory.list().map(drop), directory.change(id(), &mut |_| Ok(Leave)).map(drop)] {
        let error = error.expect_err("no directory").to_string();
        assert!(error.contains("/nonexistent/instances does not exist; create it"), "{error}");
    }
}
