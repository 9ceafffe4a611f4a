//! Closes the file system to the calling thread, or all but a few directories of it to changes.
//!
//! Promises, as far as the kernel's landlock knows of these; what is open stays open:
//! - [`restrict`]: no file can be opened, made, removed, renamed, truncated or executed, no TCP socket bound or connected, and no
//!   signal or abstract Unix socket reaches outside;
//! - [`restrict_changes`]: at the given places alone, files can be written, made, removed, renamed or truncated; everything can be
//!   read that the user may read. Files in /proc and /sys, devices and BPF file systems count as any other.
//!
//! In both, nothing can be mounted, and no process outside be traced.
//!
//! Left out: modes, owners and extended attributes, which landlock does not know; connecting to a Unix socket by its path.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ::landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, Scope, make_bitflags, path_beneath_rules,
};

use nix::fcntl::OFlag;
use parking_lot::Mutex;

/// The newest version whose accesses are asked for; an older kernel takes those that it knows.
const NEWEST: ABI = ABI::V6;

/// A place where a thread changes files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writable {
    /// In and below a directory, everything. Of one that does not exist yet, the nearest one above it that does is meant, but not the
    /// whole file system.
    Directory(PathBuf),
    /// Below a directory of a BPF file system: pins and directories can be made and removed, and nothing written. Landlock knows a
    /// directory and not its name, so this is granted on the directory above the file system: it holds for another one that is
    /// mounted there later, and for all pins of both.
    Pins(PathBuf),
    /// Settings of the kernel in and below a directory of `/proc/sys`, which is there.
    Settings(PathBuf),
    /// One file, which is there.
    File(PathBuf),
}

/// Directories of [`Writable::Settings`]. procfs makes a directory anew when nobody has had it open for a while, and landlock would not
/// know that one.
static KEPT: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// What making and removing pins takes.
const PINNING: BitFlags<AccessFs> = make_bitflags!(AccessFs::{MakeReg | MakeDir | RemoveFile | RemoveDir});

impl Writable {
    /// Returns the path that the kernel is given, and what may be done there; `None`: there is none.
    fn granted(&self) -> Option<(PathBuf, BitFlags<AccessFs>)> {
        let all = AccessFs::from_write(NEWEST);
        match self {
            Self::Directory(path) if path.parent().is_none() => Some((path.clone(), all)),
            Self::Directory(path) => existing(path).map(|path| (path, all)),
            Self::Pins(path) => {
                let there = existing(path)?;
                Some((above_mount(&there).unwrap_or(there), PINNING))
            }
            Self::Settings(path) => {
                let open = OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open(path).ok()?;
                KEPT.lock().push(open);
                Some((path.clone(), make_bitflags!(AccessFs::{WriteFile | Truncate})))
            }
            // Of these, files have only what is for files (`path_beneath_rules`).
            Self::File(path) => path.exists().then(|| (path.clone(), all)),
        }
    }
}

/// What landlock does for a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// Nothing is open to it, in this version of the kernel's interface.
    Applied(u32),
    /// It changes files at these places only.
    Changes {
        /// Version of the kernel's interface.
        version: u32,
        /// Files, and directories with what is below them.
        paths: Vec<PathBuf>,
        /// Directories below which it makes and removes pins.
        pins: Vec<PathBuf>,
    },
    /// It is not in force, for this reason.
    Absent(&'static str),
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(version) => {
                let scope = match version {
                    0..=3 => "no file",
                    4..=5 => "no file, no TCP port",
                    _ => "no file, no TCP port, no signal or abstract socket outside",
                };
                write!(f, "{scope} (version {version})")
            }
            Self::Changes { version, paths, pins } if paths.is_empty() && pins.is_empty() => {
                write!(f, "changes no file (version {version})")
            }
            Self::Changes { version, paths, pins } => {
                f.write_str("changes only")?;
                for path in pins {
                    write!(f, " pins below {}", path.display())?;
                }
                for path in paths {
                    write!(f, " {}", path.display())?;
                }
                write!(f, " (version {version})")
            }
            Self::Absent(why) => f.write_str(why),
        }
    }
}

