//! `[ports]`: which interfaces are guests', and what happens before an instance is known.

use std::num::NonZeroU32;

use super::key::{Key, Table};
use super::kind::{Choice, List, Number, Switch, Text};
use super::pass::{self, PassedPort};
use super::pattern::NamePattern;
use super::refusal::{Fault, Refusal};
use super::responder::LONGEST_INTERFACE;
use super::written::Reader;
use crate::policy::{PortLimits, Rate};

/// `[ports]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Interfaces with a name that matches one of these are guests'. Never empty.
    pub patterns: Vec<NamePattern>,
    /// What happens to metadata requests on a port without an instance.
    pub unbound: Unbound,
    /// Protocols and ports of the metadata addresses that are left to the network.
    pub pass: Vec<PassedPort>,
    /// How fast a port may send to the metadata addresses.
    pub limits: PortLimits,
    /// Where limits are applied beside tc.
    pub guard: Guard,
    /// Whether frames to a guest that claim to come from the metadata service are dropped, unless metadatad has sent them.
    pub impersonation_guard: bool,
}

impl Ports {
    /// Tells whether an interface of this name is a guest's.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }
}

/// What applies a port's limits, in front of the programs at tc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing: tc alone.
    Off,
    /// XDP in the tap's driver, before a packet buffer exists.
    Xdp,
}

/// What happens to metadata requests on a port without an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// They are answered with 503, so that the guest asks again.
    Hold,
    /// They pass untouched, to whatever answered them before metadatad came.
    Pass,
}

pub(super) static TABLE: Table = Table {
    name: "ports",
    about: "Which interfaces of the node are guests' taps, and what happens before their instance is known.",
    keys: &[
        &MATCH,
        &UNBOUND,
        &PASS,
        &NEW_CONNECTIONS,
        &NEW_CONNECTIONS_BURST,
        &PACKETS,
        &PACKETS_BURST,
        &GUARD,
        &IMPERSONATION_GUARD,
    ],
    tables: &[],
    is_optional: false,
    live: &[
        "new_connections_per_second",
        "new_connections_burst",
        "packets_per_second",
        "packets_burst",
        "impersonation_guard",
    ],
};

static MATCH: Key<List<Text<NamePattern>>> = Key {
    name: "match",
    kind: List(Text { what: "a pattern of interface names", check: pattern }),
    default: "[\"tap*\"]",
    about: "Patterns of interface names: `*` matches any characters, `?` matches one. Interfaces that match are guests' \
            taps. At least one pattern.",
    reason: "Nova, Neutron and libvirt name taps `tap` and the start of the port's id.",
};

static UNBOUND: Key<Choice<Unbound>> = Key {
    name: "unbound",
    kind: Choice(&[("hold", Unbound::Hold), ("pass", Unbound::Pass)]),
    default: "\"hold\"",
    about: "Metadata requests on a port that has no instance. \"hold\": they wait for one, then get 503, so that the guest \
            asks again. \"pass\": they are left to whatever answered before, for a roll-out beside Neutron's agents.",
    reason: "A guest that boots before its document arrives asks again after a 503, and boots with its own metadata.",
};

static PASS: Key<List<Text<PassedPort>>> = Key {
    name: "pass",
    kind: List(Text { what: "udp/port or tcp/port", check: PassedPort::parse }),
    default: "[\"udp/53\", \"tcp/53\"]",
    about: "Protocols and ports of the metadata addresses that pass untouched, whether the port has an instance or not, to \
            whatever answers there. Everything else to these addresses ends at the tap. At most 16, and never \
            `responder.port`.",
    reason: "Neutron's DNS forwarder, or another resolver that guests reach at a metadata address.",
};

