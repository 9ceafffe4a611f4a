//! Which links have a carrier, as the kernel reports it: for the history of boots, and nothing else waits for it.
//!
//! Promises: where events were lost, [`CarrierEvent::Lost`] comes instead; what was missed is then as if it had not been.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use rtnetlink::{
    MulticastGroup, new_multicast_connection, packet_core::NetlinkPayload, packet_route::AddressFamily,
    packet_route::RouteNetlinkMessage,
};

use super::look::{self, LinkView};
use super::netlink::NetlinkError;
use crate::dataplane::IfIndex;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CarrierEvent {
    /// A link is new, or has changed.
    Changed(LinkView),
    /// A link is gone.
    Gone(IfIndex),
    /// Events were lost.
    Lost,
}

/// A watch on this namespace's links.
pub struct Carriers {
    messages: BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>,
    connection: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for Carriers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carriers").finish_non_exhaustive()
    }
}

impl Drop for Carriers {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Carriers {
    /// Starts watching, and returns all links. What changes in between comes as an event.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub async fn watch() -> Result<(Self, Vec<LinkView>), NetlinkError> {
        let (connection, _, messages) =
            new_multicast_connection(&[MulticastGroup::Link]).map_err(NetlinkError::Open)?;
        let messages = messages.map(|(message, _)| message.payload).boxed();
        let watch = Self { messages, connection: tokio::spawn(connection) };
        Ok((watch, look::links().await?))
    }

    /// Returns the next event. Cancel-safe.
    ///
    /// # Errors
    /// If the socket ended.
    pub async fn next(&mut self) -> Result<CarrierEvent, NetlinkError> {
        loop {
            match self.messages.next().await.ok_or(NetlinkError::Ended)? {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
                    if let Some(link) = look::link(&message) {
                        return Ok(CarrierEvent::Changed(link));
                    }
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))
                    if message.header.interface_family == AddressFamily::Unspec =>
                {
                    return Ok(CarrierEvent::Gone(IfIndex(message.header.index)));
                }
                NetlinkPayload::Overrun(_) => return Ok(CarrierEvent::Lost),
                _ => {}
            }
        }
    }
}
