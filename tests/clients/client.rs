//! Running a client in a guest: the machine's programs and files, but the guest's network, its view of `/sys`, no
//! resolver, and an environment that names no proxy.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use lab::Guest;
use lab::fetched::collection;
use serde_json::Value;

/// Whose Python runs a script.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Python {
    /// The distribution's, with its packages of `target/clients/debian`.
    Debian,
    /// That of `target/clients/venv`.
    PyPi,
}

/// What the shell does first: `/sys` shows the interfaces of the namespace that mounts it, and names are not resolved,
/// which takes no time as long as nobody is asked.
const PREPARE: &str = "mount -t sysfs sysfs /sys && { test ! -e /etc/resolv.conf || \
    mount --bind /dev/null /etc/resolv.conf; } && exec \"$@\"";

/// Prepares a program to run in the guest.
fn prepared(guest: &Guest) -> Result<Command> {
    let mut command = guest.namespace().command("unshare")?;
    command.args(["--mount", "sh", "-c", PREPARE, "sh"]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/nonexistent");
    Ok(command)
}

/// Runs a script of `node` in the guest and returns the JSON that it printed.
pub(crate) fn run_node(guest: &Guest, script: &str) -> Result<Value> {
    let mut command = prepared(guest)?;
    command.arg("node").arg(script_path(&format!("node/{script}")));
    command.env("NODE_PATH", collection("clients")?.join("node/node_modules"));
    printed(&mut command, script)
}

/// Prepares a single request of systemd-imdsd, with its own C library, through the guest's first interface.
pub(crate) fn imdsd(guest: &Guest, arguments: &[&str]) -> Result<Command> {
    let tree = collection("clients")?.join("imdsd/tree/usr/lib");
    let libraries = tree.join("x86_64-linux-gnu");
    let mut command = prepared(guest)?;
    command.arg(libraries.join("ld-linux-x86-64.so.2")).arg("--library-path");
    command.arg(format!("{0}:{0}/systemd", libraries.display())).arg(tree.join("systemd/systemd-imdsd"));
    command.args(["--interface=eth0", "--cache=no"]).args(arguments).env("SYSTEMD_LOG_LEVEL", "debug");
    Ok(command)
}

/// What the shell does first for a program of Debian's in a tree of its own: the tree becomes its root, with processes and interfaces as
/// the guest has them. A stand-in for virt-what says what the hypervisor of a real guest would show, and Ohai is told by its hints that
/// this is a cloud.
const PREPARE_ROOT: &str = "cd \"$1\" && shift && mkdir -p proc sys dev run etc/chef && \
    mount -t proc proc proc && mount -t sysfs sysfs sys && mount --rbind /dev dev && \
    mount -t tmpfs tmpfs run && mount -t tmpfs tmpfs etc/chef && \
    printf '#!/bin/sh\\necho kvm\\n' >run/virt-what && chmod +x run/virt-what && \
    mkdir -p etc/chef/ohai/hints && echo '{}' >etc/chef/ohai/hints/ec2.json && \
    echo '{}' >etc/chef/ohai/hints/openstack.json && exec chroot . \"$@\"";

/// Prepares a program of `ruby` to run in the guest, in a process group and a namespace of processes of its own.
pub(crate) fn ruby(guest: &Guest, words: &[&str]) -> Result<Command> {
    use std::os::unix::process::CommandExt as _;
    let mut command = guest.namespace().command("unshare")?;
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", PREPARE_ROOT, "sh"]);
    command.arg(collection("clients")?.join("ruby/tree")).args(words).process_group(0);
    command.env_clear().env("PATH", "/run:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/").env("LANG", "C.UTF-8");
    Ok(command)
}

/// Prepares a script of this directory to run in the guest.
pub(crate) fn command(guest: &Guest, python: Python, script: &str, arguments: &[&str]) -> Result<Command> {
    let clients = collection("clients")?;
    let (interpreter, library) = match python {
        Python::Debian => (PathBuf::from("/usr/bin/python3"), clients.join("debian/usr/lib/python3/dist-packages")),
        Python::PyPi => (clients.join("venv/bin/python"), PathBuf::new()),
    };
    let mut command = prepared(guest)?;
    command.arg(interpreter).arg(script_path(script)).args(arguments);
    command.env("PYTHONPATH", library).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// Runs a script of this directory in the guest and returns the JSON that it printed.
pub(crate) fn run(guest: &Guest, python: Python, script: &str, arguments: &[&str]) -> Result<Value> {
    printed(&mut command(guest, python, script, arguments)?, script)
}

fn script_path(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(script)
}

/// Runs a script and returns the JSON that it printed.
fn printed(command: &mut Command, script: &str) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output().context("starting unshare")?;
    if !output.status.success() {
        bail!("{script}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("{script} printed no JSON: {text}"))
}
