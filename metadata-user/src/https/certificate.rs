//! What an operator wants to know of a certificate: when it ends, and for which addresses it is.

use std::net::IpAddr;
use std::time::SystemTime;

use x509_cert::Certificate as X509;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A certificate, as far as it is looked at here. Guests verify it, not we.
#[derive(Debug)]
pub(super) struct Certificate {
    /// When it ends.
    pub(super) not_after: SystemTime,
    /// The addresses that it is for.
    addresses: Vec<Vec<u8>>,
}

impl Certificate {
    /// Reads a certificate (DER), or says what is wrong with it.
    pub(super) fn parse(der: &[u8]) -> Result<Self, String> {
        let certificate = X509::from_der(der).map_err(|error| error.to_string())?.tbs_certificate;
        let names = certificate.get::<SubjectAltName>().map_err(|error| error.to_string())?;
        let addresses = names.into_iter().flat_map(|(_, names)| names.0).filter_map(|name| match name {
            GeneralName::IpAddress(address) => Some(address.into_bytes()),
            _ => None,
        });
        Ok(Self { not_after: certificate.validity.not_after.to_system_time(), addresses: addresses.collect() })
    }

    /// Tells whether it is for this address.
    pub(super) fn names(&self, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        self.addresses.contains(&address)
    }
}
