//! A tap as a hypervisor makes it: a device of the tun driver, and in this process what a virtual machine's network card does.
//!
//! Frames that are sent here come out of the tap in the node, as if the guest had sent them. Headers of virtio are there as
//! QEMU has them, so frames of several segments can be sent too.
//!
//! Left out: vhost, which hands frames to the same driver without a system call.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::libc;

use crate::guard;
use crate::netns::Namespace;

/// `struct virtio_net_hdr` without merged buffers.
const VIRTIO: usize = 10;

/// A tap, up, and its other side. It goes with its value.
#[derive(Debug)]
pub struct Tap {
    device: File,
    ifindex: u32,
}

impl Tap {
    /// Makes the tap in the namespace, and sets it up.
    ///
    /// # Errors
    /// Without TAP devices, or if there is one of this name.
    pub fn open(namespace: &Namespace, name: &str) -> Result<Self> {
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let device = namespace.run(|| open(name, flags))?;
        namespace.ip_batch(&format!("link set {name} addrgenmode none\nlink set {name} up\n"))?;
        Ok(Self { device, ifindex: namespace.ifindex(name)? })
    }

    /// Returns its index in the node.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Sends a frame as the guest. When this returns, the node's programs have seen it.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.send_prepared(&Self::prepare(frame, None))
    }

    /// Sends a TCP segment over IPv4 without options that is to be cut into segments with this much payload each.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn send_large(&self, frame: &[u8], payload: u16) -> Result<()> {
        self.send_prepared(&Self::prepare(frame, Some(payload)))
    }

    /// Returns a frame with virtio's header in front of it, for [`Self::send_prepared`]; with `payload` as
    /// [`Self::send_large`] sends it.
    #[must_use]
    pub fn prepare(frame: &[u8], payload: Option<u16>) -> Vec<u8> {
        [payload.map_or([0; VIRTIO], large).as_slice(), frame].concat()
    }

    /// Sends a frame that has virtio's header in front of it.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn send_prepared(&self, bytes: &[u8]) -> Result<()> {
        (&self.device).write_all(bytes).with_context(|| format!("sending a frame of {} bytes", bytes.len() - VIRTIO))
    }

    /// Returns the next frame to the guest; `None` if there is none within `patience`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn receive(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let mut frame = match next(&self.device, patience) {
            Some(frame) => frame,
            None => return Ok(None),
        };
        anyhow::ensure!(frame.len() >= VIRTIO, "a frame without a header of virtio");
        frame.drain(..VIRTIO);
        Ok(Some(frame))
    }
}

/// Returns virtio's header of a TCP segment over IPv4 without options that is to be cut.
fn large(payload: u16) -> [u8; VIRTIO] {
    const NEEDS_CHECKSUM: u8 = 1;
    const TCP_OVER_IPV4: u8 = 1;
    const HEADERS: u16 = 14 + 20 + 20;
    const TCP_AT: u16 = 14 + 20;
    const CHECKSUM_AT: u16 = 16;
    let mut header = [0; VIRTIO];
    header[..2].copy_from_slice(&[NEEDS_CHECKSUM, TCP_OVER_IPV4]);
    for (place, number) in header[2..].chunks_exact_mut(2).zip([HEADERS, payload, TCP_AT, CHECKSUM_AT]) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    header
}

/// Makes a device of the tun driver in the calling thread's namespace.
pub(crate) fn open(name: &str, flags: libc::c_int) -> Result<File> {
    guard::refuse_machine_namespace()?;
    let mut options = OpenOptions::new();
    let device = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let device = device.context("opening /dev/net/tun")?;
    // SAFETY: all bits 0 are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    anyhow::ensure!(name.len() < request.ifr_name.len(), "{name} is too long for an interface");
    for (place, letter) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([letter]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or_default();
    // SAFETY: TUNSETIFF takes an ifreq; its name is NUL-terminated (checked above).
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("making the TAP device {name}"));
    }
    Ok(device)
}

/// Returns the next bytes of a device; `None` if there are none within `patience`.
pub(crate) fn next(device: &File, patience: Duration) -> Option<Vec<u8>> {
    let mut waiting = libc::pollfd { fd: device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `waiting` is one pollfd, and the count says so.
    unsafe { libc::poll(&raw mut waiting, 1, milliseconds) };
    let mut bytes = vec![0; 70_000];
    let mut device = device;
    let length = device.read(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}
