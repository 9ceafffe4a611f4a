//! The pin directory: where the kernel half's objects are named in the BPF file system.
//!
//! ```text
//! <pin_dir>/PORTS …               the maps, by name
//! <pin_dir>/links/tap-<ifindex>   a tap's link (tcx only; clsact filters live on their interface)
//! <pin_dir>/links/guard-<ifindex> the link of a tap's guard against impersonation
//! <pin_dir>/links/xdp-<ifindex>   the link of a tap's limits at XDP
//! <pin_dir>/links/to_guest        the pair's links
//! <pin_dir>/links/from_host
//! <pin_dir>/links/qdisc-<ifindex> a mark: the qdisc was made by the daemon
//! <pin_dir>/links/rebuilding      a mark: taps may have programs of another version, with other maps
//! ```
//!
//! While the daemon runs, the directory is held open: umount(8) refuses to unmount its file system then, unless it is told to do so
//! lazily.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{Dataplane, DataplaneError, IfIndex, link::Place};

/// Names of the maps that earlier versions have, and this one does not.
const FORMER_MAPS: [&str; 1] = ["LIMITS"];

/// A pin directory that exists, on a BPF file system.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    dir: PathBuf,
    /// Keeps the file system from being unmounted.
    held: Option<Arc<File>>,
}

