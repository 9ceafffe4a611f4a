//! Links, as the kernel reports them.
//!
//! Promises: events come in the kernel's order; where some were lost, a complete list comes instead; after [`Links::settle`],
//! [`LinkEvent::Settled`] comes when everything has come that happened before.

use std::io;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream::BoxStream};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::NetlinkPayload,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{LinkAttribute, LinkMessage},
    },
    sys::AsyncSocket as _,
};

use crate::dataplane::IfIndex;

/// Bytes that events may take in the kernel until they are read: some ten thousand of them, a node's whole set of taps
/// coming up at once.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub ifindex: IfIndex,
    /// Its name.
    pub name: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link is new, or has changed.
    Changed(Link),
    /// A link is gone, or has moved to another namespace.
    Gone(IfIndex),
    /// Events were lost; these are all links.
    Resync(Vec<Link>),
    /// What had happened when it was asked for ([`Links::settle`]) has come.
    Settled,
}

/// Why links cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket for link events")]
    Open(#[source] io::Error),
    /// No list.
    #[error("cannot list the links")]
    List(#[source] rtnetlink::Error),
    /// The socket ended.
    #[error("the netlink socket for link events ended")]
    Ended,
}

/// A watch on this namespace's links.
pub struct Links {
    handle: Handle,
    messages: BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>,
    connection: tokio::task::JoinHandle<()>,
    /// The list that replaces lost events. Kept until it is whole: the kernel refuses a second one on this socket
    /// while one is under way.
    listing: Option<BoxFuture<'static, Result<Vec<Link>, NetlinkError>>>,
    /// A question whose answer the kernel puts behind the events so far, on the same socket.
    question: Option<BoxFuture<'static, ()>>,
    /// It is answered: what is left to come has been received.
    answered: bool,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Starts watching, and returns all links. What changes in between comes as an event.
///
/// # Errors
/// See [`NetlinkError`].
pub async fn watch() -> Result<(Links, Vec<Link>), NetlinkError> {
    let (mut connection, handle, messages) =
        new_multicast_connection(&[MulticastGroup::Link]).map_err(NetlinkError::Open)?;
    // Needs CAP_NET_ADMIN to go over the system's limit; less only means an earlier resync.
    let _ = socket2::SockRef::from(&std::os::fd::AsFd::as_fd(connection.socket_mut().socket_mut()))
        .set_recv_buffer_size(RECEIVE_BUFFER);
    let messages = messages.map(|(message, _)| message.payload).boxed();
    let links = Links {
        handle,
        messages,
        connection: tokio::spawn(connection),
        listing: None,
        question: None,
        answered: false,
    };
    let first = list(links.handle.clone()).await?;
    Ok((links, first))
}

impl Links {
    /// Asks for [`LinkEvent::Settled`]; once, however often it is called meanwhile.
    pub fn settle(&mut self) {
        // Any link will do, also one that is not there.
        let asked = self.handle.link().get().match_index(1).execute();
        self.question = Some(asked.into_future().map(drop).boxed());
        self.answered = false;
    }

    /// Returns the next message; `None`: it is settled.
    async fn message(&mut self) -> Result<Option<NetlinkPayload<RouteNetlinkMessage>>, NetlinkError> {
        if self.question.is_none() && !self.answered {
            return self.messages.next().await.map(Some).ok_or(NetlinkError::Ended);
        }
        if let Some(question) = &mut self.question {
            tokio::select! {
                biased;
                message = self.messages.next() => return message.map(Some).ok_or(NetlinkError::Ended),
                () = question => {}
            }
            (self.question, self.answered) = (None, true);
        }
        match self.messages.next().now_or_never() {
            Some(message) => message.map(Some).ok_or(NetlinkError::Ended),
            None => {
                self.answered = false;
                Ok(None)
            }
        }
    }

    /// Returns the next event. Cancel-safe: the next call continues a list that was not finished.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub async fn next(&mut self) -> Result<LinkEvent, NetlinkError> {
        loop {
            if let Some(listing) = &mut self.listing {
                let links = listing.await;
                self.listing = None;
                return links.map(LinkEvent::Resync);
            }
            let Some(message) = self.message().await? else {
                return Ok(LinkEvent::Settled);
            };
            match message {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
                    if let Some(link) = link_of(&message) {
                        return Ok(LinkEvent::Changed(link));
                    }
                }
                // A bridge also says so when a port leaves it, under its own family: then the link itself stays.
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))
                    if message.header.interface_family == AddressFamily::Unspec =>
                {
                    return Ok(LinkEvent::Gone(IfIndex(message.header.index)));
                }
                NetlinkPayload::Overrun(_) => {
                    tracing::warn!("link events were lost; listing all links again");
                    self.listing = Some(list(self.handle.clone()).boxed());
                }
                _ => {}
            }
        }
    }
}

async fn list(handle: Handle) -> Result<Vec<Link>, NetlinkError> {
    handle
        .link()
        .get()
        .execute()
        .try_filter_map(async |message| Ok(link_of(&message)))
        .try_collect()
        .await
        .map_err(NetlinkError::List)
}

fn link_of(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(Link { ifindex: IfIndex(message.header.index), name: name.clone() }),
        _ => None,
    })
}
