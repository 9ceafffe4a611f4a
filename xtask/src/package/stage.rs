//! The files of the packages, collected in one directory with the manifest that both packing tools read.
//!
//! Promises: what lies in deploy/prometheus, deploy/grafana and docs is packaged without being named here; manual pages and
//! changelogs are compressed as Debian's policy has it; the date in the changelog is that of the last commit, or
//! `SOURCE_DATE_EPOCH`, so that the same tree makes the same package.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::licences;
use crate::command::{quiet_output, root, show_and_run};

/// The program's version: the workspace has one.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where units are.
const UNITS: &str = "usr/lib/systemd/system";
/// Where what is for people is.
const DOC: &str = "usr/share/doc/metadatad";
/// The configurations, which the package manager asks about before it replaces a changed one.
const CONFIGURATIONS: [(&str, &str); 2] = [
    ("deploy/metadatad.toml", "etc/metadatad/metadatad.toml"),
    ("deploy/controller.toml", "etc/metadatad/controller.toml"),
];
/// The units, each in a directory of its own: where one has no file of tmpfiles.d, cargo-deb takes another's beside it.
const UNIT_FILES: [UnitFiles; 2] = [
    UnitFiles { name: "metadatad", directory: "units" },
    UnitFiles { name: "metadatad-controller", directory: "controller-units" },
];

/// A unit and its file of tmpfiles.d.
struct UnitFiles {
    name: &'static str,
    /// The directory that cargo-deb looks in.
    directory: &'static str,
}

/// What is collected.
pub(super) struct Stage<'a> {
    /// The daemon.
    pub(super) binary: &'a Path,
    /// What writes manual pages and completions.
    pub(super) manual: &'a Path,
    /// The CycloneDX document.
    pub(super) materials: Option<&'a Path>,
}

/// A file of the packages.
struct File {
    /// Its path in the directory.
    source: String,
    /// Its path on the system.
    place: String,
    mode: &'static str,
    /// In one of the packages alone.
    only: Option<Tool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Deb,
    Rpm,
}

/// The directory, filled.
pub(super) struct Staged {
    directory: PathBuf,
    files: Vec<File>,
    revision: String,
}

impl Stage<'_> {
    /// Fills the directory anew.
    pub(super) fn fill(&self, directory: &Path, revision: &str) -> Result<Staged> {
        if directory.exists() {
            fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))?;
        }
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let mut staged = Staged { directory: directory.to_owned(), files: Vec::new(), revision: String::new() };
        show_and_run(
            Command::new("strip")
                .args(["--strip-unneeded", "--remove-section=.comment", "-o"])
                .arg(directory.join("metadatad"))
                .arg(self.binary),
        )?;
        staged.there("metadatad", "usr/bin/metadatad", "755");
        show_and_run(Command::new(self.manual).arg(directory).arg(date("+%Y-%m-%d")?))?;
        staged.pages()?;
        for (name, place) in [
            ("metadatad.bash", "usr/share/bash-completion/completions/metadatad"),
            ("metadatad.fish", "usr/share/fish/vendor_completions.d/metadatad.fish"),
        ] {
            staged.there(&format!("completions/{name}"), place, "644");
        }
        // Where zsh looks differs.
        for (tool, place) in [(Tool::Deb, "vendor-completions"), (Tool::Rpm, "site-functions")] {
            staged.only(tool, "completions/_metadatad", &format!("usr/share/zsh/{place}/_metadatad"), "644");
        }
        for (from, place) in CONFIGURATIONS {
            staged.copy(from, place)?;
        }
        for schema in ["instance", "metadatad", "controller"] {
            let name = format!("{schema}.schema.json");
            staged.copy(&format!("deploy/{name}"), &format!("usr/share/metadatad/{name}"))?;
        }
        for (from, extension, to) in [
            ("deploy/prometheus", "yml", "usr/share/metadatad/prometheus"),
            ("deploy/grafana", "json", "usr/share/metadatad/grafana"),
            ("deploy/metadatad.service.d", "conf", "usr/share/metadatad/metadatad.service.d"),
            ("deploy/guest", "hwdb", "usr/share/metadatad/guest"),
            ("deploy/guest", "cfg", "usr/share/metadatad/guest"),
            ("docs", "md", DOC),
            ("docs", "svg", DOC),
        ] {
            staged.copy_all(from, extension, to)?;
        }
        staged.source("deploy/libvirt/qemu", "libvirt-qemu")?;
        staged.there("libvirt-qemu", "usr/share/metadatad/libvirt/qemu", "755");
        if let Some(materials) = self.materials {
            fs::copy(materials, directory.join("metadatad.cdx.json"))
                .with_context(|| format!("copying {}", materials.display()))?;
            staged.there("metadatad.cdx.json", &format!("{DOC}/metadatad.cdx.json"), "644");
        }
        fs::write(directory.join("third-party-licences"), licences::texts()?).context("writing the licences")?;
        staged.source("CHANGELOG.md", "changelog")?;
        staged
            .compress(&["third-party-licences", "changelog"].map(|name| (name.to_owned(), format!("{DOC}/{name}"))))?;
        staged.of_debian()?;
        staged.of_rpm()?;
        staged.set_revision(revision)?;
        Ok(staged)
    }
}

