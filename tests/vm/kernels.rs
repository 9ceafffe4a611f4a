//! Debian's kernels: the daemon with its datapath and netns tests, and the switches that this machine's kernel may lack.
//!
//! Each kernel boots once, all of them side by side, and runs every program of [`PROGRAMS`] inside; a test here asks what
//! became of one program, or of one case, on all of them. A machine that does not end is one failure, of the test that
//! asks for it first: the others judge what the machine did say.

mod initrd;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Stall, machine, wait};

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
/// The machine has neither the documentation nor the programs that `documented` runs; limits of connections, documents and
/// posted passwords are no concern of the kernel's.
const PROGRAMS: [(&str, &[&str]); 3] = [
    ("datapath", &["--color=never", "--test-threads=1"]),
    ("switches", &[]),
    (
        "netns",
        &[
            "--color=never",
            "--test-threads=2",
            "--skip=documented::",
            "--skip=connections::",
            "--skip=documents::",
            "--skip=password::",
            // 400 taps take a minute here, and the setting is the same on every kernel with tcx.
            "--skip=adversity::a_daemon_killed_while_it_attaches_many_taps",
        ],
    ),
];

/// How long a console may stay as it is: see [`Stall`]. Every test of a program is a line; most take a second or two.
const LIMIT: Duration = Duration::from_secs(300);

/// What a machine said, and whether it came to its end.
struct Console {
    kernel: &'static str,
    text: String,
    outcome: Result<(), String>,
}

static CONSOLES: LazyLock<[Console; KERNELS.len()]> = LazyLock::new(|| {
    let boots = KERNELS.map(|kernel| (kernel, std::thread::spawn(move || boot(kernel, "", &programs()?))));
    boots.map(|(kernel, thread)| {
        let ended = thread.join().unwrap_or_else(|_| bail!("the thread that watches it panicked"));
        let (text, outcome) = ended.unwrap_or_else(|error| (String::new(), Err(error)));
        Console { kernel, text, outcome: outcome.map_err(|error| format!("{error:#}")) }
    })
});

/// Fails for a cause that no test has failed for yet; says where it is reported otherwise.
#[track_caller]
fn fail_once(cause: String, details: &str) {
    static REPORTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = REPORTED.lock().unwrap_or_else(PoisonError::into_inner).insert(cause.clone());
    assert!(!is_new, "{cause}\n{details}");
    println!("not judged, for a cause that another test reports: {cause}");
}

/// Hands what a program said to `judge`, kernel by kernel. A machine that ended before the program has said it all is one
/// failure for all tests.
#[track_caller]
fn each(program: &str, judge: impl Fn(&Console, &str, bool)) {
    for console in CONSOLES.iter() {
        let (begin, end) = (format!("program {program} begins\n"), format!("program {program} ends"));
        let said = console.text.split_once(&begin).map_or("", |(_, rest)| rest);
        match said.split_once(&end) {
            Some((said, _)) => judge(console, said, true),
            None => judge(console, said, false),
        }
    }
}

/// A program did not get so far that a test could judge it.
#[track_caller]
fn cut_short(console: &Console, program: &str) {
    let Console { kernel, text, outcome } = console;
    match outcome {
        Ok(()) => fail_once(format!("{program} ended early on Linux {kernel}"), text),
        Err(error) => fail_once(format!("the machine with Linux {kernel} did not come to its end: {error}"), text),
    }
}

/// Each test of this program passed on each kernel, and there were this many at least.
#[track_caller]
fn passed(program: &str, least: u32) {
    each(program, |console, said, is_whole| {
        let kernel = console.kernel;
        let count =
            said.split_once("test result: ok. ").and_then(|(_, rest)| rest.split_once(" passed; 0 failed; 0 ignored"));
        let count = count.and_then(|(count, _)| count.parse::<u32>().ok());
        if !is_whole && count.is_none() {
            return cut_short(console, program);
        }
        assert!(count.is_some_and(|count| count >= least), "{program} on Linux {kernel}:\n{said}");
        println!("{program} on Linux {kernel}*: {} passed", count.unwrap_or_default());
    });
}

