//! A real OpenStack control plane on 127.0.0.1, with fake hosts: RabbitMQ, Keystone, Placement, Nova (API, metadata, conductor, scheduler
//! and a compute service for each host) and Neutron, one process each, on SQLite.
//!
//! Promises: everything is the project's own program from PyPI or Debian, configured as `tests/controllers/openstack/etc` shows; ports are
//! free ones, files are in a directory of their own, and all of it ends and goes with the value, also when the test is killed.
//!
//! Stand-ins, by name: hosts run Nova's own fake driver, so instances have no machine; `image.py` answers for Glance; Neutron's agents are
//! rows in its database (`place.py`), so ports are bound and never become active.

pub mod rabbitmq;
pub mod reach;

mod api;
mod calls;
mod configuration;
mod free_ports;
mod recorder;
mod schema;
mod simulated;
mod supervisor;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use self::api::Api;
use self::configuration::Values;
use self::free_ports::free_ports;
use self::supervisor::{Running, Supervisor, script, tool};
use crate::agent::SECRET;
use crate::command;
use crate::netns::Namespace;
use crate::wait;

pub use api::{PASSWORD, Token, USER};
pub use rabbitmq::RabbitMq;
pub use reach::{Reach, Way};
pub use recorder::{Notification, Recorder};
pub use simulated::{Counts, Kind, Simulation, SimulationPlan};
pub use supervisor::Hang;

/// How long Keystone's tokens last, in seconds.
const TOKEN: u32 = 86_400;

/// All of them start in about 20 s on two cores that are idle.
const START: Duration = Duration::from_secs(300);

/// What a cloud is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    hosts: usize,
    cache: u32,
    events: u32,
    token_cache: u32,
    format: &'static str,
    state_changes: Option<&'static str>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            hosts: 2,
            cache: 1,
            events: 2,
            token_cache: 300,
            format: "versioned",
            state_changes: Some("vm_and_task_state"),
        }
    }
}

impl Plan {
    /// This many hosts, named `host1`, `host2` and so on; two by default.
    #[must_use]
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// Nova's metadata API keeps an instance for this many seconds; 1 by default here, 15 in Nova.
    #[must_use]
    pub fn cache(mut self, seconds: u32) -> Self {
        self.cache = seconds;
        self
    }

    /// Neutron collects what it tells Nova for this many seconds; 2 by default, as in Neutron.
    #[must_use]
    pub fn events(mut self, seconds: u32) -> Self {
        self.events = seconds;
        self
    }

    /// Nova and Neutron believe for this many seconds that a token is valid; 300 by default, as in both.
    #[must_use]
    pub fn token_cache(mut self, seconds: u32) -> Self {
        self.token_cache = seconds;
        self
    }

    /// Nova's `notification_format` and `notify_on_state_change`; by default `versioned` and `vm_and_task_state`.
    #[must_use]
    pub fn notifications(mut self, format: &'static str, state_changes: Option<&'static str>) -> Self {
        (self.format, self.state_changes) = (format, state_changes);
        self
    }
}

/// One of a cloud's services. RabbitMQ is a value of its own: [`Cloud::rabbitmq`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Keystone.
    Keystone,
    /// Placement.
    Placement,
    /// Neutron's API.
    Neutron,
    /// The stand-in for Glance.
    Image,
    /// Nova's compute API.
    Nova,
    /// Nova's metadata API.
    Metadata,
    /// Nova's conductor.
    Conductor,
    /// Nova's scheduler.
    Scheduler,
    /// Nova's compute service of this host.
    Compute(String),
}

/// TCP ports on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Keystone.
    pub keystone: u16,
    /// Placement.
    pub placement: u16,
    /// Neutron.
    pub neutron: u16,
    /// The stand-in for Glance.
    pub image: u16,
    /// Nova's compute API.
    pub nova: u16,
    /// Nova's metadata API.
    pub metadata: u16,
}

