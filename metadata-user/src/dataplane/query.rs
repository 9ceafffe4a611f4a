//! Which programs tcx runs on an interface, by id.
//!
//! aya's own `query_tcx` opens each program that it finds, for which the kernel wants `CAP_SYS_ADMIN`
//! (`BPF_PROG_GET_FD_BY_ID`); the ids alone come for `CAP_NET_ADMIN`.
//!
//! Minimum kernel version: 6.6.

use std::io;

use aya::programs::TcAttachType;
use nix::libc;

use super::IfIndex;

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

/// Returns the ids of the programs at tcx of the interface, in this direction and in their order.
///
/// # Errors
/// If the kernel refuses: without `CAP_NET_ADMIN`, without tcx, or because the interface is gone.
pub(super) fn tcx(ifindex: IfIndex, direction: TcAttachType) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; PROGRAMS];
    let mut query = Query {
        target_ifindex: ifindex.0,
        attach_type: if direction == TcAttachType::Egress { TCX_EGRESS } else { TCX_INGRESS },
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(ids.len()).unwrap_or_default(),
        ..Query::default()
    };
    // SAFETY: the kernel reads and writes `query` within its size, and writes at most `count` ids, for which there is room.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_QUERY, std::ptr::from_mut(&mut query), std::mem::size_of::<Query>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(usize::try_from(query.count).unwrap_or(usize::MAX));
    Ok(ids)
}
