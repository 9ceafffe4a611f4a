//! The node of a soak, its etcd, and its guests: some that stay as they are and read all the time, and some whose ports come, go and
//! are rebound.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::reader::{PATH, Reader};
use super::writer::{Change, NODE, Writer};
use crate::document::Document;
use crate::etcd::{Etcd, EtcdPlan};
use crate::guest::Guest;
use crate::node::{Node, NodePlan};
use crate::wait;

/// How often each kind of thing was done.
pub(super) type Tally = BTreeMap<&'static str, u64>;

/// A guest that reads all the time.
#[derive(Debug)]
pub(super) struct Steady {
    pub(super) guest: Guest,
    generation: u64,
    pub(super) reader: Option<Reader>,
}

/// A guest whose port is rebound, and comes and goes.
#[derive(Debug)]
pub(super) struct Mover {
    pub(super) guest: Guest,
    /// The document of its port now.
    pub(super) document: Document,
}

/// All of it. Guests go before their node.
#[derive(Debug)]
pub(super) struct World {
    pub(super) steady: Vec<Steady>,
    pub(super) movers: Vec<Mover>,
    writer: Writer,
    pub(super) etcd: Etcd,
    pub(super) node: Node,
    audit: tempfile::TempDir,
    /// Instances that were made.
    instances: u64,
    /// Kills since the readers were started.
    kills: u64,
    pub(super) reloads: u64,
    pub(super) tally: Tally,
}

impl World {
    /// Makes all of it; the daemon runs.
    pub(super) fn new(steady: usize, movers: usize) -> Result<Self> {
        let etcd = EtcdPlan::default().argument("--log-level=error");
        let source = format!(
            "kind = \"etcd\"\n[source.etcd]\nendpoints = {:?}\nnode = \"{NODE}\"\nrequest_timeout = \"1s\"\n",
            etcd.endpoints()
        );
        let audit = tempfile::Builder::new().prefix("metadatad-audit-").tempdir().context("making a directory")?;
        let further = format!(
            "[audit]\nto = \"file\"\npath = \"{}\"\nrotate_size = 1\nrotate_keep = 2\n\n\
             [metrics]\nlisten = \"127.0.0.1:9169\"\n\n[access]\nsession = \"optional\"\n\n\
             [http]\nidle_timeout = \"30s\"\nrequest_timeout = \"10s\"\nrequests_per_second = 0\n\n",
            audit.path().join("audit.jsonl").display()
        );
        let ports = "impersonation_guard = true\nguard = \"xdp\"\n";
        let node = NodePlan::default().source(&source).ports(ports).further(&further).keeps_sockets().make()?;
        let etcd = etcd.start(node.namespace())?;
        let writer = Writer::start(node.namespace(), etcd.endpoints())?;
        node.start_daemon()?;
        // What a daemon writes when it ends is there from the beginning, as for every other but the node's first.
        node.stop_daemon()?;
        node.start_daemon()?;
        let mut world = Self {
            steady: Vec::new(),
            movers: Vec::new(),
            writer,
            etcd,
            node,
            audit,
            instances: 0,
            kills: 0,
            reloads: 0,
            tally: Tally::new(),
        };
        for number in 0..steady {
            let guest = world.boot(&format!("steady-{number}"))?;
            world.steady.push(Steady { guest, generation: 0, reader: None });
        }
        for number in 0..movers {
            let guest = world.boot(&format!("mover-{number}"))?;
            let document = guest.document().clone();
            world.movers.push(Mover { guest, document });
        }
        Ok(world)
    }

    fn boot(&mut self, name: &str) -> Result<Guest> {
        let body = user_data(name, 0);
        let plan = self.node.guest(name).document(|document| document.with_user_data(body.as_bytes()));
        let guest = plan.undocumented().boot()?;
        self.write(vec![Change::Put(guest.document().clone())])?;
        self.node.wait_bound(guest.ifindex())?;
        Ok(guest)
    }

    /// Counts what was done.
    pub(super) fn count(&mut self, what: &'static str, times: usize) {
        *self.tally.entry(what).or_default() += times as u64;
    }

    /// Writes documents, and counts them.
    pub(super) fn write(&mut self, changes: Vec<Change>) -> Result<()> {
        let deleted = changes.iter().filter(|change| matches!(change, Change::Delete(_))).count();
        self.count("documents deleted", deleted);
        self.count("documents written", changes.len() - deleted);
        self.writer.write(changes)
    }

    /// Writes a document, without counting it.
    pub(super) fn put(&self, document: Document) -> Result<()> {
        self.writer.write(vec![Change::Put(document)])
    }

    /// Returns an instance that was never there before.
    pub(super) fn new_instance(&mut self) -> String {
        self.instances += 1;
        format!("{:08x}-0000-4000-a000-000000000000", self.instances)
    }

    /// Changes the user data of all steady guests in one step, and waits until each reads its own.
    pub(super) fn change_documents(&mut self) -> Result<()> {
        let mut changes = Vec::new();
        for steady in &mut self.steady {
            steady.generation += 1;
            let body = user_data(steady.guest.name(), steady.generation);
            if let Some(reader) = &steady.reader {
                reader.allow(&body);
            }
            changes.push(Change::Put(steady.guest.document().clone().with_user_data(body.as_bytes())));
        }
        self.write(changes)?;
        for steady in &self.steady {
            let body = user_data(steady.guest.name(), steady.generation);
            wait::until(&format!("{} reads its new user data", steady.guest.name()), || {
                let answer = steady.guest.get(PATH)?;
                Ok((answer.status == 200 && answer.text() == body).then_some(()))
            })?;
            if let Some(reader) = &steady.reader {
                reader.only(&body);
            }
        }
        Ok(())
    }

    /// Has all steady guests read, from here on.
    pub(super) fn start_readers(&mut self) -> Result<()> {
        self.kills = 0;
        for steady in &mut self.steady {
            let body = user_data(steady.guest.name(), steady.generation);
            steady.reader = Some(Reader::start(&steady.guest, &body)?);
        }
        Ok(())
    }

    /// Notes that the daemon was killed.
    pub(super) fn killed(&mut self) {
        self.kills += 1;
    }

    /// Waits until every reader has had answers since.
    pub(super) fn readers_go_on(&self) -> Result<()> {
        self.steady.iter().filter_map(|steady| steady.reader.as_ref()).try_for_each(|reader| reader.wait_for(3))
    }

    /// Ends the readers, and waits until no guest has a connection.
    pub(super) fn quiet(&mut self) -> Result<()> {
        for place in 0..self.steady.len() {
            if let Some(reader) = self.steady[place].reader.take() {
                let read = reader.finish(self.kills)?;
                self.count("requests of the readers", usize::try_from(read.asked)?);
                self.count("requests cut by a kill", usize::try_from(read.cut)?);
            }
        }
        wait::until("no guest has a connection", || Ok((self.node.status()?["http"]["open"] == 0).then_some(())))
    }

    /// Returns the audit log's files.
    pub(super) fn audit_files(&self) -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(self.audit.path()).context("reading the directory of the audit log")?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    }

    /// Waits until the source is in step.
    pub(super) fn source_is_well(&self) -> Result<()> {
        self.wait_source("etcd is followed", |state| {
            state["error"].is_null() && state["lagging_since"].is_null() && !state["synced_at"].is_null()
        })
    }

    /// Waits until the source's state is such.
    pub(super) fn wait_source(&self, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
        wait::until(what, || Ok(is(&self.node.source()?).then_some(())))
    }
}

/// What a guest reads in a generation of its document.
fn user_data(name: &str, generation: u64) -> String {
    format!("{name} {generation:08}")
}
