//! Running other programs, and where things are in the tree.
//!
//! Promises: a command is printed before it runs, and a failed one is an error that names it. Settings of the
//! compiler that come from outside (`RUSTC`, `RUSTFLAGS`, wrappers, another target directory) never reach the build
//! of the kernel half.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Returns the top of the tree.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Returns where cargo puts its output: `CARGO_TARGET_DIR`, else `target`.
pub(crate) fn target_directory() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty()).unwrap_or_else(|| "target".into()))
}

/// Returns the cargo that runs this, or the one on `PATH`.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo tells the program that it runs is about this package, not about the one built next.
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Settings that would change which compiler builds the kernel half, or how.
pub(crate) const COMPILER_SETTINGS: &[&str] = &[
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "RUSTDOC",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
];

/// Returns `PATH` with cargo's own directory of programs in front: `bpf-linker` is installed there.
pub(crate) fn path_with_cargo_bin() -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(cargo_bin()).chain(env::split_paths(&path));
    env::join_paths(directories).context("joining PATH")
}

/// Returns the directory of programs that `cargo install` fills.
pub(crate) fn cargo_bin() -> PathBuf {
    let home = env::var_os("CARGO_INSTALL_ROOT")
        .or_else(|| env::var_os("CARGO_HOME"))
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    home.unwrap_or_default().join("bin")
}

/// Returns the first executable file of this name on `PATH`, in cargo's directory or where administrators' tools are.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::iter::once(cargo_bin())
        .chain(env::split_paths(&path))
        .chain(administrators)
        .map(|dir| dir.join(name))
        .find(|file| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0))
}

/// Prints the command and runs it to its end.
pub(crate) fn show_and_run(command: &mut Command) -> Result<()> {
    show(command);
    let status = command.status().with_context(|| format!("starting {}", text(command.get_program())))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Prints the command as one would type it.
pub(crate) fn show(command: &Command) {
    eprintln!("$ {}", line(command));
}

/// Runs the command quietly and returns what it printed; `None` if it cannot be started or fails.
pub(crate) fn quiet_output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn line(command: &Command) -> String {
    let settings = command.get_envs().filter_map(|(name, value)| {
        let shown = !matches!(name.to_str(), Some("PATH"));
        value.filter(|_| shown).map(|value| format!("{}={}", text(name), quoted(&text(value))))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| quoted(&text(word)));
    settings.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}
