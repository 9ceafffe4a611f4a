//! A program that is not the daemon's: two instructions, "go on with the next one".
//!
//! It is made here, byte by byte, so that no compiler for BPF is needed for it.

use std::borrow::Cow;
use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, loaded_programs, tc::TcAttachOptions};

use crate::netns::Namespace;

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is needed (linux/bpf.h).
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Loads a classifier that returns `TCX_NEXT` at once, under a name of at most 15 bytes. It goes with the value.
///
/// # Errors
/// Without root.
pub fn load(name: &str) -> Result<SchedClassifier> {
    const BPF_PROG_LOAD: i64 = 5;
    const SCHED_CLS: u32 = 3;
    // `w0 = -1` and `exit`: operation, registers, offset, immediate.
    let instructions: [[u8; 8]; 2] = [[0xb4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let license = c"GPL";
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *place = byte;
    }
    let attributes = ProgramLoad {
        kind: SCHED_CLS,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: bytes,
    };
    // SAFETY: `attributes` and all that it points to live until the call returns, and the kernel reads no further than
    // the given size.
    let fd = unsafe {
        nix::libc::syscall(nix::libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size_of::<ProgramLoad>())
    };
    let fd = i32::try_from(nix::errno::Errno::result(fd).context("loading the empty program")?)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let id = id_of(&File::from(fd.try_clone()?))?;
    let mut loaded = loaded_programs();
    let info = loaded.find_map(|info| info.ok().filter(|info| info.id() == id)).context("the empty program is gone")?;
    SchedClassifier::from_program_info(info, Cow::Owned(name.to_owned())).context("taking the empty program")
}

fn id_of(program: &File) -> Result<u32> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let id = text.lines().find_map(|line| line.strip_prefix("prog_id:")).context("a program without its number")?;
    id.trim().parse().context("reading a program's number")
}

/// Puts one at tcx of an interface, before all others that see what comes in. It goes with the value. Minimum kernel version: 6.6.
///
/// # Errors
/// If the kernel refuses.
pub fn in_front(namespace: &Namespace, interface: &str, name: &str) -> Result<SchedClassifier> {
    let mut program = load(name)?;
    namespace.run(|| {
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        program.attach_with_options(interface, TcAttachType::Ingress, options).context("attaching in front")?;
        Ok(())
    })?;
    Ok(program)
}
