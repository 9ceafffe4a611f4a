//! Feeds the history of boots with what requests do not show: links that come up, and the kernel programs' counters.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::kernel::Kernel;
use crate::boots::Boots;
use crate::clock;
use crate::config;
use crate::dataplane::IfIndex;
use crate::error_text;
use crate::port::carrier::{CarrierEvent, Carriers};
use crate::port::look::{self, LinkView};
use crate::port::netlink::NetlinkError;

/// How often the counters are read of ports whose guest has not asked yet: a microsecond for each.
const LOOK: Duration = Duration::from_secs(1);

/// Follows links and counters for as long as it is polled. Guests are answered whether it works or not.
pub(super) async fn follow(boots: Arc<Boots>, ports: config::Ports, kernel: Kernel) {
    if let Err(error) = watch(&boots, &ports, &kernel).await {
        let error = error_text::chain(&error);
        warn!(error, "boots are shown without the times of their links: these cannot be watched");
    }
}

async fn watch(boots: &Boots, ports: &config::Ports, kernel: &Kernel) -> Result<(), NetlinkError> {
    let (mut carriers, links) = Carriers::watch().await?;
    for link in links.iter().filter(|link| ports.matches(&link.name)) {
        boots.links.found(link.ifindex.0, link.has_carrier, kernel.questions(link.ifindex), clock::unix_millis());
    }
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = carriers.next() => match event? {
                CarrierEvent::Changed(link) => changed(boots, ports, kernel, &link),
                CarrierEvent::Gone(ifindex) => boots.links.gone(ifindex.0),
                CarrierEvent::Lost => {
                    let links = look::links().await?;
                    boots.links.retain(|ifindex| links.iter().any(|link| link.ifindex.0 == ifindex));
                    links.iter().for_each(|link| changed(boots, ports, kernel, link));
                }
            },
            _ = look.tick() => boots.links.look(clock::unix_millis(), |ifindex| kernel.questions(IfIndex(ifindex))),
        }
    }
}

/// Notes the state of a link.
fn changed(boots: &Boots, ports: &config::Ports, kernel: &Kernel, link: &LinkView) {
    if ports.matches(&link.name)
        && boots.links.changed(
            link.ifindex.0,
            link.has_carrier,
            || kernel.questions(link.ifindex),
            clock::unix_millis(),
        )
        && let Some(history) = kernel.tag_of(link.ifindex).and_then(|tag| boots.known(tag.0))
    {
        history.link_up();
    }
}
