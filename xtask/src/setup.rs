//! `cargo xtask setup`: finds or installs what building, the demo and the tests need.
//!
//! Promises: it says what it is about to do before it does it; a second run changes nothing and takes well under a
//! second; where it cannot install by itself (no apt, not root), it names the exact packages or commands.
//!
//! Two toolchains can build the kernel half. A nightly of rustup's with `rust-src` and a `bpf-linker` is taken as it
//! is found; on Debian, the distribution's own compiler, whose package holds `core` for BPF ready built, is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{cargo, cargo_bin, find_program, quiet_output, show_and_run};

/// Options of `setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fetch also what checks and applies the Ansible role
    #[arg(long)]
    pub(crate) ansible: bool,
    /// Fetch also the real clients that the tests run in guests
    #[arg(long)]
    pub(crate) clients: bool,
    /// Fetch also a real OpenStack control plane, of the collections that --controllers fetches the largest
    #[arg(long)]
    pub(crate) cloud: bool,
    /// Fetch also the real controllers that the tests run: etcd, ovsdb-server, Nova, an OpenStack control plane
    #[arg(long)]
    pub(crate) controllers: bool,
    /// Fetch also what the test of a roll-out runs as the way that guests were answered before: haproxy
    #[arg(long)]
    pub(crate) haproxy: bool,
    /// Fetch also what `cargo xtask bench peers --with-openstack` compares with: haproxy, Neutron's metadata agent
    #[arg(long)]
    pub(crate) openstack: bool,
    /// Fetch also what `cargo xtask bench peers` compares with: nginx, nftables
    #[arg(long)]
    pub(crate) peers: bool,
    /// Fetch also what the tests of metrics run: Prometheus, promtool
    #[arg(long)]
    pub(crate) prometheus: bool,
    /// Fetch also what real machines need: QEMU, Debian's kernels, a Debian with cloud-init
    #[arg(long)]
    pub(crate) vm: bool,
}

/// What builds the kernel half.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// Debian's compiler, with `core` for BPF prebuilt.
    Debian {
        /// Its path.
        rustc: PathBuf,
    },
    /// A nightly of rustup's, which builds `core` itself.
    Rustup {
        /// rustup's path.
        rustup: PathBuf,
    },
}

/// Debian's packages of the compiler, and of the libraries that `bpf-linker` is linked with.
const TOOLCHAIN_PACKAGES: &[&str] =
    &["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "libpolly-22-dev", "g++", "zlib1g-dev"];
/// The one release of bpf-linker that is known to go with the compilers above.
const BPF_LINKER: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// What turns etcd's protocol into code, and the files that it includes.
const PROTOC_PACKAGES: &[&str] = &["protobuf-compiler", "libprotobuf-dev"];
/// One of these files. A protoc that was not installed by the distribution has them elsewhere, and `PROTOC_INCLUDE` for it.
const PROTOBUF_TYPES: &str = "/usr/include/google/protobuf/descriptor.proto";
/// Programs that the demo and the tests run, and Debian's package of each.
const PROGRAMS: &[(&str, &str)] = &[
    ("bpftool", "bpftool"),
    ("ip", "iproute2"),
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("faketime", "faketime"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("python3", "python3"),
];

/// Finds or installs everything; `verbose` tells also what was found.
pub(crate) fn run(verbose: bool) -> Result<()> {
    let mut packages: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| find_program(program).is_none()).map(|&(_, package)| package).collect();
    let found = toolchain();
    if find_program("protoc").is_none() || !Path::new(PROTOBUF_TYPES).exists() {
        packages.extend(missing_packages(PROTOC_PACKAGES));
    }
    if found.is_none() {
        packages.extend(missing_packages(TOOLCHAIN_PACKAGES));
    }
    if !packages.is_empty() {
        install(&packages, found.is_some())?;
    }
    if toolchain().is_none() {
        bpf_linker()?;
    }
    let Some(found) = toolchain() else {
        bail!("no toolchain for the kernel half, although everything was installed; {}", remedy(&[]));
    };
    if verbose {
        match found {
            Toolchain::Debian { rustc } => eprintln!("kernel half: {} and bpf-linker {BPF_LINKER}", rustc.display()),
            Toolchain::Rustup { rustup } => {
                eprintln!("kernel half: {} nightly and bpf-linker", rustup.display())
            }
        }
        eprintln!("nothing is missing");
    }
    Ok(())
}

/// Returns what can build the kernel half now, without installing anything.
pub(crate) fn toolchain() -> Option<Toolchain> {
    let linker = find_program("bpf-linker")?;
    let version = quiet_output(Command::new(linker).arg("--version"))?;
    if let Some(rustc) = debian_rustc() {
        // This compiler's bitcode needs a linker made with an LLVM that is not older.
        return version.split_whitespace().any(|word| word == BPF_LINKER).then_some(Toolchain::Debian { rustc });
    }
    let rustup = find_program("rustup")?;
    let mut sysroot = Command::new(&rustup);
    sysroot.env_remove("RUSTUP_TOOLCHAIN").args(["run", "nightly", "rustc", "--print", "sysroot"]);
    let sysroot = quiet_output(&mut sysroot)?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    core.is_dir().then_some(Toolchain::Rustup { rustup })
}

/// Returns the distribution's compiler if it has `core` for BPF.
fn debian_rustc() -> Option<PathBuf> {
    let rustc = PathBuf::from("/usr/bin/rustc");
    let mut probe = Command::new(&rustc);
    probe.args(["--print", "target-libdir", "--target", "bpfel-unknown-none"]);
    let directory = quiet_output(&mut probe)?;
    let has_core = fs::read_dir(directory.trim())
        .ok()?
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"));
    has_core.then_some(rustc)
}

/// Returns those of Debian's packages that are not installed.
pub(crate) fn missing_packages<'a>(wanted: &[&'a str]) -> Vec<&'a str> {
    // dpkg-query fails when one is unknown, and still prints the others: so its status says nothing here.
    let output =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev} ${Package}\n"]).args(wanted).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let installed: Vec<&str> =
        text.lines().filter(|line| line.starts_with("ii")).filter_map(|line| line.split_whitespace().last()).collect();
    wanted.iter().copied().filter(|package| !installed.contains(package)).collect()
}

