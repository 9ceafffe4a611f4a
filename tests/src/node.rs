//! A compute node: a namespace in which the daemon runs and the taps live.
//!
//! Promises: everything the daemon makes is the node's own: pins in a bpf file system mounted in the node's directory, a
//! responder namespace with a unique name, an admin socket, a directory of documents. All of it goes with the value.
//!
//! One file because a node is one thing: each line of its plan is one of its configuration, and most methods are short questions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, Map, MapData};
use metadata_ebpf::abi::{Counters, PORT_HELD, Port};
use metadata_user::admin::client::{Client, ClientError};
use metadata_user::admin::wire::Security;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::command;
use crate::counters::{self, Moved};
use crate::daemon::{self, Daemon, Start};
use crate::document::Document;
use crate::fd_store::FdStore;
use crate::guest::GuestPlan;
use crate::netns::{Namespace, unique};
use crate::wait;

/// What a node is to be.
#[derive(Clone, Debug)]
pub struct NodePlan {
    attach: &'static str,
    lasting: bool,
    keeps_sockets: bool,
    source: Option<String>,
    snapshot: String,
    ports: String,
    config_drives: String,
    further: String,
    clock: Option<String>,
    watchdog: Option<Duration>,
}

impl Default for NodePlan {
    fn default() -> Self {
        let (snapshot, further) = (String::new(), String::new());
        // A test that asks as fast as it can is not to be slowed down; those of the limits set them.
        let ports = "new_connections_per_second = 0
packets_per_second = 0
"
        .to_owned();
        Self {
            attach: "auto",
            lasting: false,
            keeps_sockets: false,
            source: None,
            snapshot,
            ports,
            config_drives: String::new(),
            further,
            clock: None,
            watchdog: None,
        }
    }
}

impl NodePlan {
    /// `ports.unbound`: "hold" or "pass".
    #[must_use]
    pub fn unbound(mut self, unbound: &'static str) -> Self {
        self.ports += &format!("unbound = \"{unbound}\"\n");
        self
    }

    /// `bpf.attach`: "auto", "tcx" or "clsact".
    #[must_use]
    pub fn attach(mut self, attach: &'static str) -> Self {
        self.attach = attach;
        self
    }

    /// The keys of `[source]` and its tables, as TOML, instead of the directory of documents.
    #[must_use]
    pub fn source(mut self, toml: &str) -> Self {
        self.source = Some(toml.to_owned());
        self
    }

    /// Further keys of `[snapshot]`, as TOML. Its files are the node's own.
    #[must_use]
    pub fn snapshot(mut self, toml: &str) -> Self {
        self.snapshot += toml;
        self
    }