impl Pins {
    /// Makes the directory, and mounts a BPF file system on its parent where there is none: only if nothing is in there
    /// (but the pin directory, empty), as a mount hides what is below it from everyone.
    pub(super) fn open(dir: &Path) -> Result<Self, DataplaneError> {
        let parent = dir.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(pin("make the directory", parent))?;
        if !is_bpffs(parent).map_err(pin("look at", parent))? {
            if holds_anything_but(dir, parent).map_err(pin("look into", parent))? {
                return Err(DataplaneError::NotBpffs { dir: dir.to_path_buf(), parent: parent.to_path_buf() });
            }
            tracing::info!(path = %parent.display(), "mounting a BPF file system");
            mount(Some("bpf"), parent, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(io::Error::from)
                .map_err(pin("mount a BPF file system on", parent))?;
        }
        let mut pins = Self::at(dir);
        pins.make_directories()?;
        Ok(pins)
    }

    fn make_directories(&mut self) -> Result<(), DataplaneError> {
        let links = self.link("");
        std::fs::create_dir_all(&links).map_err(pin("make the directory", &links))?;
        self.held = Some(Arc::new(File::open(&self.dir).map_err(pin("open the directory", &self.dir))?));
        Ok(())
    }

    /// Makes the directories again, if they are gone. Mounts nothing: that takes privileges which the daemon has given up, and a
    /// mount in its own mount namespace nobody else would see.
    pub(super) fn make_again(&mut self) -> Result<(), DataplaneError> {
        let parent = self.dir.ancestors().skip(1).find(|parent| parent.exists()).unwrap_or(Path::new("/"));
        if !is_bpffs(parent).map_err(pin("look at", parent))? {
            return Err(DataplaneError::NoBpffs(parent.to_path_buf()));
        }
        self.make_directories()
    }

    /// Names the directory, which may not be there.
    pub(super) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), held: None }
    }

    /// Tells whether the directory exists, with pins in it; one that may not be looked at is an error.
    pub(super) fn exist(&self) -> Result<bool, DataplaneError> {
        let dir = &self.dir;
        match dir.metadata() {
            // Nothing is ever pinned on another file system.
            Ok(found) => Ok(found.is_dir() && is_bpffs(dir).map_err(pin("look at", dir))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(pin("look at", dir)(error)),
        }
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.dir.join("links").join(name)
    }

    /// The link of a program.
    pub(super) fn place(&self, place: Place) -> PathBuf {
        self.link(&place.pin())
    }

    /// The mark of a qdisc that was made here.
    pub(super) fn qdisc(&self, ifindex: IfIndex) -> PathBuf {
        self.link(&format!("qdisc-{ifindex}"))
    }

    /// Returns the interface indexes of pinned links of taps, ascending.
    pub(super) fn taps(&self) -> Vec<IfIndex> {
        let Ok(entries) = std::fs::read_dir(self.dir.join("links")) else {
            return Vec::new();
        };
        let index = |name: &str| {
            let (kind, index) = name.split_once('-')?;
            ["tap", "guard", "xdp"].contains(&kind).then(|| index.parse().ok().map(IfIndex))?
        };
        let mut taps: Vec<_> = entries.flatten().filter_map(|entry| index(entry.file_name().to_str()?)).collect();
        taps.sort_unstable();
        taps.dedup();
        taps
    }

    /// Removes every map pin, so that the next load makes new maps.
    pub(super) fn remove_maps(&self) -> Result<(), DataplaneError> {
        Dataplane::MAPS.iter().chain(&FORMER_MAPS).try_for_each(|name| unpin(&self.map(name)))
    }

    /// Removes the pins of links that this version has none of, which takes their programs off.
    pub(super) fn remove_unknown_links(&self) -> Result<(), DataplaneError> {
        self.remove_links_unless(|name| {
            let is_of_tap = name
                .split_once('-')
                .is_some_and(|(kind, index)| ["tap", "guard", "xdp"].contains(&kind) && index.parse::<u32>().is_ok());
            is_of_tap || ["to_guest", "from_host"].contains(&name)
        })
    }

    /// Removes every link pin, which takes the programs off their interfaces.
    pub(super) fn remove_links(&self) -> Result<(), DataplaneError> {
        self.remove_links_unless(|_| false)
    }

    fn remove_links_unless(&self, stays: impl Fn(&str) -> bool) -> Result<(), DataplaneError> {
        let links = self.dir.join("links");
        for entry in std::fs::read_dir(&links).map_err(pin("list", &links))?.flatten() {
            // Marks of qdiscs are directories; what removes the qdisc removes its mark.
            let stays = entry.file_name().to_str().is_some_and(&stays);
            if !stays && !entry.path().is_dir() {
                unpin(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes everything, the directory itself too.
    pub(super) fn remove_all(&self) -> Result<(), DataplaneError> {
        self.remove_links()?;
        self.remove_maps()?;
        let links = self.dir.join("links");
        for entry in std::fs::read_dir(&links).map_err(pin("list", &links))?.flatten() {
            let _ = std::fs::remove_dir(entry.path());
        }
        for dir in [links, self.dir.clone()] {
            std::fs::remove_dir(&dir).map_err(pin("remove the directory", &dir))?;
        }
        Ok(())
    }
}

/// Removes a pin; one that is not there is removed already.
pub(super) fn unpin(path: &Path) -> Result<(), DataplaneError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(pin("remove", path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn pin(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataplaneError {
    let path = path.to_path_buf();
    move |source| DataplaneError::Pin { doing, path, source }
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == BPF_FS_MAGIC)
}

/// Tells whether a mount on `parent` would hide anything but an empty `dir`.
fn holds_anything_but(dir: &Path, parent: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        if path != dir || !path.is_dir() || std::fs::read_dir(&path)?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_over_files_of_others() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("mine"), "").expect("a file");
        let refused = Pins::open(&directory.path().join("metadatad")).expect_err("not empty");
        assert!(matches!(refused, DataplaneError::NotBpffs { .. }), "{refused}");
        assert!(directory.path().join("mine").exists());
    }

    #[test]
    fn an_empty_pin_directory_is_nothing_to_hide() {
        let directory = tempfile::tempdir().expect("a directory");
        let dir = directory.path().join("metadatad");
        assert!(!holds_anything_but(&dir, directory.path()).expect("looked"));
        std::fs::create_dir(&dir).expect("a directory");
        assert!(!holds_anything_but(&dir, directory.path()).expect("looked"));
        std::fs::create_dir(dir.join("links")).expect("a directory");
        assert!(holds_anything_but(&dir, directory.path()).expect("looked"));
    }

    #[test]
    fn pins_are_on_a_bpf_file_system_or_not_there() {
        let directory = tempfile::tempdir().expect("a directory");
        for dir in [directory.path(), Path::new("/nonexistent/pins")] {
            assert!(!Pins::at(dir).exist().expect("looked"));
        }
    }
}
