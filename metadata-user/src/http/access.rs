//! Who is asking, and what they may read.

use std::future::{Future, pending, ready};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use futures_util::FutureExt as _;
use zeroize::Zeroizing;

use super::Guests;
use super::usage::Usage;
use crate::api::{Content, Date, Write, Written};
use crate::audit::{Audit, Subject};
use crate::boots::History;
use crate::clock;
use crate::config::Config;
use crate::identity::{Identity, Lease};
use crate::on_demand::Member;
use crate::origin::{Outcome, Want};
use crate::policy::{Policy, PolicyOverrides};
use crate::record::{AttributeError, Attributes, InstanceId, PortId};
use crate::secret::token::TokenError;

/// The path under which the controller keeps a password that was posted to any version of it.
const PASSWORD_PATH: &str = "/openstack/latest/password";

/// What may be read on a connection.
pub trait Access: Send + Sync + 'static {
    /// Says who is asking, now.
    fn resolve(&self) -> Resolution;

    /// Completes when what [`Self::resolve`] returns is not [`Resolution::NotReady`], or may not be. Cancel-safe.
    fn ready(&self) -> impl Future<Output = ()> + Send;

    /// Completes when what [`Self::resolve`] returns is another content than it returned last, or may be. Cancel-safe.
    fn changed(&self) -> impl Future<Output = ()> + Send {
        pending()
    }

    /// Keeps what the guest wrote, in the store or at the controller.
    fn keep(&self, instance: InstanceId, write: Write) -> impl Future<Output = Written> + Send;

    /// Lets the controller read a path, and waits until it is in the store or cannot be read.
    fn fetch(&self, _: InstanceId, _: String) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// Asks the services that are asked when this instance's guest reads, and waits for their answers; `None`: there are no such services,
    /// or nobody asks them. Cancel-safe.
    fn on_demand(&self, _: InstanceId) -> impl Future<Output = Option<Vec<Member>>> + Send {
        ready(None)
    }

    /// Returns whether [`Self::on_demand`] asks anybody.
    fn asks_on_demand(&self) -> bool {
        false
    }

    /// Returns who is at the other end, as far as it does not change.
    fn caller(&self) -> Caller {
        Caller::default()
    }

    /// Notes that the guest has read the user data of this instance.
    fn note_user_data_read(&self, _: InstanceId) {}

    /// Returns when the user data of this instance was first read, in seconds of Unix time.
    fn user_data_read(&self, _: InstanceId) -> Option<u64> {
        None
    }

    /// Issues a session token to whoever owns the connection now, until a time in seconds of Unix time; `None`: it cannot.
    fn issue_token(&self, _: u64) -> Option<Zeroizing<Vec<u8>>> {
        None
    }

    /// Returns what this instance's guest wrote; `None`: nothing.
    fn attributes(&self, _: InstanceId) -> Option<Arc<Attributes>> {
        None
    }

    /// Writes an attribute of this instance, by namespace and key; `None` removes it.
    ///
    /// # Errors
    /// [`AttributeError`] if it is not kept.
    fn write_attribute(&self, _: InstanceId, _: (&str, &str), _: Option<&str>) -> Result<bool, AttributeError> {
        Err(AttributeError::NoInstance)
    }

    /// Notes that the guest of this instance has acknowledged an event, and forgets those that are not current.
    ///
    /// # Errors
    /// [`AttributeError`], if it is not noted.
    fn acknowledge(&self, _: InstanceId, _: &str, _: &dyn Fn(&str) -> bool) -> Result<bool, AttributeError> {
        Err(AttributeError::NoInstance)
    }

    /// Returns the port that the connection is from; `None`: it is not known.
    fn port(&self) -> Option<PortId> {
        None
    }

    /// Returns how many seconds a session token has left at this time, in seconds of Unix time.
    ///
    /// # Errors
    /// [`TokenError`] if it is not valid for whoever owns the connection now.
    fn open_token(&self, _: &[u8], _: u64) -> Result<u64, TokenError> {
        Err(TokenError::Foreign)
    }

    /// Returns where the requests of this instance are counted; `None`: nowhere.
    fn usage(&self, _: InstanceId) -> Option<&Usage> {
        None
    }

    /// Returns what tells the date, UTC.
    fn today(&self) -> fn() -> Date {
        clock::today
    }

    /// Completes when nothing may be read any more.
    fn ended(&self) -> impl Future<Output = ()> + Send;

    /// Returns whether [`Self::ended`] completes at once.
    fn has_ended(&self) -> bool {
        self.ended().now_or_never().is_some()
    }

    /// Notes, at the end of a connection, whether its guest kept it for more than one request.
    fn note_kept(&self, _: bool) {}

    /// Names the connection in the log.
    fn name(&self) -> u32;

    /// Returns where more than the counters is recorded; `None`: nowhere.
    fn audit(&self) -> Option<&Audit> {
        None
    }

    /// Returns where the boots of this binding are noted; `None`: nowhere.
    fn history(&self) -> Option<&History> {
        None
    }

    /// Says who a record is about, also after the binding has ended; the generation is that of the content that
    /// [`Self::resolve`] returned last.
    fn subject(&self) -> Subject {
        Subject { tag: self.name(), ..Subject::default() }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// What an instance may do of which the document says nothing else.
    pub policy: Policy,
    /// Whether it asks over IPv6.
    pub over_ipv6: bool,
    /// The port that it asks from.
    pub source_port: u16,
}

