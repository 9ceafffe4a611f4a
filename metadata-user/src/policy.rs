//! What an instance may do, as one value.
//!
//! The configuration says it for all instances ([`crate::config::Http::policy`] collects it from the tables that have such
//! keys), and a document for its own instance, in its member `policy`. The document's overrides are kept in the instance's
//! record, so whoever reads the store has them: `http` for each connection, and what writes the kernel's maps.
//!
//! Promises: what a document leaves out is as configured; there is no third place.
//!
//! A leaf: it uses nothing of this crate. A new member is added to both types here, to the document (`source/wire/policy`)
//! and to the configuration's table that it belongs to.

use std::num::NonZeroU32;

/// What an instance may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Connections of each of its ports at a time.
    pub connections_per_port: usize,
}

/// What a document says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyOverrides {
    /// Instead of [`Policy::connections_per_port`].
    pub connections_per_port: Option<NonZeroU32>,
}

impl Policy {
    /// Returns the policy of an instance that has these overrides.
    #[must_use]
    pub fn with(self, overrides: &PolicyOverrides) -> Self {
        // By name and without `..`: a member that is added must be overridden too.
        let PolicyOverrides { connections_per_port } = *overrides;
        Self {
            connections_per_port: connections_per_port
                .map_or(self.connections_per_port, |count| usize::try_from(count.get()).unwrap_or(usize::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_overrides_the_configuration_and_nothing_else_does() {
        let configured = Policy { connections_per_port: 512 };
        assert_eq!(configured.with(&PolicyOverrides::default()), configured);
        let overrides = PolicyOverrides { connections_per_port: NonZeroU32::new(2000) };
        assert_eq!(configured.with(&overrides), Policy { connections_per_port: 2000 });
    }
}
