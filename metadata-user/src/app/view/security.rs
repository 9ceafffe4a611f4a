//! The daemon's threads as the admin API shows them.

use std::io;

use crate::admin::wire::{HeldCapability, Security, Thread};
use crate::privilege::{self, PROFILES, Seccomp, ThreadState};

/// Returns what each thread may do.
pub(super) fn security() -> io::Result<Security> {
    let threads = privilege::threads()?.into_iter().map(thread).collect();
    let refused = privilege::refused_calls();
    Ok(Security {
        no_user: privilege::why_no_user(),
        refused_calls: refused.map_or(0, |call| call.count),
        last_refused_call: refused.map(|call| call.number),
        threads,
    })
}

fn thread(state: ThreadState) -> Thread {
    let profile = state.applied.as_ref().map(|applied| applied.profile);
    let (seccomp, seccomp_filters) = match state.seccomp {
        Seccomp::Off => ("off", None),
        Seccomp::Strict => ("strict", None),
        Seccomp::Filter(count) => ("filter", count),
    };
    let held = |name: String| HeldCapability { reason: reason(profile, &name), name };
    Thread {
        id: state.id,
        name: state.name,
        user: state.user,
        group: state.group,
        profile: profile.map(str::to_owned),
        capabilities: state.effective.into_iter().map(held).collect(),
        permitted: state.permitted,
        inheritable: state.inheritable,
        ambient: state.ambient,
        bounding: state.bounding,
        no_new_privileges: state.no_new_privileges,
        seccomp: seccomp.to_owned(),
        seccomp_filters,
        landlock: state.applied.and_then(|applied| applied.landlock).map(|landlock| landlock.to_string()),
    }
}

/// Returns what a thread of this profile needs a capability for.
fn reason(profile: Option<&str>, capability: &str) -> Option<String> {
    let profile = PROFILES.into_iter().find(|known| Some(known.name) == profile)?;
    let need = profile.capabilities.iter().find(|need| need.capability.to_string() == capability)?;
    Some(need.reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_shown_with_the_reason_of_its_threads_profile() {
        assert!(reason(Some("ports"), "CAP_NET_ADMIN").is_some_and(|reason| reason.contains("attach")));
        assert_eq!(reason(Some("guests"), "CAP_NET_ADMIN"), None);
        assert_eq!(reason(None, "CAP_NET_ADMIN"), None);
    }

    #[test]
    fn this_process_is_shown() {
        let shown = security().expect("read");
        assert!(shown.threads.iter().any(|thread| thread.seccomp == "off"));
    }
}