impl Default for Caller {
    /// Over IPv4, from a port that any process may have, with the default policy.
    fn default() -> Self {
        static POLICY: LazyLock<Policy> = LazyLock::new(|| Config::default().policy());
        Self { policy: *POLICY, over_ipv6: false, source_port: 40_000 }
    }
}

/// Who is asking.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// The binding has ended: close without an answer.
    Ended,
    /// A binding without content (yet).
    NotReady,
    /// This instance.
    Ready(Content),
}

/// What the holder of a lease may read.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) tag: u32,
    pub(super) lease: Lease,
    pub(super) node: Arc<Guests>,
    pub(super) over_ipv6: bool,
    pub(super) source_port: u16,
    /// The guest's own address, and the port that it sends from.
    pub(super) source: Option<(IpAddr, u16)>,
    /// Generation of the content that was resolved last; 0: there was none.
    pub(super) generation: AtomicU64,
    /// That of the one instance that the connection is ever from.
    pub(super) usage: OnceLock<Arc<Usage>>,
    pub(super) history: Arc<History>,
}

impl Guest {
    /// Returns the instance that the connection's port is bound to, if it is.
    pub(super) fn instance(&self) -> Option<InstanceId> {
        match self.lease.identity()? {
            Identity::Held => None,
            Identity::Bound { instance, .. } => Some(instance),
        }
    }

    /// Returns what the connection's instance may do, where that differs from the configuration.
    pub(super) fn policy(&self) -> PolicyOverrides {
        match self.resolve() {
            Resolution::Ready(content) => content.policy(),
            Resolution::NotReady | Resolution::Ended => PolicyOverrides::default(),
        }
    }
}

/// Bytes that say whom a token is for.
type Holder = [u8; 37];

impl Guest {
    /// Returns whom a token is for: this instance, at this binding, of this port; `None` while there is none.
    fn holder(&self) -> Option<Holder> {
        let Identity::Bound { instance, port } = self.lease.identity()? else { return None };
        let mut holder = [0; 37];
        holder[..16].copy_from_slice(instance.0.as_bytes());
        holder[16..20].copy_from_slice(&self.tag.to_be_bytes());
        if let Some(port) = port {
            holder[20] = 1;
            holder[21..].copy_from_slice(port.0.as_bytes());
        }
        Some(holder)
    }
}

impl Access for Guest {
    fn resolve(&self) -> Resolution {
        let Some(identity) = self.lease.identity() else {
            return Resolution::Ended;
        };
        match identity {
            Identity::Held => Resolution::NotReady,
            Identity::Bound { instance, .. } => match self.node.store.current(instance) {
                Some((content, generation)) => {
                    self.generation.store(generation, Ordering::Relaxed);
                    Resolution::Ready(content)
                }
                None => {
                    self.generation.store(0, Ordering::Relaxed);
                    Resolution::NotReady
                }
            },
        }
    }

    async fn ready(&self) {
        loop {
            let bound = self.lease.next_identity();
            if self.lease.has_ended() {
                return;
            }
            match self.instance() {
                None => bound.await,
                Some(instance) => {
                    let waiter = self.node.store.wait(instance);
                    tokio::select! {
                        () = bound => {}
                        _ = waiter.content() => return,
                    }
                }
            }
        }
    }

    async fn changed(&self) {
        let ends = self.lease.next_identity();
        // A port that is bound is bound to no other instance.
        let Some(instance) = self.instance() else { return };
        let waiter = self.node.store.wait(instance);
        tokio::select! {
            () = ends => {}
            () = waiter.change(self.generation.load(Ordering::Relaxed)) => {}
        }
    }

