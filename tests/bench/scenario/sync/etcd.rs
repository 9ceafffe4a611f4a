//! etcd: a put, and a bare watch of the same key by the same client library.

use std::time::Duration;

use anyhow::{Context as _, Result};
use etcd_client::{Client, EventType, WatchOptions};
use hdrhistogram::Histogram;
use lab::{Etcd, EtcdPlan, Guest, Namespace, Node, NodePlan};
use tokio::runtime::{Builder, Runtime};

use super::{Writer, changes, in_turns};
use crate::Effort;
use crate::result::Case;

const NAME: &str = "etcd";

pub(super) fn measure(effort: Effort) -> Result<Case> {
    let mut world = World::make("", 1)?;
    let seen = in_turns(
        NAME,
        effort,
        &world.guests[0],
        &mut world.writer,
        Duration::ZERO,
        bare_watch(&world.node, &world.etcd, &world.key),
    )?;
    Ok(seen.case("sync", NAME, "bare watch", "bare watch"))
}

/// A node whose documents come from an etcd of its own.
pub(super) struct World {
    /// Changes the document of the first guest.
    pub(super) writer: Writer,
    /// The key of that document.
    pub(super) key: String,
    pub(super) guests: Vec<Guest>,
    pub(super) etcd: Etcd,
    pub(super) node: Node,
}

impl World {
    /// With further configuration, and so many guests.
    pub(super) fn make(further: &str, guests: usize) -> Result<Self> {
        let plan = EtcdPlan::default().on_disk();
        let source = format!("kind = \"etcd\"\n[source.etcd]\nendpoints = {:?}\nnode = \"n\"\n", plan.endpoints());
        let further = format!("{}{further}", crate::load::UNLIMITED);
        let node = NodePlan::default().source(&source).further(&further).make()?;
        let etcd = plan.start(node.namespace())?;
        node.start_daemon()?;
        let key = |guest: &Guest| format!("/metadatad/nodes/n/instances/{}", guest.uuid());
        let boot = |place: usize| {
            let plan = node.guest(&format!("sync{place}")).document(|document| document.with_user_data(b"0"));
            let guest = plan.at_once().boot()?;
            etcd.put(&key(&guest), &guest.document().text())?;
            node.wait_bound(guest.ifindex())?;
            Ok(guest)
        };
        let guests: Vec<_> = (0..guests).map(boot).collect::<Result<_>>()?;
        let first = guests.first().context("a guest")?;
        let (key, writer) = (key(first), writer(&node, &etcd, first, &key(first)));
        Ok(Self { writer, key, guests, etcd, node })
    }
}

/// Returns what sees a batch of changes by a bare watch of the key.
pub(super) fn bare_watch(
    node: &Node,
    etcd: &Etcd,
    key: &str,
) -> impl FnMut(&Writer, u32) -> Result<Histogram<u64>> + use<> {
    let (namespace, endpoints, key) = (Namespace::existing(node.namespace().name()), etcd.endpoints(), key.to_owned());
    move |writer, first| {
        namespace.run(|| {
            let (runtime, mut client) = connect(&endpoints)?;
            let prefix = WatchOptions::new().with_prefix();
            let mut watch = runtime.block_on(client.watch(key.as_str(), Some(prefix))).context("watching")?;
            changes(writer, first, |_| {
                loop {
                    let answer = runtime.block_on(watch.message()).context("watching")?.context("the watch ended")?;
                    if answer.events().iter().any(|event| event.event_type() == EventType::Put) {
                        return Ok(());
                    }
                }
            })
        })
    }
}

/// Connects to etcd from this thread's namespace.
pub(in super::super) fn connect(endpoints: &[String]) -> Result<(Runtime, Client)> {
    let runtime = Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let client = runtime.block_on(Client::connect(endpoints, None)).context("connecting to etcd")?;
    Ok((runtime, client))
}

fn writer(node: &lab::Node, etcd: &Etcd, guest: &Guest, key: &str) -> Writer {
    let (endpoints, document, key) = (etcd.endpoints(), guest.document().clone(), key.to_owned());
    Writer::start(node.namespace(), move || {
        let (runtime, mut client) = connect(&endpoints)?;
        Ok(move |change: u32| {
            let text = document.clone().with_user_data(change.to_string().as_bytes()).text();
            runtime.block_on(client.put(key.as_str(), text, None)).map(drop).context("putting")
        })
    })
}
