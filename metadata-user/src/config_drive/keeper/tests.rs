//! Tests of `config_drive::keeper`, without its thread.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use super::*;
use crate::api::Cloud;
use crate::config::DriveFormat;
use crate::record::InstanceRecord;
use crate::source::SourceState;
use crate::store::tests::{id, record};

/// An instance whose port has no tap.
fn unreachable(number: u128) -> InstanceRecord {
    let mut record = record(number, "p", &["tap1"]);
    record.ports[0].vif_type = "hw_veb".into();
    // Before the seed there is more than a block, equal in all versions.
    record.metadata = vec![("random_seed".into(), "x".repeat(600).into())];
    record.user_data = Some("#!/bin/sh\n".into());
    record
}

fn settings(directory: &Path, format: DriveFormat) -> ConfigDrive {
    let auto = AutoDrive::UnreachablePorts;
    ConfigDrive { auto, directory: directory.join("drives"), format, group: String::new() }
}

fn task(directory: &Path, format: DriveFormat, store: &Arc<Store>) -> Task {
    with(&settings(directory, format), store)
}

fn with(settings: &ConfigDrive, store: &Arc<Store>) -> Task {
    Task {
        auto: settings.auto,
        images: Images::open(settings).unwrap(),
        store: Arc::clone(store),
        source: StateView::new(SourceState::default()),
        access: Box::new(|overrides| crate::config::Config::default().policy().with(overrides).access),
        observed: Box::new(BTreeSet::new),
        unreachable: BTreeSet::new(),
        state: StateView::new(KeeperState::default()),
        failed: BTreeMap::new(),
        current: BTreeSet::new(),
        waiting: BTreeSet::new(),
        swept: None,
        unswept: None,
    }
}

/// Returns the names of images in the directory with their inodes, which change when a file is replaced.
fn images(directory: &Path) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(directory.join("drives")).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino()));
    files.filter(|(name, _)| !name.ends_with(".mark")).collect()
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory.join("drives")).unwrap().next().is_none()
}

fn iso(number: u128) -> String {
    format!("{}.iso", id(number))
}

#[test]
fn an_image_follows_its_instance_and_goes_with_it() {
    for (format, name) in
        [(DriveFormat::Iso9660, format!("{}.iso", id(1))), (DriveFormat::Vfat, format!("{}.img", id(1)))]
    {
        let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
        let mut task = task(directory.path(), format, &store);
        store.put(unreachable(1));
        store.put(record(2, "p", &["tap2"]));
        task.settle_all(|| false);
        let first = images(directory.path());
        assert_eq!(first.keys().collect::<Vec<_>>(), [&name], "the other instance has a tap");
        let mode = std::fs::metadata(directory.path().join("drives").join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);

        task.settle_all(|| false);
        assert_eq!(images(directory.path()), first, "it is current, though seeds would be new");
        let mut changed = unreachable(1);
        changed.metadata[0].1 = "y".repeat(600).into();
        store.put(changed);
        task.settle(id(1));
        let second = images(directory.path());
        assert!(second.len() == 1 && second != first, "{second:?}");

        let mut reachable = unreachable(1);
        reachable.ports[0].vif_type = "ovs".into();
        store.put(reachable);
        task.settle(id(1));
        assert!(is_empty(directory.path()));
        store.put(unreachable(1));
        task.settle(id(1));
        store.remove(id(1));
        task.settle(id(1));
        assert!(is_empty(directory.path()) && task.current.is_empty());
    }
}

