//! `cargo xtask schema`: the published schemas, the example configuration, its reference and the metrics', written anew.
//!
//! The daemon prints them; tests fail while a file is not what it prints.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::command::{cargo, root, show, show_and_run, target_directory};

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

/// Builds the daemon, and writes all of them.
pub(crate) fn run() -> Result<()> {
    show_and_run(cargo().args(["build", "--workspace", "--bin", "metadatad"]))?;
    for (what, path) in FILES {
        let mut command = Command::new(target_directory().join("debug/metadatad"));
        command.args(["schema", what]);
        show(&command);
        let output = command.stderr(Stdio::inherit()).output().context("starting metadatad")?;
        ensure!(output.status.success(), "metadatad schema {what} failed: {}", output.status);
        let path = root().join(path);
        fs::write(&path, &output.stdout).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("{} written", path.display());
    }
    Ok(())
}
