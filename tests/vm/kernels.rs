//! Debian's kernels: the daemon with its datapath and netns tests, and the switches that this machine's kernel may lack.
//!
//! Each kernel boots once, side by side, and runs its [`programs`] inside; a test here asks what became of one program, or
//! of one case, on all of them. A machine that does not end is one failure, of the test that asks for it first: the others
//! judge what is on its console.

pub(crate) mod initrd;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Shared, Stall, machine, wait};

use crate::config_drive::{self, Drives};
use crate::run::{Slot, fail_once};

/// A kernel to boot.
struct Kernel {
    /// The beginning of its release.
    release: &'static str,
    /// The tests of the group `netns` that run on it, by the beginning of their names.
    netns: &'static [&'static str],
}

/// The oldest kernel that is supported, without tcx, and one with it. A test between namespaces costs some five seconds of
/// a processor here, so a machine runs what its kernel may do otherwise than this machine's:
/// - `datapath`: every verdict, and what the verifier takes;
/// - `switches`: what needs modules that this machine's kernel may lack;
/// - of `netns` on each: redirects, rewriting, checksums, VLAN tags and MTUs (`addressing`, `path_mtu`), and that nothing
///   else is touched (`bystanders`); what the tun driver shows XDP, in the driver and as a copy (parts of `xdp`);
/// - on the oldest also: links, filters and pins that come, go and are removed (`adversity`, and parts of `ports`, `rebuilt`, `repair`
///   and `restart`), and the responder's namespace, with what others change there. Later kernels attach as this machine's does, so
///   the other one has a detached link of tcx alone.
///
/// Everything else in `netns` is decided in user space, or is a verdict that `datapath` has as a table.
static KERNELS: [Kernel; 2] = [
    Kernel {
        release: "6.1.",
        netns: &[
            "addressing::",
            "adversity::",
            "bystanders::",
            "lifecycle::the_responder_is_reached_by_nobody_but_guests",
            "path_mtu::",
            "ports::a_tap_deleted_and_made_again",
            "ports::a_tap_made_again_with_the_same_index",
            "ports::an_index_taken_again_at_once",
            "rebuilt::maps_of_another_version",
            "repair::a_filter_that_is_deleted",
            "repair::a_port_whose_program_cannot",
            "repair::the_way_to_the_responder_is_put_back_and",
            "restart::a_killed_daemon_comes_back",
            "restart::detach_leaves_no",
            "xdp::large_segments",
            "xdp::on_a_tap",
        ],
    },
    Kernel {
        release: "6.12.",
        netns: &[
            "addressing::",
            "bystanders::",
            "path_mtu::",
            "repair::a_link_that_is_detached",
            "xdp::large_segments",
            "xdp::on_a_tap",
        ],
    },
];

/// Modules that the programs need, without those that these need.
const MODULES: &[&str] = &[
    "crc32c_generic",
    "8021q",
    "act_police",
    "bridge",
    "cls_basic",
    "cls_bpf",
    "cls_matchall",
    "cls_u32",
    "dummy",
    "openvswitch",
    "sch_ingress",
    "tun",
    "veth",
];

/// Tests of `netns` that are left out though others of their module run.
const LEFT_OUT: [&str; 5] = [
    // 20 guests and 12 starts take more than a minute here; it is about the daemon's end, which no kernel changes.
    "adversity::killed_over_and_over",
    // 400 taps take a minute here, and the setting is the same on every kernel with tcx.
    "adversity::a_daemon_killed_while_it_attaches_many_taps",
    // 4,000 links and seven starts take a minute each here; both are about netlink and files, which are the same on every kernel.
    "adversity::lost_link_events",
    "adversity::what_was_removed_by_hand",
    // `repair::a_filter_that_is_deleted` says the same, and that the binding stays.
    "adversity::filters_that_others_flush",
];

/// What a machine runs.
struct Program {
    file: PathBuf,
    arguments: Vec<String>,
}

/// How long a console may stay as it is: see [`Stall`]. Every test of a program is a line; most take a second or two.
const LIMIT: Duration = Duration::from_secs(300);

/// The console of a machine that was booted, and whether it came to its end.
type Booted = Result<(String, Result<()>)>;

/// What a machine wrote to its console, and whether it came to its end.
struct Console {
    kernel: &'static Kernel,
    text: String,
    outcome: Result<(), String>,
}