    /// The keys of `[ports]`, as TOML, in place of all others; an empty text is a default configuration's.
    #[must_use]
    pub fn ports(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.ports);
        self
    }

    /// Further keys of `[configdrive]`, as TOML. The directory is the node's own.
    #[must_use]
    pub fn config_drives(mut self, toml: &str) -> Self {
        self.config_drives += toml;
        self
    }

    /// Further tables of the configuration, as TOML.
    #[must_use]
    pub fn further(mut self, toml: &str) -> Self {
        self.further += toml;
        self
    }

    /// `http.ready_timeout`: how long a request for content that is not there is held before its 503. Short where a test
    /// expects the 503; not together with further keys of `[http]`.
    #[must_use]
    pub fn ready_timeout(self, timeout: &str) -> Self {
        self.further(&format!("[http]\nready_timeout = \"{timeout}\"\n\n"))
    }

    /// The daemon outlives the thread that starts it, as a demonstration that stays needs.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// The daemon's listening sockets are kept between its processes, as by systemd.
    #[must_use]
    pub fn keeps_sockets(mut self) -> Self {
        self.keeps_sockets = true;
        self
    }

    /// The daemon's clock differs from the machine's by this, as libfaketime reads it: `-2h`. What measures durations does not.
    #[must_use]
    pub fn clock(mut self, offset: &str) -> Self {
        self.clock = Some(offset.to_owned());
        self
    }

    /// The daemon believes that a service manager waits this long for it (`WatchdogSec=`).
    #[must_use]
    pub fn watchdog(mut self, time: Duration) -> Self {
        self.watchdog = Some(time);
        self
    }

    /// Makes the node; the daemon is not started yet.
    ///
    /// # Errors
    /// Without root.
    pub fn make(self) -> Result<Node> {
        let namespace = Namespace::create("node")?;
        let directory = tempfile::Builder::new().prefix("metadatad-lab-").tempdir().context("making a directory")?;
        let store = if self.keeps_sockets { Some(FdStore::open(&directory.path().join("notify"))?) } else { None };
        let node = Node {
            store,
            responder: unique("lab-md"),
            namespace,
            config: directory.path().join("metadatad.toml"),
            directory: Some(directory),
            daemon: Mutex::new(None),
            next: AtomicU32::new(1),
            lasting: self.lasting,
            clock: Mutex::new(self.clock.clone()),
            watchdog: self.watchdog,
        };
        for directory in ["bpf", "instances"] {
            fs::create_dir(node.path(directory)).with_context(|| format!("making the directory {directory}"))?;
        }
        mount(Some("bpf"), &node.path("bpf"), Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("mounting a bpf file system")?;
        fs::write(&node.config, node.config_text(&self)).context("writing the configuration")?;
        Ok(node)
    }

    /// Makes the node and starts its daemon.
    ///
    /// # Errors
    /// Without root, or if the daemon does not get ready.
    pub fn start(self) -> Result<Node> {
        let node = self.make()?;
        node.start_daemon()?;
        Ok(node)
    }
}

/// A compute node.
#[derive(Debug)]
pub struct Node {
    namespace: Namespace,
    directory: Option<tempfile::TempDir>,
    config: PathBuf,
    responder: String,
    daemon: Mutex<Option<Daemon>>,
    next: AtomicU32,
    lasting: bool,
    clock: Mutex<Option<String>>,
    watchdog: Option<Duration>,
    store: Option<FdStore>,
}

impl Node {
    /// Makes a node as by default, with its daemon ready.
    ///
    /// # Errors
    /// As [`NodePlan::start`].
    pub fn start() -> Result<Self> {
        NodePlan::default().start()
    }

