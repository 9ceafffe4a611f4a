//! The guard that keeps the lab out of the machine's own network namespace.
//!
//! Promises: it passes only threads that went through [`admit`]ted namespaces, which are files of namespaces that are
//! neither the one this process was started in nor, where the kernel lets it be looked at, that of the machine's first
//! process (a container or a hardened kernel may refuse that look, to root too). Whatever opens a socket, sends or
//! creates a device calls it first, on the thread that would do it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, anyhow, bail};

/// The identity of a namespace: device and inode of its file, whatever the path.
type Identity = (u64, u64);

static ADMITTED: Mutex<Option<HashSet<Identity>>> = Mutex::new(None);

/// Succeeds only on a thread that is in an admitted namespace.
///
/// # Errors
/// If the thread is in the machine's own namespace, or in one that the lab knows nothing of.
pub fn refuse_machine_namespace() -> Result<()> {
    let here = identity(Path::new("/proc/thread-self/ns/net"))?;
    refuse_own(here)?;
    let admitted = ADMITTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !admitted.as_ref().is_some_and(|admitted| admitted.contains(&here)) {
        bail!("refused: the lab works only in network namespaces that it knows, and this is none of them");
    }
    Ok(())
}

/// Succeeds only for the file of a namespace that is not the machine's own, and lets threads work in it.
///
/// # Errors
/// If it is the machine's own, or this cannot be determined.
pub fn admit(file: &Path) -> Result<()> {
    let found = identity(file)?;
    refuse_own(found)?;
    ADMITTED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(found);
    Ok(())
}

fn refuse_own(found: Identity) -> Result<()> {
    /// Where this process was started: asked for before anything of the lab can have moved a thread.
    static HOME: OnceLock<std::result::Result<Identity, String>> = OnceLock::new();
    let home = HOME.get_or_init(|| identity(Path::new("/proc/self/ns/net")).map_err(|error| format!("{error:#}")));
    let home = home.as_ref().map_err(|error| anyhow!("{error}"))?;
    let first_process = identity(Path::new("/proc/1/ns/net")).ok();
    if found == *home || Some(found) == first_process {
        bail!("refused: this is the machine's own network namespace; the lab works only in namespaces it made");
    }
    Ok(())
}

fn identity(file: &Path) -> Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let found = fs::metadata(file).with_context(|| format!("telling which namespace {} is", file.display()))?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Namespace;
    use crate::{FrameSocket, http};

    #[test]
    fn nothing_is_created_or_sent_in_the_machines_own_namespace() {
        let refused = |outcome: Result<()>| {
            let error = outcome.expect_err("the guard lets the machine's namespace pass");
            assert!(format!("{error:#}").contains("machine's own network namespace"), "{error:#}");
        };
        refused(refuse_machine_namespace());
        refused(FrameSocket::open("lo").map(drop));
        refused(http::Request::get("/").send().map(drop));
        refused(
            Namespace::of_this_machine().and_then(|namespace| namespace.ip("link add lab-none type dummy").map(drop)),
        );
    }

    #[test]
    fn a_made_namespace_passes() {
        let namespace = Namespace::create("guard").unwrap();
        namespace.run(refuse_machine_namespace).unwrap();
    }
}
