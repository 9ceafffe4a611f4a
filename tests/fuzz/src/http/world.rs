//! A node with two guests and a port without an instance, made anew for each input.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use metadata_ebpf::addr::{Family, IdentityAddress, Vlan};
use metadata_user::api::{Cloud, NovaPages, Page};
use metadata_user::audit::fuzzing::{Records, audit};
use metadata_user::config::{Config, Signer};
use metadata_user::drain::Drain;
use metadata_user::http::fuzzing::Listener;
use metadata_user::http::{Counters, Guests};
use metadata_user::identity::{Identities, Identity, Tag};
use metadata_user::policy::{AccessOverrides, PrivilegedPaths, SessionMode, UserData};
use metadata_user::record::{InstanceId, InstanceRecord};
use metadata_user::secret::token::TokenKey;
use metadata_user::signing::Signing;
use metadata_user::source::wire;
use metadata_user::store::Store;

use crate::stream::{self, find};

/// What the guest's own content has everywhere.
pub(super) const CONTENT: &str = "content-of-this-guest";
/// What its user data has.
pub(super) const USER_DATA: &str = "user-data-of-this-guest";
/// What another guest's content has everywhere.
pub(super) const OTHER: &str = "secret-of-another-guest";
/// Length of a session token.
pub(super) const TOKEN_LENGTH: usize = metadata_user::secret::token::LENGTH;

const GUEST: Tag = Tag(7);
const NEIGHBOUR: Tag = Tag(8);
const HELD: Tag = Tag(9);

/// Read once: only their policies differ.
static RECORDS: LazyLock<[InstanceRecord; 2]> = LazyLock::new(|| {
    let record = |number: u8, text: &str, user_data: &str| {
        let document = format!(
            r#"{{"uuid": "00000000-0000-4000-8000-00000000000{number}", "project_id": "p{number}",
                "hostname": "{text}", "display_name": "{text}", "user_data": "{user_data}", "password": null,
                "metadata": {{"role": "{text}"}}, "keypairs": [{{"name": "{text}", "public_key": "ssh-ed25519 {text}"}}],
                "ports": [{{"id": "00000000-0000-4000-8000-0000000000f{number}", "mac_address": "fa:16:3e:00:00:0{number}"}}]}}"#
        );
        wire::parse(document.as_bytes()).expect("a document")
    };
    [record(1, CONTENT, USER_DATA), record(2, OTHER, OTHER)]
});

/// Keys of their own in each run. The file is gone by then.
static SIGNING: LazyLock<Arc<Signing>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let key_file = directory.path().join("identity.pem");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    std::fs::write(&key_file, key).expect("written");
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let signing = Signing::open(&Signer { key_file, issuer: "issuer".to_owned(), node: "node".to_owned() });
    assert!(signing.keys().is_some(), "{:?}", signing.state().get().error);
    Arc::new(signing)
});

/// What the guest's port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Bound,
    /// Bound, and its content is not there.
    Empty,
    Held,
    /// No such tag.
    Unknown,
}

pub(super) struct World {
    pub(super) listener: Listener,
    pub(super) records: Records,
    pub(super) port: Port,
    identities: Arc<Identities>,
    access: AccessOverrides,
    over_ipv6: bool,
    source_port: u16,
}

impl World {
    pub(super) fn new(policy: u8, access: u8, caller: u8) -> Self {
        let bit = |byte: u8, place: u8| byte >> place & 1 != 0;
        let access = AccessOverrides {
            metadata: bit(access, 0).then_some(false),
            ipv6: bit(access, 1).then_some(false),
            ec2: bit(access, 2).then_some(false),
            user_data: match access >> 3 & 3 {
                0 => None,
                1 => Some(UserData::Never),
                _ => Some(UserData::FirstBoot),
            },
            privileged: match access >> 5 & 3 {
                0 => None,
                1 => Some(PrivilegedPaths::EVERYTHING),
                2 => Some(PrivilegedPaths::USER_DATA.and(PrivilegedPaths::PASSWORD)),
                _ => Some(PrivilegedPaths::IDENTITY.and(PrivilegedPaths::TOKEN)),
            },
            session: match policy & 3 {
                0 => None,
                1 => Some(SessionMode::Optional),
                2 => Some(SessionMode::Required),
                _ => Some(SessionMode::Off),
            },
            hop_limit: bit(policy, 2).then_some(1),
        };
        let port = match policy >> 3 & 7 {
            1 => Port::Empty,
            2 => Port::Held,
            3 => Port::Unknown,
            _ => Port::Bound,
        };
        let store = Arc::new(Store::new(Cloud::default()));
        let [mut own, other] = RECORDS.clone();
        own.policy.access = access;
        if bit(policy, 6) {
            own.policy.requests_per_second = Some(1);
            own.policy.request_burst = std::num::NonZeroU32::new(2);
        }
        let identities = Arc::new(Identities::new());
        let bound = |record: &InstanceRecord| Identity::Bound { instance: record.uuid, port: Some(record.ports[0].id) };
        identities.bind(GUEST, bound(&own)).expect("a new tag");
        identities.bind(NEIGHBOUR, bound(&other)).expect("a new tag");
        identities.bind(HELD, Identity::Held).expect("a new tag");
        match port {
            Port::Empty => {}
            // Answers of an unchanged OpenStack have no policy of their own.
            _ if bit(policy, 7) && access == AccessOverrides::default() => {
                store.put_nova_pages(pages(own.uuid));
            }
            _ => {
                store.put(own);
            }
        }
        store.put(other);
        let mut config = Config::default();
        config.identity.tokens.enabled = true;
        config.guests.attributes_per_instance = 4;
        let guests = Arc::new(Guests::new(&config, Arc::clone(&identities), store, Counters::default()));
        guests.sign_with(&config, Arc::clone(&SIGNING));
        guests.seal_tokens_with(TokenKey::random().expect("random bytes"));
        let (audit, records) = audit();
        guests.record_at(audit);
        Self {
            listener: Listener::new(guests),
            records,
            port,
            identities,
            access,
            over_ipv6: bit(caller, 0),
            source_port: if bit(caller, 1) { 700 } else { 40_000 },
        }
    }

