//! The qdisc that a filter needs: made where there is none, and removed again only if it was made here and holds
//! no filter of another program.
//!
//! A tap gets `ingress`, whose filters are asked as clsact's are. Open vSwitch, which limits a tap's rate by a filter in an
//! `ingress` of its own, removes one that it finds there first; in front of a clsact it gives up, and the rate stays as it is.
//!
//! A filter of the other direction is not refused by `ingress`: it lands among those of what comes in. So whoever puts one there
//! asks for the kind first.

pub(super) mod filters;

use std::path::Path;

use aya::programs::tc;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle};

use super::{
    IfIndex,
    responder::{NetnsError, on_thread, with_netlink},
};
use crate::error_text;

/// Which qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Filters of both directions.
    Clsact,
    /// Filters of what comes in.
    Ingress,
}

/// Makes the qdisc unless there is one. `mark` remembers that it was made here: a directory, since a BPF file system
/// has no files.
///
/// # Errors
/// Why none could be made. Whether there is one all the same shows when a filter is put into it.
pub(super) fn make(kind: Kind, name: &str, ifindex: IfIndex, mark: &Path) -> Result<(), String> {
    let made = match kind {
        Kind::Clsact => tc::qdisc_add_clsact(name).map_err(|error| error_text::chain(&error)),
        Kind::Ingress => on_thread(move || with_netlink(async |handle| add_ingress(&handle, ifindex).await))
            .map_err(|error| error_text::chain(&error)),
    };
    match made {
        Ok(()) => {
            let _ = std::fs::create_dir(mark);
            Ok(())
        }
        // There is one.
        Err(error) if error.contains("File exists") || error.contains("xclusivity") => Ok(()),
        Err(error) => Err(error),
    }
}

async fn add_ingress(handle: &rtnetlink::Handle, ifindex: IfIndex) -> Result<(), NetnsError> {
    let Ok(index) = i32::try_from(ifindex.0) else {
        return Ok(());
    };
    let added = handle.qdisc().add(index).ingress().execute().await;
    added.map_err(|source| NetnsError::Netlink {
        doing: "add an ingress qdisc to",
        interface: format!("interface {ifindex}"),
        source,
    })
}

/// Returns which of the two an interface has; `None`: neither, or it cannot be found out. The kernel lists all interfaces' qdiscs
/// for it, as it tells nothing of these two alone.
pub(super) fn kind_of(ifindex: IfIndex) -> Option<Kind> {
    let asked = on_thread(move || with_netlink(async |handle| Ok(find_kind(&handle, ifindex).await)));
    asked.ok().flatten()
}

async fn find_kind(handle: &rtnetlink::Handle, ifindex: IfIndex) -> Option<Kind> {
    let index = i32::try_from(ifindex.0).ok()?;
    let mut listed = Box::pin(handle.qdisc().get().index(index).execute());
    let mut kind = None;
    while let Ok(Some(found)) = listed.try_next().await {
        // The parent of both kinds.
        if found.header.index == index && found.header.parent == TcHandle::INGRESS {
            kind = found.attributes.iter().find_map(|attribute| match attribute {
                TcAttribute::Kind(name) if name == "clsact" => Some(Kind::Clsact),
                TcAttribute::Kind(name) if name == "ingress" => Some(Kind::Ingress),
                _ => None,
            });
        }
    }
    kind
}

/// Removes the qdisc if it was made here and holds no filter. The mark goes with it, or with its interface.
pub(super) fn remove(ifindex: IfIndex, mark: &Path) {
    if !mark.is_dir() {
        return;
    }
    match on_thread(move || with_netlink(async |handle| remove_if_empty(&handle, ifindex).await)) {
        Ok(false) => return,
        Ok(true) => {}
        Err(error) => tracing::debug!(ifindex = ifindex.0, %error, "there is no qdisc to remove"),
    }
    let _ = std::fs::remove_dir(mark);
}

/// `false` if there are filters in it.
async fn remove_if_empty(handle: &rtnetlink::Handle, ifindex: IfIndex) -> Result<bool, NetnsError> {
    let Ok(index) = i32::try_from(ifindex.0) else {
        return Ok(true);
    };
    let filters = handle.traffic_filter(index);
    let (mut ingress, mut egress) =
        (Box::pin(filters.clone().get().ingress().execute()), Box::pin(filters.clone().get().egress().execute()));
    // A filter that cannot be read is a filter all the same.
    if !matches!(ingress.try_next().await, Ok(None)) || !matches!(egress.try_next().await, Ok(None)) {
        return Ok(false);
    }
    let mut request = handle.qdisc().del(index);
    // Both kinds have this parent.
    request.message_mut().header.parent = TcHandle::CLSACT;
    request.execute().await.map(|()| true).map_err(|source| NetnsError::Netlink {
        doing: "remove the qdisc of",
        interface: format!("interface {ifindex}"),
        source,
    })
}
