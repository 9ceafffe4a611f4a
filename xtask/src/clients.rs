//! `cargo xtask setup --clients`: the real clients that `tests/clients` runs, in `target/clients`.
//!
//! Promises: nothing of them is installed on the machine, so no service of theirs can ever start there: Debian's packages
//! are unpacked, not installed, and PyPI's are in a virtual environment. What is complete is not fetched again.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{find_program, show_and_run, target_directory};
use crate::setup;

/// cloud-init, and the modules that it imports: all they need beside the distribution's Python.
const DEBIAN: &[&str] = &[
    "cloud-init",
    "python3-attr",
    "python3-certifi",
    "python3-chardet",
    "python3-charset-normalizer",
    "python3-configobj",
    "python3-idna",
    "python3-jinja2",
    "python3-json-pointer",
    "python3-jsonpatch",
    "python3-jsonschema",
    "python3-markupsafe",
    "python3-netifaces",
    "python3-oauthlib",
    "python3-pyrsistent",
    "python3-requests",
    "python3-serial",
    "python3-six",
    "python3-urllib3",
    "python3-yaml",
];
const PYPI: &[&str] = &["botocore==1.44.5", "cloudbase-init==1.1.9", "ec2-metadata==3.0.0"];
/// Packages that fetching and running them takes.
const NEEDED: &[&str] = &["python3", "python3-venv"];

/// Fetches what is not there yet.
pub(crate) fn setup() -> Result<()> {
    let clients = target_directory().join("clients");
    let complete = clients.join("complete");
    let wanted = [DEBIAN, PYPI].concat().join("\n");
    if fs::read_to_string(&complete).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let missing = setup::missing_packages(NEEDED);
    if !missing.is_empty() {
        setup::install(&missing, true)?;
    }
    if find_program("dpkg-deb").is_none() {
        bail!("the clients are Debian's: `cargo xtask setup --clients` needs apt-get and dpkg-deb");
    }
    eprintln!("fetching cloud-init, cloudbase-init, botocore and ec2-metadata into {}", clients.display());
    if clients.exists() {
        fs::remove_dir_all(&clients).with_context(|| format!("removing {}", clients.display()))?;
    }
    debian(&clients)?;
    let venv = clients.join("venv");
    show_and_run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&venv))?;
    show_and_run(Command::new(venv.join("bin/pip")).args(["install", "--quiet"]).args(PYPI))?;
    fs::write(&complete, wanted).with_context(|| format!("writing {}", complete.display()))
}

/// Downloads Debian's packages and unpacks them.
fn debian(clients: &Path) -> Result<()> {
    let packages = clients.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("making {}", packages.display()))?;
    let download = || {
        let mut command = Command::new("apt-get");
        // Without the sandbox's user, who may not write here.
        command.current_dir(&packages).args(["--quiet", "--option", "APT::Sandbox::User=root", "download"]);
        show_and_run(command.args(DEBIAN))
    };
    if download().is_err() {
        eprintln!("the lists may be missing or older than the archive: refreshing them, then once more");
        show_and_run(Command::new("apt-get").arg("update"))?;
        download()?;
    }
    for entry in fs::read_dir(&packages).with_context(|| format!("reading {}", packages.display()))? {
        let package = entry?.path();
        let mut command = Command::new("dpkg-deb");
        let status = command.arg("--extract").arg(&package).arg(clients.join("debian")).status();
        if !status.context("starting dpkg-deb")?.success() {
            bail!("unpacking {} failed", package.display());
        }
    }
    Ok(())
}
