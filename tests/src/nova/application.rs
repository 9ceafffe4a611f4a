//! Nova's WSGI applications under uWSGI, each with a configuration of its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Nova, Process, StandIn, configure, tool};
use crate::openstack::{Cloud, PASSWORD, USER};
use crate::wait;

/// uWSGI loads Nova in a few seconds of processor time.
const START: Duration = Duration::from_secs(300);

/// Where the targets of dynamic vendor data are in golden cases.
const TARGETS: &str = "127.0.0.1:19697";

/// One more of a [`Nova`]'s applications, on the same databases. It ends with this value.
#[derive(Debug)]
pub struct Application {
    port: u16,
    _process: Process,
}

impl Application {
    /// Returns its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns its TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A metadata application with the options of a golden case, and the services that it asks for vendor data.
#[derive(Debug)]
pub struct Configured {
    /// The application.
    pub application: Application,
    /// The same options as metadatad has them: its table `[cloud]`.
    pub cloud: String,
    /// The port of the stand-in for the services.
    pub targets: u16,
    _targets: StandIn,
}

impl Nova {
    /// Starts Nova's compute API, which has the cloud's Keystone check tokens.
    ///
    /// # Errors
    /// If it does not start.
    pub fn compute_api(&self, cloud: &Cloud) -> Result<Application> {
        let auth = cloud.auth_url();
        let options = format!(
            "[keystone_authtoken]\nwww_authenticate_uri = {auth}\ninterface = public\nauth_type = password\nauth_url = {auth}\n\
             username = {USER}\npassword = {PASSWORD}\nuser_domain_name = Default\nproject_name = admin\n\
             project_domain_name = Default\n"
        );
        self.application("compute", "nova.wsgi.osapi_compute", &options)
    }

    /// Starts the metadata application of a cell, which knows the instances of that cell only (`local_metadata_per_cell`).
    ///
    /// # Errors
    /// If it does not start.
    pub fn cell_metadata_api(&self, cell: &str) -> Result<Application> {
        let database = self.path(&format!("{cell}.sqlite"));
        let options = format!(
            "[api]\nlocal_metadata_per_cell = true\n[database]\nconnection = sqlite:///{}\n",
            database.display()
        );
        self.application(&format!("metadata-{cell}"), METADATA, &options)
    }

    /// Starts a metadata application with the options of a golden case (`config` in its facts).
    ///
    /// # Errors
    /// If it does not start, or the facts have no such options.
    pub fn configured_metadata_api(&self, facts: &Value) -> Result<Configured> {
        let config = &facts["config"];
        let (answers, file) = (self.path("targets.json"), self.path("vendordata.json"));
        fs::write(&answers, config["vendordata_dynamic_targets"].to_string())?;
        fs::write(&file, config["vendordata_static"].to_string())?;
        let targets = StandIn::start("targets", self.directory.path(), [&answers])?;
        let place = format!("127.0.0.1:{}", targets.port);
        let configured = config["vendordata_dynamic_targets"].as_array().into_iter().flatten();
        let urls = configured.filter_map(|target| Some(target["target"].as_str()?.replace(TARGETS, &place)));
        let urls: Vec<String> = urls.collect();
        let providers = config["vendordata_providers"].as_array().into_iter().flatten();
        let providers: Vec<&str> = providers.filter_map(Value::as_str).collect();
        let domain = config["dhcp_domain"].as_str().context("the facts have no dhcp_domain")?;
        let options = format!(
            "[api]\ndhcp_domain = {domain}\nvendordata_providers = {}\nvendordata_jsonfile_path = {}\n\
             vendordata_dynamic_targets = {}\n",
            providers.join(","),
            file.display(),
            urls.join(",")
        );
        let cloud = format!(
            "[cloud]\ndhcp_domain = {domain:?}\nvendordata_providers = {providers:?}\nvendordata_jsonfile_path = {file:?}\n\
             vendordata_dynamic_targets = {urls:?}\n"
        );
        let application = self.application("metadata-configured", METADATA, &options)?;
        Ok(Configured { application, cloud, targets: targets.port, _targets: targets })
    }

    fn application(&self, name: &str, module: &str, options: &str) -> Result<Application> {
        let directory = self.path(name);
        fs::create_dir_all(&directory)?;
        configure(self.directory.path(), &directory, &self.options(options))?;
        let port = free_port()?;
        Ok(Application { port, _process: serve(&directory, module, port, ["1", "4"])? })
    }
}

/// The module of the metadata application.
pub(super) const METADATA: &str = "nova.wsgi.metadata";

/// Starts an application whose configuration is in this directory, with so many processes of so many threads, and waits until it answers.
pub(super) fn serve(directory: &Path, module: &str, port: u16, [processes, threads]: [&str; 2]) -> Result<Process> {
    let log = directory.join("uwsgi.log");
    let mut command = Command::new(tool("uwsgi")?);
    command.env("OS_NOVA_CONFIG_DIR", directory).args([
        "--http-socket",
        &format!("127.0.0.1:{port}"),
        "--module",
        &format!("{module}:application"),
        "--master",
        "--processes",
        processes,
        "--threads",
        threads,
        "--enable-threads",
        "--lazy-apps",
        "--thunder-lock",
        "--die-on-term",
        "--need-app",
        "--listen",
        "100",
        "--buffer-size",
        "65535",
        "--disable-logging",
        // A client that keeps its connection would keep a worker.
        "--add-header",
        "Connection: close",
    ]);
    let process = Process::start(&mut command, &log)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answers = wait::until_within(START, "Nova answers", || {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, START) else { return Ok(None) };
        stream.set_read_timeout(Some(START))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Ok(answer.starts_with(b"HTTP/1.1 200").then_some(()))
    });
    answers.with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    Ok(process)
}

/// Returns a port without a listener.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
