//! A simulated OpenStack for measurements at a size that the real services do not reach on one machine: Keystone, Nova's two APIs and Neutron
//! in this process, with state in memory, on 127.0.0.1 of the namespace that it is started in.
//!
//! Promises: it answers what the controller asks as the real services do, which `tests/controllers/controller` uses; each request is counted
//! by kind; a change is in every later answer, but for what a worker of the metadata API remembers of an instance.
//!
//! Left out: what the controller does not ask; the time that the real services take, but for a fixed one for each request.

mod answer;
mod counts;
mod notices;
mod page;
mod server;
mod shape;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metadata_user::api::Cloud;
use metadata_user::secret::Secret;
use metadata_user::secret::sign::Signer;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use uuid::Uuid;

pub use self::counts::{Counts, Kind};

use self::answer::{Answer, Asked, CREDENTIAL, Contents};
use self::counts::Counting;
use self::notices::Notices;
use self::page::Metadata;
use self::server::Server;
use self::shape::Shapes;
use super::ApplicationCredential;
use crate::agent::SECRET;

/// What a simulated OpenStack is to be.
#[derive(Clone, Debug)]
pub struct SimulationPlan {
    /// Instances that it has at first.
    pub instances: u32,
    /// Compute hosts, over which they are spread.
    pub nodes: u32,
    /// How long a worker of the metadata API remembers an instance (`metadata_cache_expiration`).
    pub cache: Duration,
    /// The time that each request takes.
    pub delay: Duration,
}

/// A running one.
#[derive(Debug)]
pub struct Simulation {
    shared: Arc<Shared>,
    notices: Notices,
    shapes: Shapes,
    made: u32,
    // What runs on it ends with it.
    runtime: Runtime,
}

#[derive(Debug)]
struct Shared {
    address: String,
    delay: Duration,
    counting: Counting,
    contents: Mutex<Contents>,
    metadata: Metadata,
}