#[test]
fn after_a_restart_images_stay_until_the_source_was_read() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    store.put(unreachable(1));
    store.put(unreachable(2));
    task(directory.path(), DriveFormat::Iso9660, &store).settle_all(|| false);
    let before = images(directory.path());
    let drives = directory.path().join("drives");
    for (name, bytes) in [(format!("{}.iso.new", id(3)), "a draft"), (format!("{}.iso.mark", id(3)), "")] {
        std::fs::write(drives.join(name), bytes).expect("as a daemon leaves them that is killed");
    }
    let others = ["else".to_owned(), iso(4)];
    others.iter().for_each(|name| std::fs::write(drives.join(name), "of somebody else").unwrap());

    let restored = Arc::new(Store::new(Cloud::default()));
    restored.put(unreachable(1));
    let mut next = task(directory.path(), DriveFormat::Iso9660, &restored);
    next.settle_all(|| false);
    next.sweep();
    for (name, inode) in &before {
        assert_eq!(images(directory.path()).get(name), Some(inode), "{name}");
    }
    next.source.publish(SourceState { synced_at: Some(SystemTime::now()), resyncs: 1, ..SourceState::default() });
    next.sweep();
    let left = images(directory.path());
    assert_eq!(left.get(&iso(1)), before.get(&iso(1)), "it is current");
    assert_eq!(left.keys().collect::<BTreeSet<_>>(), others.iter().chain([&iso(1)]).collect(), "{left:?}");

    let mut other = task(directory.path(), DriveFormat::Vfat, &restored);
    other.settle_all(|| false);
    assert!(images(directory.path()).contains_key(&format!("{}.img", id(1))));
    assert!(!images(directory.path()).contains_key(&iso(1)), "an image of the other format is not current any more");
}

#[test]
fn what_cannot_be_written_is_shown_and_written_later() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    let mut task = task(directory.path(), DriveFormat::Iso9660, &store);
    let drives = directory.path().join("drives");
    std::fs::remove_dir(&drives).unwrap();
    store.put(unreachable(1));
    task.settle(id(1));
    task.publish();
    let state = task.state.get();
    let problem = state.error.as_deref().unwrap();
    assert!(problem.contains(&id(1).to_string()) && problem.contains("was removed: restart"), "{problem}");
    assert_eq!((state.current, state.failed), (0, 1));
    std::fs::create_dir(&drives).unwrap();
    task.settle(id(1));
    task.publish();
    assert_eq!(*task.state.get(), KeeperState { directory: drives, current: 1, ..KeeperState::default() });
}

#[test]
fn a_full_file_system_is_named_with_what_helps() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    let task = task(directory.path(), DriveFormat::Iso9660, &store);
    for (errno, remedy) in [
        (nix::libc::ENOSPC, "make room in"),
        (nix::libc::EDQUOT, "make room in"),
        (nix::libc::EROFS, "let the daemon write to"),
    ] {
        let error = WriteError::Io { path: "x".into(), source: io::Error::from_raw_os_error(errno) };
        assert!(task.remedy(&error).starts_with(remedy), "{}", task.remedy(&error));
    }
}

/// As libvirt leaves it, which gives an image to QEMU's user: the daemon cannot read it.
#[test]
fn an_image_that_the_daemon_cannot_read_is_left_alone_while_it_is_current() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    store.put(unreachable(1));
    task(directory.path(), DriveFormat::Iso9660, &store).settle_all(|| false);
    let path = directory.path().join("drives").join(iso(1));
    std::fs::write(&path, "not to be read").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let before = images(directory.path());
    task(directory.path(), DriveFormat::Iso9660, &store).settle_all(|| false);
    assert_eq!(images(directory.path()), before);
}

#[test]
fn a_write_that_was_cut_short_is_made_again() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    store.put(unreachable(1));
    let mut task = task(directory.path(), DriveFormat::Iso9660, &store);
    task.settle(id(1));
    let (path, before) = (directory.path().join("drives").join(iso(1)), images(directory.path()));
    std::fs::write(path.with_extension("iso.mark"), "").unwrap();
    task.settle(id(1));
    let second = images(directory.path());
    assert!(second.len() == 1 && second != before, "{second:?}");
    std::fs::remove_file(&path).unwrap();
    task.settle(id(1));
    assert_eq!(images(directory.path()).len(), 1);
}

#[test]
fn a_group_that_there_is_may_read_and_one_that_there_is_not_is_named() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    store.put(unreachable(1));
    let own = nix::unistd::Group::from_gid(nix::unistd::getegid()).unwrap().unwrap();
    let path = directory.path().join("drives").join(iso(1));
    for (group, mode, is_right) in
        [(own.name.as_str(), 0o640, true), ("no-such-group", 0o600, false), ("", 0o600, true)]
    {
        let settings = ConfigDrive { group: group.to_owned(), ..settings(directory.path(), DriveFormat::Iso9660) };
        let mut task = with(&settings, &store);
        task.settle_all(|| false);
        task.publish();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (mode, own.gid.as_raw()), "{group}");
        let error = task.state.get().error.clone();
        assert_eq!(error.is_none(), is_right, "{error:?}");
        assert!(error.is_none_or(|error| error.contains("configdrive.group") && error.contains(group)));
    }
}

