//! Asking Nova's metadata API for a guest, as Neutron's metadata agent does: with headers that say who asks, signed with the shared secret.
//!
//! Left out: the agent itself, which the comparison of rivals starts (`bench/scenario/peers`).

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use metadata_user::secret::Secret;
use metadata_user::secret::sign::Signer;

use crate::http::Response;

/// `metadata_proxy_shared_secret` of every Nova in the lab.
pub const SECRET: &str = "lab-shared-secret-91c2";

/// How long Nova may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest for which an agent asks.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// Its UUID.
    pub instance: &'a str,
    /// Its project's id.
    pub project: &'a str,
    /// Its address; without one Nova answers as to nobody.
    pub address: Option<&'a str>,
}

impl For<'_> {
    /// Returns the headers that an agent adds.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let signature = Signer::new(&Secret::new(SECRET.into())).sign(self.instance);
        let mut headers = vec![
            ("X-Instance-ID", self.instance.to_owned()),
            ("X-Tenant-ID", self.project.to_owned()),
            ("X-Instance-ID-Signature", signature),
        ];
        headers.extend(self.address.map(|address| ("X-Forwarded-For", address.to_owned())));
        headers
    }

    /// Reads a page: `path` begins with a slash, and Nova is on this port of the namespace's loopback interface.
    ///
    /// # Errors
    /// If there is no answer, or it is no HTTP.
    pub fn get(&self, port: u16, path: &str) -> Result<Response> {
        let headers: String = self.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: nova\r\nConnection: close\r\n{headers}\r\n");
        Response::whole(&exchange(port, request.as_bytes())?).with_context(|| format!("Nova's answer to {path}"))
    }
}

/// Sends a request after which Nova closes the connection, and returns whatever it answers.
///
/// # Errors
/// If it cannot be reached, or is silent for a minute.
pub fn exchange(port: u16, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting to Nova")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request).context("asking Nova")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("reading Nova's answer")?;
    Ok(answer)
}
