//! Accepts guests' connections, and finds the binding that each is from.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metadata_ebpf::addr::{Family, IdentityAddress};

use super::access::Guest;
use super::connection::{self, Cut, Place};
use super::limit::{Most, Permit};
use super::progress::Progress;
use super::recheck::Rechecks;
use super::socket::{Listener, Socket};
use super::terms::Terms;
use super::turns::Turns;
use super::{Guests, Refusal, record};
use crate::clock;
use crate::drain::Drain;
use crate::https::Https;
use crate::identity::Tag;
use crate::server;

/// Connections of a port that may each have as much of an answer in the kernel as the namespace's `tcp_wmem` says.
const CROWD: usize = 64;

/// Send buffer of those beyond, which the kernel doubles: with all its 512 connections, a port that takes no answer holds
/// 46 MB in the kernel: 288 KiB for each of 64 and 64 KiB for each other, receive buffers included.
const CROWDED: usize = 16 << 10;

/// The sockets that a thread accepts guests' connections on.
#[derive(Debug)]
pub struct Listeners {
    /// For http.
    pub plain: std::net::TcpListener,
    /// For https, and the certificate.
    pub tls: Option<(std::net::TcpListener, Arc<Https>)>,
}

/// Accepts connections until the drain refuses them. The sockets stay open then, so that what their backlogs hold is not
/// reset before the process ends.
///
/// # Errors
/// If a socket cannot be used with this runtime.
pub async fn run(listeners: Listeners, guests: Arc<Guests>, drain: Drain) -> io::Result<()> {
    let plain = Listener::new(listeners.plain)?;
    let (turns, rechecks) = (Arc::new(Turns::default()), Arc::new(Rechecks::default()));
    // It ends with the runtime.
    tokio::spawn({
        let (turns, rechecks) = (Arc::clone(&turns), Arc::clone(&rechecks));
        async move { tokio::join!(turns.run(), rechecks.run()) }
    });
    let connections = |https| {
        let (guests, turns, rechecks) = (Arc::clone(&guests), Arc::clone(&turns), Arc::clone(&rechecks));
        Connections { guests, turns, rechecks, https, drain: drain.clone() }
    };
    let plain_connections = connections(None);
    let serving = server::serve(&plain, &drain, &plain_connections);
    match listeners.tls {
        None => serving.await,
        Some((tls, https)) => {
            let (tls, connections) = (Listener::new(tls)?, connections(Some(https)));
            tokio::join!(serving, server::serve(&tls, &drain, &connections));
        }
    }
    drain.finished(Duration::MAX).await;
    Ok(())
}

/// What becomes of guests' connections.
struct Connections {
    guests: Arc<Guests>,
    /// Of the thread that accepts here: it serves what it has accepted.
    turns: Arc<Turns>,
    rechecks: Arc<Rechecks>,
    https: Option<Arc<Https>>,
    drain: Drain,
}

impl server::Handler<Listener> for Connections {
    type Room = ();

    const NAME: &str = "guests'";

    /// Limits are a port's, so they are looked at when it is known which port a connection is from.
    async fn room(&self) {}

    fn handle(&self, stream: Socket, peer: SocketAddr, (): ()) {
        self.guests.accept(stream, peer, self);
    }
}