#[test]
fn a_directory_that_others_can_change_is_refused_and_so_is_a_link() {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(place.path(), DriveFormat::Iso9660);
    let open = || Images::open(&settings).map(drop).map_err(|error| error_text::chain(&error));
    open().unwrap();
    let mode = |mode| std::fs::set_permissions(&settings.directory, std::fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!(std::fs::metadata(&settings.directory).unwrap().mode() & 0o7777, 0o711);
    for writable in [0o770, 0o777, 0o1777] {
        mode(writable);
        assert!(open().unwrap_err().contains("others may write to it"));
    }
    mode(0o750);
    open().unwrap();
    assert_eq!(std::fs::metadata(&settings.directory).unwrap().mode() & 0o7777, 0o750, "the operator's mode stays");
    std::fs::rename(&settings.directory, place.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &settings.directory).unwrap();
    assert!(open().unwrap_err().contains("cannot be opened"));
    std::fs::remove_file(&settings.directory).unwrap();
    std::fs::write(&settings.directory, "").unwrap();
    assert!(open().unwrap_err().contains("cannot be opened"));
    let below_nothing = ConfigDrive { directory: place.path().join("a/b"), ..settings };
    assert!(Images::open(&below_nothing).is_err());
}

#[test]
fn where_images_are_switched_off_those_that_there_are_go() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    let drives = directory.path().join("drives");
    assert_eq!(files::clear(&drives).unwrap(), 0, "there is no directory");
    store.put(unreachable(1));
    store.put(unreachable(2));
    task(directory.path(), DriveFormat::Iso9660, &store).settle_all(|| false);
    std::fs::write(drives.join("else"), "of somebody else").unwrap();
    assert_eq!(files::clear(&drives).unwrap(), 2);
    assert_eq!(images(directory.path()).keys().collect::<Vec<_>>(), ["else"]);
    assert_eq!(std::fs::read_dir(&drives).unwrap().count(), 1, "marks go too");
}

#[test]
fn content_that_is_not_complete_leaves_the_image_as_it_is() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    let mut task = task(directory.path(), DriveFormat::Iso9660, &store);
    task.auto = AutoDrive::All;
    store.put(unreachable(1));
    task.settle_all(|| false);
    let before = images(directory.path());
    store.put_nova_pages(crate::api::NovaPages::new(id(1), []));
    task.settle(id(1));
    task.publish();
    assert_eq!(images(directory.path()), before);
    assert_eq!((task.state.get().current, task.state.get().waiting), (0, 1));
}

#[test]
fn a_stop_is_noticed_between_two_images() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    let mut task = task(directory.path(), DriveFormat::Iso9660, &store);
    for number in 1..=3 {
        store.put(unreachable(number));
    }
    let asked = std::cell::Cell::new(0);
    task.settle_all(|| asked.replace(asked.get() + 1) == 2);
    assert_eq!(images(directory.path()).len(), 2);
}

#[test]
fn what_an_observer_reports_counts_as_the_document_does() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    let mut task = task(directory.path(), DriveFormat::Iso9660, &store);
    store.put(record(1, "p", &["tap1"]));
    task.settle_all(|| false);
    assert!(images(directory.path()).is_empty());
    for there in [true, false] {
        task.observed = Box::new(move || if there { [id(1)].into() } else { BTreeSet::new() });
        task.observe();
        assert_eq!(images(directory.path()).len(), usize::from(there));
        assert_eq!(is_empty(directory.path()), !there);
    }
}

#[test]
fn a_policy_without_metadata_has_no_drive() {
    let (directory, store) = (tempfile::tempdir().unwrap(), Arc::new(Store::new(Cloud::default())));
    let mut task = task(directory.path(), DriveFormat::Iso9660, &store);
    store.put(unreachable(1));
    task.settle(id(1));
    let mut off = unreachable(1);
    off.policy.access.metadata = Some(false);
    store.put(off);
    task.settle(id(1));
    assert!(is_empty(directory.path()));
}
