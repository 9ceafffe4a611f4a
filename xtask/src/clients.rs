//! `cargo xtask setup --clients`: the real clients that `tests/clients` runs, in `target/clients`.
//!
//! Node's are what tests/clients/node/package-lock.json says. systemd-imdsd (Debian unstable's, in `imdsd`), Facter and Ohai (in `ruby`)
//! come with all that they depend on. Programs that read config drives are in `drives`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::Tree;
use crate::command::{find_program, root, show_and_run, target_directory};
use crate::fetch::Collection;
use crate::setup;

/// Fetches the clients that are not there yet.
pub(crate) fn setup() -> Result<()> {
    CLIENTS.setup()?;
    DRIVES.setup()?;
    let directory = target_directory().join(CLIENTS.name);
    node(&directory.join("node"))?;
    IMDSD.setup(&directory.join("imdsd"))?;
    RUBY.setup(&directory.join("ruby"))
}

/// The clients of Debian's stable release, and of PyPI.
const CLIENTS: Collection = Collection {
    name: "clients",
    what: "cloud-init, cloudbase-init, botocore, ec2-metadata and PyJWT",
    debian: DEBIAN,
    pypi: PYPI,
    needed: NEEDED,
};

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
const PYPI: &[&str] = &["botocore==1.44.5", "cloudbase-init==1.1.9", "ec2-metadata==3.0.0", "PyJWT[crypto]==2.15.1"];
/// Packages that fetching and running them takes.
const NEEDED: &[&str] = &["python3", "python3-venv", "debian-archive-keyring"];

/// What reads images of config drives.
const DRIVES: Collection = Collection {
    name: "clients/drives",
    what: "isoinfo, xorriso, fsck.fat and mtools",
    debian: &[
        "dosfstools",
        "genisoimage",
        "libburn4",
        "libisoburn1",
        "libisofs6",
        "libjte2",
        "libmagic1",
        "libreadline8",
        "mtools",
        "xorriso",
    ],
    pypi: &[],
    needed: &["debian-archive-keyring"],
};

/// Puts Node's clients there, as they are locked. None of them runs a script when it is installed.
fn node(directory: &Path) -> Result<()> {
    let own = root().join("tests/clients/node");
    let lock = fs::read_to_string(own.join("package-lock.json")).context("reading the lock of Node's clients")?;
    let complete = directory.join("complete");
    if fs::read_to_string(&complete).is_ok_and(|found| found == lock) {
        return Ok(());
    }
    if find_program("npm").is_none() || find_program("node").is_none() {
        setup::install(&["nodejs", "npm"], true)?;
    }
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(own.join(file), directory.join(file)).with_context(|| format!("copying {file}"))?;
    }
    let mut npm = Command::new("npm");
    show_and_run(npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(directory))?;
    fs::write(&complete, lock).with_context(|| format!("writing {}", complete.display()))
}

/// systemd's client. It opens libcurl by itself, so that is no dependency of its library. systemd itself would be one, which is
/// not needed for a single request.
const IMDSD: Tree = Tree {
    what: "systemd-imdsd",
    suite: "unstable",
    packages: &["libc6", "libsystemd-shared", "libcurl4t64"],
    alone: &["systemd-imds"],
};

/// Facter and Ohai, with the shell and the programs that they start.
const RUBY: Tree =
    Tree { what: "Facter and Ohai", suite: "bookworm", packages: &["facter", "ohai", "dash", "coreutils"], alone: &[] };
