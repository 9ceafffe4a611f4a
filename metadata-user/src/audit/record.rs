//! What the audit log records, as values that cost no memory of their own: they wait in a queue of fixed size.
//!
//! Promises: nothing here can hold a body, a token or a query; what a guest wrote is bounded and escaped ([`Text`]).

use std::net::IpAddr;
use std::time::SystemTime;

use super::anomaly::Anomalies;
use super::text::Text;
use crate::record::{InstanceId, PortId, ProjectId};

/// Who a record is about: what is known of a connection.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Tag of the binding; 0 where there is none.
    pub tag: u32,
    /// The instance; `None` while the port is held.
    pub instance: Option<InstanceId>,
    /// Its project, where the content says it.
    pub project: Option<ProjectId>,
    /// The port, where its UUID is known.
    pub port: Option<PortId>,
    /// The guest's own address, and the port that it sent from.
    pub source: Option<(IpAddr, u16)>,
    /// Generation of the content that was asked last; `None`: there was none.
    pub generation: Option<u64>,
}

/// What a request has to do with session tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenMode {
    /// There are none for this instance.
    #[default]
    None,
    /// It asked for one.
    Wanted,
    /// It came without one.
    Absent,
    /// It came with a valid one.
    Valid,
    /// It came with one that was refused.
    Refused,
}

impl TokenMode {
    /// Returns the name that records use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Wanted => "wanted",
            Self::Absent => "absent",
            Self::Valid => "valid",
            Self::Refused => "refused",
        }
    }
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it ended.
    pub at: SystemTime,
    /// Who asked.
    pub subject: Subject,
    /// The method as sent.
    pub method: Text<16>,
    /// The path as sent, without the query.
    pub path: Text<256>,
    /// Whether there was a query.
    pub has_query: bool,
    /// The status; `None`: the connection ended before the answer.
    pub status: Option<u16>,
    /// Bytes of the answer's body; 0 for HEAD.
    pub bytes: u64,
    /// Whether it came with a session token.
    pub token: TokenMode,
    /// The name of the identity token that is the answer: its claim `jti`.
    pub token_id: Option<uuid::Uuid>,
    /// The `User-Agent` header.
    pub user_agent: Option<Text<128>>,
    /// What was unusual about it.
    pub anomalies: Anomalies,
    /// Records of this port that the quota left out since the last one.
    pub left_out: u64,
}

/// What happened to a connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// When.
    pub at: SystemTime,
    /// Whose it was.
    pub subject: Subject,
    /// What happened.
    pub event: &'static str,
    /// What was unusual about it.
    pub anomalies: Anomalies,
    /// Records of this port that the quota left out since the last one.
    pub left_out: u64,
}

/// Packets that were dropped because they claim another source: the first, second, fourth, eighth … of a port.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// When.
    pub at: SystemTime,
    /// Whose tap it was.
    pub subject: Subject,
    /// Name of the tap.
    pub tap: Text<16>,
    /// Why.
    pub reason: &'static str,
    /// The source MAC that the packet claims.
    pub mac: Text<20>,
    /// The source address that the packet claims.
    pub claimed: Text<48>,
    /// How many of this reason have been dropped on this tap.
    pub count: u64,
}

/// A record.
#[expect(clippy::large_enum_variant, reason = "a record waits in its place of the queue: it is not allocated")]
#[derive(Clone, Debug)]
pub enum Record {
    /// Of a request.
    Request(Request),
    /// Of a connection.
    Connection(Connection),
    /// Of packets.
    Dropped(Dropped),
    /// Of records that are missing: how many, by reason.
    Lost {
        /// When the log worked again.
        at: SystemTime,
        /// More came than could be written.
        queue_full: u64,
        /// Writing failed.
        write_failed: u64,
    },
}

/// Takes the fields of a record, in order.
pub(super) trait Fields {
    /// A text.
    fn text(&mut self, name: &'static str, value: &str);
    /// A number.
    fn number(&mut self, name: &'static str, value: u64);
    /// Names; never an empty list.
    fn names(&mut self, name: &'static str, values: &mut dyn Iterator<Item = &'static str>);
}

impl Record {
    /// Returns when it happened.
    pub(super) fn at(&self) -> SystemTime {
        match self {
            Self::Request(Request { at, .. })
            | Self::Connection(Connection { at, .. })
            | Self::Dropped(Dropped { at, .. })
            | Self::Lost { at, .. } => *at,
        }
    }

    /// Returns which kind it is.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Connection(_) => "connection",
            Self::Dropped(_) => "dropped",
            Self::Lost { .. } => "lost",
        }
    }

    /// Gives all fields but the time. The names are part of the interface: they are only ever added to.
    pub(super) fn fields(&self, out: &mut impl Fields) {
        out.text("kind", self.kind());
        match self {
            Self::Request(request) => {
                request.subject.fields(out);
                out.text("method", request.method.as_str());
                out.text("path", request.path.as_str());
                if request.has_query {
                    out.text("query", "left_out");
                }
                if let Some(status) = request.status {
                    out.number("status", status.into());
                }
                out.number("bytes", request.bytes);
                out.text("token", request.token.name());
                if let Some(id) = request.token_id {
                    let mut buffer = uuid::Uuid::encode_buffer();
                    out.text("token_id", id.as_hyphenated().encode_lower(&mut buffer));
                }
                if let Some(generation) = request.subject.generation {
                    out.number("generation", generation);
                }
                if let Some(user_agent) = &request.user_agent {
                    out.text("user_agent", user_agent.as_str());
                }
                unusual(request.anomalies, request.left_out, out);
            }
            Self::Connection(connection) => {
                connection.subject.fields(out);
                out.text("event", connection.event);
                unusual(connection.anomalies, connection.left_out, out);
            }
            Self::Dropped(dropped) => {
                dropped.subject.fields(out);
                out.text("tap", dropped.tap.as_str());
                out.text("reason", dropped.reason);
                if !dropped.mac.as_str().is_empty() {
                    out.text("mac", dropped.mac.as_str());
                    out.text("claimed_address", dropped.claimed.as_str());
                }
                out.number("count", dropped.count);
            }
            Self::Lost { queue_full, write_failed, .. } => {
                out.number("queue_full", *queue_full);
                out.number("write_failed", *write_failed);
            }
        }
    }
}

impl Subject {
    fn fields(&self, out: &mut impl Fields) {
        // Of a UUID.
        let mut buffer = uuid::Uuid::encode_buffer();
        if let Some(instance) = self.instance {
            out.text("instance", instance.0.as_hyphenated().encode_lower(&mut buffer));
        }
        if let Some(project) = &self.project {
            out.text("project", Text::<128>::escaped(project.as_str().as_bytes()).as_str());
        }
        if let Some(port) = self.port {
            out.text("port", port.0.as_hyphenated().encode_lower(&mut buffer));
        }
        if self.tag != 0 {
            out.number("tag", self.tag.into());
        }
        if let Some((address, port)) = self.source {
            out.text("family", if address.is_ipv4() { "ipv4" } else { "ipv6" });
            out.text("address", &address.to_string());
            out.number("source_port", port.into());
        }
    }
}

fn unusual(anomalies: Anomalies, left_out: u64, out: &mut impl Fields) {
    if !anomalies.is_empty() {
        out.names("anomalies", &mut anomalies.iter().map(|anomaly| anomaly.name()));
    }
    if left_out > 0 {
        out.number("left_out", left_out);
    }
}
