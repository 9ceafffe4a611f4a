//! The document's member `policy`: read, checked, and written.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::place::Step;
use crate::policy::{
    AccessOverrides, HOP_LIMIT, PolicyOverrides, PortLimits, PortLimitsOverrides, PrivilegedPaths, SessionMode,
    UserData,
};

/// What this instance may do, where it differs from the node's configuration.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyDocument {
    /// Connections of each of the instance's ports at a time. Default: `http.connections_per_port` of the node's
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    connections_per_port: Option<u32>,

    /// Connections of all the instance's ports together at a time. Default: `http.connections_per_instance` of the node's
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    connections_per_instance: Option<u32>,

    /// Requests per second of all the instance's ports together, in the long run; 0: as many as it likes. Default:
    /// `http.requests_per_second` of the node's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<u32>,

    /// Requests of all the instance's ports together at once, after a pause. Default: `http.request_burst` of the node's
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    request_burst: Option<u32>,

    /// Whether it may read anything; otherwise every path answers 403. Default: `access.metadata` of the node's
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<bool>,

    /// Whether it may ask over IPv6; otherwise that is answered with 403. Default: `access.ipv6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ipv6: Option<bool>,

    /// Whether it has the EC2 tree beside OpenStack's; otherwise its paths answer 404. Default: `access.ec2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ec2: Option<bool>,

    /// When it may read its user data; otherwise that answers 404. Default: `access.user_data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_data: Option<UserDataDocument>,

    /// What is answered to source ports below 1024 alone; other ports get 403. Default: `access.privileged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    privileged: Option<Vec<PrivilegedDocument>>,

    /// Whether it has session tokens. Default: `access.session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionDocument>,

    /// Hop limit of the answer that has a session token, and of all that follows on its connection. Default:
    /// `access.hop_limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    hop_limit: Option<u8>,

    /// New connections for each second, of each of the instance's ports; 0: no limit. Default:
    /// `ports.new_connections_per_second` of the node's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000))]
    new_connections_per_second: Option<u32>,

    /// New connections at once. Default: `ports.new_connections_burst` of the node's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    new_connections_burst: Option<u32>,

    /// Packets to the metadata addresses for each second, of each of the instance's ports; 0: no limit. Default:
    /// `ports.packets_per_second` of the node's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000))]
    packets_per_second: Option<u32>,

    /// Packets to the metadata addresses at once. Default: `ports.packets_burst` of the node's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    packets_burst: Option<u32>,

    /// Whether frames from elsewhere that claim to come from the metadata service are kept from the instance. Default:
    /// `ports.impersonation_guard` of the node's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    impersonation_guard: Option<bool>,
}

/// What only privileged source ports are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PrivilegedDocument {
    /// Every path.
    Everything,
    /// The user data.
    UserData,
    /// The password, read or posted.
    Password,
    /// Dynamic vendor data, in which services put tokens, and `dynamic/` of the EC2 tree.
    Identity,
    /// The request for a session token.
    Token,
}

/// Each with what it stands for.
const PRIVILEGED: [(PrivilegedDocument, PrivilegedPaths); PrivilegedPaths::NAMES.len()] = [
    (PrivilegedDocument::Everything, PrivilegedPaths::EVERYTHING),
    (PrivilegedDocument::UserData, PrivilegedPaths::USER_DATA),
    (PrivilegedDocument::Password, PrivilegedPaths::PASSWORD),
    (PrivilegedDocument::Identity, PrivilegedPaths::IDENTITY),
    (PrivilegedDocument::Token, PrivilegedPaths::TOKEN),
];

/// Returns the set that a list names.
fn privileged_paths(list: &[PrivilegedDocument]) -> PrivilegedPaths {
    PRIVILEGED.into_iter().filter(|(document, _)| list.contains(document)).map(|(_, paths)| paths).collect()
}

/// Returns a list that names a set.
fn privileged_list(paths: PrivilegedPaths) -> Vec<PrivilegedDocument> {
    PRIVILEGED.into_iter().filter(|(_, one)| paths.contains(*one)).map(|(document, _)| document).collect()
}

/// Whether an instance has session tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum SessionDocument {
    /// There are none, as with Nova.
    Off,
    /// They are issued, and a request needs none.
    Optional,
    /// A request without one is answered with 401.
    Required,
}

impl From<SessionDocument> for SessionMode {
    fn from(document: SessionDocument) -> Self {
        match document {
            SessionDocument::Off => Self::Off,
            SessionDocument::Optional => Self::Optional,
            SessionDocument::Required => Self::Required,
        }
    }
}

impl From<SessionMode> for SessionDocument {
    fn from(mode: SessionMode) -> Self {
        match mode {
            SessionMode::Off => Self::Off,
            SessionMode::Optional => Self::Optional,
            SessionMode::Required => Self::Required,
        }
    }
}

/// When an instance may read its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum UserDataDocument {
    /// At any time.
    Always,
    /// Until `access.first_boot` of the node's configuration after it has first read it.
    FirstBoot,
    /// Never.
    Never,
}

