//! Ports in a namespace: what connects to 127.0.0.1 there is passed on to what listens at the same port here, such as a cloud, well or
//! badly ([`Way`]).
//!
//! Left out: a refused connection. While a service is stopped or [`Way::Closed`], a connection is accepted here and closed at once.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::netns::Namespace;

/// Most bytes of a request's head that are looked at.
const HEAD: usize = 16 << 10;

/// What becomes of new connections to a port. Those that exist stay as they are: the services close theirs after each answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// They are passed on.
    #[default]
    Open,
    /// They are passed on after this time.
    Slow(Duration),
    /// Each request is answered with 404, as Nova answers for a server that does not exist.
    NotFound,
    /// They are closed.
    Closed,
}

/// Ports in a namespace; they close when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Reach {
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    ways: BTreeMap<u16, Way>,
    tokens: BTreeMap<u16, String>,
}

impl Reach {
    /// Opens these ports of 127.0.0.1 in a namespace, for what listens at the same ones here.
    ///
    /// # Errors
    /// If one of them is in use there.
    pub fn open(namespace: &Namespace, ports: &[u16]) -> Result<Self> {
        let listeners = namespace.run(|| {
            let bind = |port: &u16| {
                TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).with_context(|| format!("listening on port {port}"))
            };
            ports.iter().map(bind).collect::<Result<Vec<_>>>()
        })?;
        // A socket stays in its namespace, whichever thread uses it: only `connect` below has to be outside.
        let (accepted, connections) = channel::<(TcpStream, u16)>();
        let (mut threads, state) = (Vec::new(), Arc::<Mutex<State>>::default());
        for (listener, port) in listeners.iter().zip(ports.iter().copied()) {
            let (listener, accepted) = (listener.try_clone()?, accepted.clone());
            threads.push(thread::spawn(move || accept(&listener, port, &accepted)));
        }
        drop(accepted);
        let shared = Arc::clone(&state);
        threads.push(thread::spawn(move || {
            for (inside, port) in connections {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(inside, port, &state));
            }
        }));
        Ok(Self { listeners, threads, state })
    }

    /// From here on, this becomes of new connections to the port.
    pub fn set(&self, port: u16, way: Way) {
        lock(&self.state).ways.insert(port, way);
    }

    /// Returns the last token with which the service on this port was asked.
    #[must_use]
    pub fn token(&self, port: u16) -> Option<String> {
        lock(&self.state).tokens.get(&port).cloned()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, port: u16, accepted: &Sender<(TcpStream, u16)>) {
    while let Ok((stream, _)) = listener.accept() {
        if accepted.send((stream, port)).is_err() {
            return;
        }
    }
}

fn serve(mut inside: TcpStream, port: u16, state: &Arc<Mutex<State>>) {
    let way = lock(state).ways.get(&port).copied().unwrap_or_default();
    match way {
        Way::Closed => return,
        Way::NotFound => {
            // The other side may have gone.
            let _ = deny(&mut inside);
            return;
        }
        // What the service would need, not a wait for anything.
        Way::Slow(time) => thread::sleep(time),
        Way::Open => {}
    }
    if let Ok(outside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        let state = Arc::clone(state);
        pass(&inside, &outside, move |sent| {
            if let Some(token) = token(sent) {
                lock(&state).tokens.insert(port, token);
            }
        });
        pass(&outside, &inside, |_| ());
    }
}

/// Answers a request as Nova does for a server that does not exist.
fn deny(stream: &mut TcpStream) -> io::Result<()> {
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while head.len() < HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..length]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let last = path.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let message = format!("Instance {last} could not be found.");
    let body = json!({"itemNotFound": {"code": 404, "message": message}}).to_string();
    // The metadata API has one body for all.
    let (kind, body) = if head.to_ascii_lowercase().contains("\r\nx-auth-token:") {
        ("application/json", body)
    } else {
        ("text/html", metadata_user::api::NOT_FOUND_TEXT.to_owned())
    };
    write!(
        stream,
        "HTTP/1.1 404 Not Found\r\nContent-Type: {kind}\r\nOpenStack-API-Version: compute 2.79\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns the token of a request.
fn token(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let named = |line: &&str| line.to_ascii_lowercase().starts_with("x-auth-token:");
    head.split("\r\n").find(named).and_then(|line| line.split_once(':')).map(|(_, token)| token.trim().to_owned())
}

/// Passes on what comes from one to the other until either ends, and shows what comes first.
fn pass(from: &TcpStream, to: &TcpStream, first: impl FnOnce(&[u8]) + Send + 'static) {
    let _ = from.set_nodelay(true);
    if let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) {
        thread::spawn(move || {
            let mut buffer = vec![0; HEAD];
            if let Ok(length) = from.read(&mut buffer) {
                first(&buffer[..length]);
                if to.write_all(&buffer[..length]).is_ok() {
                    let _ = io::copy(&mut from, &mut to);
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // An `accept` that waits returns with an error.
            let _ = nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
