//! Tests of `source::directory`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::api::Cloud;
use crate::readiness::Readiness;
use crate::record::InstanceId;
use crate::store::tests::{id, record};

/// A format of the tests' own: `number project`.
fn parse(bytes: &[u8]) -> Result<InstanceRecord, DocumentError> {
    let text = String::from_utf8_lossy(bytes);
    let parsed = text
        .strip_suffix('\n')
        .and_then(|line| line.split_once(' '))
        .and_then(|(number, project)| Some((number.parse().ok()?, project)));
    match parsed {
        Some((number, project)) => Ok(record(number, project, &[&format!("tap{number}")])),
        None => Err(DocumentError {
            line: 1,
            column: text.len() + 1,
            path: "document".to_owned(),
            problem: "not a document".to_owned(),
            remedy: "write a number and a project".to_owned(),
        }),
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    store: Arc<Store>,
    source: Directory,
}

impl Fixture {
    fn start(prepare: impl FnOnce(&Path)) -> Self {
        Self::start_with(Store::new(Cloud::default()), prepare)
    }

    /// Starts with a store that has content already, as from a snapshot.
    fn start_with(store: Store, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("instances");
        prepare(&path);
        let store = Arc::new(store);
        let readiness = Readiness::new();
        let source = Directory::start(path, parse, Arc::clone(&store), readiness.wait_for("source")).expect("a thread");
        let fixture = Self { directory, store, source };
        fixture.until("the first scan", |_| readiness.pending().is_empty());
        fixture
    }

    fn with_directory() -> Self {
        Self::start(|path| fs::create_dir(path).expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("instances").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("a file");
    }

    fn rename_into(&self, name: &str, content: &str) {
        let temporary = self.path(&format!(".{name}.tmp"));
        fs::write(&temporary, content).expect("a file");
        fs::rename(temporary, self.path(name)).expect("a rename");
    }

    fn project(&self, number: u128) -> Option<String> {
        let id: InstanceId = id(number);
        let instance = self.store.get(id)?;
        Some(instance.record().project_id.to_string())
    }

    fn state(&self) -> Arc<crate::source::SourceState> {
        self.source.state().get()
    }

    fn broken(&self) -> Vec<String> {
        let state = self.state();
        state.broken.iter().map(|file| file.name.clone()).collect()
    }

    fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.state());
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

#[test]
fn files_are_read_at_start_and_followed_in_every_way_of_writing() {
    let fixture = Fixture::start(|path| {
        fs::create_dir(path).expect("a directory");
        fs::write(path.join("a.json"), "1 one\n").expect("a file");
        fs::write(path.join(".hidden.json"), "7 hidden\n").expect("a file");
        fs::write(path.join("b.json~"), "8 backup\n").expect("a file");
        fs::write(path.join("c.txt"), "9 other\n").expect("a file");
    });
    assert_eq!(fixture.project(1).as_deref(), Some("one"));
    assert_eq!(fixture.store.len(), 1);
    assert!(fixture.state().synced_at.is_some() && fixture.state().is_healthy());

    fixture.write("a.json", "1 uno\n");
    fixture.until("written in place", |f| f.project(1).as_deref() == Some("uno"));
    fixture.rename_into("a.json", "1 eins\n");
    fixture.until("renamed over", |f| f.project(1).as_deref() == Some("eins"));
    fixture.rename_into("b.json", "2 two\n");
    fixture.until("a second one", |f| f.project(2).as_deref() == Some("two"));
    fs::remove_file(fixture.path("a.json")).expect("removed");
    fixture.until("removed", |f| f.project(1).is_none());
    fixture.write("b.json", "3 three\n");
    fixture.until("another uuid", |f| f.project(3).is_some() && f.project(2).is_none());
    fixture.until("counted", |f| f.state().instances == 1);
}

#[test]
fn a_broken_file_keeps_the_last_good_version_and_is_named() {
    let fixture = Fixture::with_directory();
    fixture.write("a.json", "1 one\n");
    fixture.until("read", |f| f.project(1).is_some());
    fixture.write("a.json", "1 half");
    fixture.until("reported", |f| !f.state().broken.is_empty());
    let state = fixture.state();
    let broken = &state.broken[0];
    assert_eq!((broken.name.as_str(), broken.line, broken.column), ("a.json", Some(1), Some(7)));
    assert!(broken.problem.contains("write a number and a project"), "{}", broken.problem);
    assert!(broken.serves_last_good && !state.is_healthy());
    assert_eq!(fixture.project(1).as_deref(), Some("one"));

    fixture.write("a.json", "1 whole\n");
    fixture.until("repaired", |f| f.state().is_healthy());
    assert_eq!(fixture.project(1).as_deref(), Some("whole"));

    fixture.write("b.json", "?");
    fixture.until("reported", |f| f.broken() == ["b.json"]);
    assert!(!fixture.state().broken[0].serves_last_good);
    fs::remove_file(fixture.path("b.json")).expect("removed");
    fixture.until("forgotten", |f| f.state().is_healthy());
}

#[test]
fn a_file_that_is_still_open_is_not_read() {
    use std::io::Write;
    let fixture = Fixture::with_directory();
    let mut file = fs::File::create(fixture.path("a.json")).expect("a file");
    file.write_all(b"1 ha").expect("written");
    // Another file, written after it and read before it, shows that its turn would have come.
    fixture.write("z.json", "2 two\n");
    fixture.until("the other file", |f| f.project(2).is_some());
    assert!(fixture.broken().is_empty(), "half a file is not a broken one");
    file.write_all(b"lf\n").expect("written");
    drop(file);
    fixture.until("complete", |f| f.project(1).as_deref() == Some("half"));
}

#[test]
fn the_second_file_of_an_instance_is_refused_and_takes_over_when_the_first_goes() {
    let fixture = Fixture::with_directory();
    fixture.write("a.json", "1 first\n");
    fixture.until("read", |f| f.project(1).is_some());
    fixture.write("b.json", "1 second\n");
    fixture.until("refused", |f| f.broken() == ["b.json"]);
    let problem = fixture.state().broken[0].problem.clone();
    assert!(problem.contains("a.json") && problem.contains("b.json"), "{problem}");
    assert_eq!(fixture.project(1).as_deref(), Some("first"));
    fs::remove_file(fixture.path("a.json")).expect("removed");
    fixture.until("taken over", |f| f.project(1).as_deref() == Some("second"));
    fixture.until("healthy", |f| f.state().is_healthy());

    let before = fixture.store.get(id(1)).expect("there");
    fs::rename(fixture.path("b.json"), fixture.path("c.json")).expect("renamed");
    fixture.write("d.json", "4 later\n");
    fixture.until("the rename and what came after", |f| f.project(4).is_some());
    let after = fixture.store.get(id(1)).expect("a rename has no gap");
    assert!(Arc::ptr_eq(&before, &after), "what is rendered stays");
    assert!(fixture.state().is_healthy());
}

#[test]
fn a_missing_directory_is_a_state_and_content_outlives_it() {
    let fixture = Fixture::start(|_| {});
    let error = fixture.state().error.clone().expect("an error");
    assert!(error.contains("does not exist; create it"), "{error}");

    fs::create_dir(fixture.path("")).expect("a directory");
    fixture.write("a.json", "1 one\n");
    fixture.until("found", |f| f.project(1).is_some() && f.state().is_healthy());

    let away = fixture.directory.path().join("away");
    fs::rename(fixture.path(""), &away).expect("renamed");
    fixture.until("noticed", |f| f.state().error.is_some());
    assert_eq!(fixture.project(1).as_deref(), Some("one"));

    fs::write(away.join("a.json"), "1 changed\n").expect("a file");
    fs::rename(&away, fixture.path("")).expect("renamed back");
    fixture.until("back", |f| f.state().is_healthy());
    assert_eq!(fixture.project(1).as_deref(), Some("changed"));
    fixture.write("b.json", "2 two\n");
    fixture.until("watched again", |f| f.project(2).is_some());
}

#[test]
fn what_is_no_readable_document_is_refused_by_name() {
    let fixture = Fixture::start(|path| {
        fs::create_dir(path).expect("a directory");
        fs::create_dir(path.join("directory.json")).expect("a directory");
        let huge = fs::File::create(path.join("huge.json")).expect("a file");
        huge.set_len(crate::source::wire::MAX_DOCUMENT as u64 + 1).expect("a sparse file");
        nix::unistd::mkfifo(&path.join("pipe.json"), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    });
    assert_eq!(fixture.broken(), ["directory.json", "huge.json", "pipe.json"]);
    let problems: Vec<_> = fixture.state().broken.iter().map(|file| file.problem.clone()).collect();
    assert!(problems[0].contains("not a regular file"), "{problems:?}");
    assert!(problems[1].contains("larger than 16 MiB"), "{problems:?}");
}

/// A file that stays broken must not keep instances that were removed while the daemon was stopped for longer than
/// necessary, and the state must name it.
#[test]
fn what_was_restored_goes_when_every_document_is_known_and_is_named_until_then() {
    let restored = || {
        let store = Store::new(Cloud::default());
        store.put(record(1, "one", &["tap1"]));
        store.put(record(9, "gone", &["tap9"]));
        store
    };
    let write = |path: &Path, files: &[(&str, &str)]| {
        fs::create_dir(path).expect("a directory");
        for (name, text) in files {
            fs::write(path.join(name), text).expect("a file");
        }
    };
    // A second file of a known instance leaves no doubt.
    let fixture =
        Fixture::start_with(restored(), |path| write(path, &[("a.json", "1 one\n"), ("b.json", "1 other\n")]));
    assert_eq!(fixture.broken(), ["b.json"]);
    assert_eq!((fixture.project(1).as_deref(), fixture.project(9)), (Some("one"), None));

    // An unreadable file might be the document of the instance that has none.
    let fixture = Fixture::start_with(restored(), |path| write(path, &[("a.json", "1 one\n"), ("b.json", "torn")]));
    assert_eq!(fixture.project(9).as_deref(), Some("gone"));
    assert_eq!(fixture.state().unconfirmed, [id(9)]);
    fs::remove_file(fixture.path("b.json")).expect("a file");
    fixture.until("it is gone", |fixture| fixture.project(9).is_none());
    fixture.until("nothing is in doubt", |fixture| fixture.state().unconfirmed.is_empty());
}

/// A directory as Kubernetes mounts a ConfigMap, and a link to a file elsewhere.
fn with_links() -> Fixture {
    let fixture = Fixture::start(|path| {
        fs::create_dir_all(path.join("..a")).expect("a directory");
        fs::create_dir_all(path.join("..b")).expect("a directory");
        for (file, text) in [("..a/1.json", "1 one\n"), ("..a/2.json", "2 one\n"), ("..b/1.json", "1 two\n")] {
            fs::write(path.join(file), text).expect("a file");
        }
        symlink("..a", path.join("..data")).expect("a link");
        symlink("..data/1.json", path.join("1.json")).expect("a link");
        symlink("..data/2.json", path.join("2.json")).expect("a link");
        let far = path.with_file_name("far");
        fs::create_dir(&far).expect("a directory");
        fs::write(far.join("three"), "3 one\n").expect("a file");
        symlink(far.join("three"), path.join("3.json")).expect("a link");
    });
    assert_eq!(fixture.store.len(), 3);
    fixture
}

fn swap(fixture: &Fixture, target: &str, link: &str) {
    symlink(target, fixture.path("draft")).expect("a link");
    fs::rename(fixture.path("draft"), fixture.path(link)).expect("a rename");
}

#[test]
fn a_swapped_generation_changes_its_documents_and_ends_those_it_lacks() {
    let fixture = with_links();
    swap(&fixture, "..b", "..data");
    fixture.until("changed", |f| f.project(1).as_deref() == Some("two"));
    fixture.until("removed", |f| f.project(2).is_none());
    fixture.until("named", |f| f.broken() == ["2.json"]);
    let problem = fixture.state().broken[0].problem.clone();
    assert!(
        problem.contains("..data/2.json, which does not exist") && problem.contains("remove the link"),
        "{problem}"
    );
    fs::remove_file(fixture.path("2.json")).expect("removed");
    fixture.until("in step", |f| f.state().is_healthy());
}

#[test]
fn a_removed_target_ends_its_instance_and_one_out_of_reach_does_not() {
    let fixture = with_links();
    let far = fixture.path("").with_file_name("far");
    // As when the file system that it is on is not mounted: the directory is missing, or another one.
    fs::rename(&far, far.with_extension("away")).expect("a rename");
    fixture.until("named", |f| f.broken() == ["3.json"]);
    assert!(fixture.state().broken[0].serves_last_good);
    fs::create_dir(&far).expect("a directory");
    fs::write(fixture.path("4.json"), "4 one\n").expect("a file");
    fixture.until("what came later", |f| f.project(4).is_some());
    assert_eq!(fixture.project(3).as_deref(), Some("one"), "it is not the directory that the document was in");
    fs::remove_dir(&far).expect("removed");
    fs::rename(far.with_extension("away"), &far).expect("a rename");
    fixture.until("in step", |f| f.state().is_healthy());
    assert_eq!(fixture.project(3).as_deref(), Some("one"));

    fs::remove_file(far.join("three")).expect("removed");
    fixture.until("removed", |f| f.project(3).is_none());
    fixture.until("named", |f| f.broken() == ["3.json"]);
    fs::write(far.join("three"), "3 back\n").expect("a file");
    fixture.until("back", |f| f.project(3).as_deref() == Some("back") && f.state().is_healthy());
}

#[test]
fn a_link_that_is_corrected_wrongly_keeps_its_instance_and_is_named() {
    let fixture = with_links();
    swap(&fixture, "../far/typo", "3.json");
    fixture.until("named", |f| f.broken() == ["3.json"]);
    assert_eq!(fixture.project(3).as_deref(), Some("one"));
    swap(&fixture, "3.json", "3.json");
    fixture.until("a circle", |f| f.state().broken[0].problem.contains("form a loop"));
    assert_eq!(fixture.project(3).as_deref(), Some("one"));
    swap(&fixture, "../far/three", "3.json");
    fixture.until("in step", |f| f.state().is_healthy());
}
