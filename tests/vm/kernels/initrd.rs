//! The root of a machine, as an initramfs: busybox, the kernel's modules, the daemon, `switches`, Open vSwitch, and the
//! libraries that they need, all in the places where the lab looks for them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};

use anyhow::{Context as _, Result, ensure};
use lab::command;

use super::Program;

/// Open vSwitch's programs and its schema, in `target/controllers/debian`.
const SWITCH: &[&str] = &[
    "usr/bin/ovs-appctl",
    "usr/bin/ovs-ofctl",
    "usr/bin/ovs-vsctl",
    "usr/bin/ovsdb-tool",
    "usr/lib/openvswitch-switch/ovs-vswitchd",
    "usr/sbin/ovsdb-server",
    "usr/share/openvswitch/vswitch.ovsschema",
];
/// What the lab and its tests run of the machine's own programs.
const TOOLS: &[&str] = &["bpftool", "bridge", "curl", "ethtool", "ip", "ss", "tc"];

/// Files by their place in the root; the archive is made of them.
#[derive(Debug, Default)]
pub(super) struct Initrd {
    bytes: Vec<u8>,
    there: BTreeSet<PathBuf>,
}

impl Initrd {
    /// Collects everything for this kernel, and these programs with their arguments, which run one after the other, and then the shell
    /// runs `script`.
    pub(super) fn make(
        debian: &Path,
        release: &str,
        modules: &[&str],
        programs: &[Program],
        script: &str,
    ) -> Result<Self> {
        let mut root = Self::default();
        let mut init = "#!/bin/busybox sh\nexport PATH=/usr/sbin:/bin\n".to_owned();
        init += "/bin/busybox --install -s /bin\nmount -t proc proc /proc\nmount -t sysfs sys /sys\n";
        init += "mount -t devtmpfs dev /dev\nmount -t tmpfs tmp /tmp\nmount -t tmpfs run /run\n";
        init += "mkdir -p /dev/net\nip link set lo up\n";
        for (number, module) in in_order(&debian.join("lib/modules").join(release), modules)?.iter().enumerate() {
            let place = format!("modules/{number}.ko");
            root.file(&place, 0o644, &read_module(module)?)?;
            writeln!(init, "insmod /{place} || echo cannot load {}", module.display())?;
        }
        for Program { file: program, arguments } in programs {
            let file = program.file_name().unwrap_or_default().to_string_lossy();
            // Without what cargo puts behind the name.
            let name = file.split('-').next().unwrap_or_default();
            root.program(program, &format!("lab/target/debug/{name}"))?;
            writeln!(init, "echo program {name} begins")?;
            writeln!(init, "/lab/target/debug/{name} {}", arguments.join(" "))?;
            writeln!(init, "echo program {name} ends with $?")?;
        }
        init += script;
        init += "poweroff -f\n";
        root.file("init", 0o755, init.as_bytes())?;
        root.file("bin/busybox", 0o755, &fs::read(debian.join("bin/busybox")).context("reading busybox")?)?;
        for directory in ["proc", "sys", "dev", "tmp", "run", "etc", "root", "var/run"] {
            root.directory(Path::new(directory))?;
        }
        let target = debian.ancestors().nth(2).context("no target directory")?;
        let controllers = target.join("controllers/debian");
        ensure!(controllers.is_dir(), "{} is not there: run `cargo xtask setup --controllers`", controllers.display());
        let libraries = controllers.join("usr/lib/x86_64-linux-gnu");
        for name in SWITCH {
            let bytes = fs::read(controllers.join(name)).with_context(|| format!("reading {name}"))?;
            root.file(&format!("lab/target/controllers/debian/{name}"), 0o755, &bytes)?;
            if !name.ends_with("schema") {
                root.libraries(&controllers.join(name), Some(&libraries))?;
            }
        }
        root.file("lab/target/controllers/complete", 0o644, b"")?;
        for tool in TOOLS {
            let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(|directory| Path::new(directory).join(tool));
            let found = found.iter().find(|path| path.exists()).with_context(|| format!("no {tool} here"))?;
            root.program(found, &format!("usr/sbin/{tool}"))?;
        }
        root.program(&lab::daemon::program()?, "lab/target/debug/metadatad")?;
        Ok(root)
    }