    /// Begins the plan of a guest on this node.
    #[must_use]
    pub fn guest(&self, name: &str) -> GuestPlan<'_> {
        GuestPlan::new(self, name)
    }

    /// Returns the node's namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the responder's namespace, which the daemon makes.
    #[must_use]
    pub fn responder(&self) -> Namespace {
        Namespace::existing(&self.responder)
    }

    /// Returns a path in the node's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.as_ref().map_or(Path::new("/nonexistent"), |directory| directory.path()).join(name)
    }

    /// Returns the path of the configuration.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Returns the directory of documents.
    #[must_use]
    pub fn instances(&self) -> PathBuf {
        self.path("instances")
    }

    /// Returns the path of libvirt's run-time directory. It does not exist until a test makes it.
    #[must_use]
    pub fn domains(&self) -> PathBuf {
        self.path("libvirt")
    }

    /// Returns the path of the socket of Open vSwitch's database. It does not exist until a test starts one.
    #[must_use]
    pub fn ovsdb(&self) -> PathBuf {
        self.path("ovs/db.sock")
    }

    /// Returns what the admin API, and so `metadatad ports --json`, shows for a tap.
    ///
    /// # Errors
    /// If it fails, or the tap does not exist.
    pub fn port(&self, tap: &str) -> Result<serde_json::Value> {
        let ports = self.admin(async |client| client.ports().await)?;
        let found = ports.as_array().into_iter().flatten().find(|port| port["name"] == tap);
        found.cloned().with_context(|| format!("no port {tap}"))
    }

    /// Waits until the admin API shows a tap as expected.
    ///
    /// # Errors
    /// If that does not come; the error holds what it says instead, and the daemon's log.
    pub fn wait_port_shown(&self, tap: &str, what: &str, is: impl Fn(&serde_json::Value) -> bool) -> Result<()> {
        let mut last = serde_json::Value::Null;
        let waited = wait::until(&format!("{tap} {what}"), || {
            last = self.port(tap).unwrap_or_default();
            Ok(is(&last).then_some(()))
        });
        waited.with_context(|| format!("metadatad says: {last}; its log:\n{}", self.log()))
    }

    /// Returns the path of the snapshot.
    #[must_use]
    pub fn snapshot(&self) -> PathBuf {
        self.path("state/snapshot")
    }

    /// Returns the directory of images of config drives.
    #[must_use]
    pub fn drives(&self) -> PathBuf {
        self.path("config-drives")
    }

    /// Returns the directory of pins.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.path("bpf/metadatad")
    }

    /// Returns a number that this node has not given before, for taps and such.
    pub fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts the daemon and waits until it reports on its admin socket that it is ready.
    ///
    /// # Errors
    /// If it ends, or does not answer in time; the error holds its log.
    pub fn start_daemon(&self) -> Result<()> {
        self.start_daemon_with(&[])
    }

    /// As [`Self::start_daemon`], with further words after `run`.
    ///
    /// # Errors
    /// As [`Self::start_daemon`].
    pub fn start_daemon_with(&self, words: &[&str]) -> Result<()> {
        let mut place = self.process();
        if place.is_some() {
            bail!("metadatad runs already on {}", self.namespace.name());
        }
        *place = Some(self.new_process(words)?);
        let ready = wait::until("metadatad is ready", || {
            if let Some(status) = place.as_mut().map(Daemon::ended).transpose()?.flatten() {
                bail!("metadatad ended by itself: {status}");
            }
            if !self.path("admin.sock").exists() {
                return Ok(None);
            }
            Ok(self.status().ok().filter(|status| status["ready"] == true))
        });
        ready.map(drop).with_context(|| format!("starting metadatad; its log:\n{}", self.log()))
    }

    /// The next daemon has the machine's clock.
    pub fn use_real_clock(&self) {
        *self.clock.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }

    fn new_process(&self, words: &[&str]) -> Result<Daemon> {
        let clock = self.clock.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let (clock, store) = (clock.as_deref(), self.store.as_ref());
        let how = Start { lasting: self.lasting, clock, watchdog: self.watchdog, words, store };
        Daemon::start(&self.namespace, &self.config, &self.path("daemon.log"), &how)
    }

    /// Starts another daemon that takes over from the one that runs, and waits for the former one's end.
    ///
    /// # Errors
    /// If it does not; the error holds the log of both.
    pub fn take_over(&self) -> Result<()> {
        let mut place = self.process();
        let mut old = place.take().context("metadatad does not run")?;
        let mut new = self.new_process(&["--take-over"])?;
        let ended = wait::until("the former daemon ends", || match new.ended()? {
            Some(status) => bail!("the one that takes over ended by itself: {status}"),
            None => old.ended(),
        });
        let status = ended.with_context(|| format!("taking over; the log of both:\n{}", self.log()))?;
        if !status.success() {
            bail!("the former daemon ended with {status}; the log of both:\n{}", self.log());
        }
        *place = Some(new);
        drop(place);
        wait::until("metadatad is ready", || Ok(self.status().ok().filter(|status| status["ready"] == true))).map(drop)
    }

    /// Starts another daemon that is to take over, with this configuration, and lets `act` end it.
    ///
    /// # Errors
    /// Those of `act`, or that it does not end.
    pub fn fail_to_take_over(&self, config: &Path, act: impl FnOnce(&mut Daemon) -> Result<()>) -> Result<()> {
        let log = self.path("daemon.log");
        let mut new =
            Daemon::start(&self.namespace, config, &log, &Start { words: &["--take-over"], ..Start::default() })?;
        act(&mut new)?;
        let ended = wait::until("the daemon that takes over ends", || new.ended());
        let status = ended.with_context(|| format!("the log of both:\n{}", self.log()))?;
        if status.success() {
            bail!("it ended with success; the log of both:\n{}", self.log());
        }
        Ok(())
    }

    /// Returns the names of the sockets that are kept between the daemon's processes.
    #[must_use]
    pub fn kept_sockets(&self) -> Vec<String> {
        self.store.as_ref().map(FdStore::names).unwrap_or_default()
    }

    /// Ends the daemon by SIGTERM, as a service manager does.
    ///
    /// # Errors
    /// If it does not end, or not with success.
    pub fn stop_daemon(&self) -> Result<()> {
        let mut daemon = self.process().take().context("metadatad does not run")?;
        let status = daemon.terminate()?;
        if !status.success() {
            bail!("metadatad ended with {status}; its log:\n{}", self.log());
        }
        Ok(())
    }

    /// Ends the daemon by SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill_daemon(&self) -> Result<()> {
        self.process().take().context("metadatad does not run")?.kill()
    }

    /// Returns the daemon's process id.
    #[must_use]
    pub fn daemon_id(&self) -> Option<u32> {
        self.process().as_ref().map(Daemon::id)
    }

    /// Runs a verb of `metadatad` and returns what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        command::run(&mut daemon::verb(&self.namespace, &self.config, words)?, "")
    }

    /// Runs a verb of `metadatad` and returns what it printed, whatever status it ends with: some say by that how the
    /// daemon is.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn told(&self, words: &[&str]) -> Result<String> {
        let output = daemon::verb(&self.namespace, &self.config, words)?.output().context("starting metadatad")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Returns what the admin API, and so `metadatad status --json`, shows.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn status(&self) -> Result<serde_json::Value> {
        self.admin(async |client| client.status().await)
    }

    /// Returns what the admin API, and so `metadatad status --security --json`, shows.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn security(&self) -> Result<Security> {
        let shown = self.admin(async |client| client.security().await)?;
        serde_json::from_value(shown).context("reading what the threads may do")
    }

    /// Returns what the admin API, and so `metadatad source --json`, shows.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn source(&self) -> Result<serde_json::Value> {
        self.admin(async |client| client.source().await)
    }

    /// Returns what the admin API shows as metrics, in Prometheus's text format.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn metrics(&self) -> Result<String> {
        let text = self.admin(async |client| client.metrics().await)?;
        text.as_str().map(str::to_owned).context("metrics are text")
    }

    /// Asks the daemon on its admin socket, from this process: a wait that asks often would otherwise keep the processors
    /// busy with starting programs.
    fn admin<T: serde::Serialize>(
        &self,
        ask: impl AsyncFnOnce(&Client) -> std::result::Result<T, ClientError>,
    ) -> Result<serde_json::Value> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        let client = Client::new(&self.path("admin.sock"));
        let answer = runtime.block_on(async { tokio::time::timeout(wait::PATIENCE, ask(&client)).await });
        let answer = answer.context("metadatad does not answer on its admin socket")??;
        serde_json::to_value(answer).context("an answer of the admin API as JSON")
    }

    /// Returns the daemon's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Writes a document, complete at once.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write(&self, document: &Document) -> Result<()> {
        document.write(&self.instances())
    }

    /// Takes an instance's document away.
    ///
    /// # Errors
    /// If there is none.
    pub fn remove_document(&self, uuid: &str) -> Result<()> {
        fs::remove_file(self.instances().join(format!("{uuid}.json"))).context("removing a document")
    }

    /// Returns what the kernel knows of each tap: the pinned map PORTS.
    ///
    /// # Errors
    /// If the pin does not exist.
    pub fn ports(&self) -> Result<BTreeMap<u32, Port>> {
        let pin = self.pins().join("PORTS");
        let data = MapData::from_pin(&pin).with_context(|| format!("opening {}", pin.display()))?;
        let map: HashMap<MapData, u32, Port> = Map::HashMap(data).try_into().context("PORTS is another kind of map")?;
        // An entry may vanish while they are walked; the next look shows it.
        Ok(map.iter().filter_map(std::result::Result::ok).collect())
    }

    /// Waits until the kernel knows the tap as an instance's port.
    ///
    /// # Errors
    /// If that does not come; the error holds the daemon's log.
    pub fn wait_bound(&self, ifindex: u32) -> Result<()> {
        self.wait_port(ifindex, "is bound", |port| port.is_some_and(|port| port.flags & PORT_HELD == 0))
    }

    /// Waits until the kernel knows the tap, but no instance.
    ///
    /// # Errors
    /// As [`Self::wait_bound`].
    pub fn wait_held(&self, ifindex: u32) -> Result<()> {
        self.wait_port(ifindex, "is held", |port| port.is_some_and(|port| port.flags & PORT_HELD != 0))
    }

    /// Waits until the kernel does not know the tap.
    ///
    /// # Errors
    /// As [`Self::wait_bound`].
    pub fn wait_unknown(&self, ifindex: u32) -> Result<()> {
        self.wait_port(ifindex, "is unknown", |port| port.is_none())
    }

    fn wait_port(&self, ifindex: u32, what: &str, is: impl Fn(Option<&Port>) -> bool) -> Result<()> {
        wait::until(&format!("interface {ifindex} {what}"), || Ok(is(self.ports()?.get(&ifindex)).then_some(())))
            .with_context(|| format!("metadatad's log:\n{}", self.log()))
    }

    /// Returns an interface's counters.
    ///
    /// # Errors
    /// If the pin does not exist.
    pub fn counters(&self, ifindex: u32) -> Result<Counters> {
        counters::read(&self.pins(), ifindex)
    }

    /// Runs `work` and fails unless exactly these counters of the interface moved this far.
    ///
    /// # Errors
    /// Those of `work`, and what moved instead.
    pub fn assert_moved(
        &self,
        ifindex: u32,
        expected: &[(&'static str, u64)],
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = self.counters(ifindex)?;
        work()?;
        let look = || anyhow::Ok(Moved::between(&before, &self.counters(ifindex)?));
        // A packet is counted a moment after it was sent; one too many is looked for below.
        let start = Instant::now();
        while look()? != *expected && start.elapsed() < Duration::from_secs(3) {
            std::thread::yield_now();
        }
        let moved = look()?;
        if moved != *expected {
            bail!("moved: {moved:?}; expected: {expected:?}");
        }
        Ok(())
    }

    /// Leaves everything running and in place when this value goes, and returns the node's directory.
    pub fn keep(mut self) -> PathBuf {
        self.namespace.keep();
        let directory = self.directory.take().map(tempfile::TempDir::keep).unwrap_or_default();
        if let Some(daemon) = self.process().take() {
            std::mem::forget(daemon);
        }
        directory
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn config_text(&self, plan: &NodePlan) -> String {
        let directory = || format!("kind = \"directory\"\npath = \"{}\"", self.instances().display());
        format!(
            "[responder]\nnamespace = \"{}\"\n\n[ports]\n{}\n[bpf]\npin_dir = \"{}\"\nattach = \"{}\"\n\n\
             [source]\n{}\n\n[facts]\nlibvirt_dir = \"{}\"\nopenvswitch_socket = \"{}\"\n\n\
             [admin]\nsocket = \"{}\"\n\n\
             [snapshot]\npath = \"{}\"\nkey_file = \"{}\"\n{}\n[configdrive]\ndirectory = \"{}\"\n{}\n{}",
            self.responder,
            plan.ports,
            self.pins().display(),
            plan.attach,
            plan.source.clone().unwrap_or_else(directory),
            self.domains().display(),
            self.ovsdb().display(),
            self.path("admin.sock").display(),
            self.snapshot().display(),
            self.path("snapshot.key").display(),
            plan.snapshot,
            self.drives().display(),
            plan.config_drives,
            plan.further
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.directory.is_none() {
            return;
        }
        if std::thread::panicking() {
            eprintln!("--- log of metadatad on {}\n{}---", self.namespace.name(), self.log());
        }
        drop(self.process().take());
        // Each step is tried even if the one before failed: what is left has a unique name and disturbs no other test.
        if self.pins().exists() {
            let _ = self.ask(&["detach"]);
        }
        let _ = umount2(&self.path("bpf"), MntFlags::MNT_DETACH);
        if self.responder().exists() {
            let _ = command::run(std::process::Command::new("ip").args(["netns", "del", &self.responder]), "");
        }
    }
}
