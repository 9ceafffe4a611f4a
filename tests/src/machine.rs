//! Virtual machines: QEMU without KVM, on real taps of a node.
//!
//! Promises: a machine's taps are made in the node's namespace as Nova makes them, with `vnet_hdr`, and its devices are
//! virtio's with checksum and segmentation offload, as QEMU offers them; its firmware says OpenStack Nova; what it says on
//! its console is kept; QEMU ends with the value, and writes only to its own copy of the disk.
//!
//! Left out: making the disk, which `cargo xtask setup --vm` does.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::command;
use crate::guest::mac_text;
use crate::netns::Namespace;
use crate::stall::Stall;
use crate::wait;

/// How long a guest's console may stay as it is: see [`Stall`]. A boot takes half a minute without KVM when nothing else
/// runs.
pub const BOOT: Duration = Duration::from_secs(240);

/// Returns the directory that `cargo xtask setup --vm` fills.
///
/// # Errors
/// If something of it is missing.
pub fn directory() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program's own path")?;
    let directory = own.ancestors().nth(3).unwrap_or(Path::new("/")).join("vm");
    if !directory.join("guest/disk.complete").exists() {
        bail!("{} is missing or incomplete: run `cargo xtask setup --vm`", directory.display());
    }
    Ok(directory)
}

/// Where QEMU finds its firmware among the unpacked packages.
pub const ROMS: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// Returns the directories of unpacked libraries.
#[must_use]
pub fn libraries(debian: &Path) -> [PathBuf; 2] {
    ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|place| debian.join(place))
}

/// Prepares an unpacked program of the directory to run in the namespace, with the libraries unpacked beside it.
///
/// # Errors
/// If it does not exist, or the namespace is gone.
pub fn program(namespace: &Namespace, path: &str) -> Result<Command> {
    let debian = directory()?.join("debian");
    let mut command = namespace.command(debian.join(path))?;
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries(&debian))?);
    Ok(command)
}

/// A network interface of a machine: the tap's name, and the MAC.
#[derive(Clone, Debug)]
pub struct Nic {
    /// The tap's name.
    pub tap: String,
    /// The MAC that the guest finds.
    pub mac: [u8; 6],
}

impl Nic {
    /// Makes the tap, as a port of a bridge.
    ///
    /// # Errors
    /// Without `/dev/net/tun`, or if there is one of this name.
    pub fn make(&self, namespace: &Namespace, bridge: &str) -> Result<u32> {
        let tap = &self.tap;
        namespace.ip_batch(&format!(
            "tuntap add dev {tap} mode tap vnet_hdr\nlink set {tap} addrgenmode none\n\
             link set {tap} master {bridge}\nlink set {tap} up\n"
        ))?;
        namespace.ifindex(tap)
    }
}

/// What a machine is to be.
#[derive(Clone, Debug)]
pub struct MachinePlan<'n> {
    namespace: &'n Namespace,
    uuid: String,
    nics: Vec<Nic>,
    command_line: String,
    disk: Option<PathBuf>,
}

impl<'n> MachinePlan<'n> {
    /// A machine in the node's namespace, with this UUID in its firmware, as Nova gives it the instance's.
    #[must_use]
    pub fn new(namespace: &'n Namespace, uuid: &str) -> Self {
        Self { namespace, uuid: uuid.to_owned(), nics: Vec::new(), command_line: String::new(), disk: None }
    }

    /// One more interface. Its tap must exist already.
    #[must_use]
    pub fn nic(mut self, nic: &Nic) -> Self {
        self.nics.push(nic.clone());
        self
    }

    /// Further kernel parameters.
    #[must_use]
    pub fn command_line(mut self, parameters: &str) -> Self {
        self.command_line = parameters.to_owned();
        self
    }

    /// One more disk, `/dev/vdb`: an image that the machine only reads.
    #[must_use]
    pub fn disk(mut self, image: &Path) -> Self {
        self.disk = Some(image.to_owned());
        self
    }

