//! A real RabbitMQ: one broker of its own on 127.0.0.1, with its own epmd, cookie and data, run as the current user.
//!
//! Promises: nothing of the machine's own RabbitMQ or Erlang is used or changed; what was durable and persistent is there again after
//! [`RabbitMq::stop`] and [`RabbitMq::resume`]; everything ends with the value.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::free_ports::free_ports;
use super::supervisor::{Hang, Running, Supervisor};
use crate::command;
use crate::fetched;
use crate::tls::Tls;
use crate::wait;

/// It starts in five seconds on two idle cores.
const START: Duration = Duration::from_secs(120);

/// A broker.
#[derive(Debug)]
pub struct RabbitMq {
    ports: Ports,
    server: Mutex<Option<Running>>,
    // Ended before its directory goes.
    supervisor: Supervisor,
    directory: tempfile::TempDir,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
    amqps: u16,
    distribution: u16,
    epmd: u16,
}

impl RabbitMq {
    /// Starts one, with the user `guest`, and waits until it takes connections.
    ///
    /// # Errors
    /// If RabbitMQ is not installed (`cargo xtask setup --controllers`), or does not start; the error holds its log.
    pub fn start() -> Result<Self> {
        let broker = Self::begin(None)?;
        broker.wait_ready()?;
        Ok(broker)
    }

