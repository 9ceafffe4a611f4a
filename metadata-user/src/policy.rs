//! What an instance may do, as one value.
//!
//! The configuration says it for all instances ([`crate::config::Config::policy`] collects it from the tables that have such
//! keys; the kernel's part is [`crate::config::Ports::limits`]), and a document for its own instance, in its member `policy`. The
//! document's overrides are kept in the instance's record, so whoever reads the store has them: `http` for each connection, and
//! what writes the kernel's maps.
//!
//! Promises: what a document leaves out is as configured; there is no third place.
//!
//! A leaf: it uses nothing of this crate. A new member is added to both types here, to the document (`source/wire/policy`)
//! and to the configuration's table that it belongs to.

mod port_limits;

use std::num::NonZeroU32;
use std::time::Duration;

pub use port_limits::{PortLimits, PortLimitsOverrides, Rate};

/// What an instance may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Connections of each of its ports at a time.
    pub connections_per_port: usize,
    /// What it may read, and how.
    pub access: Access,
    /// Connections of all its ports together at a time.
    pub connections_per_instance: usize,
    /// Requests of all its ports together.
    pub requests: RequestRate,
    /// What it has beyond Nova's trees. The same for all instances.
    pub extensions: Extensions,
    /// What it gets signed. The same for all instances.
    pub identity: IdentityPolicy,
}

/// What instances have beyond Nova's trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// Whether they have any of it.
    pub enabled: bool,
    /// Requests of all ports of an instance that may wait for a change at a time; 0: none does.
    pub waits_per_instance: usize,
    /// Longest time that a request waits for a change.
    pub longest_wait: Duration,
    /// Attributes that an instance may write; 0: it writes none.
    pub attributes_per_instance: usize,
}

/// What instances get signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityPolicy {
    /// Whether they get anything.
    pub enabled: bool,
    /// How long a token is valid.
    pub lifetime: Duration,
    /// Tokens and signatures of an instance per second, and at once after a pause; 1 or more.
    pub per_second: u32,
}

/// How fast an instance may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestRate {
    /// Requests per second in the long run; 0: as many as it likes.
    pub per_second: u32,
    /// Requests at once after a pause, 1 or more.
    pub burst: u32,
}

/// What a document says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyOverrides {
    /// Instead of [`Policy::connections_per_port`].
    pub connections_per_port: Option<NonZeroU32>,
    /// Instead of [`Policy::access`], member by member.
    pub access: AccessOverrides,
    /// Instead of [`crate::config::Ports::limits`], member by member.
    pub port_limits: PortLimitsOverrides,
    /// Instead of [`crate::config::Ports::impersonation_guard`].
    pub impersonation_guard: Option<bool>,
    /// Instead of [`Policy::connections_per_instance`].
    pub connections_per_instance: Option<NonZeroU32>,
    /// Instead of [`RequestRate::per_second`].
    pub requests_per_second: Option<u32>,
    /// Instead of [`RequestRate::burst`].
    pub request_burst: Option<NonZeroU32>,
}

impl Policy {
    /// Returns the policy of an instance that has these overrides.
    #[must_use]
    pub fn with(self, overrides: &PolicyOverrides) -> Self {
        // By name and without `..`: a member that is added must be overridden too.
        // What a port may send and receive is the kernel's to look after, and not of this value.
        let PolicyOverrides {
            connections_per_port,
            connections_per_instance,
            requests_per_second,
            request_burst,
            access,
            port_limits: _,
            impersonation_guard: _,
        } = *overrides;
        let count = |overridden: Option<NonZeroU32>, configured| {
            overridden.map_or(configured, |count| usize::try_from(count.get()).unwrap_or(usize::MAX))
        };
        Self {
            connections_per_port: count(connections_per_port, self.connections_per_port),
            connections_per_instance: count(connections_per_instance, self.connections_per_instance),
            requests: RequestRate {
                per_second: requests_per_second.unwrap_or(self.requests.per_second),
                burst: request_burst.map_or(self.requests.burst, NonZeroU32::get),
            },
            access: self.access.with(&access),
            extensions: self.extensions,
            identity: self.identity,
        }
    }
}

/// What an instance may read, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether it may read anything.
    pub metadata: bool,
    /// Whether it may ask over IPv6.
    pub ipv6: bool,
    /// Whether it has the EC2 tree beside OpenStack's.
    pub ec2: bool,
    /// When it may read its user data.
    pub user_data: UserData,
    /// What is answered to privileged source ports alone.
    pub privileged: PrivilegedPaths,
    /// Whether it has session tokens.
    pub session: SessionMode,
    /// The hop limit of what a connection sends once it was asked for a session token, 1 to 64.
    pub hop_limit: u8,
    /// How long after the first read its first boot lasts: see [`UserData::FirstBoot`]. The same for all instances.
    pub first_boot: Duration,
}

/// What a document says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessOverrides {
    /// Instead of [`Access::metadata`].
    pub metadata: Option<bool>,
    /// Instead of [`Access::ipv6`].
    pub ipv6: Option<bool>,
    /// Instead of [`Access::ec2`].
    pub ec2: Option<bool>,
    /// Instead of [`Access::user_data`].
    pub user_data: Option<UserData>,
    /// Instead of [`Access::privileged`].
    pub privileged: Option<PrivilegedPaths>,
    /// Instead of [`Access::session`].
    pub session: Option<SessionMode>,
    /// Instead of [`Access::hop_limit`].
    pub hop_limit: Option<u8>,
}

