//! Links as they are now, for commands.

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::{
    AddressFamily,
    link::{LinkAttribute, LinkFlags, LinkMessage},
};

use super::netlink::NetlinkError;
use crate::dataplane::IfIndex;

/// A link of the caller's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// Its index.
    pub ifindex: IfIndex,
    /// Its name.
    pub name: String,
    /// Whether it is up, as far as the node decides that.
    pub is_up: bool,
    /// Whether it has a carrier: on a tap, a running guest.
    pub has_carrier: bool,
    /// How often it got its carrier (`IFLA_CARRIER_UP_COUNT`).
    pub carrier_ups: u32,
}

/// Lists all links.
///
/// # Errors
/// See [`NetlinkError`].
pub async fn links() -> Result<Vec<LinkView>, NetlinkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    let connection = tokio::spawn(connection);
    let listed: Result<Vec<_>, _> = handle.link().get().execute().try_collect().await;
    connection.abort();
    Ok(listed.map_err(NetlinkError::List)?.iter().filter_map(link).collect())
}

/// Reads a message about a link; `None` if it is about something else of it.
pub(super) fn link(message: &LinkMessage) -> Option<LinkView> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let carrier_ups = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::CarrierUpCount(count) => Some(*count),
        _ => None,
    });
    let flags = message.header.flags;
    Some(LinkView {
        ifindex: IfIndex(message.header.index),
        name,
        is_up: flags.contains(LinkFlags::Up),
        has_carrier: flags.contains(LinkFlags::LowerUp),
        carrier_ups: carrier_ups.unwrap_or_default(),
    })
}