    /// Switches it on with a fresh disk.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub fn power_on(&self) -> Result<Machine> {
        let run = tempfile::Builder::new().prefix("metadatad-vm-").tempdir().context("making a directory")?;
        copy_disk(&run.path().join("disk"))?;
        self.start(run)
    }

    /// Switches it on with the disk of a machine that was switched off.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub fn power_on_with(&self, disk: Disk) -> Result<Machine> {
        self.start(disk.0)
    }

    fn start(&self, run: tempfile::TempDir) -> Result<Machine> {
        let path = |name: &str| run.path().join(name);
        let vm = directory()?;
        let (debian, guest) = (vm.join("debian"), vm.join("guest"));
        let mut qemu = program(self.namespace, "usr/bin/qemu-system-x86_64")?;
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        qemu.args(["-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "512"]);
        for roms in ROMS {
            qemu.arg("-L").arg(debian.join(roms));
        }
        qemu.args(["-uuid", &self.uuid, "-smbios", "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova"]);
        qemu.arg("-kernel").arg(kernel(&debian)?).arg("-initrd").arg(guest.join("initrd"));
        qemu.args(["-append", &format!("{COMMAND_LINE} {}", self.command_line)]);
        qemu.args(["-drive", &format!("file={},format=raw,if=virtio,cache=unsafe", path("disk").display())]);
        if let Some(image) = &self.disk {
            qemu.args(["-drive", &format!("file={},format=raw,if=virtio,readonly=on", image.display())]);
        }
        qemu.args(["-serial", &format!("file:{}", path("console").display())]);
        qemu.args(["-serial", &format!("unix:{},server=on,wait=off", path("shell").display())]);
        qemu.args(["-qmp", &format!("unix:{},server=on,wait=off", path("qmp").display())]);
        for (number, Nic { tap, mac }) in self.nics.iter().enumerate() {
            qemu.args(["-netdev", &format!("tap,id=net{number},ifname={tap},script=no,downscript=no,vhost=off")]);
            qemu.args(["-device", &format!("virtio-net-pci,netdev=net{number},mac={}", mac_text(*mac))]);
        }
        let log = fs::File::create(path("qemu.log")).context("making a log")?;
        // A second boot has a console of its own.
        fs::write(path("console"), "").context("making the console")?;
        qemu.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut terminal = Terminal::new(run.path());
        let child = qemu.spawn().context("starting QEMU")?;
        terminal.process = Some(child.id());
        Ok(Machine { child, run: Some(run), terminal })
    }
}

/// The disk of a machine that was switched off.
#[derive(Debug)]
pub struct Disk(tempfile::TempDir);

/// A machine that runs.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    run: Option<tempfile::TempDir>,
    terminal: Terminal,
}

/// Serial ports of the guest on the disk: a file that its first serial port is written to, and a socket that leads to
/// a shell at its second.
#[derive(Debug)]
pub struct Terminal {
    directory: PathBuf,
    process: Option<u32>,
    started: Instant,
    asked: u32,
    shell: Option<BufReader<UnixStream>>,
}

impl Terminal {
    /// That of a guest which is switched on now: `console` and `shell` in this directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), process: None, started: Instant::now(), asked: 0, shell: None }
    }

    /// Returns what the guest has written to its console.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("console")).unwrap_or_default()).replace('\r', "")
    }

    /// Waits until the console holds this text, and returns how long after power-on that was. `check` is asked now and
    /// then whether waiting makes sense.
    ///
    /// # Errors
    /// If the guest makes no progress any more, or `check` fails; the error holds the console.
    pub fn wait(&self, text: &str, mut check: impl FnMut() -> Result<()>) -> Result<Duration> {
        let found = self.watch(&format!("the console says {text:?}"), |grown| {
            check()?;
            Ok((grown && self.console().contains(text)).then(|| self.started.elapsed()))
        });
        found.with_context(|| format!("the console:\n{}", self.console()))
    }

    /// Asks again until there is an answer, as long as the guest makes progress. `ask` learns whether the console has grown.
    fn watch<T>(&self, what: &str, mut ask: impl FnMut(bool) -> Result<Option<T>>) -> Result<T> {
        let mut stall = Stall::new(&self.directory.join("console"), self.process, BOOT);
        let found = wait::until_within(Duration::MAX, what, || ask(stall.look()?));
        found.with_context(|| format!("waiting until {what}"))
    }

    /// Connects to the guest's shell, and waits until it reads: what comes before it has opened its terminal is lost.
    fn connect(&self) -> Result<BufReader<UnixStream>> {
        let stream = UnixStream::connect(self.directory.join("shell")).context("connecting to the guest's shell")?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let (mut shell, mut asked) = (BufReader::new(stream), 0);
        let first = self.watch("the guest's shell reads", |_| {
            asked += 1;
            // The first newline ends what was lost in part.
            writeln!(shell.get_mut(), "\necho \"reading\"-{asked}")?;
            Ok(answer(&mut shell))
        })?;
        shell.get_ref().set_read_timeout(Some(BOOT))?;
        let mut last = first;
        while last < asked {
            last = answer(&mut shell).context("the guest's shell does not answer any more")?;
        }
        Ok(shell)
    }

    /// Runs a command of the guest's shell, as root, and returns what it printed.
    ///
    /// # Errors
    /// If the shell does not answer in time, or with another status than 0.
    pub fn shell(&mut self, line: &str) -> Result<String> {
        if self.shell.is_none() {
            self.shell = Some(self.connect()?);
        }
        self.asked += 1;
        let end = format!("end-of-{}", self.asked);
        let shell = self.shell.as_mut().context("no shell")?;
        // The mark is put together by the shell, so that an echo of the command would not be taken for it.
        writeln!(shell.get_mut(), "({line}) </dev/null 2>&1; echo \"end-of\"-{} $?", self.asked)?;
        let mut printed = String::new();
        loop {
            let mut text = String::new();
            if shell.read_line(&mut text).with_context(|| format!("waiting for {line:?}; so far: {printed}"))? == 0 {
                bail!("the guest's shell is gone");
            }
            let Some((last, status)) = text.split_once(&end) else {
                printed += &text;
                continue;
            };
            printed += last;
            if status.trim() != "0" {
                bail!("{line:?} ended with {}: {printed}", status.trim());
            }
            return Ok(printed);
        }
    }
}

