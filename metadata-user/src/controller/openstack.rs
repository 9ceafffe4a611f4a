//! Reads of an OpenStack: Keystone, Nova and Neutron.
//!
//! Promises:
//! - an answer is the service's own, of the cloud that is expected; everything else is an [`AskError`], of which nothing follows;
//! - a server counts as gone only where Nova says so, and then still is that cloud ([`OpenStack::server`]);
//! - pages are not older than the server that they belong to ([`OpenStack::pages`]);
//! - what no change causes is asked at the configured rate, and no service is asked more at a time than configured.
//!
//! Left out: when to ask again (`queue`), and what becomes of the answers (`derive`).

mod catalog;
mod cloud;
mod error;
mod freshness;
mod gate;
mod keystone;
mod metadata;
mod neutron;
mod nova;
mod port;
mod server;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub use cloud::{CloudId, CloudIdError};
pub use error::{AskError, Failure, OpenStackError, Service};
pub use gate::{ServiceState, Urgency};
pub use metadata::Reading;
pub use nova::Marker;
pub use port::{AllowedPair, Port};
pub use server::{Move, Server, ServerAddress};

#[cfg(test)]
pub(in crate::controller) use server::tests::server as sample_server;

use parking_lot::Mutex;

use crate::allowance::Allowance;
use crate::api::{NovaPages, Password, Written};
use crate::backoff::{self, Backoff};
use crate::config::controller::Controller;
use crate::fetch;
use crate::fetch::tls::{self, Named};
use crate::record::{InstanceId, PortId};
use gate::Gate;
use metadata::Metadata;
use session::{Api, Session};

/// Most bytes of an answer: a page of servers has their user data (64 KiB each).
const BODY_LIMIT: usize = 64 << 20;
/// Background requests that may be made at once after a pause, as a share of a second's.
const BURSTS: u32 = 10;

/// When to look again for what Neutron has and Nova does not know yet: it takes some seconds, or is so for good.
const LOOKS: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(600), 20);

/// An OpenStack. Share it by [`Arc`].
pub struct OpenStack {
    session: Session,
    nova: Api,
    neutron: Api,
    metadata: Metadata,
    expected: nova::Expected,
    /// Instances of which Nova does not have yet what Neutron has, and how often that was seen.
    behind: Mutex<HashMap<InstanceId, u32>>,
    page: u32,
}

impl fmt::Debug for OpenStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStack").field("states", &self.states()).finish_non_exhaustive()
    }
}

/// All that is known of an instance, of one moment.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The server.
    pub server: Server,
    /// Its moves that are not over.
    pub moves: Vec<Move>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// All that Nova's metadata API answers for it.
    pub pages: NovaPages,
    /// A change may be hidden by Nova's cache, or on its way from Neutron to Nova: write this, and read again after this time. `None`: it
    /// is complete.
    pub again_after: Option<Duration>,
}

/// What came of reading an instance.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nova says that it is gone.
    Gone,
    /// Nova has it, and its metadata API does not know it (yet): a server that is being built.
    WithoutPages(Box<Server>),
    /// Nova's metadata API still answers from its cache what was before: nothing to be written; read again after this time.
    Stale {
        /// Time until another attempt is of use.
        again_after: Duration,
        /// What is older.
        what: &'static str,
    },
    /// It was read.
    Instance(Box<Instance>),
}

