//! What the daemon knows about the path of guests' requests, as the admin API shows it.

use std::collections::BTreeSet;

use super::View;
use crate::admin::wire::{ContentEvidence, Evidence, LastDrop, TapClaim};
use crate::api::{Content, Reply, Request};
use crate::clock;
use crate::clock::unix_of;
use crate::port::PortState;
use crate::record::InstanceId;

/// The document that every client reads.
const META_DATA: &str = "/openstack/latest/meta_data.json";

/// Returns everything that is known.
pub(super) fn read(view: &View) -> Evidence {
    let bound: BTreeSet<InstanceId> = view
        .kernel
        .ports()
        .into_iter()
        .filter_map(|(_, port)| match port.state {
            PortState::Bound(assignment) => Some(assignment.instance),
            _ => None,
        })
        .collect();
    let mut content = view.store.all();
    content.sort_unstable_by_key(Content::uuid);
    let claims = view
        .store
        .devices()
        .into_iter()
        .map(|(tap, instances)| TapClaim { tap, instances: instances.iter().map(ToString::to_string).collect() });
    let drops = view.drops.all().into_iter().map(|(at, drop)| LastDrop {
        ifindex: drop.ifindex.0,
        tap: drop.tap,
        reason: drop.reason.name().to_owned(),
        count: drop.count,
        mac: Some(drop.mac).filter(|mac| !mac.is_empty()),
        source: Some(drop.source).filter(|source| !source.is_empty()),
        at: unix_of(at),
    });
    Evidence {
        content: content.iter().map(|content| of(content, bound.contains(&content.uuid()))).collect(),
        claims: claims.collect(),
        drops: drops.collect(),
    }
}

fn of(content: &Content, is_bound: bool) -> ContentEvidence {
    let kind = match content {
        Content::Rendered(_) => "document",
        Content::NovaPages(_) => "nova",
    };
    let meta_data = if is_bound { status(content) } else { None };
    ContentEvidence { instance: content.uuid().to_string(), kind: kind.to_owned(), meta_data }
}

/// Asks the content as a guest would.
fn status(content: &Content) -> Option<u16> {
    let request = Request {
        method: "GET",
        target: META_DATA,
        accept: None,
        content_length: None,
        body: &[],
        today: clock::today,
        seed: &clock::seed,
    };
    match content.reply(&request) {
        Reply::Answer(answer) => Some(answer.status.code()),
        Reply::Keep(_) | Reply::Fetch(_) => None,
    }
}
