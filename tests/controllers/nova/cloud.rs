//! A node in this process: facts, source, store, and guests that ask.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::agent::{self, SECRET};
use lab::{Response, wait};
use metadata_user::api::{Cloud, Write, Written};
use metadata_user::config::{Config, Source};
use metadata_user::drain::Drain;
use metadata_user::facts::{Fact, Facts, Observer};
use metadata_user::http::connection;
use metadata_user::http::service::{Access, Resolution};
use metadata_user::http::{Counters, Times};
use metadata_user::origin::{Origin, Outcome, Want};
use metadata_user::readiness::Readiness;
use metadata_user::record::InstanceId;
use metadata_user::source::{SourceState, nova};
use metadata_user::store::Store;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};

/// A guest waits as long for an answer as the daemon's default has it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) content_length: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let answer = Response::whole(bytes).ok()?;
        Some(Self {
            status: answer.status,
            content_type: answer.header("content-type").map(str::to_owned),
            content_length: answer.header("content-length").map(str::to_owned),
            body: answer.body,
        })
    }

    /// Takes out the seed, which is new in every answer.
    pub(crate) fn without_seed(mut self) -> Self {
        const KEY: &[u8] = b"\"random_seed\": \"";
        if let Some(at) = self.body.windows(KEY.len()).rposition(|window| window == KEY) {
            let start = at + KEY.len();
            let length = self.body[start..].iter().position(|byte| *byte == b'"').expect("an end");
            assert_eq!(length, 684, "512 bytes in base64");
            self.body.drain(start..start + length);
        }
        self
    }
}

/// A request, as written on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub(crate) fn get(target: &str) -> Self {
        Self { method: "GET".to_owned(), target: target.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn post(target: &str, body: &str) -> Self {
        Self { method: "POST".to_owned(), body: body.into(), ..Self::get(target) }
    }

    pub(crate) fn bytes(&self, further: &[(&str, String)]) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: 169.254.169.254\r\n", self.method, self.target);
        for (name, value) in self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .chain(further.iter().map(|(name, value)| (*name, value)))
        {
            text += &format!("{name}: {value}\r\n");
        }
        if self.method == "POST" {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        [text.as_bytes(), b"Connection: close\r\n\r\n", &self.body].concat()
    }

    /// Asks Nova itself, at this port, as Neutron's agents do. `None`: it closed the connection without an answer.
    pub(crate) fn of_nova(&self, port: u16, facts: &Value) -> Option<Answer> {
        let (id, address) = (uuid(facts), addresses(facts).first().map(ToString::to_string));
        let project = facts["instance"]["project_id"].as_str().expect("a project");
        let guest = agent::For { instance: &id, project, address: address.as_deref() };
        // It may close the connection without an answer.
        let answer = agent::exchange(port, &self.bytes(&guest.headers())).unwrap_or_default();
        Answer::parse(&answer)
    }
}

pub(crate) fn uuid(facts: &Value) -> String {
    facts["instance"]["uuid"].as_str().expect("a UUID").to_owned()
}

pub(crate) fn addresses(facts: &Value) -> Vec<std::net::IpAddr> {
    let networks = facts["network_info"].as_array().into_iter().flatten();
    let subnets = networks.flat_map(|vif| vif["network"]["subnets"].as_array().into_iter().flatten());
    let addresses = subnets.flat_map(|subnet| subnet["ips"].as_array().into_iter().flatten());
    let mut addresses: Vec<std::net::IpAddr> =
        addresses.filter_map(|ip| ip["address"].as_str()?.parse().ok()).collect();
    addresses.sort_by_key(|address| (address.is_ipv6(), *address));
    addresses
}

/// How long a source's state may stay as it is while it is waited for, and how long that may go on.
const UNCHANGED: Duration = Duration::from_secs(90);
const LONGEST: Duration = Duration::from_secs(900);

/// A node.
pub(crate) struct Node {
    pub(crate) store: Arc<Store>,
    pub(crate) facts: Facts,
    pub(crate) readiness: Readiness,
    source: nova::Nova,
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

impl Node {
    /// Starts the source with these endpoints, and further lines of its table.
    pub(crate) fn start(endpoints: &[String], further: &str) -> Self {
        Self::with_secret(endpoints, further, SECRET)
    }

    pub(crate) fn with_secret(endpoints: &[String], further: &str, secret: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secret");
        std::fs::write(&file, secret).expect("written");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
        let text = format!(
            "[source]\nkind = 'nova'\n[source.nova]\nendpoints = {endpoints:?}\nshared_secret_file = '{}'\n{further}",
            file.display()
        );
        let config = Config::parse(Path::new("m.toml"), &text).expect("a configuration");
        let Source::Nova(settings) = config.source else { panic!("another source") };
        let (store, facts, readiness) = (Arc::new(Store::new(Cloud::default())), Facts::new(), Readiness::new());
        let scan = readiness.wait_for("source");
        let source = nova::Nova::start(settings, Arc::clone(&store), facts.clone(), scan).expect("started");
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        Self { store, facts, readiness, source, runtime, _directory: directory }
    }