/// Installs Debian packages, after refreshing the lists once if they do not know one.
pub(crate) fn install(packages: &[&str], toolchain_found: bool) -> Result<()> {
    eprintln!("missing: {}", packages.join(" "));
    if find_program("apt-get").is_none() {
        let wanted = if toolchain_found { String::new() } else { format!("; {}", rustup_remedy()) };
        bail!("there is no apt-get here: install the programs of {}{wanted}", packages.join(" "));
    }
    if !is_root() {
        bail!("installing needs root; {}", remedy(packages));
    }
    eprintln!("installing with apt-get: {}", packages.join(" "));
    if !lists_know(packages) {
        show_and_run(apt().arg("update"))?;
        if !lists_know(packages) {
            bail!(
                "this system's apt sources lack some of {}; Debian 12 with its updates and security sources has them. {}",
                packages.join(" "),
                rustup_remedy()
            );
        }
    }
    let command = ["install", "--yes", "--no-install-recommends"];
    if show_and_run(apt().args(command).args(packages)).is_ok() {
        return Ok(());
    }
    eprintln!("the lists may be older than the archive: refreshing them, then once more");
    show_and_run(apt().arg("update"))?;
    show_and_run(apt().args(command).args(packages))
}

fn lists_know(packages: &[&str]) -> bool {
    let known =
        quiet_output(Command::new("apt-cache").args(["--quiet=0", "policy"]).args(packages)).unwrap_or_default();
    packages.iter().all(|package| {
        let mut lines = known.lines().skip_while(|line| *line != format!("{package}:"));
        let candidate = lines.find(|line| line.trim_start().starts_with("Candidate:"));
        candidate.is_some_and(|line| !line.ends_with("(none)"))
    })
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn bpf_linker() -> Result<()> {
    eprintln!("installing bpf-linker {BPF_LINKER} into {} (it is compiled: about a minute)", cargo_bin().display());
    let mut command = cargo();
    for name in crate::command::COMPILER_SETTINGS {
        command.env_remove(name);
    }
    command.env("LLVM_PREFIX", LLVM_PREFIX);
    command.args(["install", &format!("bpf-linker@{BPF_LINKER}"), "--force", "--no-default-features"]);
    show_and_run(command.args(["--features", "llvm-22"]))
}

fn remedy(packages: &[&str]) -> String {
    let all: Vec<&str> = if packages.is_empty() { TOOLCHAIN_PACKAGES.to_vec() } else { packages.to_vec() };
    format!(
        "as root: `apt-get update && apt-get install --yes {}`; then \
         `LLVM_PREFIX={LLVM_PREFIX} cargo install bpf-linker@{BPF_LINKER} --no-default-features --features llvm-22`; \
         or {}",
        all.join(" "),
        rustup_remedy()
    )
}

fn rustup_remedy() -> String {
    "with rustup: `rustup toolchain install nightly --component rust-src && cargo install bpf-linker`".to_owned()
}

/// Tells whether this process is root, as the owner of its own entry in /proc.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
