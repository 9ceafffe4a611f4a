//! The pair of interfaces between the node's namespace and the responder's, and the configuration of both ends.
//!
//! All guests' identity addresses are behind one gateway with one permanent neighbour: the table of neighbours does
//! not grow with guests, so no guest can fill it.

use std::{fs::File, net::Ipv6Addr, os::fd::AsRawFd as _, path::PathBuf};

use futures_util::TryStreamExt as _;
use metadata_ebpf::addr::{IDENTITY_PREFIX, METADATA_MAC, RESPONDER_IPV6};
use nix::errno::Errno;
use rtnetlink::{
    Handle, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressHeaderFlags},
        link::{LinkAttribute, LinkFlags, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteMetric},
    },
};

use super::{
    NetnsError,
    keeper::Netlink,
    netlink,
    state::{End, PAIR_MTU, Seen},
    system, with_netlink,
};
use crate::dataplane::IfIndex;

/// Name of the pair's end inside the namespace.
pub(super) const INNER_NAME: &str = "guests";
/// The gateway to all guests. No interface has this address; its neighbour entry is permanent.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Length of the identity addresses' prefix, in bits.
const IDENTITY_PREFIX_LEN: u8 = 16;
/// Initial congestion window of a connection, in segments, instead of the kernel's 10: 64 KB of user data leave at once, also where an
/// overlay takes 100 bytes of each packet. The guest is on the same machine, so slow start would only cost round trips.
const INITIAL_WINDOW: u32 = 50;

/// Removes the pair whose end in this thread's namespace has this name. `true` if there was one.
pub(super) fn remove(name: &str) -> Result<bool, NetnsError> {
    with_netlink(async |handle| {
        let Some(link) = link_by_name(&handle, name).await else {
            return Ok(false);
        };
        handle.link().del(link.header.index).execute().await.map_err(netlink("remove", name))?;
        Ok(true)
    })
}

pub(super) async fn link_by_name(handle: &Handle, name: &str) -> Option<LinkMessage> {
    handle.link().get().match_name(name).execute().try_next().await.ok().flatten()
}

/// Returns the number that the node's namespace has for that of the pair's other end.
pub(super) async fn number_of_inner(node: &Handle, pair: IfIndex) -> Option<u32> {
    let link = link_by_index(node, pair.0).await.ok()??;
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkNetNsId(number) => u32::try_from(*number).ok(),
        _ => None,
    })
}

/// Returns an interface; `None`: none has this index.
async fn link_by_index(handle: &Handle, index: u32) -> Result<Option<LinkMessage>, NetnsError> {
    match handle.link().get().match_index(index).execute().try_next().await {
        Err(rtnetlink::Error::NetlinkError(answer)) if answer.raw_code() == -(Errno::ENODEV as i32) => Ok(None),
        found => found.map_err(netlink("look up", "the pair")),
    }
}

/// Finds the index of the pair's end in the node's namespace, whatever it is called: an interface inside knows it, and it that
/// interface.
pub(super) async fn find(netlink: &Netlink) -> Result<Option<IfIndex>, NetnsError> {
    for inner in ends_inside(&netlink.inside).await? {
        let Some(peer) = inner.peer else { continue };
        let outer = link_by_index(&netlink.node, peer).await?;
        if outer.and_then(|outer| end(&outer).peer) == Some(inner.index) {
            return Ok(Some(IfIndex(peer)));
        }
    }
    Ok(None)
}

/// Every interface of the responder's namespace that has another end.
async fn ends_inside(inside: &Handle) -> Result<Vec<End>, NetnsError> {
    let listed: Result<Vec<LinkMessage>, _> = inside.link().get().execute().try_collect().await;
    let listed = listed.map_err(netlink("list the interfaces beside", INNER_NAME))?;
    Ok(listed.iter().map(end).filter(|end| end.peer.is_some()).collect())
}

fn end(link: &LinkMessage) -> End {
    let mut end = End {
        index: link.header.index,
        is_up: link.header.flags.contains(LinkFlags::Up),
        has_arp: !link.header.flags.contains(LinkFlags::Noarp),
        ..End::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => end.name.clone_from(name),
            LinkAttribute::Link(index) => end.peer = Some(*index),
            LinkAttribute::Mtu(mtu) => end.mtu = *mtu,
            _ => {}
        }
    }
    end
}

