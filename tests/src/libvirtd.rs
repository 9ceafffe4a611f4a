//! A real libvirtd with QEMU, both of Debian's packages, on a node.
//!
//! Promises: it works in the node's network namespace and in mounts of its own, where the unpacked packages lie over `/usr`,
//! and whatever it writes below `/etc`, `/var` and `/run` is private to it; its run-time directory is the node's, where
//! metadatad looks for it; its domains end with this value.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;
use crate::daemon;
use crate::machine;
use crate::node::Node;
use crate::wait;

/// A running libvirtd.
#[derive(Debug)]
pub struct Libvirtd {
    child: Child,
    directory: tempfile::TempDir,
    domains: PathBuf,
}

/// Makes the mounts, then becomes libvirtd. Arguments: the unpacked packages, a directory for what it needs, the directory of
/// running domains, and that of the daemon that is tested.
const SCRIPT: &str = r#"
set -e
mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr
mkdir "$2/layer"
mount -t tmpfs tmpfs "$2/layer"
mkdir -p "$2/layer/etc/libvirt" "$2/layer/work"
cp "$2/libvirtd.conf" "$2/qemu.conf" "$2/layer/etc/libvirt"
cp -r "$2/etc/." "$2/layer/etc"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$2/layer/etc,workdir=$2/layer/work" /etc
# Users whom Debian's package would make.
grep -q ^libvirt-qemu: /etc/passwd || echo libvirt-qemu:x:64055:64055::/:/bin/false >>/etc/passwd
for group in libvirt-qemu:x:64055: kvm:x:64056:; do
    grep -q "^${group%%:*}:" /etc/group || echo "$group" >>/etc/group
done
mount -t tmpfs tmpfs /run
mkdir -p /run/libvirt/qemu
mount --bind "$3" /run/libvirt/qemu
mount -t tmpfs tmpfs /var
mkdir -p /var/lib /var/log /var/cache /var/tmp
ln -s /run /var/run
mount -t tmpfs tmpfs /sys/fs/cgroup
# Its driver of QEMU alone: the others are for networks and storage that it would look for here.
mkdir /run/drivers
ln -s /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so /run/drivers
export LIBVIRT_DRIVER_DIR=/run/drivers
# Of the daemon that is tested, before all else: hooks have this too.
export PATH="$4:$PATH"
exec libvirtd
"#;

/// No user, no label, no control group and no helper of the machine's.
const QEMU: &str = r#"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"#;
const LIBVIRTD: &str = r#"
unix_sock_group = "root"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
"#;

impl Libvirtd {
    /// Starts it on the node, and waits until it answers.
    ///
    /// # Errors
    /// If it is not installed (`cargo xtask setup --vm`), or does not answer.
    pub fn start(node: &Node) -> Result<Self> {
        Self::start_with(node, &[])
    }

    /// As [`Self::start`], with executable files below its `/etc`: paths and texts.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(node: &Node, files: &[(&str, &str)]) -> Result<Self> {
        let debian = machine::directory()?.join("debian");
        let directory = tempfile::Builder::new().prefix("metadatad-virt-").tempdir().context("making a directory")?;
        fs::write(directory.path().join("qemu.conf"), QEMU)?;
        fs::write(directory.path().join("libvirtd.conf"), LIBVIRTD)?;
        let etc = directory.path().join("etc");
        fs::create_dir(&etc)?;
        for (path, text) in files {
            let file = etc.join(path);
            fs::create_dir_all(file.parent().unwrap_or(&etc))?;
            fs::write(&file, text)?;
            fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        }
        fs::create_dir_all(node.domains()).context("making libvirt's directory")?;
        let mut unshare = node.namespace().command("unshare")?;
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "libvirtd"]);
        unshare.arg(&debian).arg(directory.path()).arg(node.domains());
        unshare.arg(daemon::program()?.parent().context("the daemon has a directory")?);
        // Those below /usr are found without it.
        unshare.env("LD_LIBRARY_PATH", std::env::join_paths(machine::libraries(&debian))?);
        let log = fs::File::create(directory.path().join("log")).context("making a log")?;
        unshare.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = unshare.spawn().context("starting libvirtd")?;
        let mut started = Self { child, directory, domains: node.domains() };
        let answers = wait::until("libvirtd answers", || {
            if let Some(status) = started.child.try_wait()? {
                bail!("libvirtd ended: {status}");
            }
            Ok(started.virsh(&["version"]).ok())
        });
        answers.with_context(|| started.log())?;
        Ok(started)
    }

    /// Replaces one of the files that it was started with.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn replace(&self, path: &str, text: &str) -> Result<()> {
        let file = format!("/proc/{}/root/etc/{path}", self.child.id());
        fs::write(&file, text).with_context(|| format!("writing {file}"))
    }

    /// Returns a path for what a domain needs.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a command of virsh.
    ///
    /// # Errors
    /// If it fails.
    pub fn virsh(&self, words: &[&str]) -> Result<String> {
        // By the name, virsh is looked for in its mounts.
        let mut virsh = Command::new("nsenter");
        virsh.args(["--mount", "--net", "--target", &self.child.id().to_string()]);
        virsh.args(["/usr/bin/env", "virsh", "--connect", "qemu:///system", "--quiet"]).args(words);
        virsh.env("LD_LIBRARY_PATH", std::env::join_paths(machine::libraries(&machine::directory()?.join("debian")))?);
        command::run(&mut virsh, "").with_context(|| self.log())
    }

    /// Writes a document of libvirt's and runs a command of virsh on it: `define`, `attach-device DOMAIN`…
    ///
    /// # Errors
    /// If it fails.
    pub fn virsh_with(&self, words: &[&str], document: &str, further: &[&str]) -> Result<String> {
        let file = self.path("document.xml");
        fs::write(&file, document).context("writing a document")?;
        let mut words = words.to_vec();
        let file = file.to_string_lossy();
        words.push(&file);
        words.extend(further);
        self.virsh(&words).with_context(|| document.to_owned())
    }

    /// Returns what it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        // QEMU has detached from its parent: libvirt reports its process id.
        for entry in fs::read_dir(&self.domains).into_iter().flatten().flatten() {
            let is_pid = entry.path().extension().is_some_and(|extension| extension == "pid");
            let text = fs::read_to_string(entry.path()).ok().filter(|_| is_pid);
            if let Some(id) = text.and_then(|text| text.trim().parse().ok()) {
                let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
