//! A frame in memory that the kernel reads while the sender can still change it, as a hostile guest may try.
//!
//! The ring of packet(7): the kernel copies the Ethernet header into the packet, and lets the rest of it lie where it is, as a
//! host does that takes what a virtual machine sends without copying it.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use nix::libc;

use crate::guard;

/// The ring is one page, with room for one frame.
const RING: usize = 4096;
/// Offset of the frame in it: behind a `tpacket2_hdr`, whose first words are status and length.
const FRAME: usize = 32;
/// Length of a `virtio_net_hdr`, which lies before the frame where there is one.
const VIRTIO: usize = 10;
/// TPACKET_V2 of linux/if_packet.h: the layout of the ring's headers.
const TPACKET_V2: libc::c_int = 1;
/// PACKET_VNET_HDR of linux/if_packet.h: a `virtio_net_hdr` lies before each frame.
const PACKET_VNET_HDR: libc::c_int = 15;
/// TP_STATUS_SEND_REQUEST of linux/if_packet.h: the frame is the kernel's to send.
const SEND_REQUEST: u32 = 1;

/// What a virtual machine asks for with a frame: the fields of `virtio_net_hdr`, and how much of the frame the kernel copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offload {
    /// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is to be filled in, at `csum_offset` behind `csum_start`, and nobody verifies
    /// the one that is there.
    pub needs_csum: bool,
    /// `VIRTIO_NET_HDR_GSO_…`: how the frame is to be cut into segments.
    pub gso_type: u8,
    /// Length of the headers; so much is copied, and the Ethernet header in any case.
    pub hdr_len: u16,
    /// Payload of a segment.
    pub gso_size: u16,
    /// Where the checksum begins.
    pub csum_start: u16,
    /// Where it is written, from there.
    pub csum_offset: u16,
}

impl Offload {
    fn bytes(self) -> [u8; VIRTIO] {
        let [h, g, s, o] = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset].map(u16::to_le_bytes);
        [u8::from(self.needs_csum), self.gso_type, h[0], h[1], g[0], g[1], s[0], s[1], o[0], o[1]]
    }
}

/// A ring of one frame on one interface.
#[derive(Debug)]
pub struct SharedFrame {
    socket: socket2::Socket,
    ring: usize,
    /// Where the frame is.
    start: usize,
    len: usize,
    offload: Option<Offload>,
}

impl SharedFrame {
    /// Makes the ring on an interface of the calling thread's namespace, with this frame in it.
    ///
    /// # Errors
    /// In the machine's own namespace, without root, if the interface does not exist or the frame is too long.
    pub fn open(interface: &str, frame: &[u8]) -> Result<Self> {
        Self::open_for(interface, frame, None)
    }

    /// As [`Self::open`]; with the frame, the kernel is asked for this.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(interface: &str, frame: &[u8], offload: Offload) -> Result<Self> {
        Self::open_for(interface, frame, Some(offload))
    }

    fn open_for(interface: &str, frame: &[u8], offload: Option<Offload>) -> Result<Self> {
        guard::refuse_machine_namespace()?;
        ensure!(frame.len() <= RING - FRAME - VIRTIO, "the frame is longer than the ring");
        let ifindex = nix::net::if_::if_nametoindex(interface)
            .with_context(|| format!("looking for the interface {interface}"))?;
        Self::open_index(ifindex, frame, offload).with_context(|| format!("making a ring on {interface}"))
    }

    fn open_index(ifindex: u32, frame: &[u8], offload: Option<Offload>) -> io::Result<Self> {
        // Protocol 0: nothing is received.
        let socket = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None)?;
        set_option(&socket, libc::PACKET_VERSION, &TPACKET_V2)?;
        if offload.is_some() {
            set_option(&socket, PACKET_VNET_HDR, &1)?;
        }
        let size = u32::try_from(RING).unwrap_or_default();
        let request = libc::tpacket_req { tp_block_size: size, tp_block_nr: 1, tp_frame_size: size, tp_frame_nr: 1 };
        set_option(&socket, libc::PACKET_TX_RING, &request)?;
        // SAFETY: a new mapping, wherever the kernel likes it; unmapped on `Drop` only.
        let ring = unsafe {
            let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, socket.as_raw_fd());
            libc::mmap(std::ptr::null_mut(), RING, protection, libc::MAP_SHARED, fd, 0)
        };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = FRAME + if offload.is_some() { VIRTIO } else { 0 };
        let shared = Self { socket, ring: ring as usize, start, len: frame.len(), offload };
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
            sll_protocol: 0,
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
        // SAFETY: `address` is an initialised sockaddr_ll and the length is its size.
        if unsafe { libc::bind(shared.socket.as_raw_fd(), (&raw const address).cast(), len) } != 0 {
            return Err(io::Error::last_os_error());
        }
        shared.store(0, frame);
        Ok(shared)
    }

    /// Asks the kernel for something else with the next frame.
    ///
    /// # Panics
    /// If it is asked for nothing with any frame: the ring has no room for it.
    pub fn ask_for(&mut self, offload: Offload) {
        assert!(self.offload.is_some(), "opened with no offload");
        self.offload = Some(offload);
    }

    /// Returns a byte of the frame, to be changed at any time.
    ///
    /// # Panics
    /// If the frame is not that long.
    #[must_use]
    pub fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < self.len, "the frame has {} bytes", self.len);
        // SAFETY: inside the mapping, which lives as long as this value; bytes have no alignment.
        unsafe { AtomicU8::from_ptr((self.ring + self.start + offset) as *mut u8) }
    }

    /// Puts bytes into the frame.
    ///
    /// # Panics
    /// If the frame is not that long.
    pub fn store(&self, offset: usize, bytes: &[u8]) {
        for (place, byte) in (offset..).zip(bytes) {
            self.byte(place).store(*byte, Ordering::Relaxed);
        }
    }

    /// Sends the frame, as its bytes are when the kernel looks at each. Returns when it is done with it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn send(&self) -> io::Result<()> {
        // SAFETY: the first two words of the mapping, which is aligned to a page and lives as long as this value.
        let [status, len] =
            unsafe { [AtomicU32::from_ptr(self.ring as *mut u32), AtomicU32::from_ptr((self.ring + 4) as *mut u32)] };
        // Anew each time: the kernel may have corrected it.
        for (place, byte) in (self.ring + FRAME..).zip(self.offload.into_iter().flat_map(Offload::bytes)) {
            // SAFETY: before the frame, inside the mapping, which lives as long as this value; bytes have no alignment.
            unsafe { AtomicU8::from_ptr(place as *mut u8) }.store(byte, Ordering::Relaxed);
        }
        len.store(u32::try_from(self.start - FRAME + self.len).unwrap_or_default(), Ordering::Relaxed);
        status.store(SEND_REQUEST, Ordering::Release);
        // SAFETY: no buffer is involved.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), std::ptr::null(), 0, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for SharedFrame {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` made, of that length; nothing refers to it any more.
        unsafe { libc::munmap(self.ring as *mut libc::c_void, RING) };
    }
}

fn set_option<T>(socket: &socket2::Socket, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = u32::try_from(size_of::<T>()).unwrap_or_default();
    // SAFETY: `value` is initialised and the length is its size.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, std::ptr::from_ref(value).cast(), len)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