impl From<UserDataDocument> for UserData {
    fn from(document: UserDataDocument) -> Self {
        match document {
            UserDataDocument::Always => Self::Always,
            UserDataDocument::FirstBoot => Self::FirstBoot,
            UserDataDocument::Never => Self::Never,
        }
    }
}

impl From<UserData> for UserDataDocument {
    fn from(user_data: UserData) -> Self {
        match user_data {
            UserData::Always => Self::Always,
            UserData::FirstBoot => Self::FirstBoot,
            UserData::Never => Self::Never,
        }
    }
}

impl PolicyDocument {
    /// Returns what a record's overrides look like in a document; `None` if there are none.
    pub(super) fn of(overrides: &PolicyOverrides) -> Option<Self> {
        let PolicyOverrides {
            connections_per_port,
            connections_per_instance,
            requests_per_second,
            request_burst,
            access,
            port_limits,
            impersonation_guard,
        } = *overrides;
        let PortLimitsOverrides {
            new_connections_per_second,
            new_connections_burst,
            packets_per_second,
            packets_burst,
        } = port_limits;
        let AccessOverrides { metadata, ipv6, ec2, user_data, privileged, session, hop_limit } = access;
        let document = Self {
            connections_per_port: connections_per_port.map(NonZeroU32::get),
            connections_per_instance: connections_per_instance.map(NonZeroU32::get),
            requests_per_second,
            request_burst: request_burst.map(NonZeroU32::get),
            metadata,
            ipv6,
            ec2,
            user_data: user_data.map(UserDataDocument::from),
            privileged: privileged.map(privileged_list),
            session: session.map(SessionDocument::from),
            hop_limit,
            new_connections_per_second,
            new_connections_burst: new_connections_burst.map(NonZeroU32::get),
            packets_per_second,
            packets_burst: packets_burst.map(NonZeroU32::get),
            impersonation_guard,
        };
        (document != Self::default()).then_some(document)
    }

    /// Checks the values.
    pub(super) fn overrides(self) -> Result<PolicyOverrides, Fault> {
        if let Some(hops) = self.hop_limit.filter(|hops| !(1..=HOP_LIMIT).contains(hops)) {
            return Err(out_of_range("hop_limit", format!("{hops} is out of range"), "set 1 to 64, or leave it out"));
        }
        let access = AccessOverrides {
            metadata: self.metadata,
            ipv6: self.ipv6,
            ec2: self.ec2,
            user_data: self.user_data.map(UserData::from),
            privileged: self.privileged.as_deref().map(privileged_paths),
            session: self.session.map(SessionMode::from),
            hop_limit: self.hop_limit,
        };
        let port_limits = PortLimitsOverrides {
            new_connections_per_second: rate("new_connections_per_second", self.new_connections_per_second)?,
            new_connections_burst: burst("new_connections_burst", self.new_connections_burst)?,
            packets_per_second: rate("packets_per_second", self.packets_per_second)?,
            packets_burst: burst("packets_burst", self.packets_burst)?,
        };
        Ok(PolicyOverrides {
            access,
            port_limits,
            impersonation_guard: self.impersonation_guard,
            connections_per_port: not_zero("connections_per_port", self.connections_per_port, NO_CONNECTION)?,
            connections_per_instance: not_zero(
                "connections_per_instance",
                self.connections_per_instance,
                NO_CONNECTION,
            )?,
            requests_per_second: self.requests_per_second,
            request_burst: not_zero("request_burst", self.request_burst, NO_REQUEST)?,
        })
    }
}

fn out_of_range(member: &'static str, problem: String, remedy: &'static str) -> Fault {
    Fault { path: vec![Step::from("policy"), Step::from(member)], problem, remedy }
}

/// Checks a number for each second.
fn rate(member: &'static str, value: Option<u32>) -> Result<Option<u32>, Fault> {
    match value {
        Some(value) if value > PortLimits::MOST => Err(out_of_range(
            member,
            format!("{value} for each second is more than can be counted"),
            "set 1 to 1000000, or 0 for no limit",
        )),
        value => Ok(value),
    }
}

/// Checks a number at once.
fn burst(member: &'static str, value: Option<u32>) -> Result<Option<NonZeroU32>, Fault> {
    match value {
        Some(value) if value == 0 || value > PortLimits::MOST => {
            Err(out_of_range(member, format!("{value} at once is out of range"), "set 1 to 1000000, or leave it out"))
        }
        value => Ok(value.and_then(NonZeroU32::new)),
    }
}

const NO_CONNECTION: &str = "0 connections would keep the guest from its metadata";
const NO_REQUEST: &str = "a burst of 0 requests would keep the guest from its metadata";

/// Checks a number of which 0 would mean that nothing is answered.
fn not_zero(member: &'static str, number: Option<u32>, problem: &str) -> Result<Option<NonZeroU32>, Fault> {
    match number.map(NonZeroU32::new) {
        Some(None) => Err(Fault {
            path: vec![Step::from("policy"), Step::from(member)],
            problem: problem.to_owned(),
            remedy: "set 1 or more, or leave it out",
        }),
        count => Ok(count.flatten()),
    }
}
