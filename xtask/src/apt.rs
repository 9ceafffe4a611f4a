//! Debian's packages with everything that they depend on, the C library included, in a tree of their own, from which they run whatever
//! release this machine has.
//!
//! apt is run with sources and a state of its own, in which nothing is installed; the machine's do not change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{quiet_output, show_and_run};
use crate::fetch;
use crate::image::MIRROR;

/// Programs and their tree.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Their names, for people.
    pub(crate) what: &'static str,
    /// Debian's release.
    pub(crate) suite: &'static str,
    /// Packages, whose dependencies come too.
    pub(crate) packages: &'static [&'static str],
    /// Packages of which only they themselves come.
    pub(crate) alone: &'static [&'static str],
}

impl Tree {
    /// Puts it into `tree` of this directory, unless it is there.
    pub(crate) fn setup(&self, directory: &Path) -> Result<()> {
        let complete = directory.join("complete");
        let wanted = [&[self.suite], self.packages, self.alone].concat().join("\n");
        if fs::read_to_string(&complete).is_ok_and(|found| found == wanted) {
            return Ok(());
        }
        eprintln!("fetching {} of Debian {} into {}", self.what, self.suite, directory.display());
        if directory.exists() {
            fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))?;
        }
        let packages = directory.join("packages");
        fs::create_dir_all(&packages).with_context(|| format!("making {}", packages.display()))?;
        let apt = Apt::of(self.suite, &directory.join("apt"))?;
        show_and_run(apt.command("apt-get").arg("update"))?;
        let mut simulated = apt.command("apt-get");
        simulated.args(["install", "--simulate", "--no-install-recommends"]).args(self.packages);
        let plan = quiet_output(&mut simulated).with_context(|| format!("finding what {} depends on", self.what))?;
        let names: Vec<_> =
            plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next()).collect();
        if names.is_empty() {
            bail!("apt found nothing that {} depends on", self.what);
        }
        show_and_run(apt.command("apt-get").current_dir(&packages).arg("download").args(self.alone).args(names))?;
        fetch::unpack_all(&packages, &directory.join("tree"))?;
        // The lists are large, and not needed again.
        fs::remove_dir_all(&apt.directory).context("removing the state of apt's")?;
        fs::write(&complete, wanted).with_context(|| format!("writing {}", complete.display()))
    }
}

struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn of(suite: &str, directory: &Path) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("making {}", part.display()))?;
        }
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let source = format!("deb [signed-by={keys}] {MIRROR} {suite} main\n");
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
