//! Ports in a namespace: what connects to 127.0.0.1 there is passed on to what listens at the same port here, such as a cloud.
//!
//! Left out: a refused connection. While a service is stopped, a connection is accepted here and closed at once.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};

use crate::netns::Namespace;

/// Ports in a namespace; they close when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Reach {
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
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
        let mut threads = Vec::new();
        for (listener, port) in listeners.iter().zip(ports.iter().copied()) {
            let (listener, accepted) = (listener.try_clone()?, accepted.clone());
            threads.push(thread::spawn(move || accept(&listener, port, &accepted)));
        }
        drop(accepted);
        threads.push(thread::spawn(move || {
            for (inside, port) in connections {
                if let Ok(outside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    pass(&inside, &outside);
                    pass(&outside, &inside);
                }
            }
        }));
        Ok(Self { listeners, threads })
    }
}

fn accept(listener: &TcpListener, port: u16, accepted: &Sender<(TcpStream, u16)>) {
    while let Ok((stream, _)) = listener.accept() {
        if accepted.send((stream, port)).is_err() {
            return;
        }
    }
}

/// Passes on what comes from one to the other until either ends.
fn pass(from: &TcpStream, to: &TcpStream) {
    let _ = from.set_nodelay(true);
    if let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
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
