//! One instance's answers: from a request to a rendered document.

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;

use super::beside::Beside;
use super::content::Reply;
use super::error::Refusal;
use super::found::{self, Found};
use super::openstack::meta_data::{self, Tail};
use super::openstack::vendor_data::{self, DynamicResults};
use super::openstack::{self, Document, Version, injected, network_data};
use super::password::{self, Exchange, Password, Write};
use super::{Cloud, HTML, JSON, PLAIN, Request, ec2, route};
use crate::record::InstanceRecord;

/// An instance's answers. Cheap to clone; clones share what is rendered. `Debug` names the instance only.
#[derive(Clone)]
pub struct RenderedInstance {
    facts: Arc<Facts>,
    /// What the guest posted; a password of the document comes before it.
    posted: Option<Password>,
    dynamic: Arc<DynamicResults>,
    vendor_data2: Arc<OnceLock<Bytes>>,
}

/// What does not change as long as the document does not, with its renderings.
struct Facts {
    record: Arc<InstanceRecord>,
    /// The password of the document.
    password: Option<Password>,
    cloud: Arc<Cloud>,
    beside: Beside,
    /// Empty until the first request, which may be long after the document came: instances boot once.
    renderings: OnceLock<Box<Renderings>>,
}

/// What is rendered of the facts, each part when it is first asked for.
#[derive(Default)]
struct Renderings {
    meta_data_head: OnceLock<Box<[u8]>>,
    meta_data_tails: [OnceLock<Box<[u8]>>; Tail::COUNT],
    network_data: OnceLock<Bytes>,
    injected: OnceLock<Option<Bytes>>,
    ec2: OnceLock<ec2::Tree>,
}

/// The answers of an instance without dynamic vendor data, as nearly all are.
static NO_ANSWERS: LazyLock<Arc<DynamicResults>> = LazyLock::new(Arc::default);

impl fmt::Debug for RenderedInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderedInstance").field("uuid", &self.facts.record.uuid).finish_non_exhaustive()
    }
}

impl RenderedInstance {
    /// Returns the answers for a record. Nothing is rendered yet.
    #[must_use]
    pub fn new(record: Arc<InstanceRecord>, cloud: Arc<Cloud>) -> Self {
        let password = record.password.as_deref().and_then(|password| Password::new(password.to_owned()));
        let beside = Beside::of(&record);
        let facts = Facts { record, password, cloud, beside, renderings: OnceLock::new() };
        Self { facts: Arc::new(facts), posted: None, dynamic: Arc::clone(&NO_ANSWERS), vendor_data2: Arc::default() }
    }

    /// Returns its host name with the cloud's domain.
    pub(super) fn hostname(&self) -> String {
        self.facts.hostname()
    }

    /// Returns the record.
    #[must_use]
    pub fn record(&self) -> &InstanceRecord {
        &self.facts.record
    }

    /// Returns the password that the guest reads: the document's, or else the one that it posted.
    #[must_use]
    pub fn password(&self) -> Option<&Password> {
        self.facts.password.as_ref().or(self.posted.as_ref())
    }

    /// Returns the password that the guest posted, whatever the document has.
    #[must_use]
    pub fn posted(&self) -> Option<&Password> {
        self.posted.as_ref()
    }

    /// Returns the same instance with another posted password, or none; what is rendered already is kept.
    #[must_use]
    pub fn with_posted(&self, posted: Option<Password>) -> Self {
        Self { posted, ..self.clone() }
    }

    /// Returns the answers of dynamic vendor data.
    #[must_use]
    pub fn dynamic(&self) -> &Arc<DynamicResults> {
        &self.dynamic
    }

    /// Returns the same instance with other answers of dynamic vendor data; what else is rendered already is kept.
    #[must_use]
    pub fn with_dynamic(&self, dynamic: Arc<DynamicResults>) -> Self {
        Self { dynamic, vendor_data2: Arc::default(), ..self.clone() }
    }

    /// Returns what becomes of a request.
    #[must_use]
    pub fn reply(&self, request: &Request<'_>) -> Reply {
        let path = route::path(request.target);
        let found = match path.as_deref() {
            None => Err(Refusal::NotFound),
            Some(path) if openstack::is_password(path) || self.facts.beside.lists_password(path) => {
                match password::exchange(self.password().is_some(), request) {
                    Ok(Exchange::Keep(password)) => return Reply::Keep(Write::Store(password)),
                    Ok(Exchange::Read) => Ok(Found::new(HTML, self.password_bytes())),
                    Ok(Exchange::Nothing) => Ok(Found::new(HTML, Bytes::new())),
                    Err(refusal) => Err(refusal),
                }
            }
            Some(path) => match self.facts.beside.get(path) {
                Some(page) if page.is_found() => Ok(page.answer(request)),
                Some(_) => Err(Refusal::NotFound),
                None => self.find(path, request),
            },
        };
        Reply::Answer(found::answer(found, request))
    }

