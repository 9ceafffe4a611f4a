//! The disk of the tests' real guest: Debian with cloud-init, and the first program that a kernel needs to find it.
//!
//! Promises: it is made of Debian's packages alone, and of the few files in `tests/vm/image`; making it installs nothing
//! on the machine and starts nothing; what is current is not made again. The packages are the slow half, and are kept
//! when only the files change.
//!
//! Left out: the kernel and QEMU, which are unpacked beside it (`vm.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{root, show_and_run};

pub(crate) const MIRROR: &str = "http://deb.debian.org/debian";
const SUITE: &str = "bookworm";
/// cloud-init configures networks by networkd, and asks by dhclient before there is one. busybox is for the first program.
const PACKAGES: &[&str] =
    &["busybox-static", "cloud-init", "dbus", "iproute2", "isc-dhcp-client", "systemd-sysv", "udev"];
/// What an image without terminals, an archive and a clock's server has no use for: each would cost seconds of a boot.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "ldconfig.service",
    "serial-getty@ttyS0.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];
/// Parts of packages that a guest under test never reads.
const UNREAD: &[&str] = &[
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zoneinfo",
    "var/cache/apt",
    "var/lib/apt/lists",
];
/// Drivers that the cloud kernel has as modules, by their place among them.
const MODULES: &[&str] = &[
    "drivers/block/virtio_blk",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_ring",
    "net/core/failover",
];
/// Where files of `tests/vm/image` go, and whether they are programs.
const FILES: &[(&str, &str, u32)] = &[
    ("cloud.cfg", "etc/cloud/cloud.cfg.d/99_lab.cfg", 0o644),
    ("dhclient.conf", "etc/dhcp/dhclient.conf", 0o644),
    ("prove", "usr/local/sbin/prove", 0o755),
    ("prove.service", "etc/systemd/system/prove.service", 0o644),
    ("shell.service", "etc/systemd/system/shell.service", 0o644),
    ("wait-online.conf", "etc/systemd/system/systemd-networkd-wait-online.service.d/lab.conf", 0o644),
];
/// Units that are started, and by which target.
const WANTED: &[(&str, &str)] = &[("prove.service", "cloud-init.target"), ("shell.service", "multi-user.target")];
/// Bytes of the disk: its content, and room for what a boot writes.
const SIZE: &str = "480M";

/// Makes what is missing or out of date: `guest/disk.img` and `guest/initrd` in the directory of `setup --vm`.
pub(crate) fn setup(vm: &Path) -> Result<()> {
    let directory = vm.join("guest");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let base = directory.join("base");
    stage(&directory.join("base.complete"), &format!("{MIRROR} {SUITE} {PACKAGES:?} {UNREAD:?}"), || {
        eprintln!("making a Debian {SUITE} with cloud-init in {} (a minute or two)", base.display());
        install(vm, &base)
    })?;
    let modules = modules(vm)?;
    let mut recipe = format!("{MASKED:?} {FILES:?} {WANTED:?} {MODULES:?} {SIZE} {}", modules.display());
    for name in FILES.iter().map(|(name, ..)| *name).chain(["init"]) {
        recipe += &source(name)?;
    }
    stage(&directory.join("disk.complete"), &recipe, || {
        disk(&base, &directory)?;
        initrd(&base, &modules, &directory)
    })
}

/// Does the work unless it was done to this recipe before.
fn stage(complete: &Path, recipe: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if fs::read_to_string(complete).is_ok_and(|found| found == recipe) {
        return Ok(());
    }
    let _ = fs::remove_file(complete);
    work()?;
    fs::write(complete, recipe).with_context(|| format!("writing {}", complete.display()))
}