    /// As [`Self::start`], which listens for TLS too, with this certificate, and asks for a client's certificate.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_tls(tls: &Tls) -> Result<Self> {
        let broker = Self::begin(Some(tls))?;
        broker.wait_ready()?;
        Ok(broker)
    }

    /// Starts one, and does not wait.
    pub(super) fn begin(tls: Option<&Tls>) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("metadatad-rabbitmq-").tempdir().context("making a directory")?;
        let [amqp, amqps, distribution, epmd] = free_ports()?;
        let supervisor = Supervisor::start(&directory.path().join("supervisor.log"))?;
        let broker =
            Self { ports: Ports { amqp, amqps, distribution, epmd }, server: Mutex::default(), supervisor, directory };
        broker.configure(tls)?;
        let epmd = [program("erts/bin/epmd")?, "-address".into(), "127.0.0.1".into(), "-port".into(), epmd.to_string()];
        broker.supervisor.execute(&epmd, &broker.environment()?, &broker.path("epmd.log"))?;
        broker.spawn()?;
        Ok(broker)
    }

    /// Returns the URL of AMQP with user and password, for the virtual host `/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2F", self.ports.amqp)
    }

    /// Returns the URL of AMQP over TLS; of use after [`Self::with_tls`].
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}/%2F", self.ports.amqps)
    }

    /// Returns the TCP port of AMQP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Returns the URL as oslo.messaging has it in `transport_url`.
    #[must_use]
    pub fn transport_url(&self) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}/", self.ports.amqp)
    }

    /// Runs `rabbitmqctl`, for example `["list_queues", "name", "messages"]`, and returns what it printed. It takes a second.
    ///
    /// # Errors
    /// If it fails.
    pub fn ctl(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(program("sbin/rabbitmqctl")?);
        command.env_clear().envs(self.environment()?).arg("--quiet").args(words);
        command::run(&mut command, "")
    }

    /// Returns how many messages wait in a queue; nothing where there is no such queue.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub fn messages(&self, queue: &str) -> Result<Option<u64>> {
        let list = self.ctl(&["list_queues", "--no-table-headers", "name", "messages"])?;
        let found = list.lines().filter_map(|line| line.split_once('\t')).find(|(name, _)| *name == queue);
        Ok(found.and_then(|(_, messages)| messages.trim().parse().ok()))
    }

    /// Deletes a queue, with what is in it.
    ///
    /// # Errors
    /// If there is none.
    pub fn delete_queue(&self, queue: &str) -> Result<()> {
        self.ctl(&["delete_queue", queue]).map(drop)
    }

    /// Closes every client's connection.
    ///
    /// # Errors
    /// If `rabbitmqctl` fails.
    pub fn close_connections(&self) -> Result<()> {
        self.ctl(&["close_all_connections", "closed by a test"]).map(drop)
    }

    /// Stops it, as an operator does.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(&self) -> Result<()> {
        self.take().map_or(Ok(()), Running::end)
    }

    /// Ends it without a chance to do anything about it.
    ///
    /// # Errors
    /// If it is not gone.
    pub fn kill(&self) -> Result<()> {
        self.take().map_or(Ok(()), Running::kill)
    }

    /// Starts it again, with its data, on the same port.
    ///
    /// # Errors
    /// If it does not start.
    pub fn resume(&self) -> Result<()> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Makes it hang.
    ///
    /// # Errors
    /// If it does not run.
    pub fn hang(&self) -> Result<Hang> {
        Hang::start(self.server.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect())
    }

    /// Returns its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Returns the server's process id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).map(Running::id)
    }

    /// Waits until it takes connections.
    pub(super) fn wait_ready(&self) -> Result<()> {
        let started = wait::until_within(START, "RabbitMQ starts", || {
            let alive = self.server.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(Running::is_alive);
            anyhow::ensure!(alive, "RabbitMQ has ended");
            Ok(self.log().contains("Server startup complete").then_some(()))
        });
        started.with_context(|| self.log())
    }

    fn take(&self) -> Option<Running> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn spawn(&self) -> Result<()> {
        // Its log tells when it is ready, so it begins anew.
        let _ = fs::remove_file(self.path("log"));
        let command = [program("sbin/rabbitmq-server")?];
        let running = self.supervisor.execute(&command, &self.environment()?, &self.path("log"))?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self, tls: Option<&Tls>) -> Result<()> {
        let erlang = erlang()?;
        let (root, runtime) = (erlang.display(), runtime()?);
        // Debian's own script has the path of an installed Erlang in it.
        let erl = format!(
            "#!/bin/sh\nexport ROOTDIR='{root}' BINDIR='{runtime}/bin' EMU=beam PROGNAME=erl\nexec '{runtime}/bin/erlexec' \"$@\"\n",
            runtime = runtime.display()
        );
        fs::create_dir(self.path("bin"))?;
        fs::write(self.path("bin/erl"), erl)?;
        fs::set_permissions(self.path("bin/erl"), fs::Permissions::from_mode(0o755))?;
        let mut text = String::from("vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 1MB\n");
        if let Some(tls) = tls {
            let file = |path: &Path| path.display().to_string();
            text += &format!(
                "listeners.ssl.1 = 127.0.0.1:{}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n",
                self.ports.amqps,
                file(&tls.ca),
                file(&tls.cert),
                file(&tls.key),
            );
        }
        fs::write(self.path("rabbitmq.conf"), text).context("writing rabbitmq.conf")
    }

    fn environment(&self) -> Result<BTreeMap<String, String>> {
        let path = |name: &str| self.path(name).display().to_string();
        let programs = format!(
            "{}:{}:{}:/usr/bin:/bin",
            path("bin"),
            runtime()?.join("bin").display(),
            erlang()?.join("bin").display()
        );
        let all = [
            ("PATH", programs),
            ("HOME", path("")),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("RABBITMQ_NODENAME", "lab@localhost".to_owned()),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODE_PORT", self.ports.amqp.to_string()),
            ("RABBITMQ_DIST_PORT", self.ports.distribution.to_string()),
            ("RABBITMQ_MNESIA_BASE", path("data")),
            ("RABBITMQ_LOGS", "-".to_owned()),
            ("RABBITMQ_LOG_BASE", path("logs")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
            ("RABBITMQ_CONF_ENV_FILE", path("none")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            // The server takes the place of the script that starts it.
            ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
            // One scheduler that does not spin while it is idle.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none -noinput -kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
            ),
            ("ERL_EPMD_PORT", self.ports.epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("ESCRIPT_EMULATOR", path("bin/erl")),
        ];
        Ok(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

fn erlang() -> Result<PathBuf> {
    Ok(fetched::collection("cloud")?.join("debian/usr/lib/erlang"))
}

/// Returns the directory of Erlang's run-time system, whose name has its version.
fn runtime() -> Result<PathBuf> {
    the_one(&erlang()?, "erts-")
}

/// Returns a program: `erts/…` of Erlang's run-time system, all others of RabbitMQ.
fn program(name: &str) -> Result<String> {
    let path = match name.strip_prefix("erts/") {
        Some(name) => runtime()?.join(name),
        None => {
            the_one(&fetched::collection("cloud")?.join("debian/usr/lib/rabbitmq/lib"), "rabbitmq_server-")?.join(name)
        }
    };
    Ok(path.display().to_string())
}

fn the_one(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut found = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    Ok(found.next().with_context(|| format!("looking for {prefix}* in {}", directory.display()))?.path())
}