static CONSOLES: LazyLock<Vec<Console>> = LazyLock::new(|| {
    let run = |kernel: &'static Kernel| move || boot(kernel, Extras::default(), &programs(kernel)?);
    let boots: Vec<_> = KERNELS.iter().map(|kernel| (kernel, std::thread::spawn(run(kernel)))).collect();
    let end = |(kernel, thread): (&'static Kernel, JoinHandle<Booted>)| {
        let ended = thread.join().unwrap_or_else(|_| bail!("the thread that watches it panicked"));
        let (text, outcome) = ended.unwrap_or_else(|error| (String::new(), Err(error)));
        Console { kernel, text, outcome: outcome.map_err(|error| format!("{error:#}")) }
    };
    boots.into_iter().map(end).collect()
});

/// Hands what a program printed to `judge`, kernel by kernel. A machine that ended before the program did is one
/// failure for all tests.
#[track_caller]
fn each(program: &str, judge: impl Fn(&Console, &str, bool)) {
    for console in CONSOLES.iter() {
        let (begin, end) = (format!("program {program} begins\n"), format!("program {program} ends"));
        let text = console.text.split_once(&begin).map_or("", |(_, rest)| rest);
        match text.split_once(&end) {
            Some((text, _)) => judge(console, text, true),
            None => judge(console, text, false),
        }
    }
}

/// A program did not get so far that a test could judge it.
#[track_caller]
fn cut_short(console: &Console, program: &str) {
    let Console { kernel: Kernel { release: kernel, .. }, text, outcome } = console;
    match outcome {
        Ok(()) => fail_once(format!("{program} ended early on Linux {kernel}"), text),
        Err(error) => fail_once(format!("the machine with Linux {kernel} did not come to its end: {error}"), text),
    }
}

/// Each test of this program passed on each kernel, and for each of these beginnings of their names there was one.
#[track_caller]
fn passed(program: &str, beginnings: impl Fn(&Kernel) -> &'static [&'static str]) {
    each(program, |console, output, is_whole| {
        let kernel = console.kernel.release;
        let count = output
            .split_once("test result: ok. ")
            .and_then(|(_, rest)| rest.split_once(" passed; 0 failed; 0 ignored"));
        let count = count.and_then(|(count, _)| count.parse::<u32>().ok());
        if !is_whole && count.is_none() {
            return cut_short(console, program);
        }
        assert!(count.is_some(), "{program} on Linux {kernel}:\n{output}");
        for beginning in beginnings(console.kernel) {
            let ran = output.contains(&format!("\ntest {beginning}"));
            assert!(ran, "no test {beginning}* ran on Linux {kernel}:\n{output}");
        }
        println!("{program} on Linux {kernel}*: {} passed", count.unwrap_or_default());
    });
}

/// The case of `switches` holds on each kernel.
#[track_caller]
fn holds(case: &str) {
    each("switches", |console, text, _| {
        if !text.contains(&format!("case {case}: ")) {
            return cut_short(console, "switches");
        }
        assert!(text.contains(&format!("case {case}: holds")), "on Linux {}:\n{text}", console.kernel.release);
    });
}

#[test]
fn packet_tables_hold() {
    passed("datapath", |_| &["from_guest::", "passed::", "path_mtu::", "to_guest::"]);
}

#[test]
fn guests_in_namespaces_are_served() {
    passed("netns", |kernel| kernel.netns);
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
    let brief = brief();
    let text = brief.console();
    let reason = "booted with ipv6.disable=1";
    assert_eq!(text.matches(reason).count(), 2, "{text}");
    assert_eq!(text.matches("program metadatad ends with 78").count(), 2, "{text}");
    assert!(text.contains("net.ipv6.conf.all.disable_ipv6=1"), "{text}");
}

/// A machine without IPv6, where the daemon ends at once, and the shell then mounts config drives: one boot for both.
pub(crate) struct Brief {
    pub(crate) drives: Drives,
    booted: (String, Result<()>),
}

impl Brief {
    /// Returns what is on the console.
    #[track_caller]
    pub(crate) fn console(&self) -> &str {
        let (text, outcome) = &self.booted;
        assert!(outcome.is_ok(), "{outcome:?}\n{text}");
        text
    }
}

static BRIEF: Shared<Brief> = Shared::new(|| {
    let daemon = lab::daemon::program()?;
    let programs = ["check-config", "run"].map(|verb| Program {
        file: daemon.clone(),
        arguments: ["--config", "/dev/null", verb].map(str::to_owned).to_vec(),
    });
    let drives = Drives::make()?;
    let (disks, script) = (drives.disks(), config_drive::script());
    let extras =
        Extras { parameters: "ipv6.disable=1", modules: config_drive::MODULES, disks: &disks, script: &script };
    let booted = boot(&KERNELS[1], extras, &programs)?;
    Ok(Brief { drives, booted })
});

