//! The responder's namespace as it is now: what of it is there, who listens, and what could be in the way.
//!
//! Read by commands, beside the daemon or without one. Nothing is changed.

use std::{fs, fs::File, net::Ipv6Addr};

use metadata_ebpf::addr::{IDENTITY_PREFIX, RESPONDER_IPV6};
use nix::sys::statfs::statfs;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::{NetnsError, enter, namespace, netfilter, on_thread, pair, system, with_netlink};
use crate::dataplane::IfIndex;

/// The namespace and its pair, as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponderView {
    /// The pair's end in the caller's namespace.
    pub pair: Option<End>,
    /// What is inside; `None`: no namespace has this name.
    pub inside: Option<Inside>,
}

/// An end of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Its index.
    pub ifindex: IfIndex,
    /// Whether it is up.
    pub is_up: bool,
}

/// The namespace, seen from inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// The pair's inner end.
    pub end: Option<End>,
    /// Whether that is the other end of the pair outside.
    pub is_joined: bool,
    /// Whether it has the responder's address.
    pub has_address: bool,
    /// Whether there is the route to the guests.
    pub has_route: bool,
    /// Listening sockets.
    pub listeners: Vec<Listener>,
    /// Chains and tables of netfilter, for people: there should be none.
    pub firewall: Vec<String>,
}

/// Listening sockets of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// Connections that wait to be accepted.
    pub waiting: u32,
}

/// Looks at the namespace of this name and the pair whose end here is called `pair_name`.
///
/// # Errors
/// If the kernel does not let it be looked at.
pub fn view(name: &str, pair_name: &str) -> Result<ResponderView, NetnsError> {
    let (path, pair_name) = (namespace::path_of(name), pair_name.to_owned());
    let is_namespace = statfs(&path).is_ok_and(|stat| stat.filesystem_type() == namespace::NSFS_MAGIC);
    let file = if is_namespace { Some(File::open(&path).map_err(system("open", &path))?) } else { None };
    on_thread(move || {
        let link = with_netlink(async |handle| Ok(pair::link_by_name(&handle, &pair_name).await))?;
        let pair = link.as_ref().map(end);
        let Some(file) = file else { return Ok(ResponderView { pair, inside: None }) };
        enter(&file)?;
        Ok(ResponderView { pair, inside: Some(inside(link.as_ref())?) })
    })
}

fn end(link: &LinkMessage) -> End {
    End { ifindex: IfIndex(link.header.index), is_up: link.header.flags.contains(LinkFlags::Up) }
}

/// Returns the index of a pair's other end, in that end's namespace.
fn peer(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })
}

/// Looks around in this thread's namespace; `outer` is the pair's end outside.
fn inside(outer: Option<&LinkMessage>) -> Result<Inside, NetnsError> {
    let link = with_netlink(async |handle| Ok(pair::link_by_name(&handle, pair::INNER_NAME).await))?;
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let mut firewall = netfilter::base_chains().unwrap_or_default();
    for family in ["ip", "ip6"] {
        firewall.extend(
            read(&format!("{family}_tables_names")).lines().map(|table| format!("{family}tables table {table}")),
        );
    }
    let mut prefix = [0; 16];
    prefix[..2].copy_from_slice(&IDENTITY_PREFIX);
    Ok(Inside {
        end: link.as_ref().map(end),
        is_joined: outer.zip(link.as_ref()).is_some_and(|(outer, inner)| {
            peer(outer) == Some(inner.header.index) && peer(inner) == Some(outer.header.index)
        }),
        has_address: read("if_inet6").lines().any(|line| line.starts_with(&hex(RESPONDER_IPV6))),
        has_route: has_route(&read("ipv6_route"), &hex(prefix)),
        listeners: listeners(&read("tcp6")),
        firewall,
    })
}

fn hex(address: [u8; 16]) -> String {
    format!("{:032x}", u128::from(Ipv6Addr::from(address)))
}

/// Tells whether a list of routes (proc(5), `/proc/net/ipv6_route`) has one to this prefix through the pair.
fn has_route(routes: &str, prefix: &str) -> bool {
    routes.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(prefix) && words.next() == Some("10") && words.next_back() == Some(pair::INNER_NAME)
    })
}

/// Returns the listening sockets of a list of sockets (proc(5), `/proc/net/tcp6`), by port: of those, the length of what waits to be
/// received is the number of connections that wait to be accepted.
fn listeners(sockets: &str) -> Vec<Listener> {
    const LISTENING: &str = "0A";
    let mut found: Vec<Listener> = Vec::new();
    for line in sockets.lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, local, _, LISTENING, queues, ..] = words[..] else { continue };
        let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        let waiting = queues.split_once(':').and_then(|(_, waiting)| u32::from_str_radix(waiting, 16).ok());
        let (Some(port), Some(waiting)) = (port, waiting) else { continue };
        match found.iter_mut().find(|known| known.port == port) {
            Some(known) => known.waiting += waiting,
            None => found.push(Listener { port, waiting }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_counted_by_port_with_what_waits() {
        let text = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr\n\
                    0: 00006DFD00000000000000009FFEA9FE:0050 00000000000000000000000000000000:0000 0A 00000000:00000003 00:0\n\
                    1: 00006DFD00000000000000009FFEA9FE:0050 00000000000000000000000000000000:0000 0A 00000000:00000001 00:0\n\
                    2: 00006DFD00000000000000009FFEA9FE:0050 0000000000000000000000000000FD6D:9C40 01 00000000:00000000 00:0\n";
        assert_eq!(listeners(text), [Listener { port: 80, waiting: 4 }]);
    }

    #[test]
    fn the_route_to_the_guests_goes_through_the_pair() {
        let line = |prefix: &str, device: &str| {
            format!(
                "{prefix} 10 {:032x} 00 fe800000000000000000000000000001 00000400 00000002 00000000 00000003 {device}\n",
                0
            )
        };
        let prefix = "fd6d0000000000000000000000000000";
        assert!(has_route(&line(prefix, "  guests"), prefix));
        assert!(!has_route(&line(prefix, "  eth0"), prefix));
        assert!(!has_route(&line("fd6e0000000000000000000000000000", "  guests"), prefix));
    }
}
