//! The stand-in for what may be between metadatad and an API: `tests/controllers/nova/front.py`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::StandIn;

/// What passes connections on to an API, late or over TLS if asked for.
#[derive(Debug)]
pub struct Front {
    stand_in: StandIn,
    directory: tempfile::TempDir,
}

impl Front {
    /// Starts it before this port of 127.0.0.1; with TLS if these files are given: its certificate and key, and the CA of the
    /// clients' certificates.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(port: u16, tls: Option<[&Path; 3]>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("metadatad-front-").tempdir().context("making a directory")?;
        let delay = directory.path().join("delay");
        fs::write(&delay, "0")?;
        let files = tls.into_iter().flatten().map(OsString::from);
        let words = [port.to_string().into(), delay.into()].into_iter().chain(files);
        Ok(Self { stand_in: StandIn::start("front", directory.path(), words)?, directory })
    }

    /// Returns its URL, without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Returns its URL, with TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port())
    }

    /// Returns its TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.stand_in.port
    }

    /// From here on, each request is passed on after this many seconds.
    ///
    /// # Errors
    /// If its directory cannot be written.
    pub fn delay(&self, seconds: f64) -> Result<()> {
        let (new, path) = (self.directory.path().join("delay.new"), self.directory.path().join("delay"));
        fs::write(&new, seconds.to_string())?;
        fs::rename(new, path).context("setting a delay")
    }
}
