//! Which ports an argument means.

use std::net::IpAddr;

use ipnet::IpNet;

use super::evidence::Port;

/// Returns the ports of a tap, a port's UUID, an instance's UUID or a guest's address; `None`: there is none.
///
/// Of an address, the port counts whose allowed prefix is the longest that holds it: an instance may be allowed a whole network.
pub(super) fn find<'a>(target: &str, ports: &'a [Port]) -> Option<Vec<&'a Port>> {
    if let Ok(address) = target.parse::<IpAddr>() {
        let length = |port: &Port| {
            prefixes(port)
                .into_iter()
                .filter(|prefix| prefix.contains(&address))
                .map(|prefix| prefix.prefix_len())
                .max()
        };
        let longest = ports.iter().filter_map(length).max().filter(|length| *length > 0)?;
        return Some(ports.iter().filter(|port| length(port) == Some(longest)).collect());
    }
    let wanted = target.to_ascii_lowercase();
    let is_meant = |port: &&Port| {
        let by_status = port.status.as_ref().and_then(|status| status.port.as_deref());
        port.tap == target
            || by_status == Some(&*wanted)
            || port.instance().as_deref() == Some(&*wanted)
            || port.claimed_by.contains(&wanted)
    };
    let found: Vec<_> = ports.iter().filter(is_meant).collect();
    (!found.is_empty()).then_some(found)
}

/// Returns the prefixes that a port may send from: as the daemon says, else as the kernel has them.
fn prefixes(port: &Port) -> Vec<IpNet> {
    match (&port.status, &port.entry) {
        (Some(status), _) if !status.sources.is_empty() => {
            status.sources.iter().filter_map(|allowed| allowed.prefix.parse().ok()).collect()
        }
        (_, Some(entry)) => entry.sources.iter().map(|(_, prefix)| *prefix).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::inspect::PinnedPort;
    use crate::record::{InstanceId, MacAddress};

    fn port(tap: &str, number: u128, prefix: &str) -> Port {
        let source = (MacAddress([2; 6]), prefix.parse().expect("a prefix"));
        let instance = Some(InstanceId(uuid::Uuid::from_u128(number)));
        let entry = PinnedPort { tag: 1, instance, sources: vec![source], has_way_back: true };
        Port { tap: tap.to_owned(), entry: Some(entry), ..Port::default() }
    }

    #[test]
    fn a_port_is_found_by_each_of_its_names_and_by_the_longest_prefix() {
        let ports = [port("tap1", 1, "10.0.0.5/32"), port("tap2", 2, "10.0.0.0/24"), port("tap3", 1, "0.0.0.0/0")];
        let taps = |target: &str| {
            find(target, &ports).map(|found| found.iter().map(|port| port.tap.as_str()).collect::<Vec<_>>())
        };
        assert_eq!(taps("tap2"), Some(vec!["tap2"]));
        assert_eq!(taps("10.0.0.5"), Some(vec!["tap1"]));
        assert_eq!(taps("10.0.0.6"), Some(vec!["tap2"]));
        assert_eq!(taps("192.0.2.1"), None, "a port that may send from everywhere is nobody's address");
        assert_eq!(taps("00000000-0000-0000-0000-000000000001"), Some(vec!["tap1", "tap3"]));
        assert_eq!(taps("tap9"), None);
    }
}