/// Returns the number of the next line `reading-N`; `None` if none comes in time.
fn answer(shell: &mut BufReader<UnixStream>) -> Option<u32> {
    let mut text = String::new();
    while shell.read_line(&mut text).ok()? > 0 {
        if let Some(number) = text.trim().strip_prefix("reading-").and_then(|number| number.parse().ok()) {
            return Some(number);
        }
        text.clear();
    }
    None
}

impl Machine {
    /// Returns what it has written to its console.
    #[must_use]
    pub fn console(&self) -> String {
        self.terminal.console()
    }

    /// Returns QEMU's process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the console holds this text, and returns how long after power-on that was.
    ///
    /// # Errors
    /// If the guest makes no progress any more, or QEMU ends; the error holds the console.
    pub fn wait_console(&mut self, text: &str) -> Result<Duration> {
        let log = self.path("qemu.log");
        self.terminal.wait(text, || match self.child.try_wait()? {
            Some(status) => bail!("QEMU ended: {status}: {}", fs::read_to_string(&log).unwrap_or_default()),
            None => Ok(()),
        })
    }

    /// Asks again until there is an answer, as long as the guest makes progress.
    ///
    /// # Errors
    /// If it makes none any more, or asking fails.
    pub fn wait_until<T>(&self, what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        self.terminal.watch(what, |_| ask())
    }

    /// Runs a command of the guest's shell, as root, and returns what it printed.
    ///
    /// # Errors
    /// If the shell does not answer in time, or with another status than 0.
    pub fn shell(&mut self, line: &str) -> Result<String> {
        self.terminal.shell(line)
    }

    /// Plugs one more interface in while the machine runs. Its tap must exist already.
    ///
    /// # Errors
    /// If QEMU refuses.
    pub fn plug(&mut self, nic: &Nic) -> Result<()> {
        let id = &nic.tap;
        let netdev = json!({"type": "tap", "id": id, "ifname": id, "script": "no", "downscript": "no", "vhost": false});
        let device =
            json!({"driver": "virtio-net-pci", "netdev": id, "id": format!("nic-{id}"), "mac": mac_text(nic.mac)});
        self.qmp(&[("netdev_add", netdev), ("device_add", device)])
    }

    /// Switches it off and returns its disk. What the guest has not written yet is written first.
    ///
    /// # Errors
    /// If QEMU or the guest's shell does not answer.
    pub fn power_off(mut self) -> Result<Disk> {
        self.shell("sync")?;
        self.qmp(&[("quit", json!({}))])?;
        wait::until("QEMU ends", || Ok(self.child.try_wait()?))?;
        Ok(Disk(self.run.take().context("no directory")?))
    }

    fn qmp(&self, commands: &[(&str, Value)]) -> Result<()> {
        let stream = UnixStream::connect(self.path("qmp")).context("connecting to QEMU")?;
        stream.set_read_timeout(Some(wait::PATIENCE))?;
        let mut lines = BufReader::new(&stream);
        let mut greeting = String::new();
        lines.read_line(&mut greeting)?;
        for (name, arguments) in std::iter::once(&("qmp_capabilities", json!({}))).chain(commands) {
            writeln!(&stream, "{}", json!({"execute": name, "arguments": arguments}))?;
            loop {
                let mut line = String::new();
                lines.read_line(&mut line).with_context(|| format!("waiting for QEMU's answer to {name}"))?;
                let answer: Value = serde_json::from_str(&line).with_context(|| format!("QEMU's answer to {name}"))?;
                if let Some(error) = answer.get("error") {
                    bail!("QEMU refuses {name}: {error}");
                }
                if answer.get("return").is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.run.as_ref().map_or(Path::new("/nonexistent"), tempfile::TempDir::path).join(name)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- a machine's console\n{}---", self.console());
        }
    }
}

/// The guest's kernel command line. Names of interfaces follow the order of their devices.
pub const COMMAND_LINE: &str = "console=ttyS0 quiet systemd.show_status=false net.ifnames=0 panic=-1";

/// Copies the guest's disk.
///
/// # Errors
/// If it does not exist, or there is no room.
pub fn copy_disk(path: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    command::run(copy.args(["--sparse=always", "--"]).arg(directory()?.join("guest/disk.img")).arg(path), "").map(drop)
}

/// Returns the path of the guest's kernel.
///
/// # Errors
/// If it does not exist.
pub fn kernel(debian: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(debian.join("boot")).context("reading the directory of kernels")?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let name = names.filter(|name| name.starts_with("vmlinuz-6.1.") && name.contains("cloud")).max();
    Ok(debian.join("boot").join(name.context("no 6.1 cloud kernel: run `cargo xtask setup --vm`")?))
}
