//! The document's member `policy`: read, checked, and written.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::place::Step;
use crate::policy::PolicyOverrides;

/// What this instance may do, where it differs from the node's configuration.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyDocument {
    /// Connections of each of the instance's ports at a time. Default: `http.connections_per_port` of the node's
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    connections_per_port: Option<u32>,
}

impl PolicyDocument {
    /// Returns what a record's overrides look like in a document; `None` if there are none.
    pub(super) fn of(overrides: &PolicyOverrides) -> Option<Self> {
        let PolicyOverrides { connections_per_port } = *overrides;
        let document = Self { connections_per_port: connections_per_port.map(NonZeroU32::get) };
        (document != Self::default()).then_some(document)
    }

    /// Checks the values.
    pub(super) fn overrides(self) -> Result<PolicyOverrides, Fault> {
        let connections_per_port = match self.connections_per_port.map(NonZeroU32::new) {
            Some(None) => {
                return Err(Fault {
                    path: vec![Step::from("policy"), Step::from("connections_per_port")],
                    problem: "0 connections would keep the guest from its metadata".to_owned(),
                    remedy: "set 1 or more, or leave it out",
                });
            }
            count => count.flatten(),
        };
        Ok(PolicyOverrides { connections_per_port })
    }
}
