//! `[ports]`: which interfaces are guests', and what happens before an instance is known.

use super::key::{Key, Table};
use super::kind::{Choice, List, Text};
use super::pass::{self, PassedPort};
use super::pattern::NamePattern;
use super::refusal::{Fault, Refusal};
use super::responder::LONGEST_INTERFACE;
use super::written::Reader;

/// `[ports]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Interfaces with a name that matches one of these are guests'. Never empty.
    pub patterns: Vec<NamePattern>,
    /// What happens to metadata requests on a port without an instance.
    pub unbound: Unbound,
    /// Protocols and ports of the metadata addresses that are left to the network.
    pub pass: Vec<PassedPort>,
}

impl Ports {
    /// Tells whether an interface of this name is a guest's.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }
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
    keys: &[&MATCH, &UNBOUND, &PASS],
    tables: &[],
    is_optional: false,
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
    })
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
    use super::Unbound;
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let ports = read("[ports]\nmatch = ['tap*', 'vnet?']\nunbound = 'pass'\n").expect("accepted").ports;
        assert!(ports.matches("vnet3") && !ports.matches("eth0"));
        assert_eq!(ports.unbound, Unbound::Pass);
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
            ("[ports]\nunbound = 'drop'", "m.toml:2:11", "`drop` is not known", "\"hold\" or \"pass\""),
        ]);
    }
}
