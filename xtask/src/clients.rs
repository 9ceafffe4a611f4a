//! `cargo xtask setup --clients`: the real clients that `tests/clients` runs, in `target/clients`.
//!
//! Node's are what tests/clients/node/package-lock.json says. systemd-imdsd is Debian unstable's, in `imdsd`, with all that it depends
//! on, its C library included: it is run there and nowhere else, by a state of apt's of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{find_program, quiet_output, root, show_and_run, target_directory};
use crate::fetch::{self, Collection};
use crate::image::MIRROR;
use crate::setup;

/// Fetches the clients that are not there yet.
pub(crate) fn setup() -> Result<()> {
    CLIENTS.setup()?;
    let directory = target_directory().join(CLIENTS.name);
    node(&directory.join("node"))?;
    imdsd(&directory.join("imdsd"))
}

/// The clients of Debian's stable release, and of PyPI.
const CLIENTS: Collection = Collection {
    name: "clients",
    what: "cloud-init, cloudbase-init, botocore and ec2-metadata",
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
const PYPI: &[&str] = &["botocore==1.44.5", "cloudbase-init==1.1.9", "ec2-metadata==3.0.0"];
/// Packages that fetching and running them takes.
const NEEDED: &[&str] = &["python3", "python3-venv", "debian-archive-keyring"];

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
const IMDSD: &str = "systemd-imds";
/// What it runs with; their own dependencies come too.
const IMDSD_NEEDS: &[&str] = &["libc6", "libsystemd-shared", "libcurl4t64"];

/// Puts systemd-imdsd and what it needs there.
fn imdsd(directory: &Path) -> Result<()> {
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(());
    }
    eprintln!("fetching {IMDSD} of Debian unstable into {}", directory.display());
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))?;
    }
    let packages = directory.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("making {}", packages.display()))?;
    let apt = Apt::of_unstable(&directory.join("apt"))?;
    show_and_run(apt.command("apt-get").arg("update"))?;
    let mut simulated = apt.command("apt-get");
    simulated.args(["install", "--simulate", "--no-install-recommends"]).args(IMDSD_NEEDS);
    let plan = quiet_output(&mut simulated).context("finding what systemd-imdsd depends on")?;
    let names: Vec<_> = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next()).collect();
    if names.is_empty() {
        bail!("apt found nothing that systemd-imdsd depends on");
    }
    show_and_run(apt.command("apt-get").current_dir(&packages).arg("download").arg(IMDSD).args(names))?;
    fetch::unpack_all(&packages, &directory.join("tree"))?;
    // The lists are large, and not needed again.
    fs::remove_dir_all(&apt.directory).context("removing the state of apt's")?;
    fs::write(&complete, "").with_context(|| format!("writing {}", complete.display()))
}

/// apt with sources and a state of its own: the machine's are as they were, and of nothing is believed that it is installed.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn of_unstable(directory: &Path) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("making {}", part.display()))?;
        }
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let source = format!("deb [signed-by={keys}] {MIRROR} unstable main\n");
        fs::write(directory.join("sources.list"), source).context("writing the sources of apt's")?;
        Ok(Self { directory: directory.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let place = |part: &str| self.directory.join(part).display().to_string();
        for option in [
            format!("Dir::Etc::SourceList={}", place("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", place("lists")),
            "Dir::State::Status=/dev/null".to_owned(),
            format!("Dir::Cache={}", place("cache")),
            // Lists of packages are all that is needed.
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // Its user may not write here.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["--option", &option]);
        }
        command
    }
}
