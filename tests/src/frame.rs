//! Whole Ethernet frames, sent and captured on one interface.
//!
//! Promises: what was on the wire is what one gets: the kernel keeps a frame's VLAN tag beside it, and here it is put
//! back in its place. Frames that this very socket sent are not shown.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::guard;

/// Larger than any frame of a jumbo or offloaded packet.
const LONGEST: usize = 70_000;

/// A packet socket on one interface (packet(7)).
#[derive(Debug)]
pub struct FrameSocket(socket2::Socket);

impl FrameSocket {
    /// Opens a socket on the interface, in the calling thread's namespace.
    ///
    /// # Errors
    /// In the machine's own namespace, without root, or if the interface does not exist.
    pub fn open(interface: &str) -> Result<Self> {
        guard::refuse_machine_namespace()?;
        let ifindex = nix::net::if_::if_nametoindex(interface)
            .with_context(|| format!("looking for the interface {interface}"))?;
        Self::open_index(ifindex).with_context(|| format!("opening a packet socket on {interface}"))
    }

    fn open_index(ifindex: u32) -> io::Result<Self> {
        // ETH_P_ALL is 3; the kernel wants it in network order.
        let every_protocol = 3u16.to_be();
        let socket = socket2::Socket::new(
            socket2::Domain::PACKET,
            socket2::Type::RAW,
            Some(socket2::Protocol::from(i32::from(every_protocol))),
        )?;
        // Beyond what the machine allows others: a frame that is lost for want of room would make a test blind.
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20)?;
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
            sll_protocol: every_protocol,
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `address` is an initialised sockaddr_ll and the length is its size.
        let bound =
            unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of::<libc::sockaddr_ll>()) };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        Ok(Self(socket))
    }

    /// Sends one frame as it is.
    ///
    /// # Errors
    /// If the kernel refuses it, for example because it is longer than the interface's MTU.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        nix::unistd::write(&self.0, frame).with_context(|| format!("sending a frame of {} bytes", frame.len()))?;
        Ok(())
    }

    /// Returns the next frame; `None` if there is none within `patience`.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn receive(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        // A time-out of 0 would mean none at all.
        let patience = patience.max(Duration::from_millis(1));
        self.0.set_read_timeout(Some(patience)).context("setting a time-out")?;
        let mut bytes = vec![0; LONGEST];
        let mut control = nix::cmsg_space!([u8; 64]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let deadline = Instant::now() + patience;
        let received = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
                Err(Errno::EAGAIN) => return Ok(None),
                // By a signal, or because the process was stopped for a while. The kernel repeats no call that has a time-out.
                Err(Errno::EINTR) if Instant::now() < deadline => {}
                Err(Errno::EINTR) => return Ok(None),
                other => break other.context("receiving a frame")?,
            }
        };
        let tag = received.cmsgs().context("reading a frame's tag")?.find_map(|message| match message {
            ControlMessageOwned::Unknown(raw) => vlan_tag(&raw.data_bytes),
            _ => None,
        });
        let length = received.bytes;
        bytes.truncate(length);
        if let Some(tag) = tag {
            bytes.splice(12..12, tag);
        }
        Ok(Some(bytes))
    }

    /// Returns all frames until one equals `last`, that one left out.
    ///
    /// # Errors
    /// If `last` does not come within the deadline; the error says how many others did.
    pub fn receive_until(&self, last: &[u8]) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + crate::wait::PATIENCE;
        let mut frames = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left.min(Duration::from_secs(1)))? {
                Some(frame) if frame == last => return Ok(frames),
                Some(frame) => frames.push(frame),
                None if left.is_zero() => {
                    anyhow::bail!("the last frame did not come after {} others", frames.len())
                }
                None => {}
            }
        }
    }
}

/// Sets an option that takes an int.
fn set_option(socket: &socket2::Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: `value` is an initialised int and the length is its size.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length_of::<libc::c_int>())
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns a type's size as system calls want it.
fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

/// Reads the tag out of a `tpacket_auxdata`: status, len, snaplen (u32), mac, net, vlan_tci, vlan_tpid (u16).
fn vlan_tag(auxdata: &[u8]) -> Option<[u8; 4]> {
    /// TP_STATUS_VLAN_VALID of linux/if_packet.h.
    const VLAN_VALID: u32 = 1 << 4;
    let status = u32::from_ne_bytes(auxdata.get(0..4)?.try_into().ok()?);
    let tci = u16::from_ne_bytes(auxdata.get(16..18)?.try_into().ok()?).to_be_bytes();
    let tpid = u16::from_ne_bytes(auxdata.get(18..20)?.try_into().ok()?).to_be_bytes();
    (status & VLAN_VALID != 0).then_some([tpid[0], tpid[1], tci[0], tci[1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespace;

    #[test]
    fn a_frame_arrives_as_it_was_sent_tag_included() {
        let (a, b) = (Namespace::create("a").unwrap(), Namespace::create("b").unwrap());
        a.ip(&format!("link add eth0 mtu 9000 type veth peer name eth0 mtu 9000 netns {}", b.name())).unwrap();
        for namespace in [&a, &b] {
            namespace.ip("link set eth0 addrgenmode none").unwrap();
            namespace.ip("link set eth0 up").unwrap();
        }
        let receiver = b.run(|| FrameSocket::open("eth0")).unwrap();
        let sender = a.run(|| FrameSocket::open("eth0")).unwrap();
        let mut tagged = vec![2; 12];
        tagged.extend([0x81, 0, 0x20, 100, 0x12, 0x34]);
        tagged.extend([7; 8900]);
        let plain = [[3; 12].as_slice(), &[0x12, 0x34], &[9; 60]].concat();
        sender.send(&tagged).unwrap();
        sender.send(&plain).unwrap();
        assert_eq!(receiver.receive_until(&plain).unwrap(), [tagged]);
    }
}