impl Access {
    fn with(self, overrides: &AccessOverrides) -> Self {
        let AccessOverrides { metadata, ipv6, ec2, user_data, privileged, session, hop_limit } = *overrides;
        Self {
            metadata: metadata.unwrap_or(self.metadata),
            ipv6: ipv6.unwrap_or(self.ipv6),
            ec2: ec2.unwrap_or(self.ec2),
            user_data: user_data.unwrap_or(self.user_data),
            privileged: privileged.unwrap_or(self.privileged),
            session: session.unwrap_or(self.session),
            hop_limit: hop_limit.unwrap_or(self.hop_limit),
            first_boot: self.first_boot,
        }
    }
}

impl Default for Access {
    /// As Nova: everything is answered.
    fn default() -> Self {
        Self {
            metadata: true,
            ipv6: true,
            ec2: true,
            user_data: UserData::Always,
            privileged: PrivilegedPaths::NONE,
            session: SessionMode::Off,
            hop_limit: HOP_LIMIT,
            first_boot: Duration::from_secs(15 * 60),
        }
    }
}

/// The hop limit of the responder's packets, where nothing else is said: that of Linux (`net.ipv6.conf.*.hop_limit`).
pub const HOP_LIMIT: u8 = 64;

/// Whether an instance has session tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionMode {
    /// There are none, as with Nova.
    #[default]
    Off,
    /// They are issued, and a request needs none.
    Optional,
    /// A request without one is refused.
    Required,
}

impl SessionMode {
    /// Each with its name in the configuration and in documents.
    pub const NAMES: [(&'static str, Self); 3] =
        [("off", Self::Off), ("optional", Self::Optional), ("required", Self::Required)];

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

/// A set of paths that are answered to privileged source ports alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivilegedPaths(u8);

impl PrivilegedPaths {
    /// No path.
    pub const NONE: Self = Self(0);
    /// Every path.
    pub const EVERYTHING: Self = Self(1);
    /// The user data.
    pub const USER_DATA: Self = Self(1 << 1);
    /// The password, read or posted.
    pub const PASSWORD: Self = Self(1 << 2);
    /// Dynamic vendor data, in which services put tokens, identity tokens, and `dynamic/` of the EC2 tree.
    pub const IDENTITY: Self = Self(1 << 3);
    /// The request for a session token.
    pub const TOKEN: Self = Self(1 << 4);

    /// The single ones, each with its name in the configuration and in documents.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("everything", Self::EVERYTHING),
        ("user_data", Self::USER_DATA),
        ("password", Self::PASSWORD),
        ("identity", Self::IDENTITY),
        ("token", Self::TOKEN),
    ];

    /// Returns both sets as one.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Tells whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the names of what is in this set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, one)| self.contains(*one)).map(|(name, _)| name)
    }
}

impl FromIterator<Self> for PrivilegedPaths {
    fn from_iter<T: IntoIterator<Item = Self>>(sets: T) -> Self {
        sets.into_iter().fold(Self::NONE, Self::and)
    }
}

/// When an instance may read its user data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserData {
    /// At any time.
    #[default]
    Always,
    /// Until [`Access::first_boot`] after it has first read it.
    FirstBoot,
    /// Never.
    Never,
}

impl UserData {
    /// Each with its name in the configuration and in documents.
    pub const NAMES: [(&'static str, Self); 3] =
        [("always", Self::Always), ("first-boot", Self::FirstBoot), ("never", Self::Never)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_overrides_the_configuration_and_nothing_else_does() {
        let configured = Policy {
            connections_per_port: 512,
            connections_per_instance: 1024,
            requests: RequestRate { per_second: 1000, burst: 4000 },
            access: Access::default(),
            extensions: Extensions {
                enabled: true,
                waits_per_instance: 64,
                longest_wait: Duration::from_secs(300),
                attributes_per_instance: 0,
            },
            identity: IdentityPolicy { enabled: true, lifetime: Duration::from_secs(300), per_second: 20 },
        };
        assert_eq!(configured.with(&PolicyOverrides::default()), configured);
        let overrides = PolicyOverrides {
            connections_per_port: NonZeroU32::new(2000),
            connections_per_instance: NonZeroU32::new(3000),
            requests_per_second: Some(0),
            request_burst: NonZeroU32::new(5),
            access: AccessOverrides {
                metadata: Some(false),
                ipv6: Some(false),
                ec2: Some(false),
                user_data: Some(UserData::FirstBoot),
                privileged: Some(PrivilegedPaths::TOKEN),
                session: Some(SessionMode::Required),
                hop_limit: Some(1),
            },
            port_limits: PortLimitsOverrides::default(),
            impersonation_guard: None,
        };
        let access = Access {
            metadata: false,
            ipv6: false,
            ec2: false,
            user_data: UserData::FirstBoot,
            privileged: PrivilegedPaths::TOKEN,
            session: SessionMode::Required,
            hop_limit: 1,
            first_boot: configured.access.first_boot,
        };
        let expected = Policy {
            connections_per_port: 2000,
            connections_per_instance: 3000,
            requests: RequestRate { per_second: 0, burst: 5 },
            access,
            extensions: configured.extensions,
            identity: configured.identity,
        };
        assert_eq!(configured.with(&overrides), expected);
    }

    #[test]
    fn sets_of_paths_are_what_they_are_made_of() {
        assert_eq!(PrivilegedPaths::NONE.names().count(), 0);
        for (name, one) in PrivilegedPaths::NAMES {
            assert_eq!(one.names().collect::<Vec<_>>(), [name]);
        }
        let two: PrivilegedPaths = [PrivilegedPaths::TOKEN, PrivilegedPaths::USER_DATA].into_iter().collect();
        assert_eq!(two.names().collect::<Vec<_>>(), ["user_data", "token"]);
        assert!(two.contains(PrivilegedPaths::TOKEN) && !two.contains(PrivilegedPaths::EVERYTHING));
    }
}
