//! Feeds the history of boots with what requests do not show: links that come up, and the kernel programs' counters.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::kernel::Kernel;
use crate::boots::{Boots, LinkState};
use crate::clock;
use crate::config;
use crate::dataplane::IfIndex;
use crate::error_text;
use crate::metrics;
use crate::port::carrier::{CarrierEvent, Carriers};
use crate::port::look::{self, LinkView};
use crate::port::netlink::NetlinkError;
use crate::readiness::Readiness;

/// How often the counters are read of ports whose guest has not asked yet: a microsecond for each.
const LOOK: Duration = Duration::from_secs(1);

/// How often boots whose outcome has become final are counted.
const COUNT: Duration = Duration::from_secs(5);

/// Follows links and counters for as long as it is polled. Guests are answered whether it works or not.
pub(super) async fn follow(
    boots: Arc<Boots>,
    ports: config::Ports,
    kernel: Kernel,
    counters: metrics::Boots,
    readiness: Readiness,
) {
    let counting = count(&boots, &kernel, &counters, &readiness);
    let watching = async {
        if let Err(error) = watch(&boots, &ports, &kernel, &readiness).await {
            let error = error_text::chain(&error);
            warn!(error, "boots are shown without the times of their links: these cannot be watched");
        }
    };
    tokio::join!(counting, watching);
}

/// Counts boots as their outcomes become final.
async fn count(boots: &Boots, kernel: &Kernel, counters: &metrics::Boots, readiness: &Readiness) {
    // Until then a binding that is not shown may not have ended.
    readiness.not_waiting_for("ports").await;
    let mut look = interval(COUNT);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let ports: Vec<_> =
            kernel.ports().into_iter().map(|(ifindex, port)| (ifindex.0, port.tag.map(|tag| tag.0))).collect();
        for outcome in boots.settle(&ports, clock::unix_millis()) {
            if let Some(counter) = counters.of(outcome.name()) {
                counter.inc();
            }
        }
    }
}

async fn watch(
    boots: &Boots,
    ports: &config::Ports,
    kernel: &Kernel,
    readiness: &Readiness,
) -> Result<(), NetlinkError> {
    let (mut carriers, links) = Carriers::watch().await?;
    // Until then not every tap's binding is known. Events wait.
    readiness.not_waiting_for("ports").await;
    for link in links.iter().filter(|link| ports.matches(&link.name)) {
        if boots.links.found(state(link), kernel.questions(link.ifindex), clock::unix_millis()) {
            came_up(boots, kernel, link);
        }
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

/// Records the state of a link.
fn changed(boots: &Boots, ports: &config::Ports, kernel: &Kernel, link: &LinkView) {
    if ports.matches(&link.name)
        && boots.links.changed(state(link), || kernel.questions(link.ifindex), clock::unix_millis())
    {
        came_up(boots, kernel, link);
    }
}

fn came_up(boots: &Boots, kernel: &Kernel, link: &LinkView) {
    if let Some(history) = kernel.tag_of(link.ifindex).and_then(|tag| boots.known(tag.0)) {
        history.link_up();
    }
}

fn state(link: &LinkView) -> LinkState {
    LinkState { ifindex: link.ifindex.0, has_carrier: link.has_carrier, carrier_ups: link.carrier_ups }
}
