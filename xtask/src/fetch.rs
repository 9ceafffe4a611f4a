//! Programs that tests run, put into a directory of their own under `target`.
//!
//! Promises: nothing of them is installed on the machine, so no service of theirs can ever start there: Debian's packages
//! are unpacked, not installed, and PyPI's are in a virtual environment. What is complete is not fetched again.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{find_program, quiet_output, show_and_run, target_directory};
use crate::setup;

/// What installs PyPI's packages.
const UV: &str = "uv==0.13.9";

/// A directory under `target`, and what belongs into it.
#[derive(Debug)]
pub(crate) struct Collection {
    /// Its name: that of the directory. Up to a slash, it is the option of `setup` that asks for it.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) what: &'static str,
    /// Debian's packages, unpacked into `debian`; none where there are none. `dependency-of:` before a name stands for the first package that this
    /// one depends on: a kernel's name changes with each update, that of the package which follows it does not.
    pub(crate) debian: &'static [&'static str],
    /// PyPI's packages, in the virtual environment `venv`; none where there are none.
    pub(crate) pypi: &'static [&'static str],
    /// Debian's packages that are installed, since fetching and running the others takes them.
    pub(crate) needed: &'static [&'static str],
}

impl Collection {
    /// Fetches what is not there yet.
    pub(crate) fn setup(&self) -> Result<()> {
        let directory = target_directory().join(self.name);
        let complete = directory.join("complete");
        let wanted = [self.debian, self.pypi].concat().join("\n");
        if fs::read_to_string(&complete).is_ok_and(|found| has_all(&found, &wanted)) {
            return Ok(());
        }
        let missing = setup::missing_packages(self.needed);
        if !missing.is_empty() {
            setup::install(&missing, true)?;
        }
        if !self.debian.is_empty() && find_program("dpkg-deb").is_none() {
            let option = self.name.split('/').next().unwrap_or_default();
            bail!("{} are Debian's: `cargo xtask setup --{option}` needs apt-get and dpkg-deb", self.what);
        }
        eprintln!("fetching {} into {}", self.what, directory.display());
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
        }
        self.unpack(&directory)?;
        if !self.pypi.is_empty() {
            let venv = directory.join("venv");
            show_and_run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&venv))?;
            install(&venv, self.pypi)?;
        }
        fs::write(&complete, wanted).with_context(|| format!("writing {}", complete.display()))
    }

    /// Downloads Debian's packages and unpacks them.
    fn unpack(&self, directory: &Path) -> Result<()> {
        if self.debian.is_empty() {
            return Ok(());
        }
        let packages = directory.join("packages");
        fs::create_dir_all(&packages).with_context(|| format!("making {}", packages.display()))?;
        let download = || {
            let mut command = Command::new("apt-get");
            // Without the sandbox's user, who may not write here.
            command.current_dir(&packages).args(["--quiet", "--option", "APT::Sandbox::User=root", "download"]);
            let names: Result<Vec<String>> = self.debian.iter().map(|name| resolve(name)).collect();
            show_and_run(command.args(names?))
        };
        if download().is_err() {
            eprintln!("the lists may be missing or older than the archive: refreshing them, then once more");
            show_and_run(Command::new("apt-get").arg("update"))?;
            download()?;
        }
        unpack_all(&packages, &directory.join("debian"))
    }
}

/// Tells whether what was fetched is all that is wanted, and perhaps more.
fn has_all(found: &str, wanted: &str) -> bool {
    wanted.lines().all(|line| found.lines().any(|fetched| fetched == line))
}

/// Installs PyPI's packages into a virtual environment: with uv, which takes a fraction of pip's time, or with pip where uv finds no index.
fn install(venv: &Path, packages: &[&str]) -> Result<()> {
    let pip = || {
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet"]);
        pip
    };
    show_and_run(pip().arg(UV))?;
    let mut uv = Command::new(venv.join("bin/uv"));
    uv.args(["pip", "install", "--quiet", "--python"]).arg(venv.join("bin/python3")).args(packages);
    if show_and_run(&mut uv).is_ok() {
        return Ok(());
    }
    eprintln!("uv cannot install them: once more with pip");
    show_and_run(pip().args(packages))
}

/// Unpacks the Debian packages of a directory into a tree.
pub(crate) fn unpack_all(packages: &Path, tree: &Path) -> Result<()> {
    for entry in fs::read_dir(packages).with_context(|| format!("reading {}", packages.display()))? {
        let package = entry?.path();
        let mut command = Command::new("dpkg-deb");
        let status = command.arg("--extract").arg(&package).arg(tree).status();
        if !status.context("starting dpkg-deb")?.success() {
            bail!("unpacking {} failed", package.display());
        }
    }
    Ok(())
}

/// Returns the package that a name in a collection stands for.
fn resolve(name: &str) -> Result<String> {
    let Some(follower) = name.strip_prefix("dependency-of:") else {
        return Ok(name.to_owned());
    };
    let mut command = Command::new("apt-cache");
    let printed =
        quiet_output(command.args(["depends", "--no-recommends", "--no-suggests", follower])).unwrap_or_default();
    let first = printed.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    first.map(str::to_owned).with_context(|| format!("apt knows nothing that {follower} depends on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_more_than_is_wanted_is_complete() {
        for (found, wanted, complete) in [
            ("a\nb==1", "a\nb==1", true),
            ("a\nb==1\nc", "a\nc", true),
            ("a", "a\nc", false),
            ("b==1", "b==2", false),
            ("", "a", false),
        ] {
            assert_eq!(has_all(found, wanted), complete, "{found:?} for {wanted:?}");
        }
    }
}