/// The case of `switches` holds on each kernel.
#[track_caller]
fn holds(case: &str) {
    each("switches", |console, said, _| {
        if !said.contains(&format!("case {case}: ")) {
            return cut_short(console, "switches");
        }
        assert!(said.contains(&format!("case {case}: holds")), "on Linux {}:\n{said}", console.kernel);
    });
}

#[test]
fn packet_tables_hold() {
    passed("datapath", 34);
}

#[test]
fn guests_in_namespaces_are_served() {
    passed("netns", 80);
}

macro_rules! cases {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            holds(stringify!($name));
        }
    )*};
}

/// Both say what the kernel lacks, and end with the status that keeps a service manager from trying again.
#[test]
fn a_kernel_booted_without_ipv6_is_named_at_the_start_and_by_check_config() {
    let daemon = lab::daemon::program().unwrap();
    let programs: [(PathBuf, &'static [&'static str]); 2] =
        [(daemon.clone(), &["--config", "/dev/null", "check-config"]), (daemon, &["--config", "/dev/null", "run"])];
    let (said, outcome) = boot(KERNELS[1], "ipv6.disable=1", &programs).unwrap();
    outcome.unwrap_or_else(|error| panic!("{error:#}\n{said}"));
    let reason = "booted with ipv6.disable=1";
    assert_eq!(said.matches(reason).count(), 2, "{said}");
    assert_eq!(said.matches("program metadatad ends with 78").count(), 2, "{said}");
    assert!(said.contains("net.ipv6.conf.all.disable_ipv6=1"), "{said}");
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

/// Runs programs on this kernel, booted with these parameters, and returns the console, and whether the machine switched
/// itself off.
fn boot(
    kernel: &str,
    parameters: &str,
    programs: &[(PathBuf, &'static [&'static str])],
) -> Result<(String, Result<()>)> {
    let debian = machine::directory()?.join("debian");
    let release = release(&debian, kernel)?;
    let run = tempfile::Builder::new().prefix("metadatad-vm-").tempdir().context("making a directory")?;
    let initrd = run.path().join("initrd");
    initrd::Initrd::make(&debian, &release, MODULES, programs)?.write(&initrd)?;
    let mut qemu = Command::new(debian.join("usr/bin/qemu-system-x86_64"));
    qemu.env("LD_LIBRARY_PATH", std::env::join_paths(machine::libraries(&debian))?);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"]);
    qemu.args(["-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2048"]);
    for roms in machine::ROMS {
        qemu.arg("-L").arg(debian.join(roms));
    }
    qemu.arg("-kernel").arg(debian.join(format!("boot/vmlinuz-{release}"))).arg("-initrd").arg(&initrd);
    // A warning of the kernel's ends the machine, and so the programs, with its text on the console.
    qemu.args(["-append", &format!("console=ttyS0 quiet panic=-1 panic_on_warn=1 {parameters}")]);
    let console = run.path().join("console");
    qemu.args(["-serial", &format!("file:{}", console.display())]);
    let started = Instant::now();
    let mut child = qemu.stdin(Stdio::null()).spawn().context("starting QEMU")?;
    let mut stall = Stall::new(&console, Some(child.id()), LIMIT);
    let ended = wait::until_within(Duration::MAX, "the machine switches itself off", || {
        stall.look()?;
        Ok(child.try_wait()?)
    });
    let _ = child.kill();
    let _ = child.wait();
    let said = String::from_utf8_lossy(&std::fs::read(&console).unwrap_or_default()).replace('\r', "");
    let outcome = ended.and_then(|_| {
        let last = programs.last().and_then(|(program, _)| program.file_name()).unwrap_or_default().to_string_lossy();
        // Without what cargo puts behind the name.
        let last = last.split('-').next().unwrap_or_default();
        ensure!(said.contains(&format!("program {last} ends")), "it was switched off before its programs had ended");
        println!("Linux {release}: all programs ended {:.0} s after power-on", started.elapsed().as_secs_f32());
        Ok(())
    });
    Ok((said, outcome))
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
