//! The history of boots as the admin API shows it: links and requests joined by the ports of now.

use std::collections::BTreeSet;

use super::View;
use crate::admin::wire::{BootRead, BootShown, PortBoots};
use crate::boots::{Asked, Beginning, Boot, LinkTimes, Observed, judge};
use crate::clock;
use crate::metrics::state::BOOT_OUTCOMES;
use crate::port::PortState;
use crate::record::InstanceId;

/// Returns the boots of every port, and of bindings that are gone, by instance and tap.
pub(super) fn read(view: &View) -> Vec<PortBoots> {
    let (boots, now) = (view.guests.boots(), clock::unix_millis());
    let (mut all, mut tags) = (Vec::new(), BTreeSet::new());
    for (ifindex, port) in view.kernel.ports() {
        let tag = port.tag.map(|tag| tag.0);
        tags.extend(tag);
        let instance = instance(&port.state);
        let known = tag.and_then(|tag| boots.of_instance(tag, instance)).map(|history| history.view());
        let link = boots.links.get(ifindex.0);
        let shown = shown(known.as_ref().map_or(&[][..], |(_, boots)| boots), link, now);
        all.push(PortBoots { instance: instance.map(|id| id.to_string()), tap: Some(port.name), boots: shown });
    }
    for tag in boots.tags().into_iter().filter(|tag| !tags.contains(tag)) {
        let Some((Some(instance), former)) = boots.known(tag).map(|history| history.view()) else { continue };
        let shown = shown(&former, None, now);
        all.push(PortBoots { instance: Some(instance.to_string()), tap: None, boots: shown });
    }
    all.sort_by(|one, other| (&one.instance, &one.tap).cmp(&(&other.instance, &other.tap)));
    all
}

fn instance(state: &PortState) -> Option<InstanceId> {
    match state {
        PortState::Bound(assignment) => Some(assignment.instance),
        _ => None,
    }
}

/// Returns how many ports' last boots have each outcome.
pub(super) fn by_outcome(view: &View) -> [usize; BOOT_OUTCOMES.len()] {
    let (boots, now) = (view.guests.boots(), clock::unix_millis());
    let mut counts = [0; BOOT_OUTCOMES.len()];
    for (ifindex, port) in view.kernel.ports() {
        let known = port.tag.and_then(|tag| boots.of_instance(tag.0, instance(&port.state)));
        let known = known.map(|history| history.view());
        let boot = known.as_ref().and_then(|(_, boots)| boots.first());
        let (outcome, _) = judge(&Observed { boot, link: boots.links.get(ifindex.0), is_latest: true, now });
        counts[outcome as usize] += 1;
    }
    counts
}

/// Returns boots as they are shown, the latest first: one of which nothing but its link is known, if nothing was asked.
fn shown(boots: &[Boot], link: Option<LinkTimes>, now: u64) -> Vec<BootShown> {
    let nothing = [Boot::default()];
    let boots = if boots.is_empty() { &nothing } else { boots };
    boots
        .iter()
        .enumerate()
        .map(|(place, boot)| one(boot, if place == 0 { link } else { None }, place == 0, now))
        .collect()
}

fn one(boot: &Boot, link: Option<LinkTimes>, is_latest: bool, now: u64) -> BootShown {
    let (outcome, reason) = judge(&Observed { boot: Some(boot), link, is_latest, now });
    // A guest that restarted inside its machine did not take the link down.
    let link = link.filter(|_| boot.beginning != Beginning::Silence);
    let client = |place: Option<u8>| boot.clients.get(usize::from(place?)).map(|client| client.as_str().to_owned());
    let reads = boot.reads.iter().map(|read| BootRead {
        path: read.path.as_str().to_owned(),
        at: read.first_at,
        last_at: read.last_at,
        count: read.count,
        status: read.status,
        client: client(read.client).filter(|client| !client.is_empty()),
    });
    BootShown {
        outcome: outcome.name().to_owned(),
        reason,
        began: match boot.beginning {
            Beginning::Binding => "binding",
            Beginning::Link => "link",
            Beginning::Silence => "silence",
        }
        .to_owned(),
        link_up_at: link.and_then(|link| link.up_at),
        asked_at: link.and_then(|link| match link.asked {
            Asked::At(at) => Some(at),
            Asked::Never | Asked::Before => None,
        }),
        connected_at: boot.connected_at,
        last_at: Some(boot.last_at).filter(|at| *at > 0),
        requests: boot.requests,
        early: boot.early,
        left_out: boot.left_out,
        reads: reads.collect(),
    }
}