impl OpenStack {
    /// Prepares to ask. Nothing is asked yet.
    ///
    /// # Errors
    /// [`OpenStackError`] if a certificate or the metadata API's secret cannot be read.
    pub fn new(settings: &Controller) -> Result<Self, OpenStackError> {
        let keystone = &settings.keystone;
        let (cert, key) = keystone.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path())).unzip();
        // The catalogue may lead to https wherever Keystone is.
        let tls = tls::connector(
            Named { key: "keystone.ca_file", path: keystone.ca_file.as_deref() },
            Named { key: "keystone.cert_file", path: cert },
            Named { key: "keystone.key_file", path: key },
        );
        let is_needed = keystone.auth_url.tls
            || keystone.ca_file.is_some()
            || [&settings.nova, &settings.neutron].into_iter().flatten().any(|url| url.tls);
        let tls = match tls {
            Ok(tls) => Some(tls),
            // A host without CA certificates may ask over http.
            Err(_) if !is_needed => None,
            Err(error) => return Err(error.into()),
        };
        let rate = NonZeroU32::new(settings.reconcile.requests_per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(rate.get() / BURSTS).unwrap_or(NonZeroU32::MIN);
        let pace = Arc::new(Allowance::new(burst, Duration::from_secs(1) / rate.get()));
        let most = settings.reconcile.requests;
        let gate = |service| Gate::new(service, most, Arc::clone(&pace));
        let http = fetch::Client::new(keystone.connect_timeout, keystone.read_timeout, BODY_LIMIT, tls).keeping(most);
        let session = Session {
            http,
            keystone: keystone::Keystone::new(keystone, gate(Service::Keystone)),
            region: keystone.region.clone(),
            interface: keystone.interface,
        };
        let nova = gate(Service::Nova);
        let neutron = gate(Service::Neutron);
        Ok(Self {
            session,
            nova: Api::new(nova, Service::Nova, ("compute", "v2.1"), nova::HEADERS, settings.nova.as_ref()),
            neutron: Api::new(neutron, Service::Neutron, ("network", "v2.0"), &[], settings.neutron.as_ref()),
            metadata: Metadata::new(&settings.metadata, &settings.metadata_cells, &pace)?,
            expected: nova::Expected::default(),
            behind: Mutex::default(),
            page: settings.reconcile.page,
        })
    }

    /// Returns which cloud this is now.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn cloud_id(&self) -> Result<CloudId, AskError> {
        nova::cloud(&self.session, &self.nova, Urgency::Change).await
    }

    /// Sets which cloud the documents are of, when a term begins. Until then, and from any other cloud, no server counts as gone.
    pub async fn expect(&self, cloud: CloudId) {
        // The former leader may have read any of them a moment ago.
        self.metadata.forget_reads();
        self.expected.set(&self.nova, cloud).await;
    }

    /// Asks whether this still is the expected cloud. Returns its identity as it is now: keep this one from now on, as hosts come and go.
    ///
    /// # Errors
    /// [`AskError`], with [`Failure::OtherCloud`] if it is not.
    pub async fn check_cloud(&self) -> Result<CloudId, AskError> {
        self.expected.check(&self.session, &self.nova).await
    }

    /// Lists servers of all projects, a page at a time, ordered by id. Servers of a cell that is down, and ones that are created meanwhile,
    /// may be missing: ask for each that is ([`Self::server`]) before anything follows of it.
    ///
    /// # Errors
    /// [`AskError`]; with [`Failure::MarkerGone`] the list is to be begun again.
    pub async fn servers(&self, from: &Marker) -> Result<(Vec<Server>, Option<Marker>), AskError> {
        nova::servers(&self.session, &self.nova, from, self.page).await
    }

    /// Reads a server; `None`: it is gone, as Nova itself says, which then was asked whether it still is the expected cloud.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn server(&self, id: InstanceId, urgency: Urgency) -> Result<Option<Server>, AskError> {
        nova::server(&self.session, &self.nova, &self.expected, id, urgency).await
    }

    /// Reads the moves of a server that are not over.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn moves(&self, id: InstanceId, urgency: Urgency) -> Result<Vec<Move>, AskError> {
        nova::moves(&self.session, &self.nova, id, urgency).await
    }

    /// Reads the ports of servers: of one, or of many with few requests.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ports_of(&self, ids: &[InstanceId], urgency: Urgency) -> Result<Vec<Port>, AskError> {
        neutron::ports_of(&self.session, &self.neutron, ids, urgency).await
    }

    /// Reads the ports of servers that have a security group.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ports_of_group(&self, group: &str) -> Result<Vec<Port>, AskError> {
        neutron::ports_of_group(&self.session, &self.neutron, group).await
    }

    /// Reads a port; `None`: it is gone.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn port(&self, id: PortId) -> Result<Option<Port>, AskError> {
        neutron::port(&self.session, &self.neutron, id).await
    }

    /// Reads all pages of a server. They are not older than `server`, as far as both can be compared: read it just before.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn pages(&self, server: &Server, urgency: Urgency) -> Result<Reading, AskError> {
        self.metadata.pages(server, urgency).await
    }

    /// Posts the password that a guest has posted, to `path`: `openstack/VERSION/password`.
    ///
    /// # Errors
    /// [`AskError`]: the password may have been taken all the same.
    pub async fn post_password(&self, server: &Server, path: &str, password: &Password) -> Result<Written, AskError> {
        self.metadata.post(server, path, password).await
    }

    /// Reads all of an instance, its parts at the same time where that is possible.
    ///
    /// # Errors
    /// [`AskError`] of the first part that cannot be read.
    pub async fn read(&self, id: InstanceId, urgency: Urgency) -> Result<Found, AskError> {
        let ids = [id];
        let (server, ports) = tokio::join!(self.server(id, urgency), self.ports_of(&ids, urgency));
        let Some(server) = server? else {
            self.behind.lock().remove(&id);
            return Ok(Found::Gone);
        };
        let ports = ports?;
        neutron::agrees(&self.neutron, &server, &ports)?;
        let moves = async { if server.may_be_moving() { self.moves(id, urgency).await } else { Ok(Vec::new()) } };
        let floating = neutron::floating_ips(&self.session, &self.neutron, &ports, urgency);
        let (moves, floating, reading) = tokio::join!(moves, floating, self.pages(&server, urgency));
        let behind = self.behind(&server, &ports, floating?.as_ref());
        Ok(match reading? {
            Reading::Unknown => Found::WithoutPages(Box::new(server)),
            Reading::Stale { again_after, what } => Found::Stale { again_after, what },
            Reading::Pages { pages, again_after } => {
                let again_after = [again_after, behind].into_iter().flatten().min();
                Found::Instance(Box::new(Instance { moves: moves?, server, ports, pages, again_after }))
            }
        })
    }

    /// Returns when to look again whether Nova has read back what Neutron has; `None`: it has.
    fn behind(&self, server: &Server, ports: &[Port], floating: Option<&BTreeSet<IpAddr>>) -> Option<Duration> {
        let mut behind = self.behind.lock();
        if neutron::has_reached_nova(server, ports, floating) {
            behind.remove(&server.id);
            return None;
        }
        let looks = behind.entry(server.id).or_default();
        *looks = looks.saturating_add(1);
        Some(LOOKS.delay(*looks, backoff::random()))
    }

    /// Asks Neutron and the metadata API whether they answer, where they did not when they were last asked; and Keystone, where any of
    /// those did not that ask it, too.
    pub async fn look_after(&self) {
        let keystone = &self.session.keystone;
        let gates = [&keystone.gate, &self.nova.gate, &self.neutron.gate];
        let look_after_keystone = async {
            if gates.iter().any(|gate| gate.is_failing()) {
                keystone.look_after(&self.session.http).await;
            }
        };
        tokio::join!(
            look_after_keystone,
            neutron::look_after(&self.session, &self.neutron),
            self.metadata.look_after()
        );
    }

    /// Returns the state of each service, in the order of [`Service::ALL`].
    #[must_use]
    pub fn states(&self) -> Vec<ServiceState> {
        vec![
            self.session.keystone.gate.state(),
            self.nova.gate.state(),
            self.metadata.state(),
            self.neutron.gate.state(),
        ]
    }
}
