//! What a hostile guest does, for as long as it is measured.
//!
//! Promises: an attack is bounded in connections and bytes held, ends when it is dropped, and goes nowhere but to the
//! node's own service.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;
use lab::{FrameSocket, Guest, Namespace};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_MAC};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::machine::{pin, prefer};

/// Connections of an attack that keeps them.
const KEPT: usize = 128;
/// Connections of an attack that holds as many as it gets.
const HELD: usize = 1024;
/// SYNs per second, in bursts of a millisecond.
const SYNS: u32 = 20_000;
/// Longest wait of a connection that gets nowhere.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a connection that was refused, so that it is the attack that is measured and not its client.
const PAUSE: Duration = Duration::from_millis(5);

const REQUEST: &[u8] = b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n";
const LARGE: &[u8] = b"GET /latest/user-data HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n";

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    Syns,
    Held,
    SlowHeaders,
    SlowReads,
    LongTargets,
    Pipelined,
    KeepAlive,
    ManyHeaders,
    NewConnections,
    Garbage,
    Handshakes,
}

impl Attack {
    pub(super) const ALL: [Self; 11] = [
        Self::Syns,
        Self::Held,
        Self::SlowHeaders,
        Self::SlowReads,
        Self::LongTargets,
        Self::Pipelined,
        Self::KeepAlive,
        Self::ManyHeaders,
        Self::NewConnections,
        Self::Garbage,
        Self::Handshakes,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Syns => "SYN flood",
            Self::Held => "held connections",
            Self::SlowHeaders => "slow headers",
            Self::SlowReads => "slow reads",
            Self::LongTargets => "64 KB targets",
            Self::Pipelined => "pipelined requests on 128 connections",
            Self::KeepAlive => "128 connections at full speed",
            Self::ManyHeaders => "99 headers of 100 bytes on 128 connections",
            Self::NewConnections => "new connections at full speed",
            Self::Garbage => "garbage",
            Self::Handshakes => "TLS handshakes at full speed",
        }
    }

    /// Says what [`UnderWay::stop`] returns the number of.
    pub(super) fn counts(self) -> &'static str {
        match self {
            Self::Syns => "SYNs",
            Self::Held | Self::SlowHeaders => "bytes sent",
            Self::SlowReads => "bytes read",
            Self::Pipelined | Self::KeepAlive | Self::ManyHeaders => "answers",
            Self::LongTargets | Self::NewConnections | Self::Garbage => "connections",
            Self::Handshakes => "handshakes",
        }
    }

    fn connections(self) -> usize {
        match self {
            Self::Syns => 0,
            Self::Held | Self::SlowHeaders => HELD,
            _ => KEPT,
        }
    }

    /// Starts it. It goes on until it is stopped or dropped.
    pub(super) fn start(self, guest: &Guest, tls: &TlsConnector, pinned: bool) -> Result<UnderWay> {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let namespace = Namespace::existing(guest.namespace().name());
        let (mac, address) = (guest.mac(), guest.ipv4().context("an attacker without IPv4")?.octets());
        let work = (Arc::clone(&stop), Arc::clone(&count), tls.clone());
        let thread = std::thread::Builder::new().name("attack".to_owned()).spawn(move || {
            let (stop, count, tls) = work;
            namespace.enter()?;
            prefer(0)?;
            if pinned {
                pin(0, 1)?;
            }
            if self == Self::Syns {
                return flood(mac, address, &stop, &count);
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
            runtime.block_on(async {
                let tasks: Vec<_> = (0..self.connections())
                    .map(|_| tokio::spawn(self.repeat(tls.clone(), Arc::clone(&stop), Arc::clone(&count))))
                    .collect();
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                tasks.iter().for_each(tokio::task::JoinHandle::abort);
            });
            Ok(())
        });
        Ok(UnderWay { stop, count, thread: Some(thread.context("starting a thread")?) })
    }

    /// One connection after the other.
    async fn repeat(self, tls: TlsConnector, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) {
        while !stop.load(Ordering::Relaxed) {
            if self.connection(&tls, &stop, &count).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// One connection, until it ends or nothing more comes of it.
    async fn connection(self, tls: &TlsConnector, stop: &AtomicBool, count: &AtomicU64) -> std::io::Result<()> {
        let mut stream = self.connect().await?;
        let add = |more: usize| count.fetch_add(more as u64, Ordering::Relaxed);
        match self {
            Self::Syns => {}
            Self::Held => {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await?;
                add(22);
                let _ = stream.read_u8().await;
            }
            Self::SlowHeaders => {
                stream.write_all(b"GET / HTTP/1.1\r\nX: ").await?;
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(b"x").await?;
                    add(1);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            Self::SlowReads => {
                let (mut from, mut to) = stream.split();
                let ask = async {
                    loop {
                        to.write_all(LARGE).await?;
                    }
                };
                let read = async {
                    let mut buffer = [0; 1024];
                    loop {
                        add(from.read(&mut buffer).await?);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                return tokio::select! { end = ask => end, end = read => end };
            }
            Self::LongTargets => {
                let target = "a".repeat(64 << 10);
                let _ = stream.write_all(format!("GET /{target} HTTP/1.1\r\nHost: m\r\n\r\n").as_bytes()).await;
                let _ = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
                add(1);
            }
            Self::Pipelined => {
                let batch = REQUEST.repeat(1000);
                let (mut from, mut to) = stream.split();
                let ask = async {
                    loop {
                        to.write_all(&batch).await?;
                    }
                };
                return tokio::select! { end = ask => end, end = count_answers(&mut from, count) => end };
            }
            Self::KeepAlive | Self::ManyHeaders => {
                let mut request = REQUEST.to_vec();
                if self == Self::ManyHeaders {
                    request.truncate(REQUEST.len() - 2);
                    for number in 0..98 {
                        request.extend_from_slice(format!("X-{number:02}: {}\r\n", "x".repeat(93)).as_bytes());
                    }
                    request.extend_from_slice(b"\r\n");
                }
                let mut buffer = [0; 1024];
                loop {
                    stream.write_all(&request).await?;
                    if stream.read(&mut buffer).await? == 0 {
                        break;
                    }
                    add(1);
                }
            }
            Self::NewConnections => {
                stream.write_all(REQUEST).await?;
                let mut buffer = [0; 1024];
                let _ = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
                add(1);
            }
            Self::Garbage => {
                stream.write_all(&[0xf7; 2000]).await?;
                let _ = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
                add(1);
            }
            Self::Handshakes => {
                let name = ServerName::IpAddress(IpAddr::from(METADATA_IPV4).into());
                tokio::time::timeout(PATIENCE, tls.connect(name, stream)).await??;
                add(1);
            }
        }
        Ok(())
    }

    async fn connect(self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if self == Self::SlowReads {
            socket.set_recv_buffer_size(4096)?;
        }
        let port = if self == Self::Handshakes { 443 } else { 80 };
        let server: SocketAddr = (METADATA_IPV4, port).into();
        let stream = tokio::time::timeout(PATIENCE, socket.connect(server)).await??;
        // Its port is free again at once.
        stream.set_zero_linger()?;
        Ok(stream)
    }
}

/// Reads, and counts answers by their first line.
async fn count_answers(from: &mut (impl tokio::io::AsyncRead + Unpin), count: &AtomicU64) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let answers = buffer[..length].windows(9).filter(|window| *window == b"HTTP/1.1 ").count();
        count.fetch_add(answers as u64, Ordering::Relaxed);
    }
}

/// Sends SYNs from the guest's own address and ever other ports.
fn flood(mac: [u8; 6], address: [u8; 4], stop: &AtomicBool, count: &AtomicU64) -> Result<()> {
    let frames = FrameSocket::open("eth0")?;
    let mut port = 1024_u16;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..SYNS / 1000 {
            port = port.checked_add(1).unwrap_or(1024);
            let packet = PacketBuilder::ethernet2(mac, METADATA_MAC).ipv4(address, METADATA_IPV4, 64);
            let mut syn = Vec::with_capacity(64);
            packet.tcp(port, 80, 1, 64_000).syn().write(&mut syn, &[]).context("building a SYN")?;
            frames.send(&syn)?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// An attack that goes on. It ends when this is dropped.
pub(super) struct UnderWay {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl UnderWay {
    /// Ends it, and returns how much it has done.
    pub(super) fn stop(mut self) -> Result<u64> {
        let count = self.count.load(Ordering::Relaxed);
        self.end()?;
        Ok(count)
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(ended) => ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => Ok(()),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            crate::progress::say(&format!("an attack failed: {error:#}"));
        }
    }
}
