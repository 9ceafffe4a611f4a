//! `ports.pass`: protocols and ports of the metadata addresses that are left to the network.

use std::fmt;

use metadata_ebpf::{
    abi::MAX_PASS,
    packet::{PROTOCOL_TCP, PROTOCOL_UDP},
};
use toml::Spanned;

use super::refusal::{Fault, Refusal};

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

    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        Self::of(text).ok_or_else(|| {
            let remedy = "write \"udp/\" or \"tcp/\" and a port from 1 to 65535, for example \"udp/53\"";
            Fault::new(format!("`{text}` is not a protocol and port"), remedy)
        })
    }

    fn of(text: &str) -> Option<Self> {
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

/// Checks the list. The default is taken without the responder's own port.
pub(super) fn check(
    list: Spanned<Vec<Spanned<PassedPort>>>,
    is_written: bool,
    responder_port: u16,
) -> Result<Vec<PassedPort>, Refusal> {
    let own = PassedPort { protocol: Protocol::Tcp, port: responder_port };
    if list.get_ref().len() > MAX_PASS {
        let problem = format!("{} ports in ports.pass", list.get_ref().len());
        return Err(Fault::new(problem, format!("list at most {MAX_PASS}")).at(list.span()));
    }
    let mut ports = Vec::new();
    for written in list.into_inner() {
        let port = *written.get_ref();
        if port == own && !is_written {
            continue;
        }
        let fault = if port == own {
            Fault::new(format!("`{port}` is responder.port: no guest would be answered"), "remove it")
        } else if ports.contains(&port) {
            Fault::new(format!("`{port}` is in the list twice"), "remove one of them")
        } else {
            ports.push(port);
            continue;
        };
        return Err(fault.at(written.span()));
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