/// An application credential of the administrator's.
#[derive(Clone, Debug)]
pub struct ApplicationCredential {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// The networks that every cloud has.
#[derive(Clone, Debug, Default)]
struct Networks {
    private: String,
    public: String,
}

/// A running cloud.
#[derive(Debug)]
pub struct Cloud {
    plan: Plan,
    ports: Ports,
    api: Api,
    networks: Networks,
    running: Mutex<BTreeMap<Service, Running>>,
    // Ended before the directory goes.
    supervisor: Supervisor,
    rabbitmq: RabbitMq,
    directory: tempfile::TempDir,
}

impl Cloud {
    /// Starts one, and waits until instances can be created on each of its hosts.
    ///
    /// # Errors
    /// If it is not installed (`cargo xtask setup --controllers`), or something does not start; the error holds its log.
    pub fn start(plan: Plan) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("metadatad-cloud-").tempdir().context("making a directory")?;
        let rabbitmq = RabbitMq::begin(None)?;
        let [keystone, placement, neutron, image, nova, metadata] = free_ports()?;
        let ports = Ports { keystone, placement, neutron, image, nova, metadata };
        let supervisor = Supervisor::start(&directory.path().join("supervisor.log"))?;
        let mut cloud = Self {
            plan,
            ports,
            api: Api::new(keystone),
            networks: Networks::default(),
            running: Mutex::default(),
            supervisor,
            rabbitmq,
            directory,
        };
        schema::copy(cloud.directory.path())?;
        cloud.place()?;
        cloud.configure()?;
        for service in
            [Service::Keystone, Service::Placement, Service::Nova, Service::Neutron, Service::Metadata, Service::Image]
        {
            cloud.spawn(&service)?;
        }
        cloud.supervisor.import_nova()?;
        cloud.rabbitmq.wait_ready()?;
        cloud.spawn(&Service::Conductor)?;
        for service in [Service::Keystone, Service::Placement, Service::Conductor] {
            cloud.wait_ready(&service)?;
        }
        let late: Vec<Service> = cloud.late();
        for service in &late {
            cloud.spawn(service)?;
        }
        cloud.networks = cloud.make_networks()?;
        for service in [Service::Nova, Service::Metadata].iter().chain(&late) {
            cloud.wait_ready(service)?;
        }
        Ok(cloud)
    }

    /// Returns its broker.
    #[must_use]
    pub fn rabbitmq(&self) -> &RabbitMq {
        &self.rabbitmq
    }

    /// Returns its TCP ports.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Returns Keystone's URL, as clients have it in `auth_url`.
    #[must_use]
    pub fn auth_url(&self) -> String {
        format!("http://127.0.0.1:{}/v3", self.ports.keystone)
    }

    /// Returns the URL of Nova's compute API.
    #[must_use]
    pub fn nova_url(&self) -> String {
        format!("http://127.0.0.1:{}/v2.1", self.ports.nova)
    }

