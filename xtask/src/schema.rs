//! `cargo xtask schema`: the published JSON Schema of the documents, written anew.
//!
//! The daemon prints it; `tests/api/schema.rs` fails while the file is not the daemon's.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::command::{cargo, root, show};

/// Writes `deploy/instance.schema.json`.
pub(crate) fn run() -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "metadata-user", "--bin", "metadatad", "--", "schema"]);
    show(&command);
    let output = command.stderr(std::process::Stdio::inherit()).output().context("starting cargo")?;
    ensure!(output.status.success(), "metadatad schema failed: {}", output.status);
    let path = root().join("deploy/instance.schema.json");
    fs::write(&path, &output.stdout).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("{} written", path.display());
    Ok(())
}
