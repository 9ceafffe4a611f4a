//! A thread inside the responder's namespace, which does there whatever is to be done while the daemon runs.
//!
//! Promises: it is in the namespace from the start, so entering it takes no privilege later; it keeps those of its profile only
//! ([`privilege::RESPONDER`]). A netlink socket and a directory of settings belong to the namespace in which they were opened, so this
//! thread has those of the node as well: no other thread has to change settings. It ends with its value.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use nix::unistd::gettid;
use rtnetlink::Handle;
use tokio::runtime::{Builder, Runtime};

use super::{NetnsError, namespace::enter, system};
use crate::privilege;

/// Netlink in both namespaces.
#[derive(Clone, Debug)]
pub(super) struct Netlink {
    /// In the node's.
    pub(super) node: Handle,
    /// In the responder's, where the thread is.
    pub(super) inside: Handle,
    /// The node's settings of interfaces for IPv6.
    node_settings: Arc<File>,
}

impl Netlink {
    /// Names an interface's setting for IPv6 in the node's namespace.
    fn node_setting(&self, interface: &str, key: &str) -> PathBuf {
        // A path through the open directory stays in its namespace.
        PathBuf::from(format!("/proc/self/fd/{}/{interface}/{key}", self.node_settings.as_raw_fd()))
    }

    /// Tells whether IPv6 is off on an interface of the node.
    pub(super) fn is_without_ipv6(&self, interface: &str) -> bool {
        std::fs::read_to_string(self.node_setting(interface, DISABLE)).is_ok_and(|value| value.trim() == "1")
    }

    /// Switches IPv6 off on an interface of the node.
    pub(super) fn switch_ipv6_off(&self, interface: &str) -> Result<(), NetnsError> {
        let path = Path::new(NODE_SETTINGS).join(interface).join(DISABLE);
        std::fs::write(self.node_setting(interface, DISABLE), "1").map_err(system("write", &path))
    }
}

/// Where settings of interfaces for IPv6 are.
const NODE_SETTINGS: &str = "/proc/sys/net/ipv6/conf";
/// The one that switches it off.
const DISABLE: &str = "disable_ipv6";

type Job = Box<dyn FnOnce(&Runtime, Netlink) + Send>;

/// The thread.
#[derive(Debug)]
pub(super) struct Keeper {
    jobs: mpsc::Sender<Job>,
    id: i32,
}

impl Keeper {
    /// Starts it from a thread in the node's namespace that may enter the other one.
    pub(super) fn start(namespace: &File) -> Result<Self, NetnsError> {
        let path = PathBuf::from("a thread for the responder's namespace");
        let namespace = namespace.try_clone().map_err(system("use", &path))?;
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (started, has_started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("responder".into()).spawn(move || match begin(&namespace) {
            Ok((runtime, netlink)) => {
                let _ = started.send(Ok(gettid().as_raw()));
                for job in inbox {
                    job(&runtime, netlink.clone());
                }
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        });
        thread.map_err(system("start", &path))?;
        let id = has_started.recv().map_err(io::Error::other).map_err(system("start", &path))??;
        Ok(Self { jobs, id })
    }

    /// Returns the thread's id.
    pub(super) fn id(&self) -> i32 {
        self.id
    }

    /// Has the thread do something, and waits for the result.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(Netlink) -> Result<T, NetnsError> + Send + 'static,
    ) -> Result<T, NetnsError> {
        let (sender, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |runtime, netlink| {
            let _ = sender.send(runtime.block_on(work(netlink)));
        });
        let path = PathBuf::from("the thread in the responder's namespace");
        let sent = self.jobs.send(job).map_err(|_| io::Error::other("it has ended"));
        sent.map_err(system("reach", &path))?;
        result.recv().map_err(|_| io::Error::other("it has ended")).map_err(system("hear from", &path))?
    }
}

fn begin(namespace: &File) -> Result<(Runtime, Netlink), NetnsError> {
    let socket = PathBuf::from("a netlink socket");
    let runtime = Builder::new_current_thread().enable_io().build().map_err(system("wait for", &socket))?;
    let connect = || {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(system("open", &socket))?;
        tokio::spawn(connection);
        Ok::<_, NetnsError>(handle)
    };
    let netlink = {
        let _context = runtime.enter();
        let node = connect()?;
        let settings = Path::new(NODE_SETTINGS);
        let node_settings = Arc::new(File::open(settings).map_err(system("open", settings))?);
        enter(namespace)?;
        Netlink { node, inside: connect()?, node_settings }
    };
    privilege::RESPONDER
        .enter()
        .map_err(io::Error::from)
        .map_err(system("give up privileges in", &PathBuf::from("the thread in the responder's namespace")))?;
    Ok((runtime, netlink))
}