/// Looks at everything: the interface with this index, and what belongs to it inside. What cannot be looked at is an error, and does not
/// count as missing: it would be removed and made anew.
pub(super) async fn see(netlink: &Netlink, pair: IfIndex) -> Result<Seen, NetnsError> {
    let outer = link_by_index(&netlink.node, pair.0).await?.as_ref().map(end);
    let inner = ends_inside(&netlink.inside).await?.into_iter().find(|end| end.peer == Some(pair.0));
    let outer_without_ipv6 = outer.as_ref().is_some_and(|outer| netlink.is_without_ipv6(&outer.name));
    let mut seen = Seen { outer, outer_without_ipv6, inner, ..Seen::default() };
    if let Some(inner) = &seen.inner {
        let index = inner.index;
        seen.address = has_address(&netlink.inside, index).await?;
        seen.route = has_route(&netlink.inside, index).await?;
        seen.neighbour = has_neighbour(&netlink.inside, index).await?;
    }
    // Last, as a setting may have taken the others away: then it is seen as well.
    seen.settings = wrong_settings();
    Ok(seen)
}

async fn has_address(inside: &Handle, index: u32) -> Result<bool, NetnsError> {
    let wanted = AddressAttribute::Address(Ipv6Addr::from(RESPONDER_IPV6).into());
    let mut listed = Box::pin(inside.address().get().set_link_index_filter(index).execute());
    while let Some(found) = listed.try_next().await.map_err(netlink("list the addresses of", INNER_NAME))? {
        if found.header.index == index && found.header.prefix_len == 128 && found.attributes.contains(&wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn has_route(inside: &Handle, index: u32) -> Result<bool, NetnsError> {
    let wanted = [
        RouteAttribute::Destination(RouteAddress::Inet6(identity_prefix())),
        RouteAttribute::Gateway(RouteAddress::Inet6(GATEWAY)),
        RouteAttribute::Oif(index),
        route_metrics(),
    ];
    let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut listed = Box::pin(inside.route().get(all).execute());
    while let Some(found) = listed.try_next().await.map_err(netlink("list the routes of", INNER_NAME))? {
        let is_prefix = found.header.destination_prefix_length == IDENTITY_PREFIX_LEN;
        if is_prefix && wanted.iter().all(|wanted| found.attributes.contains(wanted)) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn has_neighbour(inside: &Handle, index: u32) -> Result<bool, NetnsError> {
    let wanted = [
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(GATEWAY)),
        NeighbourAttribute::LinkLayerAddress(METADATA_MAC.to_vec()),
    ];
    let mut listed = Box::pin(inside.neighbours().get().execute());
    while let Some(found) = listed.try_next().await.map_err(netlink("list the neighbours of", INNER_NAME))? {
        let header = &found.header;
        if header.ifindex == index
            && header.state == NeighbourState::Permanent
            && wanted.iter().all(|wanted| found.attributes.contains(wanted))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the pair, and returns the index of its end in the node's namespace: this one if it is to be. Removes what is left of another
/// pair, inside or under the same name.
pub(super) async fn make(
    handles: &Netlink,
    name: &str,
    namespace: &File,
    index: Option<IfIndex>,
) -> Result<IfIndex, NetnsError> {
    let (handle, inside) = (&handles.node, &handles.inside);
    // The kernel takes the other end away by itself.
    for left in [
        link_by_name(handle, name).await.map(|link| (handle, link)),
        link_by_name(inside, INNER_NAME).await.map(|link| (inside, link)),
    ]
    .into_iter()
    .flatten()
    {
        let (handle, link) = left;
        let removed = handle.link().del(link.header.index).execute().await;
        // It may be quicker, a moment after its namespace.
        if link_by_index(handle, link.header.index).await?.is_some() {
            removed.map_err(netlink("remove the stale", name))?;
        }
    }
    // Made inside with its other end sent out here would need this namespace's file; so the other way round: made
    // here under both names, then its inner end moves. The name of that end is unique for that moment.
    let inner = format!("{}-in", name.chars().take(12).collect::<String>());
    let mut pair = LinkVeth::new(name, &inner).mtu(PAIR_MTU);
    if let Some(index) = index {
        pair = pair.index(index.0);
    }
    handle.link().add(pair.build()).execute().await.map_err(|error| match &error {
        rtnetlink::Error::NetlinkError(answer) if answer.raw_code() == -(Errno::EOPNOTSUPP as i32) => {
            NetnsError::NoVeth(name.to_owned())
        }
        _ => netlink("make the pair", name)(error),
    })?;
    let inner_link = link_by_name(handle, &inner).await.ok_or_else(|| NetnsError::Vanished(inner.clone()))?;
    handle
        .link()
        .set(
            LinkUnspec::new_with_index(inner_link.header.index)
                .name(INNER_NAME)
                .mtu(PAIR_MTU)
                .setns_by_fd(namespace.as_raw_fd())
                .build(),
        )
        .execute()
        .await
        .map_err(netlink("move into the responder's namespace", &inner))?;
    let link = link_by_name(handle, name).await.ok_or_else(|| NetnsError::Vanished(name.to_owned()))?;
    Ok(IfIndex(link.header.index))
}

/// Gives an interface its name back. One that is up can be renamed from Linux 6.2 on; before, it is down for a moment.
pub(super) async fn rename(handle: &Handle, ifindex: IfIndex, name: &str) -> Result<(), NetnsError> {
    let set = async |link| handle.link().set(link).execute().await;
    let named = || LinkUnspec::new_with_index(ifindex.0).name(name).build();
    if set(named()).await.is_ok() {
        return Ok(());
    }
    let renaming = || netlink("give the pair's end its name back,", name);
    set(LinkUnspec::new_with_index(ifindex.0).down().build()).await.map_err(renaming())?;
    let renamed = set(named()).await;
    set(LinkUnspec::new_with_index(ifindex.0).up().build()).await.map_err(renaming())?;
    renamed.map_err(renaming())
}

/// Returns the inner end's index and name.
pub(super) async fn inner_of(inside: &Handle, pair: IfIndex) -> Result<Option<(IfIndex, String)>, NetnsError> {
    let ends = ends_inside(inside).await?;
    Ok(ends.into_iter().find(|end| end.peer == Some(pair.0)).map(|end| (IfIndex(end.index), end.name)))
}

/// Sets an end up, as it is to be.
pub(super) async fn up(handle: &Handle, ifindex: IfIndex, name: &str) -> Result<(), NetnsError> {
    handle
        .link()
        .set(LinkUnspec::new_with_index(ifindex.0).mtu(PAIR_MTU).arp(false).up().build())
        .execute()
        .await
        .map_err(netlink("bring up", name))
}

/// Settings of TCP inside the namespace: what makes large answers arrive behind links with a smaller MTU.
///
/// A router's report about its MTU is handed to the responder by the programs, but many networks filter such reports. So
/// segments that are never acknowledged are sent again in smaller pieces, from 1024 bytes on downwards (RFC 4821), and that
/// at the second time-out, 0.6 s after the segment, instead of the default's 6 s: clients give up after that.
///
/// And what lets a daemon listen on fewer sockets than the one before: what waits at a socket that stops to listen moves to another
/// one of the same port (Linux 5.14).
///
/// And congestion control without pacing, whatever the node's default is: `bbr` delays the segments of an answer, which gains nothing
/// between a node and its guests. `reno` is in every kernel.
const TCP_SETTINGS: [(&str, &str); 4] =
    [("tcp_mtu_probing", "1"), ("tcp_retries1", "0"), ("tcp_migrate_req", "1"), ("tcp_congestion_control", "reno")];

/// What a connection may hold in the kernel: least, at first and most, in bytes (tcp(7)), and for how long what is left of
/// one that the daemon has closed.
///
/// An answer of 64 KB fits whole, and on this path, of microseconds, nothing is gained beyond. A request has at most 16 KB. A
/// connection is closed when all is acknowledged, so what is left is a closing handshake, which the guest may leave out.
///
/// And the kernel keeps no metrics (round-trip times and the like) of guests' addresses: a guest may use any number of them, and the
/// table is shared by all namespaces of the node.
const TCP_BOUNDS: [(&str, &str); 5] = [
    ("tcp_wmem", "4096 131072 262144"),
    ("tcp_rmem", "4096 32768 32768"),
    ("tcp_fin_timeout", "10"),
    ("tcp_orphan_retries", "4"),
    ("tcp_no_metrics_save", "1"),
];

/// Settings of the end inside: no link-local address (1: none is generated), no probes for the one that is set, nothing learned from
/// anybody. And IPv6 on, even where the node has it off for new interfaces (net.ipv6.conf.default.disable_ipv6).
const INTERFACE_SETTINGS: [(&str, &str); 5] =
    [("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("accept_dad", "0"), ("accept_ra", "0"), ("accept_redirects", "0")];

/// Every setting inside, by its path below `/proc/sys/net`.
fn settings() -> impl Iterator<Item = (String, &'static str)> {
    let of_interface =
        INTERFACE_SETTINGS.into_iter().map(|(key, value)| (format!("ipv6/conf/{INNER_NAME}/{key}"), value));
    of_interface.chain(TCP_SETTINGS.into_iter().chain(TCP_BOUNDS).map(|(key, value)| (format!("ipv4/{key}"), value)))
}

/// Returns the settings inside that have another value. Called inside the namespace. One that cannot be read has no interface.
fn wrong_settings() -> Vec<String> {
    let is_wrong = |path: &str, value: &str| {
        read_sysctl(path).is_ok_and(|found| !found.split_whitespace().eq(value.split_whitespace()))
    };
    settings().filter(|(path, value)| is_wrong(path, value)).map(|(path, _)| path.replace('/', ".")).collect()
}

/// Sets address, route, neighbour and TCP. Called inside the namespace.
pub(super) async fn configure_inside(handle: &Handle) -> Result<(), NetnsError> {
    for (path, value) in settings() {
        write_sysctl(&path, value)?;
    }
    let link = link_by_name(handle, INNER_NAME).await.ok_or_else(|| NetnsError::Vanished(INNER_NAME.to_owned()))?;
    let ifindex = IfIndex(link.header.index);
    up(handle, ifindex, INNER_NAME).await?;
    let mut address = handle.address().add(ifindex.0, Ipv6Addr::from(RESPONDER_IPV6).into(), 128).replace();
    // Usable at once: otherwise the kernel looks for duplicates in its own time, even where it then does not.
    address.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    address.execute().await.map_err(netlink("set the responder's address on", INNER_NAME))?;
    handle
        .neighbours()
        .add(ifindex.0, GATEWAY.into())
        .link_layer_address(&METADATA_MAC)
        .replace()
        .execute()
        .await
        .map_err(netlink("set the gateway's neighbour entry on", INNER_NAME))?;
    let mut route = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(identity_prefix(), IDENTITY_PREFIX_LEN)
        .gateway(GATEWAY)
        .output_interface(ifindex.0)
        .build();
    route.attributes.push(route_metrics());
    handle.route().add(route).replace().execute().await.map_err(netlink("set the route to the guests on", INNER_NAME))
}

/// Returns what the route to the guests sets for connections.
fn route_metrics() -> RouteAttribute {
    RouteAttribute::Metrics(vec![RouteMetric::InitCwnd(INITIAL_WINDOW)])
}

fn identity_prefix() -> Ipv6Addr {
    let mut prefix = [0; 16];
    prefix[..2].copy_from_slice(&IDENTITY_PREFIX);
    prefix.into()
}

/// Writes a setting of this thread's namespace, named by its path below `/proc/sys/net`.
fn write_sysctl(name: &str, value: &str) -> Result<(), NetnsError> {
    let path = PathBuf::from(format!("/proc/sys/net/{name}"));
    std::fs::write(&path, value).map_err(system("write", &path))
}

/// Reads a setting of this thread's namespace.
fn read_sysctl(name: &str) -> std::io::Result<String> {
    std::fs::read_to_string(format!("/proc/sys/net/{name}")).map(|text| text.trim().to_owned())
}