static NEW_CONNECTIONS: Key<Number<u32>> = Key {
    name: "new_connections_per_second",
    kind: RATE,
    default: "200",
    about: "New connections to the metadata addresses for each second, of one port, over IPv4 and IPv6 together; 0: no \
            limit. A document may set another number for its instance. Beyond it the kernel drops a connection's first \
            segment, which the guest sends again a second later. Counted as `limit_connections`.",
    reason: "A boot with cloud-init opens about 30 connections in two seconds, Ignition and cloudbase-init fewer: ten \
             boots' worth fits.",
};

static NEW_CONNECTIONS_BURST: Key<Number<u32>> = Key {
    name: "new_connections_burst",
    kind: BURST,
    default: "400",
    about: "New connections that a port may open at once, after a time without any.",
    reason: "A container host is one port for all its pods, which may all start at the same time: 110 by Kubernetes' \
             default, 250 by OpenShift's.",
};

static PACKETS: Key<Number<u32>> = Key {
    name: "packets_per_second",
    kind: RATE,
    default: "10000",
    about: "Packets to the metadata addresses for each second, of one port: ARP, neighbour discovery, ICMP and TCP, over IPv4 \
            and IPv6 together; 0: no limit. What `ports.pass` lists does not count. A document may set another number for its \
            instance. Beyond it the kernel drops them. Counted as `limit_packets`.",
    reason: "A boot sends some 300 packets, 64 KB of user data take fewer than 100: far from any guest's need, and \
             little work for the node.",
};

static PACKETS_BURST: Key<Number<u32>> = Key {
    name: "packets_burst",
    kind: BURST,
    default: "20000",
    about: "Packets to the metadata addresses that a port may send at once, after a time without any.",
    reason: "The largest document that is accepted, 16 MB of user data, takes about 12,000 acknowledgements.",
};

static GUARD: Key<Choice<Guard>> = Key {
    name: "guard",
    kind: Choice(&[("off", Guard::Off), ("xdp", Guard::Xdp)]),
    default: "\"off\"",
    about: "\"xdp\": what is beyond a port's limits is dropped in the tap's driver (tun, veth), before the kernel makes a packet \
            buffer of it. The limits are the same, and hold at tc too. A tap that cannot have it is served all the same, and \
            `metadatad ports` gives the reason. \"off\": at tc alone.",
    reason: "It saves the packet buffers of a flood, and slows down large segments of the guest's other traffic, each of which the \
             kernel copies for XDP: see docs/security.md.",
};

static IMPERSONATION_GUARD: Key<Switch> = Key {
    name: "impersonation_guard",
    kind: Switch,
    default: "false",
    about: "Whether a program at each tap's egress drops frames from elsewhere that claim to come from the metadata service: \
            169.254.169.254 or fe80::a9fe:a9fe as IP source, as ARP sender, or as target of a neighbour advertisement or redirect. \
            Counted as `impersonation`. A document may say otherwise for its instance. What comes from a port of `ports.pass` \
            still passes, and a resolver's questions after the guest's MAC.",
    reason: "It looks at each frame to the guest, whereas only a network without Neutron's port security lets a neighbour \
             send such frames.",
};

const RATE: Number<u32> = Number { least: 0, most: PortLimits::MOST };
const BURST: Number<u32> = Number { least: 1, most: PortLimits::MOST };

const EXAMPLE: &str = "use for example \"tap*\"";

/// Reads the table; `responder_port` is not among the ports that pass.
pub(super) fn read(table: &Reader<'_>, responder_port: u16) -> Result<Ports, Refusal> {
    let patterns = table.value(&MATCH)?;
    if patterns.get_ref().is_empty() {
        let fault = Fault::new("no pattern: no interface would be a guest's", "use for example [\"tap*\"]");
        return Err(fault.at(patterns.span()));
    }
    Ok(Ports {
        patterns: patterns.into_inner().into_iter().map(toml::Spanned::into_inner).collect(),
        unbound: table.value(&UNBOUND)?,
        pass: pass::check(table.value(&PASS)?, table.span_of(PASS.name).is_some(), responder_port)?,
        limits: PortLimits {
            new_connections: rate(table, &NEW_CONNECTIONS, &NEW_CONNECTIONS_BURST)?,
            packets: rate(table, &PACKETS, &PACKETS_BURST)?,
        },
        guard: table.value(&GUARD)?,
        impersonation_guard: table.value(&IMPERSONATION_GUARD)?,
    })
}