/// The packages, configured. debootstrap's own way of configuring does not get through cloud-init's dependencies, apt's
/// does.
fn install(vm: &Path, base: &Path) -> Result<()> {
    remove(base)?;
    let debootstrap = vm.join("debian/usr/sbin/debootstrap");
    let mut command = private("exec sh \"$@\"");
    command.env("DEBOOTSTRAP_DIR", vm.join("debian/usr/share/debootstrap")).arg(debootstrap);
    show_and_run(command.args(["--variant=minbase", SUITE]).arg(base).arg(MIRROR))?;
    // Nothing may be started by being configured.
    put(&base.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n", 0o755)?;
    let mut command = private("mount -t proc proc \"$1/proc\" && exec chroot \"$@\"");
    command.arg(base).args(["apt-get", "install", "--quiet", "--yes", "--no-install-recommends"]).args(PACKAGES);
    show_and_run(command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C"))?;
    for unread in UNREAD {
        remove(&base.join(unread))?;
    }
    for own in ["usr/sbin/policy-rc.d", "etc/resolv.conf", "etc/hostname"] {
        // Some of them the machine may not have had to give.
        let _ = fs::remove_file(base.join(own));
    }
    // Empty: the first boot gives the machine its id.
    put(&base.join("etc/machine-id"), "", 0o444)
}

/// A shell with mounts of its own, so that nothing stays mounted after it.
fn private(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command
}

/// A copy of the packages with our files, as a file system.
fn disk(base: &Path, directory: &Path) -> Result<()> {
    let tree = directory.join("tree");
    remove(&tree)?;
    show_and_run(Command::new("cp").args(["--archive", "--link"]).arg(base).arg(&tree))?;
    let units = tree.join("etc/systemd/system");
    for unit in MASKED {
        link("/dev/null", &units.join(unit))?;
    }
    for (name, place, mode) in FILES {
        put(&tree.join(place), &source(name)?, *mode)?;
    }
    put(&tree.join("etc/fstab"), "/dev/vda / ext4 defaults,noatime 0 0\n", 0o644)?;
    let networkd = [
        ("systemd-networkd.service", "multi-user.target"),
        ("systemd-networkd-wait-online.service", "network-online.target"),
    ];
    for (unit, target) in networkd {
        link(&format!("/lib/systemd/system/{unit}"), &units.join(format!("{target}.wants/{unit}")))?;
    }
    for (unit, target) in WANTED {
        link(&format!("../{unit}"), &units.join(format!("{target}.wants/{unit}")))?;
    }
    let image = directory.join("disk.img");
    let _ = fs::remove_file(&image);
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&tree).arg(image).arg(SIZE);
    show_and_run(&mut command)?;
    remove(&tree)
}

/// The first program, busybox, and the drivers.
fn initrd(base: &Path, modules: &Path, directory: &Path) -> Result<()> {
    let tree = directory.join("first");
    remove(&tree)?;
    for name in ["bin", "dev", "modules", "new"] {
        fs::create_dir_all(tree.join(name)).with_context(|| format!("making {name}"))?;
    }
    let busybox = base.join("bin/busybox");
    fs::copy(&busybox, tree.join("bin/busybox")).with_context(|| format!("copying {}", busybox.display()))?;
    link("busybox", &tree.join("bin/sh"))?;
    for place in MODULES {
        let module = modules.join(format!("{place}.ko"));
        let name = module.file_name().context("a module without a name")?;
        fs::copy(&module, tree.join("modules").join(name)).with_context(|| format!("copying {}", module.display()))?;
    }
    put(&tree.join("init"), &source("init")?, 0o755)?;
    let script = "cd \"$1\" && find . | \"$2\" cpio --quiet -o -H newc >\"$3\"";
    let mut command = Command::new("sh");
    show_and_run(command.args(["-c", script, "sh"]).arg(&tree).arg(&busybox).arg(directory.join("initrd")))?;
    remove(&tree)
}

/// Where the modules of the 6.1 cloud kernel are.
fn modules(vm: &Path) -> Result<PathBuf> {
    let all = vm.join("debian/lib/modules");
    let entries = fs::read_dir(&all).with_context(|| format!("reading {}", all.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("6.1.") && name.contains("cloud")).collect();
    names.sort();
    match names.as_slice() {
        [name] => Ok(all.join(name).join("kernel")),
        others => bail!("{} has {others:?} instead of one 6.1 cloud kernel", all.display()),
    }
}

fn source(name: &str) -> Result<String> {
    let path = root().join("tests/vm/image").join(name);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// Writes a file anew: what was there may be a link to another tree's.
fn put(path: &Path, text: &str, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let _ = fs::remove_file(path);
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(|| format!("changing {}", path.display()))
}

fn link(to: &str, path: &Path) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let _ = fs::remove_file(path);
    std::os::unix::fs::symlink(to, path).with_context(|| format!("linking {}", path.display()))
}

fn remove(tree: &Path) -> Result<()> {
    if tree.symlink_metadata().is_ok() {
        fs::remove_dir_all(tree).with_context(|| format!("removing {}", tree.display()))?;
    }
    Ok(())
}
