//! A real ovsdb-server with Open vSwitch's schema, on a node's socket. No switch runs: only the database is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::command;
use crate::fetched;
use crate::guest::{Guest, mac_text};
use crate::wait;

/// A running database. It ends with this value; its content stays in the directory.
#[derive(Debug)]
pub struct Ovsdb {
    socket: PathBuf,
    child: Child,
}

impl Ovsdb {
    /// Starts it on this socket, with what was there before if there was something.
    ///
    /// # Errors
    /// If it is not installed (`cargo xtask setup --controllers`), or does not answer.
    pub fn start(socket: &Path) -> Result<Self> {
        let directory = socket.parent().context("a socket in a directory")?;
        fs::create_dir_all(directory).context("making the database's directory")?;
        let database = directory.join("conf.db");
        if !database.exists() {
            let schema = debian()?.join("usr/share/openvswitch/vswitch.ovsschema");
            command::run(program("usr/bin/ovsdb-tool")?.arg("create").arg(&database).arg(schema), "")?;
        }
        let mut server = program("usr/sbin/ovsdb-server")?;
        server.arg(&database).arg(format!("--remote=punix:{}", socket.display())).arg("--unixctl=none");
        let log = fs::File::create(directory.join("log")).context("making the database's log")?;
        server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Self { socket: socket.to_owned(), child: server.spawn().context("starting ovsdb-server")? };
        wait::until("ovsdb-server answers", || Ok(started.run(&["--no-wait", "init"]).ok()))?;
        Ok(started)
    }

    /// Runs ovs-vsctl.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let mut vsctl = program("usr/bin/ovs-vsctl")?;
        vsctl.arg(format!("--db=unix:{}", self.socket.display())).args(["--no-wait", "--timeout=10"]).args(words);
        command::run(&mut vsctl, "")
    }

    /// Plugs a device for an instance, as os-vif does.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn plug(&self, device: &str, guest: &Guest, instance: &str) -> Result<()> {
        self.plug_as(device, guest, &[("vm-uuid", instance)])
    }

    /// Plugs a device with these keys for its instance: `vm-uuid` is os-vif's, `vm-id` libvirt's. Keys that are there
    /// already and not named stay.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn plug_as(&self, device: &str, guest: &Guest, instance: &[(&str, &str)]) -> Result<()> {
        let mut ids = vec![
            format!("external_ids:iface-id={}", guest.port()),
            format!("external_ids:attached-mac=\"{}\"", mac_text(guest.mac())),
            "external_ids:iface-status=active".to_owned(),
        ];
        ids.extend(instance.iter().map(|(key, value)| format!("external_ids:{key}={value}")));
        let mut words = vec!["--may-exist", "add-br", "br-int", "--", "--may-exist", "add-port", "br-int", device];
        words.extend(["--", "set", "Interface", device]);
        words.extend(ids.iter().map(String::as_str));
        self.run(&words).map(drop)
    }

    /// Unplugs a device.
    ///
    /// # Errors
    /// If the database refuses.
    pub fn unplug(&self, device: &str) -> Result<()> {
        self.run(&["del-port", "br-int", device]).map(drop)
    }
}

impl Drop for Ovsdb {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn debian() -> Result<PathBuf> {
    Ok(fetched::collection("controllers")?.join("debian"))
}

/// Prepares a program of Debian's Open vSwitch.
pub(crate) fn program(path: &str) -> Result<Command> {
    let debian = debian()?;
    let mut command = Command::new(debian.join(path));
    command.env("LD_LIBRARY_PATH", debian.join("usr/lib/x86_64-linux-gnu"));
    Ok(command)
}
