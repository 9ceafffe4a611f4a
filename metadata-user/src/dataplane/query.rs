//! Which programs tcx runs on an interface, and by which links, by id.
//!
//! aya's own `query_tcx` opens each program that it finds, for which the kernel wants `CAP_SYS_ADMIN`
//! (`BPF_PROG_GET_FD_BY_ID`); the ids alone come for `CAP_NET_ADMIN`.
//!
//! Minimum kernel version: 6.6.

use std::io;

use aya::programs::TcAttachType;
use nix::libc;

use super::{IfIndex, syscall::bpf};

/// `BPF_PROG_QUERY` of `enum bpf_cmd`.
const PROG_QUERY: libc::c_long = 16;

/// `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
const TCX_INGRESS: u32 = 46;

/// `BPF_TCX_EGRESS` of `enum bpf_attach_type`.
const TCX_EGRESS: u32 = 47;

/// Most programs on a hook: `BPF_MPROG_MAX`.
const PROGRAMS: usize = 64;

/// What the kernel reads and writes: `query` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    reserved: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// A program on a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// Id of the program.
    pub(super) program: u32,
    /// Id of the link that it is attached by; 0: it was attached without one.
    pub(super) link: u32,
}

/// Returns what is at tcx of the interface, in this direction and in its order.
///
/// # Errors
/// If the kernel refuses: without `CAP_NET_ADMIN`, without tcx, or because the interface is gone (`ENODEV`).
pub(super) fn tcx(ifindex: IfIndex, direction: TcAttachType) -> io::Result<Vec<Attached>> {
    let (mut programs, mut links) = ([0_u32; PROGRAMS], [0_u32; PROGRAMS]);
    let mut query = Query {
        target_ifindex: ifindex.0,
        attach_type: if direction == TcAttachType::Egress { TCX_EGRESS } else { TCX_INGRESS },
        prog_ids: programs.as_mut_ptr().expose_provenance() as u64,
        link_ids: links.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(PROGRAMS).unwrap_or_default(),
        ..Query::default()
    };
    // SAFETY: `Query` is the part of this command, and the kernel writes at most `count` ids to each array, for which there is room.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    let count = usize::try_from(query.count).unwrap_or(usize::MAX);
    let attached = programs.into_iter().zip(links).take(count);
    Ok(attached.map(|(program, link)| Attached { program, link }).collect())
}
