//! The pair of interfaces between the node's namespace and the responder's, and the configuration of both ends.
//!
//! All guests' identity addresses are behind one gateway with one permanent neighbour: the table of neighbours does
//! not grow with guests, so no guest can fill it.

use std::{
    fs::File,
    net::Ipv6Addr,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt as _;
use metadata_ebpf::addr::{IDENTITY_PREFIX, METADATA_MAC, RESPONDER_IPV6};
use nix::errno::Errno;
use rtnetlink::{
    Handle, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::AddressHeaderFlags,
        link::{LinkAttribute, LinkMessage},
    },
};

use super::{NetnsError, enter, netlink, on_thread, system, with_netlink};
use crate::dataplane::IfIndex;

/// Name of the pair's end inside the namespace.
const INNER_NAME: &str = "guests";
/// The largest MTU that a pair takes: packets of guests with any MTU fit, with 20 bytes more.
const PAIR_MTU: u32 = 65535;
/// The gateway to all guests. No interface has this address; its neighbour entry is permanent.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Length of the identity addresses' prefix, in bits.
const IDENTITY_PREFIX_LEN: u8 = 16;

/// Makes or adopts the pair, and configures its end in this thread's namespace, which has this name.
pub(super) fn set_up(name: &str, namespace: &File) -> Result<IfIndex, NetnsError> {
    let pair = with_netlink(async |handle| find_or_make(&handle, name, namespace).await)?;
    set_sysctl("ipv6", name, "disable_ipv6", "1")?;
    with_netlink(async |handle| up(&handle, pair, name).await)?;
    Ok(pair)
}

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

async fn link_by_name(handle: &Handle, name: &str) -> Option<LinkMessage> {
    handle.link().get().match_name(name).execute().try_next().await.ok().flatten()
}

/// Returns the pair's end here; makes the pair anew unless its other end is in the namespace.
async fn find_or_make(handle: &Handle, name: &str, namespace: &File) -> Result<IfIndex, NetnsError> {
    if let Some(link) = link_by_name(handle, name).await {
        if peer_is_inside(&link, namespace)? {
            return Ok(IfIndex(link.header.index));
        }
        let removed = handle.link().del(link.header.index).execute().await;
        // The kernel takes the pair away by itself, a moment after its namespace: it may be quicker.
        if link_by_name(handle, name).await.is_some_and(|left| left.header.index == link.header.index) {
            removed.map_err(netlink("remove the stale", name))?;
        }
    }
    // Made inside with its other end sent out here would need this namespace's file; so the other way round: made
    // here under both names, then its inner end moves. The name of that end is unique for that moment.
    let inner = format!("{}-in", name.chars().take(12).collect::<String>());
    handle.link().add(LinkVeth::new(name, &inner).mtu(PAIR_MTU).build()).execute().await.map_err(
        |error| match &error {
            rtnetlink::Error::NetlinkError(answer) if answer.raw_code() == -(Errno::EOPNOTSUPP as i32) => {
                NetnsError::NoVeth(name.to_owned())
            }
            _ => netlink("make the pair", name)(error),
        },
    )?;
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

/// Tells whether the link's peer is the interface `guests` of the namespace.
fn peer_is_inside(link: &LinkMessage, namespace: &File) -> Result<bool, NetnsError> {
    let Some(peer) = link_attribute(link) else {
        return Ok(false);
    };
    let outer = link.header.index;
    let inside = namespace.try_clone().map_err(system("use", Path::new("the responder's namespace")))?;
    on_thread(move || {
        enter(&inside)?;
        with_netlink(async |handle| {
            Ok(link_by_name(&handle, INNER_NAME)
                .await
                .is_some_and(|link| link.header.index == peer && link_attribute(&link) == Some(outer)))
        })
    })
}

/// Returns the index of a pair's other end, in that end's namespace.
fn link_attribute(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })
}

async fn up(handle: &Handle, ifindex: IfIndex, name: &str) -> Result<(), NetnsError> {
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
const TCP_SETTINGS: [(&str, &str); 2] = [("tcp_mtu_probing", "1"), ("tcp_retries1", "0")];

/// What a connection may hold in the kernel: least, at first and most, in bytes (tcp(7)), and for how long what is left of
/// one that the daemon has closed.
///
/// An answer of 64 KB fits whole, and on this path, of microseconds, nothing is gained beyond. A request has at most 16 KB. A
/// connection is closed when all is acknowledged, so what is left is a closing handshake, which the guest may leave out.
const TCP_BOUNDS: [(&str, &str); 4] = [
    ("tcp_wmem", "4096 131072 262144"),
    ("tcp_rmem", "4096 32768 32768"),
    ("tcp_fin_timeout", "10"),
    ("tcp_orphan_retries", "4"),
];

/// Sets address, route, neighbour and TCP. Called inside the namespace.
pub(super) fn configure_inside() -> Result<(), NetnsError> {
    // No link-local address (1: none is generated), no probes for the one that is set, nothing learned from anybody.
    // And IPv6 on, even where the node has it off for new interfaces (net.ipv6.conf.default.disable_ipv6).
    for (key, value) in [
        ("disable_ipv6", "0"),
        ("addr_gen_mode", "1"),
        ("accept_dad", "0"),
        ("accept_ra", "0"),
        ("accept_redirects", "0"),
    ] {
        set_sysctl("ipv6", INNER_NAME, key, value)?;
    }
    for (key, value) in TCP_SETTINGS.into_iter().chain(TCP_BOUNDS) {
        write_sysctl(&format!("ipv4/{key}"), value)?;
    }
    with_netlink(async |handle| {
        let link =
            link_by_name(&handle, INNER_NAME).await.ok_or_else(|| NetnsError::Vanished(INNER_NAME.to_owned()))?;
        let ifindex = IfIndex(link.header.index);
        up(&handle, ifindex, INNER_NAME).await?;
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
        let mut prefix = [0; 16];
        prefix[..2].copy_from_slice(&IDENTITY_PREFIX);
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(prefix.into(), IDENTITY_PREFIX_LEN)
            .gateway(GATEWAY)
            .output_interface(ifindex.0)
            .build();
        handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(netlink("set the route to the guests on", INNER_NAME))
    })
}

/// Writes a per-interface setting of this thread's namespace.
fn set_sysctl(family: &str, interface: &str, key: &str, value: &str) -> Result<(), NetnsError> {
    write_sysctl(&format!("{family}/conf/{interface}/{key}"), value)
}

/// Writes a setting of this thread's namespace, named by its path below `/proc/sys/net`.
fn write_sysctl(name: &str, value: &str) -> Result<(), NetnsError> {
    let path = PathBuf::from(format!("/proc/sys/net/{name}"));
    std::fs::write(&path, value).map_err(system("write", &path))
}
