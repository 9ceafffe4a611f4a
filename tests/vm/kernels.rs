//! Debian's kernels: the daemon with its datapath and netns tests, and the switches that this machine's kernel may lack.
//!
//! Each kernel boots once, all of them side by side, and runs every program of [`PROGRAMS`] inside; a test here asks what
//! became of one program, or of one case, on all of them.

mod initrd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::{machine, wait};

/// Kernels to boot, by the beginning of their release: the first without tcx, the second with it.
const KERNELS: [&str; 2] = ["6.1.", "6.12."];

/// Modules that the programs need, without those that these need.
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

/// The programs and their arguments, in the order in which they run. Tests one at a time: a machine has one processor.
const PROGRAMS: [(&str, &[&str]); 3] = [
    ("datapath", &["--color=never", "--test-threads=1"]),
    ("switches", &[]),
    ("netns", &["--color=never", "--test-threads=2"]),
];

/// A boot and all programs take some minutes without KVM when nothing else runs.
const PATIENCE: Duration = Duration::from_secs(900);

/// What a machine said, by kernel.
static CONSOLES: LazyLock<Result<BTreeMap<&'static str, String>>> = LazyLock::new(|| {
    let boots = KERNELS.map(|kernel| (kernel, std::thread::spawn(move || boot(kernel))));
    let join = |(kernel, thread): (_, std::thread::JoinHandle<Result<String>>)| {
        let said = thread.join().unwrap_or_else(|_| bail!("panicked"));
        Ok((kernel, said.with_context(|| format!("on Linux {kernel}"))?))
    };
    boots.into_iter().map(join).collect()
});

/// Returns what a program said, kernel by kernel.
#[track_caller]
fn said(program: &str) -> Vec<(&'static str, &'static str)> {
    let consoles = CONSOLES.as_ref().map_err(|error| format!("{error:?}")).unwrap();
    let part = |(kernel, console): (&&'static str, &'static String)| {
        let (begin, end) = (format!("program {program} begins\n"), format!("program {program} ends"));
        let part = console.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        let (part, _) = part.ok_or_else(|| format!("{program} did not end on Linux {kernel}:\n{console}")).unwrap();
        (*kernel, part)
    };
    consoles.iter().map(part).collect()
}

/// Each test of this program passed on each kernel, and there were this many at least.
#[track_caller]
fn passed(program: &str, least: u32) {
    for (kernel, said) in said(program) {
        let count =
            said.split_once("test result: ok. ").and_then(|(_, rest)| rest.split_once(" passed; 0 failed; 0 ignored"));
        let count = count.and_then(|(count, _)| count.parse::<u32>().ok());
        assert!(count.is_some_and(|count| count >= least), "{program} on Linux {kernel}:\n{said}");
        println!("{program} on Linux {kernel}*: {} passed", count.unwrap_or_default());
    }
}

/// The case of `switches` holds on each kernel.
#[track_caller]
fn holds(case: &str) {
    for (kernel, said) in said("switches") {
        assert!(said.contains(&format!("case {case}: holds")), "on Linux {kernel}:\n{said}");
    }
}

#[test]
fn packet_tables_hold() {
    passed("datapath", 25);
}

#[test]
fn guests_in_namespaces_are_served() {
    passed("netns", 63);
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

/// Runs the programs on this kernel and returns the console.
fn boot(kernel: &str) -> Result<String> {
    let debian = machine::directory()?.join("debian");
    let release = release(&debian, kernel)?;
    let run = tempfile::Builder::new().prefix("metadatad-vm-").tempdir().context("making a directory")?;
    let initrd = run.path().join("initrd");
    initrd::Initrd::make(&debian, &release, MODULES, &programs()?)?.write(&initrd)?;
    let mut qemu = Command::new(debian.join("usr/bin/qemu-system-x86_64"));
    qemu.env("LD_LIBRARY_PATH", std::env::join_paths(machine::libraries(&debian))?);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"]);
    qemu.args(["-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2048"]);
    for roms in machine::ROMS {
        qemu.arg("-L").arg(debian.join(roms));
    }
    qemu.arg("-kernel").arg(debian.join(format!("boot/vmlinuz-{release}"))).arg("-initrd").arg(&initrd);
    // A warning of the kernel's ends the machine, and so the programs, with its text on the console.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 panic_on_warn=1"]);
    let console = run.path().join("console");
    qemu.args(["-serial", &format!("file:{}", console.display())]);
    let started = Instant::now();
    let mut child = qemu.stdin(Stdio::null()).spawn().context("starting QEMU")?;
    let ended = wait::until_within(PATIENCE, "the machine switches itself off", || Ok(child.try_wait()?));
    let _ = child.kill();
    let _ = child.wait();
    let said = String::from_utf8_lossy(&std::fs::read(&console).unwrap_or_default()).replace('\r', "");
    ended.with_context(|| said.clone())?;
    println!("Linux {release}: all programs ended {:.0} s after power-on", started.elapsed().as_secs_f32());
    Ok(said)
}

/// Returns the files of [`PROGRAMS`], and their arguments.
fn programs() -> Result<Vec<(PathBuf, &'static [&'static str])>> {
    // Which of the files in cargo's directory are current only cargo knows.
    let told =
        std::env::var("METADATAD_TEST_PROGRAMS").context("the files of the tests: `cargo xtask test vm` says them")?;
    let mut programs = Vec::new();
    for (name, arguments) in PROGRAMS {
        let is = |path: &&PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file == name || file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
        };
        let switches = PathBuf::from(env!("CARGO_BIN_EXE_switches"));
        let known: Vec<PathBuf> = std::env::split_paths(&told).chain([switches]).collect();
        let path = known.iter().find(is).with_context(|| format!("no {name} among {told:?}"))?;
        ensure!(path.exists(), "{} is not there", path.display());
        programs.push((path.clone(), arguments));
    }
    Ok(programs)
}

/// Returns the newest unpacked release that begins so.
fn release(debian: &Path, kernel: &str) -> Result<String> {
    let entries = std::fs::read_dir(debian.join("lib/modules")).context("reading the directory of modules")?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with(kernel)).max();
    newest.with_context(|| format!("no kernel {kernel}*: run `cargo xtask setup --vm`"))
}
