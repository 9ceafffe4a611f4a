//! Links of ours, held open beside their pins, and where each one is.
//!
//! Promises: while the daemon runs, a program stays where it is though its pin is removed, or the whole BPF file system unmounted;
//! a link that is held can be pinned again, and says whether it has been detached.
//!
//! A link that was detached by hand (`bpftool link detach`) is on no interface any more and cannot be attached again: a new one replaces
//! it.
//!
//! Minimum kernel version: 5.8.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::programs::TcAttachType;
use nix::libc;

use super::{IfIndex, syscall::bpf};

/// A program of ours on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `from_guest` on a tap.
    Tap(IfIndex),
    /// `from_network` on a tap.
    Guard(IfIndex),
    /// `from_guest_xdp` on a tap.
    Xdp(IfIndex),
    /// `to_guest` on the pair.
    ToGuest,
    /// `from_host` on the pair.
    FromHost,
}

impl Place {
    /// Returns the name of the program.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Tap(_) => "from_guest",
            Self::Guard(_) => "from_network",
            Self::Xdp(_) => "from_guest_xdp",
            Self::ToGuest => "to_guest",
            Self::FromHost => "from_host",
        }
    }

    /// Returns the tap; `None`: it is on the pair.
    #[must_use]
    pub const fn tap(self) -> Option<IfIndex> {
        match self {
            Self::Tap(ifindex) | Self::Guard(ifindex) | Self::Xdp(ifindex) => Some(ifindex),
            Self::ToGuest | Self::FromHost => None,
        }
    }

    /// Returns the direction at tc; `None`: it is at XDP.
    pub(super) const fn direction(self) -> Option<TcAttachType> {
        match self {
            Self::Tap(_) | Self::ToGuest => Some(TcAttachType::Ingress),
            Self::Guard(_) | Self::FromHost => Some(TcAttachType::Egress),
            Self::Xdp(_) => None,
        }
    }

    /// Returns the name of the link's pin.
    pub(super) fn pin(self) -> String {
        match self {
            Self::Tap(ifindex) => format!("tap-{ifindex}"),
            Self::Guard(ifindex) => format!("guard-{ifindex}"),
            Self::Xdp(ifindex) => format!("xdp-{ifindex}"),
            Self::ToGuest | Self::FromHost => self.program().to_owned(),
        }
    }
}

/// A link that is held open.
#[derive(Debug)]
pub(super) struct HeldLink {
    fd: OwnedFd,
    id: u32,
}

/// `BPF_OBJ_PIN` of `enum bpf_cmd`.
const OBJ_PIN: libc::c_long = 6;
/// `BPF_OBJ_GET`.
const OBJ_GET: libc::c_long = 7;
/// `BPF_OBJ_GET_INFO_BY_FD`.
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// The part of `union bpf_attr` for pins.
#[repr(C)]
struct Pinning {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` for information.
#[repr(C)]
struct Asking {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_link_info` of a link of tcx or XDP, both of which begin so.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    /// What follows is aligned to 8 bytes.
    padding: u32,
    ifindex: u32,
    rest: [u32; 11],
}

impl HeldLink {
    /// Opens the link that is pinned there.
    ///
    /// # Errors
    /// If there is none, or the process has too many open files.
    pub(super) fn open(pin: &Path) -> io::Result<Self> {
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let mut get = Pinning { pathname: path.as_ptr().expose_provenance() as u64, bpf_fd: 0, file_flags: 0 };
        // SAFETY: `Pinning` is the part of this command, and `path` ends with a NUL and lives until after the call.
        let fd = unsafe { bpf(OBJ_GET, &mut get) }?;
        // SAFETY: the kernel has just opened it for this process, and nobody else knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(io::Error::other)?) };
        let id = info(&fd)?.id;
        Ok(Self { fd, id })
    }

    /// Returns its id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Returns the interface that it is on; `None`: it has been detached, or the interface is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn ifindex(&self) -> io::Result<Option<IfIndex>> {
        let ifindex = info(&self.fd)?.ifindex;
        Ok((ifindex != 0).then_some(IfIndex(ifindex)))
    }

    /// Pins it.
    ///
    /// # Errors
    /// If there is something of this name, or no BPF file system there.
    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut pin =
            Pinning { pathname: path.as_ptr().expose_provenance() as u64, bpf_fd: number(&self.fd), file_flags: 0 };
        // SAFETY: as in `open`.
        unsafe { bpf(OBJ_PIN, &mut pin) }.map(drop)
    }
}

fn info(fd: &OwnedFd) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut asking = Asking {
        bpf_fd: number(fd),
        info_len: u32::try_from(std::mem::size_of::<LinkInfo>()).unwrap_or_default(),
        info: std::ptr::from_mut(&mut info).expose_provenance() as u64,
    };
    // SAFETY: `Asking` is the part of this command, and the kernel writes at most `info_len` bytes to `info`.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut asking) }?;
    Ok(info)
}

/// A descriptor is never negative.
fn number(fd: &OwnedFd) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or_default()
}
