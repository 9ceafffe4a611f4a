//! A client that asks as fast as it is answered, or at a fixed rate.
//!
//! One thread, one epoll, `connections` connections. At a fixed rate the time of a request counts from when it was due,
//! whatever delayed it, so a slow answer is not hidden by the requests that could not be sent meanwhile (coordinated
//! omission). Every answer must be a 200 of the length of the first one.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use lab::Response;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Protocol, Socket, Type};

use crate::result::Case;

/// Longest time without any answer, until the measurement is given up.
const STALLED: Duration = Duration::from_secs(10);

/// Longest wait at the end for what is under way, so that it is not done in somebody else's turn.
const GRACE: Duration = Duration::from_secs(1);

/// What `[http]` says where one guest asks as fast as it can: its requests are counted, as by default, and never too many.
pub(crate) const UNLIMITED: &str = "[http]\nconnections_per_port = 4096\nconnections_per_instance = 4096\n\
                                    requests_per_second = 10000000\nrequest_burst = 10000000\n";

/// What `[ports]` says there: the kernel counts each packet and connection, as by default, and never too many.
pub(crate) const PORTS_UNLIMITED: &str = "new_connections_per_second = 1000000\nnew_connections_burst = 1000000\n\
                                          packets_per_second = 1000000\npackets_burst = 1000000\n";

/// Quantiles that are kept of a distribution.
pub(crate) const QUANTILES: [f64; 12] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1.0];

/// What is asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Whom.
    pub(crate) server: SocketAddr,
    /// Which path.
    pub(crate) path: String,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Each request on a connection of its own.
    pub(crate) reconnect: bool,
    /// Further header fields, each with its end of line.
    pub(crate) header: String,
    /// Requests per second in all; `None`: as many as are answered.
    pub(crate) rate: Option<f64>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Requests answered in time.
    pub(crate) requests: u64,
    /// Requests answered afterwards: they were under way, and took processor time all the same.
    pub(crate) late: u64,
    /// How long it took, without these.
    pub(crate) elapsed: Duration,
    /// Nanoseconds of each.
    pub(crate) latency: Histogram<u64>,
}

impl Outcome {
    /// Returns one of which nothing has come yet.
    pub(crate) fn nothing() -> Result<Self> {
        Ok(Self { requests: 0, late: 0, elapsed: Duration::ZERO, latency: histogram()? })
    }

    /// Adds what came of another slice, or of another part of one.
    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        self.requests += other.requests;
        self.late += other.late;
        self.elapsed += other.elapsed;
        self.latency.add(&other.latency).context("adding histograms")
    }

    /// Returns all requests that were answered, in time or not.
    pub(crate) fn answered(&self) -> f64 {
        (self.requests + self.late) as f64
    }

    /// Returns the requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the microseconds within which this share of the requests was answered.
    pub(crate) fn quantile(&self, at: f64) -> f64 {
        self.latency.value_at_quantile(at) as f64 / 1000.0
    }

    /// Adds the quantiles of one side to a case's figures: each that at least ten requests were slower than.
    pub(crate) fn figures(&self, side: &str, case: &mut Case) {
        for (what, at) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            if self.requests as f64 * (1.0 - at) >= 10.0 {
                case.figure(format!("{side}, {what} µs"), self.quantile(at));
            }
        }
    }
}

/// Returns a histogram of nanoseconds, up to a minute, of three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(100, 60_000_000_000, 3).context("making a histogram")
}

struct Connection {
    socket: Option<Socket>,
    /// When the request under way was due.
    due: Instant,
    /// Bytes of the answer so far; `None`: no request is under way.
    received: Option<usize>,
    /// Whether the request is still to be written.
    unsent: bool,
}

struct Client<'l> {
    load: &'l Load,
    request: Vec<u8>,
    /// Bytes of an answer.
    expected: usize,
    epoll: Epoll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    /// Requests that failed; `None`: the first one that fails ends the measurement.
    failures: Option<u64>,
}

