//! `metadatad controller run` as a process in a namespace, and its commands.

pub mod scale;

mod history;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use metadata_user::admin::controller::ControllerClient;
use metadata_user::admin::wire::{ControlledInstance, ControllerStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::agent::SECRET;
use crate::daemon::program;
use crate::etcd::{Etcd, EtcdPlan};
use crate::guest::Guest;
use crate::netns::Namespace;
use crate::node::{Node, NodePlan};
use crate::openstack::{ApplicationCredential, Cloud, Reach};
use crate::wait;

pub use history::History;

/// How long a controller is waited for: an OpenStack on two cores that others use too may take seconds for each instance.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The node of a [`World`]: the cloud's first host.
pub const HOST: &str = "host1";

/// A node of a cloud, with etcd beside it in its namespace, from which the cloud can be reached.
#[derive(Debug)]
pub struct World<'a> {
    /// The cloud.
    pub cloud: &'a Cloud,
    /// The node. Its daemon is not started.
    pub node: Node,
    /// etcd.
    pub etcd: Etcd,
    /// The way from the node, where controllers run too, to the cloud.
    pub reach: Reach,
    endpoints: Vec<String>,
    _further: Reach,
}

impl<'a> World<'a> {
    /// Makes one.
    ///
    /// # Errors
    /// If a part cannot be made.
    pub fn new(cloud: &'a Cloud) -> Result<Self> {
        Self::make(cloud, EtcdPlan::default(), "", &[])
    }

    /// Makes one whose node has further tables in its configuration.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(cloud: &'a Cloud, further: &str) -> Result<Self> {
        Self::make(cloud, EtcdPlan::default(), further, &[])
    }

    /// As [`Self::with`], and these ports of 127.0.0.1 can be reached from it beside the cloud's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn reaching(cloud: &'a Cloud, further: &str, ports: &[u16]) -> Result<Self> {
        Self::make(cloud, EtcdPlan::default(), further, ports)
    }

    /// As [`Self::new`], with such an etcd.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_etcd(cloud: &'a Cloud, plan: EtcdPlan) -> Result<Self> {
        Self::make(cloud, plan, "", &[])
    }

    fn make(cloud: &'a Cloud, plan: EtcdPlan, further: &str, ports: &[u16]) -> Result<Self> {
        let endpoints = plan.endpoints();
        let source = format!(
            "kind = \"etcd\"\n[source.etcd]\nendpoints = {endpoints:?}\nnode = \"{HOST}\"\nrequest_timeout = \"2s\"\n"
        );
        let node = NodePlan::default().source(&source).further(further).make()?;
        let etcd = plan.start(node.namespace())?;
        let reach = cloud.reach_from(node.namespace())?;
        let further = Reach::open(node.namespace(), ports)?;
        Ok(Self { cloud, node, etcd, reach, endpoints, _further: further })
    }

    /// Boots the guest of a server: its tap, MAC and address are those of the server's port.
    ///
    /// # Errors
    /// If the server has no port, or the guest cannot be made.
    pub fn boot(&self, server: &str) -> Result<Guest> {
        let port = self.cloud.ports_of(server)?.into_iter().next().context("the server has no port")?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let (id, mac, ip) =
            (text(&port["id"])?, text(&port["mac_address"])?, text(&port["fixed_ips"][0]["ip_address"])?);
        let mut octets = [0; 6];
        for (octet, part) in octets.iter_mut().zip(mac.split(':')) {
            *octet = u8::from_str_radix(part, 16)?;
        }
        let tap: String = format!("tap{id}").chars().take(14).collect();
        self.node.guest(server).mac(octets).ipv4(&format!("{ip}/24")).tap(&tap).undocumented().boot()
    }

    /// Returns an instance's document, under a host.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub fn document(&self, host: &str, server: &str) -> Result<Option<Value>> {
        let key = format!("/metadatad/nodes/{host}/instances/{server}");
        let text = self.etcd.etcdctl(&["get", &key, "--print-value-only"])?;
        if text.trim().is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&text)?)) }
    }

    /// Waits until these hosts, and no others, have a document of the instance.
    ///
    /// # Errors
    /// If that does not come.
    pub fn wait_on(&self, server: &str, hosts: &[&str]) -> Result<()> {
        let all = self.cloud.hosts();
        let mut last = Vec::new();
        let waited = wait::until_within(PATIENCE, &format!("{server} has documents on {hosts:?}"), || {
            last.clear();
            for host in &all {
                if self.document(host, server)?.is_some() {
                    last.push(host.clone());
                }
            }
            Ok((last == hosts).then_some(()))
        });
        waited.with_context(|| format!("it has them on {last:?}"))
    }
}