    /// Writes the archive.
    pub(super) fn write(mut self, path: &Path) -> Result<()> {
        self.entry("TRAILER!!!", 0, &[]);
        fs::write(path, &self.bytes).with_context(|| format!("writing {}", path.display()))
    }

    /// Adds a program without what only debuggers read, and its libraries.
    fn program(&mut self, program: &Path, place: &str) -> Result<()> {
        let stripped = tempfile::NamedTempFile::new().context("making a file")?;
        let mut strip = Command::new("strip");
        command::run(strip.arg("--strip-debug").arg("-o").arg(stripped.path()).arg(program), "")?;
        self.file(place, 0o755, &fs::read(stripped.path())?)?;
        self.libraries(program, None)
    }

    /// Adds the libraries of a program where its loader looks: in the places that they have here.
    fn libraries(&mut self, program: &Path, unpacked: Option<&Path>) -> Result<()> {
        let mut ldd = Command::new("ldd");
        if let Some(unpacked) = unpacked {
            ldd.env("LD_LIBRARY_PATH", unpacked);
        }
        let text = command::run(ldd.arg(program), "")?;
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            // Those unpacked go where the lab's LD_LIBRARY_PATH leads.
            let place = match unpacked.and_then(|unpacked| Path::new(library).strip_prefix(unpacked).ok()) {
                Some(name) => Path::new("lab/target/controllers/debian/usr/lib/x86_64-linux-gnu").join(name),
                None => PathBuf::from(library.trim_start_matches('/')),
            };
            let bytes = fs::read(library).with_context(|| format!("reading {library}"))?;
            self.file(&place.to_string_lossy(), 0o755, &bytes)?;
        }
        Ok(())
    }

    fn directory(&mut self, directory: &Path) -> Result<()> {
        if directory.as_os_str().is_empty() || self.there.contains(directory) {
            return Ok(());
        }
        self.directory(directory.parent().unwrap_or(Path::new("")))?;
        self.there.insert(directory.to_owned());
        self.entry(&directory.to_string_lossy(), 0o040_755, &[]);
        Ok(())
    }

    fn file(&mut self, place: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        if self.there.insert(PathBuf::from(place)) {
            self.directory(Path::new(place).parent().unwrap_or(Path::new("")))?;
            self.entry(place, 0o100_000 | mode, bytes);
        }
        Ok(())
    }

    /// Appends an entry of the archive: cpio's `newc`, as the kernel's documentation of early user space describes it.
    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        let (links, size, name_size) = (1, bytes.len(), name.len() + 1);
        let mut header = "070701".to_owned();
        let number = self.there.len();
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum
        let mode = usize::try_from(mode).unwrap_or_default();
        for field in [number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
            let _ = write!(header, "{field:08x}");
        }
        for part in [header.as_bytes(), name.as_bytes(), &[0]] {
            self.bytes.extend_from_slice(part);
        }
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Returns the files of these modules and of all that they need, what is needed first.
pub(crate) fn in_order(directory: &Path, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(directory, &mut files)?;
    let mut order = Vec::new();
    for name in wanted {
        append(name, &files, &mut order)?;
    }
    Ok(order)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn append(name: &str, files: &[PathBuf], order: &mut Vec<PathBuf>) -> Result<()> {
    // A file's name has either sign where the module's has one of them.
    let is = |path: &&PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
        file.strip_prefix(&name.replace('-', "_")).is_some_and(|rest| rest == ".ko" || rest == ".ko.xz")
    };
    // One that there is no file of is built in.
    let Some(file) = files.iter().find(is) else { return Ok(()) };
    if order.contains(file) {
        return Ok(());
    }
    let bytes = read_module(file)?;
    // `depends=` of the section .modinfo, in which each string ends with 0.
    let key = b"\0depends=";
    if let Some(start) = bytes.windows(key.len()).position(|window| window == key) {
        let rest = &bytes[start + key.len()..];
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
        for needed in str::from_utf8(&rest[..end])?.split(',').filter(|needed| !needed.is_empty()) {
            append(needed, files, order)?;
        }
    }
    order.push(file.clone());
    Ok(())
}

/// Returns a module, unpacked.
pub(crate) fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let output =
            Command::new("xz").arg("--decompress").arg("--stdout").arg(path).output().context("starting xz")?;
        ensure!(output.status.success(), "xz cannot read {}", path.display());
        return Ok(output.stdout);
    }
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}
