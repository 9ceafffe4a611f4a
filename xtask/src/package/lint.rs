//! lintian and rpmlint, Debian's: what they say of the packages is an error.
//!
//! Exceptions, each with its reason: `deploy/package/lintian-overrides`, which is in the package, and
//! `deploy/package/rpmlint.toml`.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command::{root, show_and_run};
use crate::setup;

/// What packs a .deb and checks it, and what checks an .rpm.
const OF_DEB: &[&str] = &["binutils", "gzip", "lintian"];
const OF_RPM: &[&str] = &["rpmlint"];

/// Installs lintian, and rpmlint if it is wanted.
pub(super) fn setup(rpm: bool) -> Result<()> {
    let missing = setup::missing_packages(&[OF_DEB, if rpm { OF_RPM } else { &[] }].concat());
    if missing.is_empty() { Ok(()) } else { setup::install(&missing, true) }
}

/// Checks a .deb.
pub(super) fn deb(package: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]);
    show_and_run(lintian.arg(package))
}

/// Checks an .rpm.
pub(super) fn rpm(package: &Path) -> Result<()> {
    let mut rpmlint = Command::new("rpmlint");
    // Its own settings only, not those of the distribution or the user.
    show_and_run(rpmlint.arg("--strict").arg("--config").arg(root().join("deploy/package/rpmlint.toml")).arg(package))
}
