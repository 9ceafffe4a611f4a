//! `cargo xtask package`: the daemon as a .deb and an .rpm, with a bill of materials.
//!
//! Promises: the binary names the crates that it is made of, and a CycloneDX document beside it lists the same; both packages
//! hold the same files, collected in one place ([`stage`]), and what lintian and rpmlint say of them is an error unless an
//! override gives the reason. The tools are of one version each, in `target/package-tools`; they come from crates.io and are
//! compiled: with optimisations, since without them compressing takes longer than compiling saves.
//!
//! What tests install differs in two points: the binary is the one that they have, not a release's, and there is no CycloneDX
//! document. They have no .rpm: what makes it takes longer to compile than all that they do with the .deb.

mod licences;
mod lint;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

use self::stage::{Stage, Staged, VERSION};
use crate::build;
use crate::command::{cargo, root, show_and_run, target_directory};

/// What makes a release's binary and its bill of materials, by version.
const AUDITABLE: &str = "cargo-auditable@0.7.7";
const CYCLONEDX: &str = "cargo-cyclonedx@0.5.9";
/// What packs.
const DEB: &str = "cargo-deb@3.8.0";
const RPM: &str = "cargo-generate-rpm@0.21.1";

/// The workspace's members.
const MEMBERS: [&str; 5] = ["metadata-ebpf", "metadata-user", "tests", "tests/fuzz", "xtask"];

/// Debian's revision of the package, and the next one, which only tests have: to upgrade to, and to come back from.
const REVISION: &str = "1";
const NEXT_REVISION: &str = "2";

/// Builds a release, packs and checks it.
pub(crate) fn run() -> Result<()> {
    crate::setup::run(false)?;
    build::object()?;
    lint::setup(true)?;
    tools(&[DEB, RPM, AUDITABLE, CYCLONEDX])?;
    let directory = target_directory().join("package");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let binary = release(&directory)?;
    let document = materials(&directory)?;
    let manual = manual(&[])?;
    let stage = Stage { binary: &binary, manual: &manual, materials: Some(&document) };
    let staged = stage.fill(&directory.join("stage"), REVISION)?;
    let packages = [deb(&staged, &directory, false)?, rpm(&staged, &directory)?];
    lint::deb(&packages[0])?;
    lint::rpm(&packages[1])?;
    eprintln!("{}\n{}", binary.display(), document.display());
    packages.iter().for_each(|package| eprintln!("{}", package.display()));
    Ok(())
}

/// Fetches what the tests pack and check with.
pub(crate) fn setup() -> Result<()> {
    lint::setup(false)?;
    tools(&[DEB])
}

/// Packs the daemon that the tests have, and checks the package.
pub(crate) fn check() -> Result<()> {
    lint::deb(&for_tests()?.join(format!("metadatad_{VERSION}-{REVISION}_amd64.deb")))
}

/// Packs the daemon that the tests have, once, and returns the directory with the .deb in two revisions.
pub(crate) fn for_tests() -> Result<PathBuf> {
    static PACKED: OnceLock<PathBuf> = OnceLock::new();
    if let Some(directory) = PACKED.get() {
        return Ok(directory.clone());
    }
    setup()?;
    let directory = target_directory().join("package-tests");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let (binary, manual) = (target_directory().join("debug/metadatad"), manual(&["--bin", "metadatad"])?);
    let stage = Stage { binary: &binary, manual: &manual, materials: None };
    let mut staged = stage.fill(&directory.join("stage"), REVISION)?;
    deb(&staged, &directory, true)?;
    staged.set_revision(NEXT_REVISION)?;
    deb(&staged, &directory, true)?;
    Ok(PACKED.get_or_init(|| directory).clone())
}

/// Builds what writes manual pages and completions. They are the same in every profile; this one shares what the tests are
/// built of. `also` names what else cargo builds then.
fn manual(also: &[&str]) -> Result<PathBuf> {
    show_and_run(cargo().args(["build", "--workspace", "--example", "manual"]).args(also))?;
    Ok(target_directory().join("debug/examples/manual"))
}

/// Builds the binary, which names what it is made of: `cargo audit bin` reads that.
fn release(directory: &Path) -> Result<PathBuf> {
    let arguments = ["auditable", "build", "--release", "--locked", "--package", "metadata-user"];
    show_and_run(program(AUDITABLE).args(arguments))?;
    let (built, binary) = (target_directory().join("release/metadatad"), directory.join("metadatad"));
    fs::copy(&built, &binary).with_context(|| format!("copying {}", built.display()))?;
    Ok(binary)
}

/// Writes what the binary is made of as a CycloneDX document.
fn materials(directory: &Path) -> Result<PathBuf> {
    let arguments = ["cyclonedx", "--manifest-path", "metadata-user/Cargo.toml", "--describe", "binaries"];
    show_and_run(program(CYCLONEDX).args(arguments).args(["--format", "json", "--spec-version", "1.5"]))?;
    let document = directory.join("metadatad.cdx.json");
    let written = root().join("metadata-user/metadatad_bin.cdx.json");
    fs::rename(&written, &document).with_context(|| format!("moving {}", written.display()))?;
    // It writes one for each binary of the workspace.
    for member in MEMBERS {
        let member = root().join(member);
        for entry in fs::read_dir(&member).with_context(|| format!("reading {}", member.display()))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with("_bin.cdx.json") {
                fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
    }
    Ok(document)
}

/// Packs the .deb; `fast` with less compression, for a machine that unpacks slowly.
fn deb(staged: &Staged, directory: &Path, fast: bool) -> Result<PathBuf> {
    let mut command = program(DEB);
    command.arg("--manifest-path").arg(staged.manifest()).args(["--no-build", "--no-strip", "--deb-version"]);
    command.arg(staged.debian_version()).arg("--output").arg(directory);
    if fast {
        command.arg("--fast");
    }
    show_and_run(&mut command)?;
    let name = format!("metadatad_{}_amd64.deb", staged.debian_version());
    packed(directory.join(name))
}

fn rpm(staged: &Staged, directory: &Path) -> Result<PathBuf> {
    let package = directory.join(format!("metadatad-{VERSION}-{REVISION}.x86_64.rpm"));
    let mut command = program(RPM);
    command.current_dir(staged.directory()).arg("generate-rpm").arg("--output").arg(&package);
    show_and_run(&mut command)?;
    packed(package)
}

fn packed(package: PathBuf) -> Result<PathBuf> {
    if !package.is_file() {
        bail!("the packing tool ended well, but there is no {}", package.display());
    }
    Ok(package)
}

/// Compiles tools that are not there yet.
fn tools(wanted: &[&str]) -> Result<()> {
    for tool in wanted {
        if !program_path(tool).is_file() {
            let directory = target_directory().join("package-tools");
            let install = ["install", "--quiet", "--locked", tool, "--root"];
            show_and_run(cargo().args(install).arg(&directory))?;
        }
    }
    Ok(())
}

fn program_path(tool: &str) -> PathBuf {
    let name = tool.split('@').next().unwrap_or(tool);
    target_directory().join("package-tools/bin").join(name)
}

fn program(tool: &str) -> Command {
    let mut command = Command::new(program_path(tool));
    command.current_dir(root());
    command
}