impl Simulation {
    /// Starts one, in the namespace of the calling thread, that sends notifications to the broker of this URL.
    ///
    /// # Errors
    /// If a shape cannot be read, or the broker does not answer.
    pub fn start(plan: &SimulationPlan, broker: &str) -> Result<Self> {
        ensure!(plan.nodes > 0, "an OpenStack without a host");
        // On a thread of its own, which is in the namespace as well.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shapes = Shapes::read()?;
        let nodes = (0..plan.nodes).map(|number| format!("node-{number:05}")).collect();
        let mut contents = Contents { nodes, ..Contents::default() };
        for number in 0..plan.instances {
            let host = contents.nodes[(number % plan.nodes) as usize].clone();
            contents.add(Server::new(shapes.make(number)?, host));
        }
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).context("listening")?;
        let metadata = Metadata {
            signer: Signer::new(&Secret::new(SECRET.into())),
            cloud: Arc::new(Cloud::default()),
            cache: plan.cache,
        };
        let shared = Arc::new(Shared {
            address: listener.local_addr()?.to_string(),
            delay: plan.delay,
            counting: Counting::default(),
            contents: Mutex::new(contents),
            metadata,
        });
        let notices = runtime.block_on(Notices::connect(broker))?;
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, notices, shapes, made: plan.instances, runtime })
    }

    /// Returns Keystone's URL.
    #[must_use]
    pub fn auth_url(&self) -> String {
        format!("http://{}/identity", self.shared.address)
    }

    /// Returns the URL of Nova's metadata API, whose secret is [`SECRET`].
    #[must_use]
    pub fn metadata_url(&self) -> String {
        format!("http://{}/metadata", self.shared.address)
    }

    /// Returns the credential that Keystone knows.
    #[must_use]
    pub fn credential(&self) -> ApplicationCredential {
        ApplicationCredential { id: CREDENTIAL.0.to_owned(), secret: CREDENTIAL.1.to_owned() }
    }

    /// Returns what it was asked so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counting.counts()
    }

    /// Returns the most requests in one second since a moment.
    #[must_use]
    pub fn most_since(&self, since: Instant) -> u64 {
        self.shared.counting.most_since(since)
    }

    /// Returns the hosts that must have each server's document, and what its property `sequence` is.
    #[must_use]
    pub fn expected(&self) -> BTreeMap<Uuid, (Vec<String>, String)> {
        let contents = self.shared.contents.lock();
        let of = |server: &Server| {
            let hosts = [&server.host].into_iter().chain(&server.destination).cloned().collect();
            let sequence = server.record.metadata.iter().find(|(key, _)| &**key == "sequence");
            (hosts, sequence.map(|(_, value)| value.to_string()).unwrap_or_default())
        };
        contents.servers.iter().map(|(id, server)| (*id, of(server))).collect()
    }

    /// Returns the number of servers.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.shared.contents.lock().servers.len()
    }

    /// Returns the ids of all servers, ascending.
    #[must_use]
    pub fn ids(&self) -> Vec<Uuid> {
        self.shared.contents.lock().servers.keys().copied().collect()
    }

    /// Sets the property `sequence` of servers, and sends Nova's notifications.
    ///
    /// # Errors
    /// If the broker does not take one.
    pub fn set_sequence(&self, ids: &[Uuid], value: &str) -> Result<()> {
        {
            let mut contents = self.shared.contents.lock();
            for id in ids {
                let server = contents.servers.get_mut(id).context("no such server")?;
                server.change(|record| {
                    let properties = record.metadata.iter_mut().filter(|(key, _)| &**key == "sequence");
                    properties.for_each(|(_, known)| *known = value.into());
                });
            }
        }
        self.send("instance.update", ids)
    }

    /// Creates a server, as the next one of [`SimulationPlan::instances`], and sends Nova's notification.
    ///
    /// # Errors
    /// If the broker does not take it.
    pub fn create(&mut self) -> Result<Uuid> {
        let record = self.shapes.make(self.made)?;
        let id = record.uuid.0;
        {
            let mut contents = self.shared.contents.lock();
            let host = contents.nodes[self.made as usize % contents.nodes.len()].clone();
            contents.add(Server::new(record, host));
        }
        self.made += 1;
        self.send("instance.create.end", &[id])?;
        Ok(id)
    }

    /// Deletes a server, and sends Nova's notification.
    ///
    /// # Errors
    /// If the broker does not take it.
    pub fn delete(&self, id: Uuid) -> Result<()> {
        self.shared.contents.lock().remove(id);
        self.send("instance.delete.end", &[id])
    }

    /// Begins a live migration to the next host, and sends Nova's notification.
    ///
    /// # Errors
    /// If there is no such server, or the broker does not take it.
    pub fn begin_move(&self, id: Uuid) -> Result<()> {
        {
            let contents = &mut *self.shared.contents.lock();
            let server = contents.servers.get_mut(&id).context("no such server")?;
            let host = contents.nodes.iter().position(|node| *node == server.host).unwrap_or(0);
            server.destination = Some(contents.nodes[(host + 1) % contents.nodes.len()].clone());
            server.change(|_| ());
        }
        self.send("instance.live_migration_pre.start", &[id])
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it does not move, or the broker does not take the notification.
    pub fn end_move(&self, id: Uuid) -> Result<()> {
        {
            let mut contents = self.shared.contents.lock();
            let server = contents.servers.get_mut(&id).context("no such server")?;
            server.host = server.destination.take().context("the server does not move")?;
            server.change(|_| ());
        }
        self.send("instance.live_migration_post_dest.end", &[id])
    }

    fn send(&self, event: &str, ids: &[Uuid]) -> Result<()> {
        self.runtime.block_on(self.notices.send(event, ids))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(async |request| Ok::<_, Infallible>(shared.answer(request).await));
    // A client that goes away is none of ours.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Shared {
    async fn answer(&self, request: hyper::Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let mut asked = Asked {
            method: &head.method,
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers: &head.headers,
            body: &body,
        };
        let mut contents = self.contents.lock();
        let (kind, answer) = match asked.path.strip_prefix("/metadata") {
            Some(path) => {
                asked.path = path;
                (Kind::Page, self.metadata.answer(&mut contents, &asked))
            }
            None => contents.answer(&asked, &self.address),
        };
        drop(contents);
        self.counting.add(kind);
        answer
    }
}