    /// Returns the URL of Nova's metadata API, whose secret is [`SECRET`].
    #[must_use]
    pub fn metadata_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.metadata)
    }

    /// Returns Neutron's URL.
    #[must_use]
    pub fn neutron_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.neutron)
    }

    /// Returns the names of its hosts.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        (1..=self.plan.hosts).map(|number| format!("host{number}")).collect()
    }

    /// Opens the same ports on 127.0.0.1 in a namespace: for what runs there and has to reach the cloud.
    ///
    /// # Errors
    /// If one of them is in use there.
    pub fn reach_from(&self, namespace: &Namespace) -> Result<Reach> {
        let Ports { keystone, placement, neutron, image, nova, metadata } = self.ports;
        Reach::open(namespace, &[keystone, placement, neutron, image, nova, metadata, self.rabbitmq.port()])
    }

    /// Returns a path in its directory, which has each program's configuration, databases and log.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Live migrations take this long from now on, after the destination is prepared.
    ///
    /// # Errors
    /// If its directory cannot be written.
    pub fn migrations_take(&self, time: Duration) -> Result<()> {
        let (new, path) = (self.path("nova/migration.new"), self.path("nova/migration"));
        fs::write(&new, time.as_secs_f64().to_string())?;
        fs::rename(new, path).context("setting how long migrations take")
    }

    /// Stops a service, as an operator does.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&self, service: &Service) -> Result<()> {
        self.lock().remove(service).map_or(Ok(()), Running::end)
    }

    /// Ends a service without a chance to do anything about it.
    ///
    /// # Errors
    /// If it is not gone.
    pub fn kill(&self, service: &Service) -> Result<()> {
        self.lock().remove(service).map_or(Ok(()), Running::kill)
    }

    /// Starts a service again, on the same port and database, and waits until it works.
    ///
    /// # Errors
    /// If it does not.
    pub fn resume(&self, service: &Service) -> Result<()> {
        self.spawn(service)?;
        self.wait_ready(service)
    }

    /// Makes a service hang: its connections stay, and nothing is answered.
    ///
    /// # Errors
    /// If it does not run.
    pub fn hang(&self, service: &Service) -> Result<Hang> {
        Hang::start(self.lock().get(service).copied().into_iter().collect())
    }

    /// Returns a service's process id.
    #[must_use]
    pub fn id(&self, service: &Service) -> Option<u32> {
        self.lock().get(service).copied().map(Running::id)
    }

    /// Gives Nova empty databases, as if its URLs belonged to another cloud. Keystone's and Neutron's stay.
    ///
    /// # Errors
    /// If something does not end or start.
    pub fn replace_nova(&self) -> Result<()> {
        let all = [Service::Nova, Service::Metadata, Service::Conductor];
        for service in all.iter().chain(&self.late()) {
            self.stop(service)?;
        }
        for database in ["api", "cell0", "cell1"] {
            for end in ["", "-wal", "-shm"] {
                let _ = fs::remove_file(self.path(&format!("nova/{database}.sqlite{end}")));
            }
        }
        schema::copy_nova(self.directory.path())?;
        self.place()?;
        for service in &all {
            self.spawn(service)?;
        }
        self.wait_ready(&Service::Conductor)?;
        for service in &self.late() {
            self.spawn(service)?;
        }
        for service in all.iter().chain(&self.late()) {
            self.wait_ready(service)?;
        }
        Ok(())
    }

    /// What starts after the conductor, Keystone and Placement.
    fn late(&self) -> Vec<Service> {
        [Service::Scheduler].into_iter().chain(self.hosts().into_iter().map(Service::Compute)).collect()
    }

    /// Makes the copied databases this cloud's.
    fn place(&self) -> Result<()> {
        let Ports { keystone, placement, neutron, image, nova, .. } = self.ports;
        let ports =
            json!({"KEYSTONE": keystone, "PLACEMENT": placement, "NEUTRON": neutron, "IMAGE": image, "NOVA": nova});
        let mut place = Command::new(tool("python3")?);
        place.arg(script("place.py")).arg(self.directory.path()).arg(ports.to_string());
        place.arg(self.rabbitmq.transport_url()).args(self.hosts());
        command::run(&mut place, "").map(drop)
    }

    fn configure(&self) -> Result<()> {
        let values = self.values();
        for program in schema::PROGRAMS {
            configuration::write(program, &self.path(program), &values)?;
        }
        self.migrations_take(Duration::ZERO)
    }

    /// Returns the values of the programs' configuration.
    fn values(&self) -> Values {
        let mut values = Values::default();
        values.set("KEYSTONE", self.ports.keystone);
        values.set("IMAGE", self.ports.image);
        values.set("RABBITMQ", self.rabbitmq.transport_url());
        values.set("SECRET", SECRET);
        values.set("TOKEN_SECONDS", TOKEN);
        values.set("CACHE_SECONDS", self.plan.cache);
        values.set("EVENTS_SECONDS", self.plan.events);
        values.set("TOKEN_CACHE_SECONDS", self.plan.token_cache);
        values.set("NOTIFICATION_FORMAT", self.plan.format);
        values.set("NOTIFICATION_DRIVER", "messagingv2");
        let state_changes = self.plan.state_changes.map(|value| format!("notify_on_state_change = {value}"));
        values.set("NOTIFY_ON_STATE_CHANGE", state_changes.unwrap_or_default());
        values
    }

    fn spawn(&self, service: &Service) -> Result<()> {
        let nova = self.path("nova");
        let fork = |program: &str, host: &str| {
            let _ = fs::remove_file(nova.join(format!("{program}-{host}.ready")));
            self.supervisor.nova(program, host, &nova)
        };
        let running = match service {
            Service::Keystone => self.wsgi("keystone", "keystone.wsgi.api", self.ports.keystone),
            Service::Placement => self.wsgi("placement", "placement.wsgi.api", self.ports.placement),
            Service::Neutron => self.wsgi("neutron", "neutron.wsgi.api", self.ports.neutron),
            Service::Nova => self.wsgi("nova", "nova.wsgi.osapi_compute", self.ports.nova),
            Service::Metadata => self.wsgi("nova", "nova.wsgi.metadata", self.ports.metadata),
            Service::Image => {
                let words = [
                    tool("python3")?.display().to_string(),
                    script("image.py").display().to_string(),
                    self.ports.image.to_string(),
                ];
                self.supervisor.execute(&words, &BTreeMap::new(), &self.path("image.log"))
            }
            Service::Conductor => fork("conductor", "controller"),
            Service::Scheduler => fork("scheduler", "controller"),
            Service::Compute(host) => fork("compute", host),
        }?;
        self.lock().insert(service.clone(), running);
        Ok(())
    }

    /// Starts an application under uWSGI.
    fn wsgi(&self, program: &str, module: &str, port: u16) -> Result<Running> {
        // Two first claims at once make Placement's SQLite fail one of them (500): its users and projects are made by whoever needs them.
        let threads = if program == "placement" { 1 } else { 4 };
        let words = format!(
            "--http-socket 127.0.0.1:{port} --module {module}:application --processes 1 --threads {threads} --enable-threads --die-on-term --need-app \
             --listen 100 --buffer-size 65535 --disable-logging --add-header Connection:close"
        );
        let uwsgi = tool("uwsgi")?.display().to_string();
        let command: Vec<String> = [uwsgi].into_iter().chain(words.split_whitespace().map(str::to_owned)).collect();
        let name = program.to_uppercase();
        let environment = BTreeMap::from([
            (format!("OS_{name}_CONFIG_DIR"), self.path(program).display().to_string()),
            ("OS_NEUTRON_CONFIG_FILES".to_owned(), "neutron.conf".to_owned()),
            ("PYTHONPATH".to_owned(), script("sqlite").display().to_string()),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("HOME".to_owned(), self.directory.path().display().to_string()),
        ]);
        self.supervisor.execute(&command, &environment, &self.path(&format!("{module}.log")))
    }

    fn wait_ready(&self, service: &Service) -> Result<()> {
        let (ready, log) = match service {
            Service::Conductor => {
                ("nova/conductor-controller.ready".to_owned(), "nova/conductor-controller.out".to_owned())
            }
            Service::Scheduler => {
                ("nova/scheduler-controller.ready".to_owned(), "nova/scheduler-controller.out".to_owned())
            }
            Service::Compute(host) => (format!("nova/compute-{host}.ready"), format!("nova/compute-{host}.out")),
            Service::Keystone => return self.wait_answers(service, self.ports.keystone, "keystone/keystone.log"),
            Service::Placement => return self.wait_answers(service, self.ports.placement, "placement/placement.log"),
            Service::Neutron => return self.wait_answers(service, self.ports.neutron, "neutron/neutron.log"),
            Service::Image => return self.wait_answers(service, self.ports.image, "image.log"),
            Service::Nova => return self.wait_answers(service, self.ports.nova, "nova/nova.log"),
            Service::Metadata => return self.wait_answers(service, self.ports.metadata, "nova/nova.log"),
        };
        self.wait_for(service, &log, || Ok(self.path(&ready).exists()))
    }

    fn wait_answers(&self, service: &Service, port: u16, log: &str) -> Result<()> {
        self.wait_for(service, log, || Ok(api::send(port, "GET", "/", "", None).is_ok()))
    }

    fn wait_for(&self, service: &Service, log: &str, is_ready: impl Fn() -> Result<bool>) -> Result<()> {
        let ready = wait::until_within(START, &format!("{service:?} starts"), || {
            let alive = self.lock().get(service).copied().is_some_and(Running::is_alive);
            anyhow::ensure!(alive, "{service:?} has ended");
            Ok(is_ready()?.then_some(()))
        });
        ready.with_context(|| {
            let log = fs::read_to_string(self.path(log)).unwrap_or_default();
            log.get(log.len().saturating_sub(4000)..).unwrap_or(&log).to_owned()
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Service, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