impl Load {
    /// Says, for the name of a case, how connections are used and how many there are.
    pub(crate) fn connecting(&self) -> String {
        let kind = if self.reconnect { "new connection each" } else { "keep-alive" };
        let plural = if self.connections == 1 { "" } else { "s" };
        format!("{kind}, {} connection{plural}", self.connections)
    }

    /// Asks for this long, on this thread and in its namespace.
    pub(crate) fn run(&self, duration: Duration) -> Result<Outcome> {
        Ok(self.measure(duration, None)?.0)
    }

    /// As [`Self::run`], with somebody who does not answer all requests. Those are counted apart, and their connections
    /// are made anew.
    pub(crate) fn run_with_failures(&self, duration: Duration) -> Result<(Outcome, u64)> {
        self.measure(duration, Some(0))
    }

    fn measure(&self, duration: Duration, failures: Option<u64>) -> Result<(Outcome, u64)> {
        let Self { path, header, .. } = self;
        let request = format!("GET {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{header}\r\n").into_bytes();
        let expected = self.probe(&request)?;
        let start = Instant::now();
        let interval = self.rate.map(|rate| Duration::from_secs_f64(self.connections as f64 / rate));
        let connections = (0..self.connections).map(|place| {
            let share = place as f64 / self.connections as f64;
            let offset = interval.map_or(Duration::ZERO, |interval| interval.mul_f64(share));
            Connection { socket: None, due: start + offset, received: None, unsent: false }
        });
        let client = Client {
            load: self,
            request,
            expected,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("opening an epoll")?,
            connections: connections.collect(),
            buffer: vec![0; 256 << 10],
            failures,
        };
        client.run(start, duration, interval)
    }

    fn socket(&self) -> Result<Socket> {
        let socket =
            Socket::new(Domain::for_address(self.server), Type::STREAM, Some(Protocol::TCP)).context("a socket")?;
        socket.set_tcp_nodelay(true).context("TCP_NODELAY")?;
        // A connection that has done its work leaves no TIME_WAIT behind, of which there are 28,000 at most.
        socket.set_linger(Some(Duration::ZERO)).context("SO_LINGER")?;
        Ok(socket)
    }

    /// Asks once and returns the length of the whole answer.
    fn probe(&self, request: &[u8]) -> Result<usize> {
        let mut socket = self.socket()?;
        socket.set_read_timeout(Some(STALLED)).context("a time-out")?;
        socket
            .connect_timeout(&self.server.into(), STALLED)
            .with_context(|| format!("connecting to {}", self.server))?;
        socket.write_all(request).context("asking")?;
        let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let count = socket.read(&mut buffer).with_context(|| format!("reading {}", self.path))?;
            answer.extend_from_slice(&buffer[..count]);
            if let Some((found, head)) = Response::head(&answer)? {
                found.header("content-length").context("an answer without its length")?;
                if found.status != 200 {
                    bail!("{} answered {}", self.path, found.status);
                }
                let whole = head + found.content_length()?;
                if answer.len() >= whole {
                    return Ok(whole);
                }
            }
            if count == 0 {
                bail!("the connection ended before the answer");
            }
        }
    }
}

