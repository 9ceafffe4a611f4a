//! Empty databases of Keystone, Placement, Neutron and Nova, made once by their own programs and copied for each cloud.
//!
//! They are kept beside the programs that made them, under a name that has a hash of what they are made from.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};

use super::configuration::{Values, write};
use super::supervisor::{script, tool};
use crate::command;
use crate::fetched;
use crate::shared::Shared;

/// Whose they are; each has a directory of this name.
pub(super) const PROGRAMS: [&str; 4] = ["nova", "neutron", "keystone", "placement"];

/// The directory with the databases.
static SCHEMA: Shared<PathBuf> = Shared::new(find_or_make);

/// Copies all databases, and what goes with them, to a directory.
pub(super) fn copy(to: &Path) -> Result<()> {
    copy_of("", to)
}

/// Copies Nova's databases over those of a cloud.
pub(super) fn copy_nova(to: &Path) -> Result<()> {
    copy_of("nova", &to.join("nova"))
}

fn copy_of(part: &str, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let from = SCHEMA.get().context("making OpenStack's databases")?.join(part).join(".");
    command::run(Command::new("cp").arg("-a").arg(from).arg(to), "").map(drop)
}

fn find_or_make() -> Result<PathBuf> {
    let collection = fetched::collection("cloud")?;
    let mut hash = DefaultHasher::new();
    for file in [script("schema.py"), script("etc/keystone.conf"), collection.join("complete")] {
        fs::read(&file).with_context(|| format!("reading {}", file.display()))?.hash(&mut hash);
    }
    let kept = collection.join(format!("databases-{:016x}", hash.finish()));
    if kept.exists() {
        return Ok(kept);
    }
    let made = tempfile::Builder::new().prefix("making-").tempdir_in(&collection).context("making a directory")?;
    thread::scope(|scope| {
        let all = PROGRAMS.map(|program| scope.spawn(move || make(program)));
        let path = made.path();
        fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }
        for (thread, program) in all.into_iter().zip(PROGRAMS) {
            let directory = join(thread)?;
            command::run(Command::new("cp").arg("-a").arg(directory.path()).arg(path.join(program)), "")?;
        }
        anyhow::Ok(())
    })?;
    // Another process may have made the same meanwhile: either will do.
    if fs::rename(made.path(), &kept).is_ok() {
        let _ = made.keep();
    }
    Ok(kept)
}

fn make(program: &str) -> Result<tempfile::TempDir> {
    let directory = tempfile::Builder::new().prefix("metadatad-databases-").tempdir().context("making a directory")?;
    write(program, directory.path(), &Values::none())?;
    let mut make = Command::new(tool("python3")?);
    make.arg(script("schema.py")).arg(program).arg(directory.path());
    command::run(&mut make, "").with_context(|| format!("making the databases of {program}"))?;
    for name in ["conf", "log"] {
        let _ = fs::remove_file(directory.path().join(format!("{program}.{name}")));
    }
    Ok(directory)
}
