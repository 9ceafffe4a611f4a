//! Filters that other programs remove from our taps, as the kernel reports them.
//!
//! Without tcx a program lies in a queueing discipline that is not ours alone: Open vSwitch removes it from each interface
//! that it takes, and makes another one for policing. With tcx nothing of this touches the program, so there is nothing
//! to watch.
//!
//! Promises: whatever may have lost its filter is named; where events were lost, that may be every tap.

use futures_util::{StreamExt as _, stream::BoxStream};
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::NetlinkPayload,
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcHandle, TcMessage},
    },
};

use super::netlink::NetlinkError;
use crate::dataplane::{FILTER_HANDLE, FILTER_PRIORITY, IfIndex};

/// What may have lost its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// This interface.
    From(IfIndex),
    /// Any: events were lost.
    Unknown,
}

/// A watch on this namespace's filters; one without events where there is nothing to watch.
pub(super) struct Removals {
    messages: BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>,
    connection: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Removals {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
    }
}

/// Starts watching if `needed`.
///
/// # Errors
/// If there is no socket.
pub(super) fn watch(needed: bool) -> Result<Removals, NetlinkError> {
    if !needed {
        return Ok(Removals { messages: futures_util::stream::pending().boxed(), connection: None });
    }
    let (connection, _, messages) = new_multicast_connection(&[MulticastGroup::Tc]).map_err(NetlinkError::Open)?;
    let messages = messages.map(|(message, _)| message.payload).boxed();
    Ok(Removals { messages, connection: Some(tokio::spawn(connection)) })
}

impl Removals {
    /// Returns the next one. Cancel-safe.
    ///
    /// # Errors
    /// If the socket ended.
    pub(super) async fn next(&mut self) -> Result<Removal, NetlinkError> {
        loop {
            let message = self.messages.next().await.ok_or(NetlinkError::Ended)?;
            match message {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelQueueDiscipline(message))
                    // The parent of `ingress` as of clsact.
                    if message.header.parent == TcHandle::INGRESS =>
                {
                    if let Some(ifindex) = ifindex_of(&message) {
                        return Ok(Removal::From(ifindex));
                    }
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelTrafficFilter(message))
                    if may_be_ours(u32::from(message.header.handle), message.header.info) =>
                {
                    if let Some(ifindex) = ifindex_of(&message) {
                        return Ok(Removal::From(ifindex));
                    }
                }
                NetlinkPayload::Overrun(_) => return Ok(Removal::Unknown),
                _ => {}
            }
        }
    }
}

/// Tells whether a filter that was removed may be one of ours. Of Open vSwitch's, which may come and go by thousands, none has
/// our handle. Where all filters of a priority go, or all of a direction, the kernel reports each priority, without a handle.
fn may_be_ours(handle: u32, info: u32) -> bool {
    // The upper half is the priority, the lower half the protocol.
    handle == FILTER_HANDLE || (handle == 0 && info >> 16 == FILTER_PRIORITY)
}

fn ifindex_of(message: &TcMessage) -> Option<IfIndex> {
    u32::try_from(message.header.index).ok().map(IfIndex)
}