/// What a controller reads and writes, and where it runs.
#[derive(Debug)]
pub struct Site {
    /// The namespace.
    pub namespace: Namespace,
    /// etcd's endpoints.
    pub etcd: Vec<String>,
    /// Keystone's URL.
    pub auth_url: String,
    /// What it authenticates with.
    pub credential: ApplicationCredential,
    /// The URL of Nova's metadata API.
    pub metadata_url: String,
    /// RabbitMQ's URL.
    pub rabbitmq_url: String,
}

/// A controller, running or not.
#[derive(Debug)]
pub struct Controller {
    namespace: Namespace,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

/// What a controller is to be.
#[derive(Clone, Debug)]
pub struct ControllerPlan {
    name: String,
    keystone: Option<String>,
    metadata: Option<String>,
    further: String,
    queue: Option<String>,
    queue_limit: u32,
    lease: &'static str,
    patience: &'static str,
}

impl ControllerPlan {
    /// One of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            keystone: None,
            metadata: None,
            further: String::new(),
            queue: None,
            queue_limit: 100_000,
            lease: "3s",
            patience: "60s",
        }
    }

    /// These keys of `[keystone]` say where Keystone is, instead of the cloud's `auth_url`.
    #[must_use]
    pub fn keystone(mut self, keys: &str) -> Self {
        self.keystone = Some(keys.to_owned());
        self
    }

    /// These keys of `[metadata_api]` say where Nova's metadata API is, instead of the cloud's `endpoints`.
    #[must_use]
    pub fn metadata(mut self, keys: &str) -> Self {
        self.metadata = Some(keys.to_owned());
        self
    }

    /// It is the leader for this long after it hangs; 3 s by default here, 6 s in the program.
    #[must_use]
    pub fn lease(mut self, lease: &'static str) -> Self {
        self.lease = lease;
        self
    }

    /// It waits this long for an answer of OpenStack's; 60 s by default here.
    #[must_use]
    pub fn patience(mut self, patience: &'static str) -> Self {
        self.patience = patience;
        self
    }

    /// Adds tables to its configuration.
    #[must_use]
    pub fn further(mut self, tables: &str) -> Self {
        self.further += tables;
        self
    }

    /// It consumes notifications, by a queue of this name.
    #[must_use]
    pub fn queue(mut self, queue: &str) -> Self {
        self.queue = Some(queue.to_owned());
        self
    }

    /// At most so many messages wait in its queue.
    #[must_use]
    pub fn queue_limit(mut self, messages: u32) -> Self {
        self.queue_limit = messages;
        self
    }

    /// Makes it, for this world. It is not started.
    ///
    /// # Errors
    /// If a file cannot be written, or Keystone gives no credential.
    pub fn make(self, world: &World<'_>) -> Result<Controller> {
        let cloud = world.cloud;
        let site = Site {
            namespace: Namespace::existing(world.node.namespace().name()),
            etcd: world.endpoints.clone(),
            auth_url: cloud.auth_url(),
            credential: cloud.application_credential(&crate::netns::unique(&self.name))?,
            metadata_url: cloud.metadata_url(),
            rabbitmq_url: cloud.rabbitmq().url(),
        };
        self.make_at(&site)
    }

    /// Makes it, for this site. It is not started.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn make_at(self, site: &Site) -> Result<Controller> {
        let (etcd, credential) = (&site.etcd, &site.credential);
        let directory =
            tempfile::Builder::new().prefix("metadatad-controller-").tempdir().context("making a directory")?;
        let secret = |name: &str, text: &str| -> Result<PathBuf> {
            use std::io::Write as _;
            let path = directory.path().join(name);
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())?;
            Ok(path)
        };
        let application = secret("application", &credential.secret)?;
        let shared = secret("shared", SECRET)?;
        let urls = secret("rabbitmq", &site.rabbitmq_url)?;
        let (name, admin) = (&self.name, directory.path().join("admin.sock"));
        let (lease, patience) = (self.lease, self.patience);
        let keystone = self.keystone.unwrap_or_else(|| format!("auth_url = {:?}", site.auth_url));
        let metadata = self.metadata.unwrap_or_else(|| format!("endpoints = [{:?}]", site.metadata_url));
        let mut text = format!(
            "[controller]\nname = {name:?}\nlease = {lease:?}\n[etcd]\nendpoints = {etcd:?}\nrequest_timeout = \"2s\"\n[keystone]\n{keystone}\n\
             application_credential_id = {:?}\napplication_credential_secret_file = {application:?}\ninterface = \"public\"\n\
             read_timeout = {patience:?}\n[metadata_api]\n{metadata}\nshared_secret_file = {shared:?}\n\
             read_timeout = {patience:?}\n[admin]\nsocket = {admin:?}\n\
             [log]\nfilter = \"info,metadata_user::controller=debug\"\n",
            credential.id,
        );
        if let Some(queue) = &self.queue {
            let limit = self.queue_limit;
            text += &format!("[rabbitmq]\nurls_file = {urls:?}\nqueue = {queue:?}\nlength_limit = {limit}\n");
        }
        if !self.further.contains("[reconcile]") {
            text += "[reconcile]\nrequests_per_second = 2000\n";
        }
        fs::write(directory.path().join("controller.toml"), text + &self.further)
            .context("writing the configuration")?;
        Ok(Controller { namespace: Namespace::existing(site.namespace.name()), directory, child: None })
    }
}

