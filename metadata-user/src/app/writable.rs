//! Where landlock lets each kind of thread change files after set-up. All threads read what their user may read.
//!
//! | profile | what it changes | why |
//! |---|---|---|
//! | `ports` | pins in `bpf.pin_dir` | taps come and go; missing pins are restored, also after the BPF file system was mounted again |
//! | | `/sys/kernel/rcu_expedited`, `/dev/null` | a process that it starts shortens grace periods (`dataplane/expedite.rs`) |
//! | `responder` | `/proc/sys/net` | settings that others have changed are restored, in the responder's namespace and on the pair's end in the node |
//! | `snapshot` | the directory of `snapshot.path` | a draft is renamed over the snapshot; removals are recorded beside it |
//! | `config-drives` | `configdrive.directory`, if images are kept | a draft is renamed over an image; images of instances that went are removed |
//! | `audit` | the directory of `audit.path`, if the log is a file | the log, and those that it was rotated to |
//! | `main` | the directory of `admin.socket` | the socket is removed at the end |
//! | `take-over` | the directory of `admin.socket` | the socket replaces that of the other daemon |
//! | all others | nothing | `source`, `https`, `metrics-tls` and `identity-keys` read files again that have changed; `facts` reads and connects |
//!
//! A thread that changes another file needs an entry here. Landlock is about the directory itself and not its path: if it is removed and
//! created again, or something is mounted over it, the thread can change nothing there until the daemon is restarted.
//! [`Writable::Pins`] also covers a file system that is mounted later. A reload of the configuration does not change these places.

use std::path::Path;

use crate::config::{AuditTarget, AutoDrive, Config};
use crate::dataplane;
use crate::privilege::{self, Profile, Writable};

/// Returns the places.
pub(super) fn places(config: &Config) -> Vec<(&'static Profile, Vec<Writable>)> {
    let directory_of = |file: &Path| Writable::Directory(file.parent().unwrap_or(file).to_owned());
    let written = |file: &str| Writable::File(file.into());
    let audit = (config.audit.to == AuditTarget::File).then(|| directory_of(&config.audit.path));
    let drives = &config.configdrive;
    let drives = (drives.auto != AutoDrive::Off).then(|| Writable::Directory(drives.directory.clone()));
    vec![
        (
            &privilege::PORTS,
            vec![
                Writable::Pins(config.bpf.pin_dir.clone()),
                written(dataplane::RCU_EXPEDITED),
                // The standard error of the process that writes the former.
                written("/dev/null"),
            ],
        ),
        (&privilege::RESPONDER, vec![Writable::Settings("/proc/sys/net".into())]),
        (&privilege::SNAPSHOT, vec![directory_of(&config.snapshot.path)]),
        (&privilege::CONFIG_DRIVES, drives.into_iter().collect()),
        (&privilege::AUDIT, audit.into_iter().collect()),
        (&privilege::MAIN, vec![directory_of(&config.admin.socket)]),
        (&privilege::TAKE_OVER, vec![directory_of(&config.admin.socket)]),
    ]
}
