//! What policies allow and guests ask for, as the admin API answers it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an instance's policy allows, and what its guest has asked for since the daemon started or its content came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceAccess {
    /// The instance.
    pub instance: String,
    /// Whether it has session tokens: `off`, `optional` or `required`.
    pub session: String,
    /// What is answered to source ports below 1024 alone, as in the configuration.
    pub privileged: Vec<String>,
    /// Requests that were answered though their source port was 1024 or above, by what they were about: root-only reading of that
    /// would refuse them. `everything` counts all.
    pub unprivileged: BTreeMap<String, u64>,
    /// Requests that were refused for that.
    pub refused_unprivileged: u64,
    /// Session tokens that were issued.
    pub tokens_issued: u64,
    /// Requests with a valid token.
    pub with_token: u64,
    /// Requests without a token, answered or not, while there are tokens.
    pub without_token: u64,
    /// Requests whose token was refused.
    pub refused_token: u64,
    /// Who came without a token, the last one first; at most 16.
    pub clients: Vec<TokenlessClient>,
    /// How many clients were forgotten for those.
    pub clients_forgotten: u64,
}

/// A client that comes without a session token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenlessClient {
    /// The first 64 bytes of its `User-Agent`, escaped as ASCII; empty if it sends none. The guest chooses it.
    pub user_agent: String,
    /// Its requests without a token.
    pub requests: u64,
    /// When it last came without a token, in seconds of Unix time.
    pub last_seen: u64,
}
