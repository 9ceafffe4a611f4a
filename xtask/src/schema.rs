//! `cargo xtask schema`: the published schemas, the example configuration, its reference and the metrics', written anew.
//!
//! The daemon prints them; tests fail while a file is not what it prints.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::command::{cargo, root, show};

/// What `metadatad schema` prints, and where it is published.
const FILES: [(&str, &str); 8] = [
    ("documents", "deploy/instance.schema.json"),
    ("configuration", "deploy/metadatad.schema.json"),
    ("example", "deploy/metadatad.toml"),
    ("reference", "docs/configuration.md"),
    ("metrics", "docs/metrics.md"),
    ("controller", "deploy/controller.schema.json"),
    ("controller-example", "deploy/controller.toml"),
    ("controller-reference", "docs/controller-configuration.md"),
];

/// Writes all of them.
pub(crate) fn run() -> Result<()> {
    for (what, path) in FILES {
        let mut command = cargo();
        command.args(["run", "--quiet", "--package", "metadata-user", "--bin", "metadatad", "--", "schema", what]);
        show(&command);
        let output = command.stderr(std::process::Stdio::inherit()).output().context("starting cargo")?;
        ensure!(output.status.success(), "metadatad schema {what} failed: {}", output.status);
        let path = root().join(path);
        fs::write(&path, &output.stdout).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("{} written", path.display());
    }
    Ok(())
}