    /// libvirt says that the instance lives here.
    pub(crate) fn boot(&self, facts: &Value) {
        self.defined(facts, 0);
    }

    /// libvirt says that it is as this fingerprint has it.
    pub(crate) fn defined(&self, facts: &Value, fingerprint: u64) {
        let project = facts["instance"]["project_id"].as_str();
        let fact = Fact {
            instance: id(&uuid(facts)),
            project: project.map(Into::into),
            port: None,
            mac: None,
            addresses: addresses(facts),
            fingerprint: Some(fingerprint),
        };
        self.facts.set(Observer::Libvirt, &format!("tap-{}", uuid(facts)), Some(fact));
    }

    /// libvirt says that it does not any more.
    pub(crate) fn shut_off(&self, facts: &Value) {
        self.facts.set(Observer::Libvirt, &format!("tap-{}", uuid(facts)), None);
    }

    pub(crate) fn state(&self) -> Arc<SourceState> {
        self.source.state().get()
    }

    /// Waits until everything is read.
    pub(crate) fn wait_current(&self) {
        self.wait("the source is in step", |state| {
            state.lagging_since.is_none() && state.synced_at.is_some() && state.instances > 0
        });
    }

    /// Waits until the state is such, as long as it changes: with each of Nova's answers, which take their time on a busy
    /// machine.
    pub(crate) fn wait(&self, what: &str, is: impl Fn(&SourceState) -> bool) -> Arc<SourceState> {
        let (mut last, mut changed) = (self.state(), Instant::now());
        let waited = wait::until_within(LONGEST, what, || {
            let state = self.state();
            if *state != *last {
                (last, changed) = (Arc::clone(&state), Instant::now());
            }
            anyhow::ensure!(changed.elapsed() < UNCHANGED, "nothing changes any more: {what}");
            Ok(Some(state).filter(|state| is(state)))
        });
        waited.unwrap_or_else(|error| panic!("{error}: {:#?}", self.state()))
    }

    /// A guest of the instance asks, on a connection of its own.
    pub(crate) fn ask(&self, uuid: &str, ask: &Ask) -> Answer {
        let content = Guest { instance: id(uuid), store: Arc::clone(&self.store), origin: self.source.origin() };
        let bytes = ask.bytes(&[]);
        let answer = self.runtime.block_on(async {
            let (mut guest, daemon) = tokio::io::duplex(64 << 10);
            let (counters, drain) = (Arc::<Counters>::default(), Drain::new());
            // What is not there is asked for again by the tests themselves.
            let times = Times { ready: Duration::ZERO, ..Times::default() };
            let exchange = async {
                guest.write_all(&bytes).await.expect("sent");
                let mut answer = Vec::new();
                guest.read_to_end(&mut answer).await.expect("an answer");
                answer
            };
            let serve = connection::serve(daemon, content, times, &counters, &drain);
            let both = async { tokio::join!(exchange, serve).0 };
            tokio::time::timeout(PATIENCE, both).await.expect("an answer in time")
        });
        Answer::parse(&answer).expect("HTTP")
    }

    pub(crate) fn get(&self, uuid: &str, target: &str) -> Answer {
        self.ask(uuid, &Ask::get(target))
    }
}

fn id(uuid: &str) -> InstanceId {
    InstanceId(uuid.parse().expect("a UUID"))
}

/// What a guest's connection may read.
struct Guest {
    instance: InstanceId,
    store: Arc<Store>,
    origin: Origin,
}

impl Access for Guest {
    fn resolve(&self) -> Resolution {
        self.store.served(self.instance).map_or(Resolution::NotReady, Resolution::Ready)
    }

    async fn ready(&self) {
        self.store.wait(self.instance).content().await;
    }

    async fn keep(&self, instance: InstanceId, write: Write) -> Written {
        match write {
            Write::Store(password) => self.store.set_password(instance, password),
            Write::Controller { path, password } => {
                match self.origin.ask(instance, Want::Password { path, password }).await {
                    Outcome::Posted(written) => written,
                    Outcome::Fetched | Outcome::Unavailable => Written::Unavailable,
                }
            }
        }
    }

    async fn fetch(&self, instance: InstanceId, path: String) {
        self.origin.ask(instance, Want::Page(path)).await;
    }

    async fn ended(&self) {
        std::future::pending().await
    }

    fn name(&self) -> u32 {
        0
    }
}
