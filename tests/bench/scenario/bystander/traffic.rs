//! Flows between a guest and somebody behind the bridge, each on for as long as it is measured, and what has arrived.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::Namespace;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use crate::machine::pin;
use crate::usage::Workers;

const PORT: u16 = 5001;
/// Longest time that a socket is waited for, so that no thread outlives its flow for long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Datagrams that one system call sends.
const BATCH: u32 = 64;
/// What makes a frame of 60 bytes, the shortest that there is.
const SMALL: usize = 18;

/// What flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One TCP connection as fast as it goes, in segments as large as offloading makes them.
    Bulk,
    /// The shortest datagrams as fast as they can be sent.
    Datagrams,
    /// One byte there, one byte back.
    Turns,
}

/// A flow that is on.
pub(super) struct Flow {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
    workers: Workers,
}

impl Flow {
    /// Starts it from the guest to the peer. With `pinned`, it is all on one processor.
    pub(super) fn start(kind: Kind, guest: &Namespace, peer: &Namespace, to: Ipv4Addr, pinned: bool) -> Result<Self> {
        let to = SocketAddrV4::new(to, PORT);
        if kind == Kind::Datagrams {
            // Nobody reads: what does not fit into the least of buffers is thrown away there. So all that is done for a
            // packet is done by its sender's processor, and nothing waits for a reader.
            let sink = peer.run(|| Ok(UdpSocket::bind(to)?))?;
            setsockopt(&sink, sockopt::RcvBuf, &0).context("making a buffer small")?;
            let socket = guest.run(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.connect(to)?;
                Ok(socket)
            })?;
            let pour: Work = Box::new(move |count, stop| {
                while !stop.load(Ordering::Relaxed) {
                    count.fetch_add(send_batch(&socket)?, Ordering::Relaxed);
                }
                drop(sink);
                Ok(())
            });
            return Self::of(vec![pour], pinned);
        }
        let listener = peer.run(|| Ok(TcpListener::bind(to)?))?;
        let near = guest.run(|| Ok(TcpStream::connect(to)?))?;
        let (far, _) = listener.accept().context("accepting the flow")?;
        for stream in [&near, &far] {
            stream.set_nodelay(true).context("TCP_NODELAY")?;
            stream.set_read_timeout(Some(PATIENCE)).context("a time-out")?;
            stream.set_write_timeout(Some(PATIENCE)).context("a time-out")?;
        }
        let (near_work, far_work): (Work, Work) = match kind {
            Kind::Turns => (Box::new(move |count, stop| ask(near, count, stop)), Box::new(move |_, _| echo(far))),
            _ => (Box::new(move |_, stop| pour(near, stop)), Box::new(move |count, _| drain(far, count))),
        };
        Self::of(vec![near_work, far_work], pinned)
    }

    fn of(works: Vec<Work>, pinned: bool) -> Result<Self> {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |work: Work| {
            let (stop, count) = (stop.clone(), count.clone());
            std::thread::spawn(move || {
                if pinned {
                    pin(0, 1)?;
                }
                work(&count, &stop)
            })
        };
        let threads: Vec<_> = works.into_iter().map(start).collect();
        let workers = Workers::of(&threads)?;
        Ok(Self { stop, count, threads, workers })
    }

    /// Returns how much there was so far: bytes read, packets sent (and by then thrown away), or turns.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the processor seconds that went into it so far, those of the kernel's packet handling included.
    pub(super) fn cpu(&self) -> Result<f64> {
        self.workers.cpu()
    }

    /// Ends the flow.
    pub(super) fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a flow's thread panicked"))??;
        }
        Ok(())
    }
}

type Work = Box<dyn FnOnce(&AtomicU64, &AtomicBool) -> Result<()> + Send>;

fn pour(mut stream: TcpStream, stop: &AtomicBool) -> Result<()> {
    let bytes = vec![0; 256 << 10];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&bytes).context("sending")?;
    }
    Ok(())
}

fn drain(mut stream: TcpStream, count: &AtomicU64) -> Result<()> {
    let mut bytes = vec![0; 1 << 20];
    loop {
        match stream.read(&mut bytes).context("reading")? {
            0 => return Ok(()),
            length => count.fetch_add(length as u64, Ordering::Relaxed),
        };
    }
}

fn ask(mut stream: TcpStream, count: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut byte = [0];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&byte).context("sending")?;
        stream.read_exact(&mut byte).context("reading")?;
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte).context("reading")? == 1 {
        stream.write_all(&byte).context("sending")?;
    }
    Ok(())
}

/// Sends as many datagrams as one call may carry, and returns how many it did. Full buffers are no error: the next call tries
/// again.
fn send_batch(socket: &UdpSocket) -> Result<u64> {
    let bytes = [0u8; SMALL];
    let mut vector = nix::libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: SMALL };
    // SAFETY: zeros are a value of this plain C structure: no address, no control data.
    let mut message: nix::libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut vector;
    message.msg_hdr.msg_iovlen = 1;
    let mut messages = [message; BATCH as usize];
    // SAFETY: each of the messages points to `vector`, and that to `bytes`; both outlive the call, which only reads them.
    let sent = unsafe { nix::libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BATCH, 0) };
    match Errno::result(sent) {
        Ok(sent) => Ok(u64::try_from(sent).unwrap_or(0)),
        Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::ECONNREFUSED) => Ok(0),
        Err(error) => Err(error).context("sending datagrams"),
    }
}