/// Takes every access away, by a ruleset without a rule.
pub(super) fn restrict() -> Result<Landlock, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(match in_force(&status) {
        Ok(version) => Landlock::Applied(version),
        Err(why) => Landlock::Absent(why),
    })
}

/// Takes every change of a file away but at these places.
pub(super) fn restrict_changes(places: &[Writable]) -> Result<Landlock, RulesetError> {
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_write(NEWEST))?.create()?;
    let (mut paths, mut pins) = (Vec::new(), Vec::new());
    for place in places {
        let Some((path, access)) = place.granted() else { continue };
        ruleset = ruleset.add_rules(path_beneath_rules([&path], access))?;
        if matches!(place, Writable::Pins(_)) { &mut pins } else { &mut paths }.push(path);
    }
    let status = ruleset.restrict_self()?;
    Ok(match in_force(&status) {
        Ok(version) => Landlock::Changes { version, paths, pins },
        Err(why) => Landlock::Absent(why),
    })
}

/// Returns the path, or what there is of it; not the whole file system.
fn existing(path: &Path) -> Option<PathBuf> {
    let found = path.ancestors().find(|ancestor| ancestor.exists())?;
    (found.parent().is_some()).then(|| found.to_owned())
}

/// Returns the directory above the file system that a directory is on; `None` if that is the whole file system.
fn above_mount(path: &Path) -> Option<PathBuf> {
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    let own = device(path)?;
    let above = path.ancestors().find(|ancestor| device(ancestor) != Some(own))?;
    above.parent().is_some().then(|| above.to_owned())
}

/// Returns the version in force, or why there is none.
fn in_force(status: &RestrictionStatus) -> Result<u32, &'static str> {
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Ok(effective_abi as u32),
        LandlockStatus::NotEnabled => Err("landlock is off: add it to the kernel parameter lsm="),
        LandlockStatus::NotImplemented => Err(
            "no landlock: this kernel lacks it (CONFIG_SECURITY_LANDLOCK), or the unit's SystemCallFilter= forbids it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_depends_on_the_version() {
        for (version, expected) in [(1, "no file (version 1)"), (4, "no file, no TCP port (version 4)")] {
            assert_eq!(Landlock::Applied(version).to_string(), expected);
        }
        assert!(Landlock::Applied(7).to_string().contains("no signal"));
        let changes = |paths, pins| Landlock::Changes { version: 3, paths, pins }.to_string();
        assert_eq!(changes(Vec::new(), Vec::new()), "changes no file (version 3)");
        let paths = vec!["/var/lib/a".into(), "/b".into()];
        assert_eq!(changes(paths.clone(), Vec::new()), "changes only /var/lib/a /b (version 3)");
        let with_pins = "changes only pins below /sys/fs /var/lib/a /b (version 3)";
        assert_eq!(changes(paths, vec!["/sys/fs".into()]), with_pins);
    }

    #[test]
    fn a_path_that_does_not_exist_means_the_nearest_directory_above_it() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(existing(&directory.path().join("a/b")).as_deref(), Some(directory.path()));
        assert_eq!(existing(Path::new("/nonexistent/a")), None, "not the whole file system");
        let granted = |path: &str| Writable::Directory(path.into()).granted().map(|(path, _)| path);
        assert_eq!(granted("/"), Some("/".into()), "unless that is what the configuration says");
    }

    #[test]
    fn pins_are_granted_above_their_file_system() {
        // Mounted wherever this runs, and on nothing but the whole file system.
        assert_eq!(above_mount(Path::new("/proc/self")), None);
        assert_eq!(above_mount(Path::new("/dev/pts")).as_deref(), Some(Path::new("/dev")));
        let directory = tempfile::tempdir().expect("a directory");
        let (granted, access) = Writable::Pins(directory.path().join("bpf")).granted().expect("granted");
        assert!(directory.path().starts_with(granted) && !access.contains(AccessFs::WriteFile));
    }
}
