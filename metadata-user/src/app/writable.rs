//! Where each kind of thread changes files after set-up, by landlock. All threads read what their user may read.
//!
//! | profile | what it changes | why |
//! |---|---|---|
//! | `ports` | pins in `bpf.pin_dir` | links of taps come and go; missing pins are made again, also where the BPF file system is mounted anew |
//! | | `/sys/kernel/rcu_expedited`, `/dev/null` | a process that it starts shortens grace periods (`dataplane/expedite.rs`) |
//! | `responder` | `/proc/sys/net` | settings that others have changed are put back, in the responder's namespace and on the pair's end in the node |
//! | `snapshot` | the directory of `snapshot.path` | a draft is renamed over the snapshot; removals are recorded beside it |
//! | `audit` | the directory of `audit.path`, if the log is a file | the log, and those that it was rotated to |
//! | `main` | the directory of `admin.socket` | the socket is removed at the end |
//! | `take-over` | the directory of `admin.socket` | the socket is put in the place of the other daemon's |
//! | all others | nothing | `source`, `https` and `metrics-tls` read files again that have changed; `facts` reads and connects |
//!
//! Whoever gives a thread something new to change adds it here. What landlock is about is the directory itself and not its name: if it
//! is removed and made anew, or something is mounted over it, the thread changes nothing there until the daemon starts again.
//! [`Writable::Pins`] holds for a file system that is mounted anew, too. A configuration that is read again cannot move these places.

use std::path::Path;

use crate::config::{AuditTarget, Config};
use crate::dataplane;
use crate::privilege::{self, Profile, Writable};

/// Returns the places.
pub(super) fn places(config: &Config) -> Vec<(&'static Profile, Vec<Writable>)> {
    let directory_of = |file: &Path| Writable::Directory(file.parent().unwrap_or(file).to_owned());
    let written = |file: &str| Writable::File(file.into());
    let audit = (config.audit.to == AuditTarget::File).then(|| directory_of(&config.audit.path));
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
        (&privilege::AUDIT, audit.into_iter().collect()),
        (&privilege::MAIN, vec![directory_of(&config.admin.socket)]),
        (&privilege::TAKE_OVER, vec![directory_of(&config.admin.socket)]),
    ]
}