impl Staged {
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn manifest(&self) -> PathBuf {
        self.directory.join("Cargo.toml")
    }

    pub(super) fn debian_version(&self) -> String {
        format!("{VERSION}-{}", self.revision)
    }

    /// Writes the manifest and Debian's changelog for this revision.
    pub(super) fn set_revision(&mut self, revision: &str) -> Result<()> {
        revision.clone_into(&mut self.revision);
        let changelog = format!(
            "metadatad ({}) unstable; urgency=medium\n\n  * What changes for operators is in changelog.gz beside this file.\n\n \
             -- metadatad maintainers <metadatad@packages.invalid>  {}\n",
            self.debian_version(),
            date("--rfc-email")?
        );
        self.write("changelog.Debian", &changelog)?;
        let fixed = read(&root().join("deploy/package/manifest.toml"))?;
        let mut manifest = format!(
            "[workspace]\n\n[package]\nname = \"metadatad\"\nversion = \"{VERSION}\"\nedition = \"2024\"\nlicense = \"Apache-2.0\"\n\
             description = \"Metadata service for the guests of a KVM compute node\"\n\n[lib]\npath = \"empty.rs\"\n\n{fixed}"
        );
        self.write("empty.rs", "//! There for cargo alone.\n")?;
        for (tool, table) in [(Tool::Deb, "deb"), (Tool::Rpm, "generate-rpm")] {
            for file in self.files.iter().filter(|file| file.only.is_none_or(|only| only == tool)) {
                let File { source, place, mode, .. } = file;
                // cargo-deb takes what is in /etc for configuration by itself.
                let is_configuration = CONFIGURATIONS.iter().any(|(_, configuration)| configuration == place);
                let config = if tool == Tool::Rpm && is_configuration { "config = \"noreplace\"\n" } else { "" };
                let is_doc = place.starts_with(DOC) || place.starts_with("usr/share/man/");
                let doc = if tool == Tool::Rpm && is_doc { "doc = true\n" } else { "" };
                let place = if tool == Tool::Rpm { format!("/{place}") } else { place.clone() };
                writeln!(
                    manifest,
                    "\n[[package.metadata.{table}.assets]]\nsource = \"{source}\"\ndest = \"{place}\"\nmode = \"{mode}\"\n{config}{doc}"
                )?;
            }
        }
        self.write("Cargo.toml", &manifest)
    }

    /// What only Debian's package has. cargo-deb finds the unit, sysusers.d's and tmpfiles.d's file by their names.
    fn of_debian(&mut self) -> Result<()> {
        for UnitFiles { name, directory } in UNIT_FILES {
            self.source(&format!("deploy/{name}.service"), &format!("{directory}/{name}.service"))?;
            self.source(&format!("deploy/package/{name}.tmpfile"), &format!("{directory}/{name}.tmpfile"))?;
        }
        self.source("deploy/package/metadatad.sysusers", "units/metadatad.sysusers")?;
        for script in ["prerm", "postrm"] {
            self.source(&format!("deploy/package/debian/{script}"), &format!("debian/{script}"))?;
        }
        self.source("deploy/package/copyright", "copyright")?;
        self.source("deploy/package/lintian-overrides", "lintian-overrides")?;
        self.only(Tool::Deb, "lintian-overrides", "usr/share/lintian/overrides/metadatad", "644");
        Ok(())
    }