    async fn keep(&self, instance: InstanceId, write: Write) -> Written {
        let write = match write {
            // A source that takes requests keeps passwords too, wherever the instance's pages come from.
            Write::Store(password) if self.node.origin.get().is_some() => {
                Write::Controller { path: PASSWORD_PATH.to_owned(), password }
            }
            write => write,
        };
        match (write, self.node.origin.get()) {
            (Write::Store(password), _) => self.node.store.set_password(instance, password),
            (Write::Controller { path, password }, Some(origin)) => {
                match origin.ask(instance, Want::Password { path, password }).await {
                    Outcome::Posted(written) => written,
                    Outcome::Fetched | Outcome::Unavailable => Written::Unavailable,
                }
            }
            (Write::Controller { .. }, None) => Written::Unavailable,
        }
    }

    async fn fetch(&self, instance: InstanceId, path: String) {
        if let Some(origin) = self.node.origin.get() {
            origin.ask(instance, Want::Page(path)).await;
        }
    }

    async fn on_demand(&self, instance: InstanceId) -> Option<Vec<Member>> {
        self.node.on_demand.get()?.ask(instance).await
    }

    fn asks_on_demand(&self) -> bool {
        self.node.on_demand.get().is_some()
    }

    fn caller(&self) -> Caller {
        Caller { policy: **self.node.policy.look(), over_ipv6: self.over_ipv6, source_port: self.source_port }
    }

    fn attributes(&self, instance: InstanceId) -> Option<Arc<Attributes>> {
        self.node.store.attributes(instance)
    }

    fn write_attribute(
        &self,
        instance: InstanceId,
        (space, key): (&str, &str),
        value: Option<&str>,
    ) -> Result<bool, AttributeError> {
        if !self.node.writes.count_instance(instance) {
            return Err(AttributeError::TooFast);
        }
        let most = self.node.policy.look().extensions.attributes_per_instance;
        self.node.store.change_attributes(instance, |attributes| match value {
            Some(value) => attributes.set(space, key, value, most),
            None => Ok(attributes.remove(space, key)),
        })
    }

    fn acknowledge(
        &self,
        instance: InstanceId,
        event: &str,
        is_current: &dyn Fn(&str) -> bool,
    ) -> Result<bool, AttributeError> {
        if !self.node.writes.count_instance(instance) {
            return Err(AttributeError::TooFast);
        }
        self.node.store.change_attributes(instance, |attributes| attributes.acknowledge(event, is_current))
    }

    fn port(&self) -> Option<PortId> {
        match self.lease.identity()? {
            Identity::Bound { port, .. } => port,
            Identity::Held => None,
        }
    }

    fn issue_token(&self, expires: u64) -> Option<Zeroizing<Vec<u8>>> {
        self.node.tokens.get()?.issue(&self.holder()?, expires).ok()
    }

    fn open_token(&self, token: &[u8], now: u64) -> Result<u64, TokenError> {
        let (key, holder) = self.node.tokens.get().zip(self.holder()).ok_or(TokenError::Foreign)?;
        key.open(token, &holder, now)
    }

    fn usage(&self, instance: InstanceId) -> Option<&Usage> {
        Some(self.usage.get_or_init(|| self.node.usages.of(instance, &self.node.store)))
    }

    fn note_user_data_read(&self, instance: InstanceId) {
        self.node.store.note_user_data_read(instance, clock::unix());
    }

    fn user_data_read(&self, instance: InstanceId) -> Option<u64> {
        self.node.store.user_data_read(instance)
    }

    async fn ended(&self) {
        self.lease.ended().await;
    }

    fn has_ended(&self) -> bool {
        self.lease.has_ended()
    }

    fn note_kept(&self, is_kept: bool) {
        self.lease.note_kept(is_kept);
    }

    fn name(&self) -> u32 {
        self.tag
    }

    fn audit(&self) -> Option<&Audit> {
        self.node.audit()
    }

    fn history(&self) -> Option<&History> {
        Some(&self.history)
    }

    fn subject(&self) -> Subject {
        let (instance, port) = match self.lease.last_identity() {
            Identity::Bound { instance, port } => (Some(instance), port),
            Identity::Held => (None, None),
        };
        Subject {
            tag: self.tag,
            instance,
            project: instance.and_then(|instance| self.node.store.served(instance)?.project().cloned()),
            port,
            source: self.source,
            generation: Some(self.generation.load(Ordering::Relaxed)).filter(|generation| *generation > 0),
        }
    }
}
