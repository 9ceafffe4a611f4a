//! `cargo xtask golden FACTS.json`: from captured facts to a document and the cloud-wide settings that go with it.
//!
//! The conversion is in the lab (`tests/src/golden.rs`), which the tests share; this starts it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::{cargo, show_and_run};

/// Options of `golden`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The facts: an `instance.json` in the format of tests/golden
    facts: PathBuf,
    /// Write `instances/<uuid>.json`, `cloud.toml` and, if there is any, `vendor_data.json` there, instead of printing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Converts.
pub(crate) fn run(options: &Options) -> Result<()> {
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| format!("finding {}", path.display()));
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "metadatad-tests", "--bin", "golden", "--"]);
    command.arg(absolute(&options.facts)?);
    if let Some(out) = &options.out {
        command.arg("--out").arg(absolute(out)?);
    }
    show_and_run(&mut command)
}