    /// What only the .rpm has.
    fn of_rpm(&mut self) -> Result<()> {
        for script in ["post", "preun", "postun"] {
            self.source(&format!("deploy/package/rpm/{script}"), &format!("rpm/{script}"))?;
        }
        self.source("LICENSE", "LICENSE")?;
        for UnitFiles { name, directory } in UNIT_FILES {
            self.only(Tool::Rpm, &format!("{directory}/{name}.service"), &format!("{UNITS}/{name}.service"), "644");
            self.only(
                Tool::Rpm,
                &format!("{directory}/{name}.tmpfile"),
                &format!("usr/lib/tmpfiles.d/{name}.conf"),
                "644",
            );
        }
        self.only(Tool::Rpm, "units/metadatad.sysusers", "usr/lib/sysusers.d/metadatad.conf", "644");
        self.only(Tool::Rpm, "LICENSE", "usr/share/licenses/metadatad/LICENSE", "644");
        Ok(())
    }

    /// The manual pages that were written, compressed.
    fn pages(&mut self) -> Result<()> {
        let pages = names(&self.directory.join("man"))?.into_iter().map(|name| {
            let section = name.rsplit('.').next().unwrap_or_default();
            (format!("man/{name}"), format!("usr/share/man/man{section}/{name}"))
        });
        self.compress(&pages.collect::<Vec<_>>())
    }

    /// Adds a file that is in the directory.
    fn there(&mut self, source: &str, place: &str, mode: &'static str) {
        self.files.push(File { source: source.to_owned(), place: place.to_owned(), mode, only: None });
    }

    fn only(&mut self, tool: Tool, source: &str, place: &str, mode: &'static str) {
        self.there(source, place, mode);
        if let Some(file) = self.files.last_mut() {
            file.only = Some(tool);
        }
    }

    /// Compresses files that are in the directory, and adds them: source and place.
    fn compress(&mut self, files: &[(String, String)]) -> Result<()> {
        let mut gzip = Command::new("gzip");
        gzip.current_dir(&self.directory).args(["--best", "--no-name", "--force"]);
        show_and_run(gzip.args(files.iter().map(|(source, _)| source)))?;
        files.iter().for_each(|(source, place)| self.there(&format!("{source}.gz"), &format!("{place}.gz"), "644"));
        Ok(())
    }

    /// Copies a file of the tree to where tools look for it.
    fn source(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (root().join(from), self.directory.join(to));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        Ok(())
    }

    /// Copies a file of the tree, and adds it.
    fn copy(&mut self, from: &str, place: &str) -> Result<()> {
        let source = Path::new(from).file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.source(from, &source)?;
        self.there(&source, place, "644");
        Ok(())
    }

    /// Copies the files of a directory of the tree that end so, and adds them. None, where there is no such directory.
    fn copy_all(&mut self, from: &str, extension: &str, place: &str) -> Result<()> {
        if !root().join(from).is_dir() {
            return Ok(());
        }
        for name in names(&root().join(from))? {
            if Path::new(&name).extension().is_some_and(|found| found == extension) {
                let source = format!("{from}/{name}");
                self.source(&source, &source)?;
                self.there(&source, &format!("{place}/{name}"), "644");
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.directory.join(name), text).with_context(|| format!("writing {name}"))
    }
}

/// Returns the names in a directory, in order.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Returns the date of what is packaged, in this format of date(1).
fn date(format: &str) -> Result<String> {
    let seconds = env::var("SOURCE_DATE_EPOCH").ok();
    let seconds =
        seconds.or_else(|| quiet_output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct"])));
    let Some(seconds) = seconds.map(|seconds| seconds.trim().to_owned()).filter(|seconds| !seconds.is_empty()) else {
        bail!("the date of the changelog is not known: set SOURCE_DATE_EPOCH where there is no git");
    };
    let mut command = Command::new("date");
    let date = quiet_output(command.env("LC_ALL", "C").args(["--utc", "--date", &format!("@{seconds}"), format]));
    date.map(|date| date.trim().to_owned()).with_context(|| format!("SOURCE_DATE_EPOCH is not a time: {seconds}"))
}
