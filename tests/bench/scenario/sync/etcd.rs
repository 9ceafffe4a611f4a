//! etcd: a put, and a bare watch of the same key by the same client library.

use anyhow::{Context as _, Result};
use etcd_client::{Client, EventType, WatchOptions};
use lab::{Etcd, EtcdPlan, Guest, NodePlan};
use tokio::runtime::{Builder, Runtime};

use super::{Writer, changes, in_turns};
use crate::Effort;
use crate::result::Case;

const NAME: &str = "etcd";

pub(super) fn measure(effort: Effort) -> Result<Case> {
    let plan = EtcdPlan::default();
    let source = format!("kind = \"etcd\"\n[source.etcd]\nendpoints = {:?}\nnode = \"n\"\n", plan.endpoints());
    let node = NodePlan::default().source(&source).further(crate::load::UNLIMITED).make()?;
    let etcd = plan.start(node.namespace())?;
    node.start_daemon()?;
    let guest = node.guest("sync").document(|document| document.with_user_data(b"0")).at_once().boot()?;
    let key = format!("/metadatad/nodes/n/instances/{}", guest.uuid());
    etcd.put(&key, &guest.document().text())?;
    node.wait_bound(guest.ifindex())?;
    let mut writer = writer(&node, &etcd, &guest, &key);
    let endpoints = etcd.endpoints();
    let seen = in_turns(NAME, effort, &guest, &mut writer, std::time::Duration::ZERO, |writer, first| {
        node.namespace().run(|| {
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
    })?;
    Ok(seen.case("sync", NAME, "bare watch", "bare watch"))
}

fn connect(endpoints: &[String]) -> Result<(Runtime, Client)> {
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