    /// Returns the EC2 tree as one object, from facts alone.
    pub(super) fn ec2_object(&self) -> Bytes {
        ec2::drive::render(self.record(), &self.hostname())
    }

    /// Tells whether pages stand beside the facts in the EC2 tree.
    pub(super) fn has_ec2_pages(&self) -> bool {
        let mut paths = self.record().pages.iter().map(|page| &*page.path);
        paths.any(|path| path != "openstack" && !path.starts_with("openstack/"))
    }

    fn password_bytes(&self) -> Bytes {
        self.password().map(|password| password.bytes().clone()).unwrap_or_default()
    }

    fn find(&self, path: &str, request: &Request<'_>) -> Result<Found, Refusal> {
        let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
        match (first, rest) {
            ("" | "ec2", None) => Ok(Found::new(PLAIN, Bytes::from_static(ec2::VERSION_LIST.as_bytes()))),
            ("openstack", None) => Ok(Found::new(PLAIN, openstack::versions((request.today)()))),
            ("openstack", Some(rest)) => self.find_openstack(rest, request),
            ("ec2", Some(rest)) => self.find_ec2(rest),
            _ => self.find_ec2(path),
        }
    }

    fn find_openstack(&self, path: &str, request: &Request<'_>) -> Result<Found, Refusal> {
        let (version, name) = path.split_once('/').unwrap_or((path, ""));
        let facts = &*self.facts;
        if version == "content" {
            let file = (name == "0000").then(|| facts.injected()).flatten();
            return file.map(|file| Found::new(PLAIN, file)).ok_or(Refusal::NotFound);
        }
        let version = Version::named(version).ok_or(Refusal::NotFound)?;
        let user_data = facts.record.user_data.as_ref();
        match Document::named(name, version).ok_or(Refusal::NotFound)? {
            Document::Listing => Ok(Found::new(PLAIN, openstack::listing(version, user_data.is_some()))),
            Document::MetaData => Ok(Found::new(JSON, facts.meta_data(version, request))),
            Document::UserData => user_data.map(|data| Found::new(PLAIN, data.clone())).ok_or(Refusal::NotFound),
            Document::VendorData => {
                vendor_data::render(&facts.cloud).map(|data| Found::new(JSON, data)).ok_or(Refusal::NotFound)
            }
            Document::VendorData2 => Ok(Found::new(JSON, self.vendor_data2())),
            Document::NetworkData => Ok(Found::new(PLAIN, facts.network_data())),
        }
    }

    fn find_ec2(&self, path: &str) -> Result<Found, Refusal> {
        let (version, path) = path.split_once('/').unwrap_or((path, ""));
        let version = ec2::version(version).ok_or(Refusal::NotFound)?;
        let body = match (path, &self.facts.record.user_data) {
            ("user-data", user_data) => user_data.clone(),
            _ => self.facts.ec2().get(version, path),
        };
        body.map(|body| Found::new(PLAIN, body)).ok_or(Refusal::NotFound)
    }

    fn vendor_data2(&self) -> Bytes {
        self.vendor_data2.get_or_init(|| vendor_data::render2(&self.facts.cloud, &self.dynamic)).clone()
    }
}

impl Facts {
    fn hostname(&self) -> String {
        let hostname = &self.record.hostname;
        match &*self.cloud.dhcp_domain {
            "" => hostname.to_string(),
            domain => format!("{hostname}.{domain}"),
        }
    }

    fn renderings(&self) -> &Renderings {
        self.renderings.get_or_init(Box::default)
    }

    fn meta_data(&self, version: Version, request: &Request<'_>) -> Bytes {
        let (record, renderings) = (&*self.record, self.renderings());
        let head = renderings
            .meta_data_head
            .get_or_init(|| meta_data::head(record, &self.hostname(), self.injected().is_some()).into_boxed_slice());
        let tail = Tail::of(record, version);
        let tail =
            renderings.meta_data_tails[tail as usize].get_or_init(|| meta_data::tail(record, tail).into_boxed_slice());
        if version < Version::Grizzly {
            return meta_data::join(head, None, tail).into();
        }
        let mut seed = [0; 512];
        (request.seed)(&mut seed);
        meta_data::join(head, Some(&seed), tail).into()
    }

    fn network_data(&self) -> Bytes {
        self.renderings().network_data.get_or_init(|| network_data::render(&self.record.ports).into()).clone()
    }

    fn injected(&self) -> Option<Bytes> {
        self.renderings().injected.get_or_init(|| injected::render(&self.record.ports).map(Bytes::from)).clone()
    }

    fn ec2(&self) -> &ec2::Tree {
        self.renderings().ec2.get_or_init(|| ec2::Tree::render(&self.record, &self.hostname()))
    }
}
