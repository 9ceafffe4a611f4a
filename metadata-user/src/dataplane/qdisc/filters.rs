//! Which filters are in an interface's qdisc, whoever put them there.

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage};

use super::super::{
    IfIndex,
    responder::{on_thread, with_netlink},
};

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dataplane) struct Filter {
    /// Its kind: `bpf`, `matchall`, …
    pub(in crate::dataplane) kind: String,
    /// Lower ones come first.
    pub(in crate::dataplane) priority: u32,
    /// Its handle, never 0.
    pub(in crate::dataplane) handle: u32,
}

/// Returns the filters of what comes in or goes out, in the kernel's order; none where there is no qdisc for them.
pub(in crate::dataplane) fn list(ifindex: IfIndex, egress: bool) -> Vec<Filter> {
    let listed = on_thread(move || {
        with_netlink(async |handle| {
            let Ok(index) = i32::try_from(ifindex.0) else { return Ok(Vec::new()) };
            let request = handle.traffic_filter(index).get();
            let request = if egress { request.egress() } else { request.ingress() };
            Ok(request.execute().try_collect::<Vec<_>>().await.unwrap_or_default())
        })
    });
    let mut filters: Vec<_> = listed.unwrap_or_default().iter().filter_map(filter).collect();
    filters.sort_by_key(|filter| filter.priority);
    filters
}

fn filter(message: &TcMessage) -> Option<Filter> {
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    })?;
    let handle = u32::from(message.header.handle);
    // The kernel lists a priority by itself too, without a handle. The lower half of its word is the protocol.
    (handle != 0).then_some(Filter { kind, priority: message.header.info >> 16, handle })
}
