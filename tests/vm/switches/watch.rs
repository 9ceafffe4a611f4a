//! Looking at what goes over a switch's ports while a guest asks.

use anyhow::{Context as _, Result, ensure};
use lab::netns::Namespace;
use lab::{FrameSocket, Guest, Request};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6};

/// Requests over each family.
pub(crate) const REQUESTS: usize = 100;

/// Packet sockets on a switch's other ports.
pub(crate) struct Watch(Vec<(String, FrameSocket)>);

impl Watch {
    /// Looks at these interfaces from here on.
    pub(crate) fn begin(places: &[(&Namespace, &str)]) -> Result<Self> {
        let open = |(namespace, interface): &(&Namespace, &str)| {
            let socket = namespace.run(|| FrameSocket::open(interface))?;
            anyhow::Ok((format!("{} of {}", interface, namespace.name()), socket))
        };
        Ok(Self(places.iter().map(open).collect::<Result<_>>()?))
    }

    /// Returns the metadata frames that came by, place by place. The guest floods a frame first, which every place has to
    /// see: so none of them was blind.
    pub(crate) fn end(self, from: &Guest) -> Result<Vec<(String, Vec<Vec<u8>>)>> {
        let mut marker = vec![0xff; 6];
        marker.extend(from.mac());
        // EtherType of local experiments.
        marker.extend([0x88, 0xb5]);
        marker.extend([0x5a; 50]);
        from.frames()?.send(&marker)?;
        let look = |(place, socket): (String, FrameSocket)| {
            let mut frames = socket.receive_until(&marker).with_context(|| format!("watching {place}"))?;
            frames.retain(|frame| is_metadata(frame));
            anyhow::Ok((place, frames))
        };
        self.0.into_iter().map(look).collect()
    }

    /// Returns the metadata frames that came by until now, where a marker would be of no use: on the guest's own link.
    pub(crate) fn end_unmarked(self) -> Result<Vec<(String, Vec<Vec<u8>>)>> {
        let look = |(place, socket): (String, FrameSocket)| {
            let mut frames = Vec::new();
            while let Some(frame) = socket.receive(std::time::Duration::from_millis(20))? {
                frames.push(frame);
            }
            frames.retain(|frame| is_metadata(frame));
            anyhow::Ok((place, frames))
        };
        self.0.into_iter().map(look).collect()
    }

    /// Fails if a metadata frame came by.
    pub(crate) fn end_silent(self, from: &Guest) -> Result<()> {
        for (place, frames) in self.end(from)? {
            let first = frames.first();
            ensure!(first.is_none(), "{} metadata frames on {place}, the first: {first:02x?}", frames.len());
        }
        Ok(())
    }
}

/// Asks often over both families, and forgets the service's MAC now and then, so that it is asked for too.
pub(crate) fn ask_often(guest: &Guest) -> Result<()> {
    for round in 0..REQUESTS {
        if round % 10 == 0 {
            guest.namespace().ip("neigh flush dev eth0")?;
        }
        for over_ipv6 in [false, true] {
            let uuid = guest.read_uuid(over_ipv6).with_context(|| format!("request {round}, IPv6: {over_ipv6}"))?;
            ensure!(uuid == guest.uuid(), "{} reads the metadata of {uuid}", guest.name());
        }
    }
    Ok(())
}

/// Asks once over each family, through this interface of the guest's.
pub(crate) fn ask_through(guest: &Guest, interface: &str) -> Result<()> {
    for request in [Request::get("/openstack"), Request::get("/openstack").over_ipv6()] {
        let response = guest.namespace().run(|| request.through(interface).send())?;
        ensure!(response.status == 200, "status {} through {interface}", response.status);
    }
    Ok(())
}

/// One guest reaches the other by TCP, which is none of the service's business.
pub(crate) fn talk(from: &Guest, to: &Guest) -> Result<()> {
    let shown = to.namespace().ip("-4 -o addr show dev eth0")?;
    let address = shown.split_whitespace().nth(3).and_then(|net| net.split('/').next()).context("no address")?;
    let listener = to.namespace().run(|| Ok(std::net::TcpListener::bind((address, 4040))?))?;
    let address = std::net::SocketAddr::new(address.parse()?, 4040);
    // A switch without KVM may be too slow for the first question after a neighbour's MAC.
    let reached = lab::wait::until("the connection is there", || {
        from.namespace().run(|| Ok(std::net::TcpStream::connect_timeout(&address, lab::wait::PATIENCE).ok()))
    });
    drop(listener);
    reached.map(drop).with_context(|| format!("{} reaches {}", from.name(), to.name()))
}

/// Tells whether a frame is from, to or about a metadata address, tagged or not, or carries an identity.
pub(crate) fn is_metadata(frame: &[u8]) -> bool {
    let (tags, ethertype) = ethertype(frame);
    let packet = frame.get(14 + 4 * tags..).unwrap_or_default();
    let at = |place: usize, address: &[u8]| packet.get(place..place + address.len()) == Some(address);
    match ethertype {
        [0x08, 0x00] => [12, 16].iter().any(|place| at(*place, &METADATA_IPV4)),
        [0x08, 0x06] => [14, 24].iter().any(|place| at(*place, &METADATA_IPV4)),
        // Addresses, the target of a solicitation or advertisement, and the prefix of identities.
        [0x86, 0xdd] => {
            [8, 24, 48].iter().any(|place| at(*place, &METADATA_IPV6))
                || [8, 24].iter().any(|place| at(*place, &[0xfd, 0x6d]))
        }
        _ => false,
    }
}

/// Returns how many VLAN tags a frame has, and the EtherType behind them.
pub(crate) fn ethertype(frame: &[u8]) -> (usize, [u8; 2]) {
    let mut tags = 0;
    loop {
        let place = 12 + 4 * tags;
        match frame.get(place..place + 2) {
            Some([0x81, 0x00] | [0x88, 0xa8]) => tags += 1,
            Some(found) => return (tags, [found[0], found[1]]),
            None => return (tags, [0, 0]),
        }
    }
}