fn rate(table: &Reader<'_>, per_second: &Key<Number<u32>>, burst: &Key<Number<u32>>) -> Result<Rate, Refusal> {
    let burst = NonZeroU32::new(table.value(burst)?).unwrap_or(NonZeroU32::MIN);
    Ok(Rate { per_second: table.value(per_second)?, burst })
}

fn pattern(text: &str) -> Result<NamePattern, Fault> {
    let (problem, remedy) = if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        (format!("`{text}` matches no interface"), EXAMPLE)
    } else if text.contains(['[', ']', '{', '}', ',', '^', '$', '|', '\\']) {
        let remedy = "use `*` and `?` only, in as many patterns as needed";
        (format!("`{text}` has a character that is not special here"), remedy)
    } else if text.bytes().filter(|byte| *byte != b'*').count() > LONGEST_INTERFACE {
        let problem = format!("`{text}` matches no interface: names have at most {LONGEST_INTERFACE} characters");
        (problem, EXAMPLE)
    } else if text.bytes().all(|byte| byte == b'*') {
        (format!("`{text}` matches every interface, the node's own too"), EXAMPLE)
    } else {
        return Ok(NamePattern::of(text));
    };
    Err(Fault::new(problem, remedy))
}

#[cfg(test)]
mod tests {
    use super::{Guard, Unbound};
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let ports = read("[ports]\nmatch = ['tap*', 'vnet?']\nunbound = 'pass'\n").expect("accepted").ports;
        assert!(ports.matches("vnet3") && !ports.matches("eth0"));
        assert_eq!((ports.unbound, ports.guard), (Unbound::Pass, Guard::Off));
        assert_eq!(read("[ports]\nguard = 'xdp'\n").expect("accepted").ports.guard, Guard::Xdp);
        let limits = "[ports]\nnew_connections_per_second = 1\nnew_connections_burst = 2\npackets_per_second = 0\n";
        let limits = read(limits).expect("accepted").ports.limits;
        assert_eq!((limits.new_connections.per_second, limits.new_connections.burst.get()), (1, 2));
        assert_eq!((limits.packets.per_second, limits.packets.burst.get()), (0, 20_000));
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[ports]\nmatch = []", "m.toml:2:9", "no pattern", "tap*"),
            ("[ports]\nmatch = ['tap*', '*']", "m.toml:2:18", "every interface", "tap*"),
            ("[ports]\nmatch = ['meta*']", "m.toml:2:9", "matches ports.match", "choose a name"),
            ("[ports]\nmatch = ['tap[0-9]']", "m.toml:2:10", "not special", "`*` and `?`"),
            ("[ports]\nmatch = ['tap-0123456789abc*']", "m.toml:2:10", "at most 15", "tap*"),
            ("[ports]\nmatch = 'tap*'", "m.toml:2:9", "expected a list", "write a value"),
            ("[ports]\nmatch = [1]", "m.toml:2:10", "expected a string", "write a value"),
            ("[ports]\npackets_per_second = 1000001", "m.toml:2:22", "out of range", "0 to 1000000"),
            ("[ports]\npackets_burst = 0", "m.toml:2:17", "out of range", "1 to 1000000"),
            ("[ports]\nguard = 'tc'", "m.toml:2:9", "`tc` is not known", "\"off\" or \"xdp\""),
            ("[ports]\nguard = true", "m.toml:2:9", "expected a string", "write a value"),
            ("[ports]\nunbound = 'drop'", "m.toml:2:11", "`drop` is not known", "\"hold\" or \"pass\""),
        ]);
    }
}
