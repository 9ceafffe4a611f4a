//! Switches on Debian's kernels: Open vSwitch with the kernel's datapath and its own, Linux bridges, VLAN devices.
//!
//! Each kernel boots once, and runs every case of `switches/main.rs` inside; a test here asks what became of one case on
//! all of them.

mod initrd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::wait;

/// Kernels to boot, by the beginning of their release: the first without tcx, the second with it.
const KERNELS: [&str; 2] = ["6.1.", "6.12."];

/// Modules that the cases need, without those that these need.
const MODULES: &[&str] = &[
    "crc32c_generic",
    "8021q",
    "act_police",
    "bridge",
    "cls_basic",
    "cls_bpf",
    "cls_matchall",
    "dummy",
    "openvswitch",
    "sch_ingress",
    "tun",
    "veth",
];

/// A boot and all cases take a minute or so without KVM when nothing else runs.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a machine said, by kernel.
static CONSOLES: LazyLock<Result<BTreeMap<&'static str, String>>> = LazyLock::new(|| {
    let boots = KERNELS.map(|kernel| (kernel, std::thread::spawn(move || boot(kernel))));
    let join = |(kernel, thread): (_, std::thread::JoinHandle<Result<String>>)| {
        let said = thread.join().unwrap_or_else(|_| bail!("panicked"));
        Ok((kernel, said.with_context(|| format!("on Linux {kernel}"))?))
    };
    boots.into_iter().map(join).collect()
});

/// The case holds on each kernel.
#[track_caller]
fn holds(case: &str) {
    let consoles = CONSOLES.as_ref().map_err(|error| format!("{error:?}")).unwrap();
    for (kernel, said) in consoles {
        let holds = said.contains(&format!("case {case}: holds"));
        assert!(holds, "on Linux {kernel}:\n{said}");
    }
}

macro_rules! cases {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            holds(stringify!($name));
        }
    )*};
}

cases! {
    open_vswitch_sees_no_metadata
    open_vswitch_sees_no_metadata_with_clsact
    plugging_takes_nothing_away
    policing_that_comes_later_takes_nothing_away
    policing_that_was_there_takes_nothing_away
    a_removed_program_is_put_back
    a_bridge_sees_no_metadata
    a_bridge_with_vlan_filtering_sees_no_metadata
    a_tagged_interface_is_answered_with_its_tag
    a_frame_with_two_tags_passes_untouched
    the_userspace_datapath_sees_requests_and_no_answers
    flows_keep_requests_off_the_userspace_datapath
}

/// Runs `switches` on this kernel and returns the console.
fn boot(kernel: &str) -> Result<String> {
    let vm = target()?.join("vm");
    let debian = vm.join("debian");
    ensure!(debian.is_dir(), "{} is not there: run `cargo xtask setup --vm`", debian.display());
    let release = release(&debian, kernel)?;
    let run = tempfile::Builder::new().prefix("metadatad-vm-").tempdir().context("making a folder")?;
    let initrd = run.path().join("initrd");
    initrd::Initrd::make(&target()?, &release, MODULES)?.write(&initrd)?;
    let mut qemu = Command::new(debian.join("usr/bin/qemu-system-x86_64"));
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|place| debian.join(place));
    qemu.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"]);
    qemu.args(["-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1536"]);
    for roms in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        qemu.arg("-L").arg(debian.join(roms));
    }
    qemu.arg("-kernel").arg(debian.join(format!("boot/vmlinuz-{release}"))).arg("-initrd").arg(&initrd);
    // Words behind the dashes are the first program's arguments: cases, if not all of them are to run.
    let cases = std::env::var("SWITCHES_CASES").unwrap_or_default();
    qemu.args(["-append", &format!("console=ttyS0 quiet panic=-1 -- {cases}")]);
    let console = run.path().join("console");
    qemu.args(["-serial", &format!("file:{}", console.display())]);
    let mut child = qemu.stdin(Stdio::null()).spawn().context("starting QEMU")?;
    let ended = wait::until_within(PATIENCE, "the machine switches itself off", || Ok(child.try_wait()?));
    let _ = child.kill();
    let _ = child.wait();
    let said = String::from_utf8_lossy(&std::fs::read(&console).unwrap_or_default()).replace('\r', "");
    ended.with_context(|| said.clone())?;
    Ok(said)
}

fn target() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program's own path")?;
    Ok(own.ancestors().find(|folder| folder.ends_with("target")).unwrap_or(Path::new("/")).to_owned())
}

/// Returns the newest unpacked release that begins so.
fn release(debian: &Path, kernel: &str) -> Result<String> {
    let entries = std::fs::read_dir(debian.join("lib/modules")).context("reading the folder of modules")?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with(kernel)).max();
    newest.with_context(|| format!("no kernel {kernel}*: run `cargo xtask setup --vm`"))
}
