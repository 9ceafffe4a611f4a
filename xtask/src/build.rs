//! `cargo xtask build`: the eBPF object first, then the workspace that embeds it.
//!
//! Promises: the object is built by the toolchain that `setup` found, whatever compiler settings are in the
//! environment, and is put at `target/ebpf/metadata.o`, where `metadata-user/build.rs` looks. An unchanged object is not
//! written again, so nothing is rebuilt for it.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{COMPILER_SETTINGS, cargo, path_with_cargo_bin, root, show_and_run, target_directory};
use crate::setup::{self, Toolchain};

/// Options of `build`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Build the daemon with optimisations
    #[arg(long)]
    pub(crate) release: bool,
}

/// Sets up, builds the object, then the workspace.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run(false)?;
    object()?;
    let mut command = cargo();
    command.args(["build", "--workspace"]);
    if options.release {
        command.arg("--release");
    }
    show_and_run(&mut command)
}

/// Sets up, and builds the object, the daemon and a program that measures it, with optimisations. Returns the program's path.
pub(crate) fn measuring(program: &str) -> Result<PathBuf> {
    setup::run(false)?;
    object()?;
    let mut command = cargo();
    // Both packages at once: each alone has other features, and the daemon's library would be built twice.
    command.args(["build", "--release", "--package", "metadata-user", "--package", "metadatad-tests"]);
    show_and_run(command.args(["--bin", "metadatad", "--bin", program]))?;
    Ok(target_directory().join("release").join(program))
}

/// Builds the eBPF object and puts it where the daemon's build embeds it from.
pub(crate) fn object() -> Result<PathBuf> {
    let output = root().join("target/ebpf");
    let mut command = match setup::toolchain() {
        Some(Toolchain::Debian { rustc }) => {
            let mut command = cargo();
            clear(&mut command);
            // The distribution's stable compiler is asked for the unstable features that the BPF target needs.
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1").arg("build");
            command
        }
        Some(Toolchain::Rustup { rustup }) => {
            let mut command = Command::new(rustup);
            clear(&mut command);
            command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
            command.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
            command
        }
        None => anyhow::bail!("no toolchain for the kernel half: run `cargo xtask setup`"),
    };
    command
        .current_dir(root().join("metadata-ebpf"))
        .env("PATH", path_with_cargo_bin()?)
        .env("RUSTFLAGS", flags())
        .args(["--release", "--target", "bpfel-unknown-none", "--bin", "metadata-ebpf", "--target-dir"])
        .arg(&output);
    show_and_run(&mut command)?;
    let built = output.join("bpfel-unknown-none/release/metadata-ebpf");
    let object = output.join("metadata.o");
    let bytes = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    if fs::read(&object).ok().as_deref() != Some(bytes.as_slice()) {
        fs::write(&object, &bytes).with_context(|| format!("writing {}", object.display()))?;
        eprintln!("{}: {} bytes", object.display(), bytes.len());
    }
    Ok(object)
}

fn clear(command: &mut Command) {
    for name in COMPILER_SETTINGS {
        command.env_remove(name);
    }
}

fn flags() -> String {
    // aya-ebpf's register access knows the architectures by the names that Rust has for them.
    format!("-C debuginfo=2 -C link-arg=--btf --cfg bpf_target_arch=\"{}\"", env::consts::ARCH)
}
