//! Tests of `watched_directory`, with inotify and without.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const QUIET: Duration = Duration::from_millis(50);

/// Long enough for any machine, and reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(20);

struct Fixture {
    root: tempfile::TempDir,
    watched: WatchedDirectory,
}

impl Fixture {
    /// Watches `docs`, which this prepares.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("docs")).unwrap();
        prepare(root.path());
        let watched = WatchedDirectory::new(root.path().join("docs"), |name| name.ends_with(".json"), QUIET);
        Self { root, watched }
    }

    /// As on a machine on which making a watcher fails.
    fn without_watchers(mut self, make: Make) -> Self {
        self.watched.make = make;
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    async fn all(&mut self) -> Vec<String> {
        match tokio::time::timeout(PATIENCE, self.watched.next()).await {
            Ok(Change::All(names, _)) => names.into_iter().collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a file is reported.
    async fn changed(&mut self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.watched.next()).await {
                Ok(Change::Some(names)) if names.contains(name) => return,
                Ok(_) => {}
                Err(_) => panic!("{name} is not reported"),
            }
        }
    }
}

/// Replaces what a link says at once, as a rename does.
fn relink(target: &str, link: &Path) {
    let draft = link.with_file_name("draft");
    symlink(target, &draft).unwrap();
    fs::rename(draft, link).unwrap();
}

fn config_map(root: &Path) {
    for generation in ["docs/..a", "docs/..b"] {
        fs::create_dir(root.join(generation)).unwrap();
        fs::write(root.join(generation).join("1.json"), generation).unwrap();
    }
    symlink("..a", root.join("docs/..data")).unwrap();
    symlink("..data/1.json", root.join("docs/1.json")).unwrap();
}

fn elsewhere(root: &Path) {
    fs::create_dir(root.join("far")).unwrap();
    for name in ["written", "replaced", "removed", "chained"] {
        fs::write(root.join("far").join(name), "one").unwrap();
        symlink(format!("../far/{name}"), root.join(format!("docs/{name}.json"))).unwrap();
    }
    fs::create_dir(root.join("further")).unwrap();
    fs::rename(root.join("far/chained"), root.join("further/end")).unwrap();
    symlink(root.join("further/end"), root.join("far/chained")).unwrap();
}

async fn follows_config_map(mut fixture: Fixture) {
    assert_eq!(fixture.all().await, ["1.json"]);
    relink("..b", &fixture.path("docs/..data"));
    fixture.changed("1.json").await;
}

async fn follows_targets_elsewhere(mut fixture: Fixture) {
    assert_eq!(fixture.all().await.len(), 4);
    fs::write(fixture.path("far/written"), "two, longer").unwrap();
    fixture.changed("written.json").await;
    fs::write(fixture.path("far/draft"), "two").unwrap();
    fs::rename(fixture.path("far/draft"), fixture.path("far/replaced")).unwrap();
    fixture.changed("replaced.json").await;
    fs::remove_file(fixture.path("far/removed")).unwrap();
    fixture.changed("removed.json").await;
    fs::write(fixture.path("far/removed"), "again").unwrap();
    fixture.changed("removed.json").await;
    fs::write(fixture.path("further/end"), "two, longer").unwrap();
    fixture.changed("chained.json").await;
}

fn no_instance(_: Box<dyn Fn(notify::Result<notify::Event>) + Send>) -> notify::Result<RecommendedWatcher> {
    Err(notify::Error::io(io::Error::from_raw_os_error(nix::libc::EMFILE)))
}

fn no_watch(_: Box<dyn Fn(notify::Result<notify::Event>) + Send>) -> notify::Result<RecommendedWatcher> {
    Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch))
}

#[tokio::test]
async fn a_swapped_link_changes_every_file_behind_it() {
    follows_config_map(Fixture::new(config_map)).await;
}

#[tokio::test]
async fn targets_elsewhere_are_followed() {
    follows_targets_elsewhere(Fixture::new(elsewhere)).await;
}

// The clock of these is the runtime's, which does not wait: nothing outside has to happen between two looks.
#[tokio::test(start_paused = true)]
async fn links_are_followed_without_watchers_too() {
    follows_config_map(Fixture::new(config_map).without_watchers(no_instance)).await;
    follows_targets_elsewhere(Fixture::new(elsewhere).without_watchers(no_watch)).await;
}