    /// The address that the guest's connection comes from.
    pub(super) fn peer(&self) -> SocketAddr {
        let tag = match self.port {
            Port::Bound | Port::Empty => GUEST,
            Port::Held => HELD,
            Port::Unknown => Tag(10),
        };
        self.address(tag)
    }

    fn address(&self, Tag(tag): Tag) -> SocketAddr {
        let family = if self.over_ipv6 { Family::Ipv6 } else { Family::Ipv4 };
        let guest = [0, 0, 0, 0, 10, 0, 0, 5];
        let address = IdentityAddress { family, vlan: Vlan::default(), tag, guest };
        (Ipv6Addr::from(address.encode()), self.source_port).into()
    }

    pub(super) fn end_binding(&self) {
        for tag in [GUEST, HELD] {
            self.identities.end(tag);
        }
    }

    /// The instance that records name.
    pub(super) fn instance(&self) -> Option<String> {
        match self.port {
            Port::Bound | Port::Empty => Some(RECORDS[0].uuid.to_string()),
            Port::Held | Port::Unknown => None,
        }
    }

    /// Whether the guest may read anything.
    pub(super) fn may_read(&self) -> bool {
        self.port == Port::Bound
            && self.access.metadata != Some(false)
            && !(self.over_ipv6 && self.access.ipv6 == Some(false))
            && !(self.access.privileged == Some(PrivilegedPaths::EVERYTHING) && self.source_port >= 1024)
    }

    pub(super) fn may_read_user_data(&self) -> bool {
        let is_privileged = self.access.privileged.is_some_and(|paths| paths.contains(PrivilegedPaths::USER_DATA));
        self.may_read()
            && self.access.user_data != Some(UserData::Never)
            && !(is_privileged && self.source_port >= 1024)
    }

    pub(super) fn needs_token(&self) -> bool {
        self.access.session == Some(SessionMode::Required)
    }

    /// Puts session tokens in the place of their names.
    pub(super) async fn with_tokens(&self, request: &[u8]) -> Vec<u8> {
        let mut request = request.to_vec();
        for (name, tag) in [(super::OWN_TOKEN, GUEST), (super::OTHER_TOKEN, NEIGHBOUR)] {
            if find(&request, name).is_none() {
                continue;
            }
            let token = self.token(tag).await;
            while let Some(at) = find(&request, name) {
                request.splice(at..at + name.len(), token.iter().copied());
            }
        }
        self.records.take();
        request
    }

    /// Asks for a session token on a connection of its own; what comes is none where there are none.
    async fn token(&self, tag: Tag) -> Vec<u8> {
        let request = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n";
        let (client, server) = tokio::io::duplex(64 << 10);
        let drain = Drain::new();
        let served = self.listener.serve(server, self.address(tag), &drain);
        let (answer, _) = tokio::join!(stream::send(client, 0, request.as_bytes()), served);
        let answers = stream::answers(&answer);
        answers
            .first()
            .filter(|answer| answer.status == 200)
            .map_or_else(|| b"none".to_vec(), |answer| answer.body.to_vec())
    }
}

/// An instance's answers as an unchanged OpenStack gave them.
fn pages(id: InstanceId) -> NovaPages {
    let page = |kind: &str, text: &str| Page::found(Some(kind), Bytes::from(text.to_owned()));
    let plain = "text/plain; charset=UTF-8";
    let pages = [
        ("openstack", page(plain, "2012-08-10\nlatest")),
        ("openstack/latest", page(plain, "meta_data.json\nuser_data\npassword")),
        ("openstack/latest/meta_data.json", page("application/json", &format!("{{\"name\": \"{CONTENT}\"}}"))),
        ("openstack/latest/user_data", page("application/octet-stream", USER_DATA)),
        ("", page(plain, "1.0\nlatest")),
        ("latest", page(plain, "meta-data/\nuser-data")),
        ("latest/meta-data/hostname", page(plain, CONTENT)),
        ("latest/user-data", Page::not_found()),
    ];
    NovaPages::new(id, pages.map(|(path, page)| (path.to_owned(), page)))
}