/// Returns that machine, which is booted once.
pub(crate) fn brief() -> Arc<Brief> {
    BRIEF.get().unwrap()
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

/// What a machine has beside its kernel and the programs.
#[derive(Clone, Copy, Default)]
struct Extras<'a> {
    /// Parameters of the kernel.
    parameters: &'a str,
    /// Further modules.
    modules: &'a [&'a str],
    /// Images that are its disks, `vda` and so on, to be read only.
    disks: &'a [PathBuf],
    /// What its shell runs after the programs.
    script: &'a str,
}

/// Runs programs on this kernel, and returns the console, and whether the machine switched itself off.
fn boot(kernel: &Kernel, extras: Extras<'_>, programs: &[Program]) -> Booted {
    let _slot = Slot::take();
    let debian = machine::directory()?.join("debian");
    let release = release(&debian, kernel.release)?;
    let run = tempfile::Builder::new().prefix("metadatad-vm-").tempdir().context("making a directory")?;
    let initrd = run.path().join("initrd");
    let modules = [MODULES, extras.modules].concat();
    initrd::Initrd::make(&debian, &release, &modules, programs, extras.script)?.write(&initrd)?;
    let mut qemu = Command::new(debian.join("usr/bin/qemu-system-x86_64"));
    qemu.env("LD_LIBRARY_PATH", std::env::join_paths(machine::libraries(&debian))?);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"]);
    qemu.args(["-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2048"]);
    for roms in machine::ROMS {
        qemu.arg("-L").arg(debian.join(roms));
    }
    qemu.arg("-kernel").arg(debian.join(format!("boot/vmlinuz-{release}"))).arg("-initrd").arg(&initrd);
    for disk in extras.disks {
        qemu.args(["-drive", &format!("file={},format=raw,if=virtio,readonly=on", disk.display())]);
    }
    // A warning of the kernel's ends the machine, and so the programs, with its text on the console.
    qemu.args(["-append", &format!("console=ttyS0 quiet panic=-1 panic_on_warn=1 {}", extras.parameters)]);
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
    let text = String::from_utf8_lossy(&std::fs::read(&console).unwrap_or_default()).replace('\r', "");
    let outcome = ended.and_then(|_| {
        let last = programs.last().and_then(|program| program.file.file_name()).unwrap_or_default().to_string_lossy();
        // Without what cargo puts behind the name.
        let last = last.split('-').next().unwrap_or_default();
        ensure!(text.contains(&format!("program {last} ends")), "it was switched off before its programs had ended");
        println!("Linux {release}: all programs ended {:.0} s after power-on", started.elapsed().as_secs_f32());
        Ok(())
    });
    Ok((text, outcome))
}

/// Returns what runs on this kernel, in this order.
fn programs(kernel: &Kernel) -> Result<Vec<Program>> {
    let mut netns = vec!["--color=never".to_owned(), "--test-threads=2".to_owned()];
    netns.extend(LEFT_OUT.map(|test| format!("--skip={test}")));
    netns.extend(kernel.netns.iter().map(|beginning| (*beginning).to_owned()));
    let programs = [
        // One at a time: a machine has one processor, and none of these waits for anything.
        ("datapath", ["--color=never", "--test-threads=1"].map(str::to_owned).to_vec()),
        ("switches", Vec::new()),
        ("netns", netns),
    ];
    // Which of the files in cargo's directory are current only cargo knows.
    let given =
        std::env::var("METADATAD_TEST_PROGRAMS").context("the files of the tests: `cargo xtask test vm` names them")?;
    let switches = PathBuf::from(env!("CARGO_BIN_EXE_switches"));
    let known: Vec<PathBuf> = std::env::split_paths(&given).chain([switches]).collect();
    let find = |(name, arguments): (&str, Vec<String>)| {
        let is = |path: &&PathBuf| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file == name || file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
        };
        let file = known.iter().find(is).with_context(|| format!("no {name} among {given:?}"))?;
        ensure!(file.exists(), "{} does not exist", file.display());
        Ok(Program { file: file.clone(), arguments })
    };
    programs.into_iter().map(find).collect()
}

/// Returns the newest unpacked release that begins so.
pub(crate) fn release(debian: &Path, kernel: &str) -> Result<String> {
    let entries = std::fs::read_dir(debian.join("lib/modules")).context("reading the directory of modules")?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with(kernel)).max();
    newest.with_context(|| format!("no kernel {kernel}*: run `cargo xtask setup --vm`"))
}