#[tokio::test]
async fn what_links_lead_through_is_watched_and_no_longer_than_they_do() {
    let mut fixture = Fixture::new(elsewhere);
    fixture.all().await;
    let root = fixture.root.path().canonicalize().unwrap();
    let watched: BTreeSet<_> = ["docs", "far", "further"].map(|name| root.join(name)).into();
    let but = |name| watched.iter().filter(|path| **path != root.join(name)).cloned().collect::<BTreeSet<_>>();
    assert_eq!(fixture.watched.linked.watched, but("docs"), "the directory itself has its own watch");
    fs::remove_file(fixture.path("docs/chained.json")).unwrap();
    fixture.changed("chained.json").await;
    assert_eq!(fixture.watched.linked.watched.len(), 1);
}

#[tokio::test]
async fn a_directory_that_is_a_link_is_followed_to_another() {
    let mut fixture = Fixture::new(|root| {
        fs::rename(root.join("docs"), root.join("first")).unwrap();
        fs::create_dir(root.join("second")).unwrap();
        fs::write(root.join("first/1.json"), "one").unwrap();
        fs::write(root.join("second/2.json"), "two").unwrap();
        symlink("first", root.join("docs")).unwrap();
    });
    assert_eq!(fixture.all().await, ["1.json"]);
    relink("second", &fixture.path("docs"));
    assert_eq!(fixture.all().await, ["2.json"]);
    fs::write(fixture.path("second/3.json"), "three").unwrap();
    fixture.changed("3.json").await;
}

#[tokio::test]
async fn another_name_of_a_file_counts_too() {
    let mut fixture = Fixture::new(|root| {
        fs::write(root.join("other"), "one").unwrap();
        fs::hard_link(root.join("other"), root.join("docs/1.json")).unwrap();
    });
    fixture.all().await;
    fs::write(fixture.path("other"), "two, longer").unwrap();
    fixture.changed("1.json").await;
}

#[tokio::test(start_paused = true)]
async fn without_inotify_everything_is_looked_at_and_the_remedy_is_named() {
    for (make, remedy) in
        [(no_instance as Make, "max_user_instances"), (no_watch as Make, "raise fs.inotify.max_user_watches")]
    {
        let mut fixture = Fixture::new(|root| fs::write(root.join("docs/1.json"), "one").unwrap());
        fixture = fixture.without_watchers(make);
        assert_eq!(fixture.all().await, ["1.json"]);
        let problem = fixture.watched.problem().unwrap_or_default().to_owned();
        assert!(problem.contains(remedy) && problem.contains("every 1 s"), "{problem}");
        fs::write(fixture.path("docs/1.json"), "two, longer").unwrap();
        fixture.changed("1.json").await;
        fs::write(fixture.path("docs/2.json"), "new").unwrap();
        fixture.changed("2.json").await;
        fs::remove_file(fixture.path("docs/1.json")).unwrap();
        fixture.changed("1.json").await;
        // Instances are to be had again.
        fixture.watched.make = |receive| notify::recommended_watcher(receive);
        fixture.watched.watch_at = Instant::now();
        while fixture.watched.problem().is_some() {
            assert!(matches!(fixture.watched.next().await, Change::Some(_)));
        }
        assert!(fixture.watched.watcher.is_some());
    }
}

#[tokio::test]
async fn a_missing_directory_is_reported_and_its_return_too() {
    let mut fixture = Fixture::new(|root| fs::write(root.join("docs/1.json"), "one").unwrap());
    assert!(!fixture.watched.is_same());
    fixture.all().await;
    assert!(fixture.watched.is_same());
    fs::rename(fixture.path("docs"), fixture.path("away")).unwrap();
    assert!(!fixture.watched.is_same());
    loop {
        if let Change::Unavailable(error) = fixture.watched.next().await {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            break;
        }
    }
    fs::rename(fixture.path("away"), fixture.path("docs")).unwrap();
    loop {
        match fixture.watched.next().await {
            Change::All(names, is_other) => {
                assert!(is_other && names.contains("1.json"));
                break;
            }
            Change::Unavailable(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn lost_events_lead_to_all_files() {
    let mut fixture = Fixture::new(|root| fs::write(root.join("docs/1.json"), "one").unwrap());
    fixture.all().await;
    let lost = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    fixture.watched.inbox.receive(Ok(lost), |_| false);
    assert_eq!(fixture.all().await, ["1.json"]);
}
