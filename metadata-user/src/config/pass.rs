//! `ports.pass`: protocols and ports of the metadata addresses that are left to the network.

use std::fmt;

use metadata_ebpf::{
    abi::MAX_PASS,
    packet::{PROTOCOL_TCP, PROTOCOL_UDP},
};
use toml::Spanned;

use super::{
    ConfigError,
    raw::{File, Written},
};

/// Neutron's DNS forwarder, or another resolver that guests reach at a metadata address.
pub const DEFAULT: [PassedPort; 2] =
    [PassedPort { protocol: Protocol::Udp, port: 53 }, PassedPort { protocol: Protocol::Tcp, port: 53 }];

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the metadata addresses, written as `udp/53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedPort {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number, not 0.
    pub port: u16,
}

impl PassedPort {
    /// Returns protocol number and port, as the programs compare them.
    #[must_use]
    pub fn pair(self) -> (u8, u16) {
        let protocol = match self.protocol {
            Protocol::Tcp => PROTOCOL_TCP,
            Protocol::Udp => PROTOCOL_UDP,
        };
        (protocol, self.port)
    }

    fn parse(text: &str) -> Option<Self> {
        let (protocol, port) = text.split_once('/')?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        // Digits only: the standard library would take a sign.
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
        is_number.then(|| port.parse().ok()).flatten().map(|port| Self { protocol, port })
    }
}

impl fmt::Display for PassedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol}/{}", self.port)
    }
}

/// Checks the list; without one, the default without the responder's own port.
pub(super) fn check(
    written: Written<Vec<Spanned<String>>>,
    responder_port: u16,
    file: &File<'_>,
) -> Result<Vec<PassedPort>, ConfigError> {
    let own = PassedPort { protocol: Protocol::Tcp, port: responder_port };
    let Some(written) = written else {
        return Ok(DEFAULT.into_iter().filter(|port| *port != own).collect());
    };
    let span = written.span();
    let mut ports = Vec::new();
    for text in written.into_inner() {
        let refuse = |problem, remedy: &str| file.refuse(text.span(), problem, remedy);
        let name = text.get_ref();
        let Some(port) = PassedPort::parse(name) else {
            let problem = format!("`{name}` is not a protocol and port");
            return Err(refuse(
                problem,
                "write \"udp/\" or \"tcp/\" and a port from 1 to 65535, for example \"udp/53\"",
            ));
        };
        if port == own {
            let problem = format!("`{name}` is responder.port: no guest would be answered");
            return Err(refuse(problem, "remove it"));
        }
        if ports.contains(&port) {
            return Err(refuse(format!("`{name}` is in the list twice"), "remove one of them"));
        }
        ports.push(port);
    }
    if ports.len() > MAX_PASS {
        let problem = format!("{} ports in ports.pass", ports.len());
        return Err(file.refuse(span, problem, &format!("list at most {MAX_PASS}")));
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn parse(text: &str) -> Result<Vec<String>, String> {
        let config = Config::parse(Path::new("test.toml"), text).map_err(|error| error.to_string())?;
        Ok(config.ports.pass.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_list_is_taken_as_it_is() {
        assert_eq!(parse("").expect("the default"), ["udp/53", "tcp/53"]);
        assert_eq!(parse("[ports]\npass = []").expect("none"), [""; 0]);
        assert_eq!(parse("[ports]\npass = [\"tcp/853\", \"udp/65535\"]").expect("two"), ["tcp/853", "udp/65535"]);
        assert_eq!(parse("[responder]\nport = 53").expect("the default but for its own"), ["udp/53"]);
    }

    #[test]
    fn what_cannot_pass_is_refused_with_a_remedy() {
        let too_many: Vec<String> = (1..=17).map(|port| format!("\"udp/{port}\"")).collect();
        for (list, problem) in [
            ("\"53\"", "`53` is not a protocol and port"),
            ("\"udp\"", "`udp` is not a protocol and port"),
            ("\"sctp/53\"", "not a protocol"),
            ("\"UDP/53\"", "not a protocol"),
            ("\"udp/0\"", "not a protocol"),
            ("\"udp/053\"", "not a protocol"),
            ("\"udp/+53\"", "not a protocol"),
            ("\"udp/65536\"", "not a protocol"),
            ("\"udp/53/1\"", "not a protocol"),
            ("\"udp/\"", "not a protocol"),
            ("\"tcp/80\"", "`tcp/80` is responder.port"),
            ("\"udp/53\", \"udp/53\"", "`udp/53` is in the list twice"),
            (too_many.join(", ").as_str(), "17 ports"),
            ("53", "invalid type"),
        ] {
            let error = parse(&format!("[ports]\npass = [{list}]")).expect_err(list);
            assert!(error.contains(problem), "{list}: {error}");
        }
    }
}