impl Client<'_> {
    fn run(mut self, start: Instant, duration: Duration, interval: Option<Duration>) -> Result<(Outcome, u64)> {
        let end = start + duration;
        let mut latency = histogram()?;
        let (mut requests, mut late, mut last) = (0, 0, start);
        let mut events = vec![EpollEvent::empty(); self.connections.len()];
        loop {
            let now = Instant::now();
            let is_over = now >= end;
            let under_way = self.connections.iter().any(|connection| connection.received.is_some());
            if is_over && (!under_way || now >= end + GRACE) {
                break;
            }
            if now > last + STALLED {
                bail!("no answer for {STALLED:?}");
            }
            let mut next = if is_over { end + GRACE } else { end };
            let mut done = Vec::new();
            for place in (0..self.connections.len()).filter(|_| !is_over) {
                let connection = &self.connections[place];
                if connection.received.is_some() {
                    continue;
                }
                if interval.is_some() && connection.due > now {
                    next = next.min(connection.due);
                } else {
                    let begun = self.begin(place, interval.is_none());
                    if self.tolerate(place, begun)? {
                        done.push(place);
                    }
                }
            }
            // Epoll counts milliseconds: what is due sooner is waited for without sleeping.
            let wait = match done.len() {
                0 => u16::try_from(next.saturating_duration_since(now).as_millis()).unwrap_or(u16::MAX).min(100),
                _ => 0,
            };
            let count = self.epoll.wait(&mut events, EpollTimeout::from(wait)).context("waiting")?;
            for event in &events[..count] {
                let place = usize::try_from(event.data()).unwrap_or(0);
                let gone_on = self.go_on(place);
                if self.tolerate(place, gone_on)? {
                    done.push(place);
                }
            }
            for place in done {
                last = Instant::now();
                let connection = &mut self.connections[place];
                if is_over {
                    late += 1;
                } else {
                    latency.saturating_record(u64::try_from((last - connection.due).as_nanos()).unwrap_or(u64::MAX));
                    requests += 1;
                }
                connection.received = None;
                if let Some(interval) = interval {
                    connection.due += interval;
                }
                if self.load.reconnect {
                    connection.socket = None;
                }
            }
        }
        let elapsed = start.elapsed().min(duration);
        Ok((Outcome { requests, late, elapsed, latency }, self.failures.unwrap_or(0)))
    }

    /// Takes a failure for one of those that are counted, if they are.
    fn tolerate(&mut self, place: usize, outcome: Result<bool>) -> Result<bool> {
        match (&mut self.failures, outcome) {
            (Some(failures), Err(_)) => {
                *failures += 1;
                let connection = &mut self.connections[place];
                (connection.socket, connection.received) = (None, None);
                Ok(false)
            }
            (_, outcome) => outcome,
        }
    }

    /// Begins the request that is due. Returns whether its answer is complete already.
    fn begin(&mut self, place: usize, due_now: bool) -> Result<bool> {
        let connection = &mut self.connections[place];
        if due_now {
            connection.due = Instant::now();
        }
        connection.received = Some(0);
        connection.unsent = true;
        if connection.socket.is_none() {
            let socket = self.load.socket()?;
            socket.set_nonblocking(true).context("not blocking")?;
            match socket.connect(&self.load.server.into()) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
                Err(error) => return Err(error).with_context(|| format!("connecting to {}", self.load.server)),
            }
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            self.epoll.add(socket.as_fd(), EpollEvent::new(flags, place as u64)).context("watching a socket")?;
            connection.socket = Some(socket);
            return Ok(false);
        }
        self.go_on(place)
    }

    /// Writes and reads as far as that goes. Returns whether the answer is complete.
    fn go_on(&mut self, place: usize) -> Result<bool> {
        let connection = &mut self.connections[place];
        let (Some(socket), Some(received)) = (&mut connection.socket, &mut connection.received) else {
            return Ok(false);
        };
        // Complete already, and not yet taken note of.
        if *received == self.expected {
            return Ok(false);
        }
        if connection.unsent {
            match socket.write(&self.request) {
                Ok(count) if count == self.request.len() => connection.unsent = false,
                Ok(_) => bail!("a request was written in part"),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(error) => return Err(error).context("asking"),
            }
        }
        loop {
            match socket.read(&mut self.buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => {
                    if *received == 0 && !self.buffer[..count].starts_with(b"HTTP/1.1 200") {
                        bail!("not answered with 200");
                    }
                    *received += count;
                    if *received > self.expected {
                        bail!("an answer of another length");
                    }
                    if *received == self.expected {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("reading an answer"),
            }
        }
    }
}
