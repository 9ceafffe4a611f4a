//! An IP address that remembers how it was written.

use std::fmt;
use std::net::{AddrParseError, IpAddr};
use std::str::FromStr;

/// An IP address with its original spelling.
///
/// An IPv6 address has many spellings, and Nova shows guests the one that was stored. Addresses of different spelling
/// are not equal here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    ip: IpAddr,
    /// Its original spelling, if that is not the canonical one (RFC 5952).
    spelling: Option<Box<str>>,
}

impl Address {
    /// Returns the address itself.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self { ip, spelling: None }
    }
}

impl FromStr for Address {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ip: IpAddr = text.parse()?;
        Ok(Self { ip, spelling: (ip.to_string() != text).then(|| text.into()) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spelling {
            Some(text) => f.write_str(text),
            None => self.ip.fmt(f),
        }
    }
}
