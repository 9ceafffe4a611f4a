//! How fast a port may send to the metadata addresses.

use std::num::NonZeroU32;

/// What a port may send to the metadata addresses, IPv4 and IPv6 together. The programs in the kernel keep to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortLimits {
    /// First segments of connections.
    pub new_connections: Rate,
    /// Packets of every kind, first segments too.
    pub packets: Rate,
}

/// How much in a second, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// For each second; 0: no limit.
    pub per_second: u32,
    /// At once, after a time without any.
    pub burst: NonZeroU32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { per_second: 0, burst: NonZeroU32::MIN };

    fn with(self, per_second: Option<u32>, burst: Option<NonZeroU32>) -> Self {
        Self { per_second: per_second.unwrap_or(self.per_second), burst: burst.unwrap_or(self.burst) }
    }
}

/// What a document says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortLimitsOverrides {
    /// Instead of [`PortLimits::new_connections`]' rate.
    pub new_connections_per_second: Option<u32>,
    /// Instead of its burst.
    pub new_connections_burst: Option<NonZeroU32>,
    /// Instead of [`PortLimits::packets`]' rate.
    pub packets_per_second: Option<u32>,
    /// Instead of its burst.
    pub packets_burst: Option<NonZeroU32>,
}

impl PortLimits {
    /// No limit.
    pub const NONE: Self = Self { new_connections: Rate::UNLIMITED, packets: Rate::UNLIMITED };

    /// The largest rate and burst that can be written: a packet for each microsecond.
    pub const MOST: u32 = 1_000_000;

    /// Tells whether there is any limit.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.new_connections.per_second != 0 || self.packets.per_second != 0
    }

    /// Returns the limits of a port of an instance that has these overrides.
    #[must_use]
    pub fn with(self, overrides: &PortLimitsOverrides) -> Self {
        // By name and without `..`: a member that is added must be overridden too.
        let PortLimitsOverrides {
            new_connections_per_second,
            new_connections_burst,
            packets_per_second,
            packets_burst,
        } = *overrides;
        Self {
            new_connections: self.new_connections.with(new_connections_per_second, new_connections_burst),
            packets: self.packets.with(packets_per_second, packets_burst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second, burst: NonZeroU32::new(burst).expect("not 0") }
    }

    #[test]
    fn a_document_overrides_rate_and_burst_by_themselves() {
        let configured = PortLimits { new_connections: rate(10, 20), packets: rate(100, 200) };
        assert_eq!(configured.with(&PortLimitsOverrides::default()), configured);
        let overrides = PortLimitsOverrides {
            new_connections_per_second: Some(0),
            packets_burst: NonZeroU32::new(7),
            ..PortLimitsOverrides::default()
        };
        let expected = PortLimits { new_connections: rate(0, 20), packets: rate(100, 7) };
        assert_eq!(configured.with(&overrides), expected);
        let overrides = PortLimitsOverrides {
            new_connections_burst: NonZeroU32::new(3),
            packets_per_second: Some(9),
            ..PortLimitsOverrides::default()
        };
        assert_eq!(configured.with(&overrides), PortLimits { new_connections: rate(10, 3), packets: rate(9, 200) });
    }
}
