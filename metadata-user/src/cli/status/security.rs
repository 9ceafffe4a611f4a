//! `metadatad status --security`: what each thread of the daemon may do.

use std::io::Write;

use nix::unistd::{Uid, User};

use crate::admin::wire::{Security, Thread};
use crate::cli::error::CliError;
use crate::cli::table;

/// What the kernel does not say.
const NOTE: &str =
    "All but LANDLOCK is read from the kernel, which does not tell of landlock: shown is what was applied.";

/// Prints the threads, and why they keep what they keep.
pub(super) fn describe(shown: &Security, out: &mut dyn Write) -> Result<(), CliError> {
    let threads = &shown.threads;
    let rows: Vec<_> = threads.iter().map(row).collect();
    let head = ["THREAD", "ID", "USER", "CAPABILITIES", "BOUNDING", "NO_NEW_PRIVS", "SECCOMP", "LANDLOCK"];
    table::print(head, &rows, out)?;
    let mut reasons: Vec<_> = threads
        .iter()
        .flat_map(|thread| thread.capabilities.iter().map(move |held| (thread, held)))
        .map(|(thread, held)| {
            let reason = held.reason.as_deref().unwrap_or("no reason is known: this is a defect, report it");
            format!("{} keeps {}: {reason}", thread.name, held.name)
        })
        .collect();
    reasons.dedup();
    writeln!(out)?;
    for reason in reasons {
        writeln!(out, "{}", table::plain(&reason))?;
    }
    if let Some(why) = &shown.no_user {
        writeln!(out, "No thread has a user of its own: {}", table::plain(why))?;
    }
    if let Some(number) = shown.last_refused_call {
        let count = shown.refused_calls;
        writeln!(out, "System calls refused: {count}, the last one of number {number}; `ausyscall {number}` names it")?;
    }
    writeln!(out, "{NOTE}")?;
    Ok(())
}

fn row(thread: &Thread) -> [String; 8] {
    let names = thread.capabilities.iter().map(|held| short(&held.name)).collect::<Vec<_>>();
    let unused = |set: &[String]| set.iter().any(|name| !thread.capabilities.iter().any(|held| held.name == *name));
    let mut held = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    for (set, name) in
        [(&thread.permitted, "permitted"), (&thread.inheritable, "inheritable"), (&thread.ambient, "ambient")]
    {
        if unused(set) {
            held += &format!(" ({name}: {})", shorts(set));
        }
    }
    [
        thread.name.clone(),
        thread.id.to_string(),
        user(thread.user),
        held,
        if thread.bounding.is_empty() { "none".to_owned() } else { bounding(&thread.bounding) },
        if thread.no_new_privileges { "yes" } else { "no" }.to_owned(),
        thread.seccomp.clone(),
        thread.landlock.clone().unwrap_or_default(),
    ]
}

/// Returns the name without what all names begin with.
fn short(capability: &str) -> &str {
    capability.strip_prefix("CAP_").unwrap_or(capability)
}

fn shorts(set: &[String]) -> String {
    set.iter().map(|name| short(name)).collect::<Vec<_>>().join(" ")
}

/// A bounding set that nobody has cut has all of some forty names.
fn bounding(set: &[String]) -> String {
    const MANY: usize = 8;
    if set.len() > MANY { format!("{} capabilities", set.len()) } else { shorts(set) }
}

fn user(id: u32) -> String {
    User::from_uid(Uid::from_raw(id)).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Inspect as _;
    use crate::admin::server::tests::Sample;

    #[test]
    fn each_thread_is_a_row_and_each_capability_has_its_reason() {
        let mut out = Vec::new();
        describe(&Sample.security().expect("there"), &mut out).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(
            text,
            "THREAD     ID  USER  CAPABILITIES  BOUNDING         NO_NEW_PRIVS  SECCOMP  LANDLOCK\n\
             metadatad  7   root  none          40 capabilities  yes           off      -\n\
             ports      8   root  NET_ADMIN     NET_ADMIN        yes           off      -\n\
             guests     9   root  none          none             yes           filter   no file (version 1)\n\
             \n\
             ports keeps CAP_NET_ADMIN: attach programs to taps\n\
             No thread has a user of its own: there is no user `metadatad`\n\
             System calls refused: 3, the last one of number 59; `ausyscall 59` names it\n\
             All but LANDLOCK is read from the kernel, which does not tell of landlock: shown is what was applied.\n"
        );
    }
}
