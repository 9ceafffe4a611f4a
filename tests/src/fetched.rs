//! Programs of others that `cargo xtask setup` has fetched.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Returns the directory under `target` into which `cargo xtask setup --NAME` puts a collection.
///
/// # Errors
/// If it is missing, or was not fetched to the end.
pub fn collection(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program's own path")?;
    let target = own.ancestors().find(|directory| directory.ends_with("target")).unwrap_or(Path::new("/"));
    let directory = target.join(name);
    if !directory.join("complete").exists() {
        bail!("{} is missing or incomplete: run `cargo xtask setup --{name}`", directory.display());
    }
    Ok(directory)
}
