//! A VLAN sub-interface in user space, since not every kernel is built with one.
//!
//! A TAP device in the guest replaces the sub-interface; two threads carry frames between it and the tagged link. What
//! leaves the guest is what a kernel's own sub-interface sends.
//!
//! Left out: priorities, and checksums other than TCP's. A frame that stays inside one machine may come with its checksum
//! still to be made, which only the kernel's own devices can mark, so it is made here.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use nix::libc;

use crate::frame::FrameSocket;
use crate::netns::Namespace;
use crate::tap;

/// EtherType of an 802.1Q tag.
const TAGGED: [u8; 2] = [0x81, 0x00];
/// Longest wait for a frame before a thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// A running sub-interface. It ends with its value.
#[derive(Debug)]
pub struct VlanLink {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl VlanLink {
    /// Makes the sub-interface `name` of `eth0` in the namespace, for frames with this VLAN identifier.
    ///
    /// # Errors
    /// Without TAP devices or packet sockets.
    pub fn start(namespace: &Namespace, name: &str, vlan: u16) -> Result<Self> {
        let (device, link) =
            namespace.run(|| Ok((tap::open(name, libc::IFF_TAP | libc::IFF_NO_PI)?, FrameSocket::open("eth0")?)))?;
        let (device, link) = (Arc::new(device), Arc::new(link));
        let ended = Arc::new(AtomicBool::new(false));
        let out = {
            let (device, link, ended) = (Arc::clone(&device), Arc::clone(&link), Arc::clone(&ended));
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let Some(mut frame) = tap::next(&device, LOOK) else { continue };
                    let [high, low] = vlan.to_be_bytes();
                    frame.splice(12..12, [TAGGED[0], TAGGED[1], high, low]);
                    // A frame that is lost here is one lost on the wire.
                    let _ = link.send(&frame);
                }
            })
        };
        let back = {
            let ended = Arc::clone(&ended);
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let Ok(Some(mut frame)) = link.receive(LOOK) else { continue };
                    let of_this_vlan = frame.get(12..14) == Some(&TAGGED)
                        && frame.get(14..16).is_some_and(|tci| u16::from_be_bytes([tci[0] & 0x0f, tci[1]]) == vlan);
                    if of_this_vlan {
                        frame.drain(12..16);
                        complete_tcp(&mut frame);
                        let _ = (&*device).write_all(&frame);
                    }
                }
            })
        };
        Ok(Self { ended, threads: vec![out, back] })
    }
}

impl Drop for VlanLink {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Writes the TCP checksum (RFC 9293, section 3.1) of an untagged IPv4 or IPv6 frame without options; any other frame
/// stays as it is.
fn complete_tcp(frame: &mut [u8]) {
    const TCP: u8 = 6;
    /// Ethernet and IP header, addresses and protocol of each family.
    const IPV4: (usize, usize, usize) = (34, 26, 23);
    const IPV6: (usize, usize, usize) = (54, 22, 20);
    let (start, addresses, protocol) = match frame.get(12..14) {
        Some([0x08, 0x00]) => IPV4,
        Some([0x86, 0xdd]) => IPV6,
        _ => return,
    };
    if frame.len() < start + 20 || frame[protocol] != TCP {
        return;
    }
    frame[start + 16..start + 18].fill(0);
    let ip_addresses = if start == IPV4.0 { addresses..start } else { addresses..54 };
    let segment_length = u32::try_from(frame.len() - start).unwrap_or(0);
    let mut sum = u32::from(TCP) + (segment_length >> 16) + (segment_length & 0xffff);
    for bytes in [&frame[ip_addresses], &frame[start..]] {
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    let checksum = !u16::try_from(sum).unwrap_or(0);
    frame[start + 16..start + 18].copy_from_slice(&checksum.to_be_bytes());
}