impl Controller {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let log: File = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(program()?);
        command.args(["controller", "run", "--config"]).arg(self.config()).env("NO_COLOR", "1");
        self.namespace.put_inside(&mut command, true)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("starting the controller")?);
        Ok(())
    }

    /// Returns what it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Returns its process id.
    ///
    /// # Errors
    /// If it does not run.
    pub fn id(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("the controller does not run")?.id())
    }

    /// Returns the path of its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("controller.toml")
    }

    /// Writes the secret of its application credential anew. Returns what it was.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_credential(&self, secret: &str) -> Result<String> {
        let path = self.directory.path().join("application");
        let before = fs::read_to_string(&path).context("reading the credential")?;
        fs::write(&path, secret).context("writing the credential")?;
        Ok(before)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Returns what `metadatad controller status --json` shows.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn status(&self) -> Result<ControllerStatus> {
        self.ask(async |client| client.status().await)
    }

    /// Returns what `metadatad controller list --json` shows.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn instances(&self) -> Result<Vec<ControlledInstance>> {
        self.ask(async |client| client.instances().await)
    }

    /// Returns its metrics, in Prometheus's text format.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metrics(&self) -> Result<String> {
        self.ask(async |client| client.metrics().await)
    }

    fn ask<T>(
        &self,
        question: impl AsyncFnOnce(ControllerClient) -> Result<T, metadata_user::admin::client::ClientError>,
    ) -> Result<T> {
        let client = ControllerClient::new(&self.directory.path().join("admin.sock"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(question(client)).with_context(|| format!("the controller's log:\n{}", self.log()))
    }

    /// Runs `metadatad controller` with these words.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(program()?);
        command.arg("controller").args(words).arg("--config").arg(self.config());
        command.output().context("running metadatad controller")
    }

    /// Waits until its status is such.
    ///
    /// # Errors
    /// If it does not become so; the error holds the status and the log.
    pub fn wait(&self, what: &str, is: impl Fn(&ControllerStatus) -> bool) -> Result<ControllerStatus> {
        self.wait_within(PATIENCE, what, is)
    }

    /// As [`Self::wait`], for so long.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_within(
        &self,
        patience: Duration,
        what: &str,
        is: impl Fn(&ControllerStatus) -> bool,
    ) -> Result<ControllerStatus> {
        let mut last = None;
        let waited = wait::until_within(patience, what, || {
            let client = ControllerClient::new(&self.directory.path().join("admin.sock"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // Its socket may not be there yet.
            let Ok(status) = runtime.block_on(client.status()) else { return Ok(None) };
            let found = is(&status);
            last = Some(status.clone());
            Ok(found.then_some(status))
        });
        waited.with_context(|| format!("its status is {last:#?}\nits log:\n{}", self.log()))
    }

    /// Waits until it leads, has read everything, and nothing waits.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_in_step(&self) -> Result<ControllerStatus> {
        self.wait("the controller leads and is in step", |status| {
            status.state == "leading"
                && status.reconcile.in_step_at.is_some()
                && status.backlog == 0
                && status.reconcile.reason.is_none()
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the controller does not run")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal).with_context(|| format!("sending {signal}"))
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// If it does not.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let mut child = self.child.take().context("the controller does not run")?;
        wait::until("the controller ends after SIGTERM", || child.try_wait().context("asking whether it runs"))
    }

    /// Ends it without a chance to do anything about it.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the controller does not run")?;
        child.kill().context("killing the controller")?;
        child.wait().context("waiting for it")?;
        Ok(())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Already ended is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