impl Guests {
    fn accept(self: &Arc<Self>, mut stream: Socket, peer: SocketAddr, connections: &Connections) {
        let Connections { turns, rechecks, https, drain, .. } = connections;
        record::accepted(&self.counters);
        let terms = self.terms.get();
        let progress = Arc::new(Progress::new(terms.times));
        let (guest, permit) = match self.admit(peer, &progress) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                record::refused(self, peer, refusal);
                return stream.cut();
            }
        };
        if permit.crowd() > CROWD {
            // If the socket refuses, it has what others have.
            let _ = stream.set_send_buffer_size(CROWDED);
        }
        // A guest whose last connection was kept may keep this one, and its next request need not wait.
        if https.is_none() && !guest.lease.keeps_connections() {
            stream.recheck_at(rechecks);
        }
        let (drain, in_flight) = (drain.clone(), drain.in_flight());
        let place = place(&guest, progress, terms, turns);
        // Two kinds of task: one for both would have room for the state of TLS, and a task is copied when it is spawned.
        match https.clone() {
            None => drop(tokio::spawn(async move {
                connection::serve_placed(stream, guest, place, drain).await;
                drop((permit, in_flight));
            })),
            Some(https) => drop(tokio::spawn(async move {
                connection::serve_tls(stream, &https, guest, place, drain).await;
                drop((permit, in_flight));
            })),
        }
    }

    /// Says who is behind an address, and takes a place for the connection.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: SocketAddr,
        progress: &Arc<Progress>,
    ) -> Result<(Guest, Permit), Refusal> {
        let SocketAddr::V6(address) = peer else {
            return Err(Refusal::Foreign(peer));
        };
        let address = IdentityAddress::decode(&address.ip().octets()).ok_or(Refusal::Foreign(peer))?;
        let tag = Tag(address.tag);
        let lease = self.identities.lease(tag).ok_or(Refusal::Unknown(address.tag))?;
        let guest = Guest {
            tag: address.tag,
            lease,
            node: Arc::clone(self),
            over_ipv6: address.family == Family::Ipv6,
            source_port: peer.port(),
            usage: OnceLock::new(),
            source: Some(record::source(&address, peer.port())),
            generation: AtomicU64::new(0),
            history: self.boots.of(address.tag),
        };
        // Looked at for each connection, so that a change of the document counts from the next one on.
        let policy = self.policy.look().with(&guest.policy());
        let permit = self.limits.admit(tag, guest.instance(), Most::of(&policy), Arc::clone(progress))?;
        guest.history.connected(guest.instance(), clock::unix_millis());
        Ok((guest, permit))
    }
}

/// Returns the place of an admitted connection.
pub(super) fn place(guest: &Guest, progress: Arc<Progress>, terms: Arc<Terms>, turns: &Arc<Turns>) -> Place {
    Place { progress, turn: Some(turns.place(Tag(guest.tag))), terms }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use metadata_ebpf::addr::Vlan;

    use super::*;
    use crate::api::Cloud;
    use crate::config::Config;
    use crate::http::Counters;
    use crate::identity::{Identities, Identity};
    use crate::store::Store;

    fn peer(tag: u32) -> SocketAddr {
        let address = IdentityAddress { family: Family::Ipv4, vlan: Vlan::default(), tag, guest: [0; 8] };
        (Ipv6Addr::from(address.encode()), 40000).into()
    }

    #[test]
    fn only_a_live_tag_gets_in() {
        let identities = Arc::new(Identities::new());
        let mut settings = Config::default();
        (settings.http.connections, settings.http.connections_per_port) = (2, 1);
        let store = Arc::new(Store::new(Cloud::default()));
        let guests = Arc::new(Guests::new(&settings, Arc::clone(&identities), store, Counters::default()));
        for tag in 1..=3 {
            identities.bind(Tag(tag), Identity::Held).expect("a new tag");
        }
        // Each has a request, so none gives way.
        let admit = |peer| {
            let progress = Arc::new(Progress::new(guests.terms.get().times));
            progress.read();
            guests.admit(peer, &progress)
        };
        let refusal = |peer| admit(peer).map(|_| ()).expect_err("refused");

        let first = admit(peer(1)).expect("a live tag");
        assert_eq!(refusal(peer(1)), Refusal::PortLimit(1));
        let _second = admit(peer(2)).expect("a live tag");
        assert_eq!(refusal(peer(3)), Refusal::TotalLimit);
        assert_eq!(refusal(peer(9)), Refusal::Unknown(9));
        for foreign in ["[fd6d::a9fe:a9fe]:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1", "10.0.0.1:1"] {
            let foreign = foreign.parse().expect("an address");
            assert_eq!(refusal(foreign), Refusal::Foreign(foreign));
        }
        drop(first);
        identities.end(Tag(1));
        assert_eq!(refusal(peer(1)), Refusal::Unknown(1), "an ended binding");
        assert_eq!(guests.open(), 1);
    }
}
