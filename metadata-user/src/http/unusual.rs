//! What is unusual about a request, by its target and headers.
//!
//! Pure, and one look at each header: most requests have three.

use std::net::Ipv6Addr;

use hyper::header::HeaderMap;
use hyper::{Method, Uri};
use metadata_ebpf::addr::METADATA_IPV6;

use crate::audit::{Anomalies, Anomaly};

/// 169.254.169.254, as clients write it.
const METADATA_IPV4: &str = "169.254.169.254";

/// Returns what is unusual about a request.
pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Anomalies {
    let mut found = Anomalies::default();
    for (name, value) in headers {
        let name = name.as_str();
        // Of the headers that most requests have, only `host` begins like one of these.
        if !matches!(name.as_bytes(), [b'f' | b'h' | b't' | b'v' | b'x', ..]) {
            continue;
        }
        match name {
            "host" if !value.as_bytes().is_empty() && !is_ours(value.as_bytes()) => found.add(Anomaly::OddHost),
            "forwarded" | "via" | "x-real-ip" | "x-client-ip" | "true-client-ip" => found.add(Anomaly::ForwardedHeader),
            // Headers by which Neutron's agents, and load balancers before Nova, say who is asking. Nova and the agents trust
            // them; here they mean nothing.
            "x-instance-id"
            | "x-instance-id-signature"
            | "x-tenant-id"
            | "x-metadata-provider"
            | "x-metadata-provider-signature"
            | "x-neutron-network-id"
            | "x-neutron-router-id" => found.add(Anomaly::IdentityHeader),
            name if name.starts_with("x-forwarded-") => found.add(Anomaly::ForwardedHeader),
            _ => {}
        }
    }
    let is_other = uri.authority().is_some_and(|authority| !is_ours(authority.as_str().as_bytes()));
    if is_other || *method == Method::CONNECT {
        // As a proxy is asked.
        found.add(Anomaly::OddHost);
    }
    found
}

/// Tells whether a host, with a port or without, is one of the service's addresses. An IPv6 address may have a zone.
fn is_ours(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    if let Some(port) = host.strip_prefix(METADATA_IPV4) {
        return is_port(port);
    }
    let Some((address, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return false };
    let address = address.split_once('%').map_or(address, |(address, _)| address);
    address.parse() == Ok(Ipv6Addr::from(METADATA_IPV6)) && is_port(port)
}

/// Tells whether a text is a port after its colon, or nothing.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').map_or(text.is_empty(), |digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    #[test]
    fn each_anomaly_is_found_and_what_clients_send_is_none() {
        use Anomaly::{ForwardedHeader, IdentityHeader, OddHost};
        for (method, target, headers, expected) in [
            ("GET", "/", &[("host", "169.254.169.254"), ("user-agent", "curl/8.5.0"), ("accept", "*/*")][..], &[][..]),
            ("GET", "/", &[], &[]),
            ("GET", "/", &[("host", "")], &[]),
            ("GET", "/", &[("host", "169.254.169.254:80")], &[]),
            ("GET", "/", &[("host", "[fe80::a9fe:a9fe]")], &[]),
            ("GET", "/", &[("host", "[FE80::A9FE:A9FE%25eth0]:80")], &[]),
            ("GET", "/", &[("host", "[fe80:0:0:0:0:0:a9fe:a9fe%2]")], &[]),
            ("GET", "http://169.254.169.254/", &[], &[]),
            ("GET", "/", &[("host", "169.254.169.254.nip.io")], &[OddHost]),
            ("GET", "/", &[("host", "169.254.169.254:80x")], &[OddHost]),
            ("GET", "/", &[("host", "2852039166")], &[OddHost]),
            ("GET", "/", &[("host", "metadata.internal")], &[OddHost]),
            ("GET", "/", &[("host", "[::ffff:169.254.169.254]")], &[OddHost]),
            ("GET", "/", &[("host", "fe80::a9fe:a9fe")], &[OddHost]),
            ("GET", "/", &[("host", "169.254.169.254"), ("host", "a")], &[OddHost]),
            ("GET", "http://rebound.example/", &[("host", "169.254.169.254")], &[OddHost]),
            ("CONNECT", "169.254.169.254:80", &[], &[OddHost]),
            ("GET", "/", &[("x-forwarded-for", "10.0.0.1")], &[ForwardedHeader]),
            ("GET", "/", &[("x-forwarded-proto", "http")], &[ForwardedHeader]),
            ("GET", "/", &[("forwarded", "for=_x"), ("via", "1.1 x")], &[ForwardedHeader]),
            ("GET", "/", &[("x-instance-id", "1"), ("x-real-ip", "1")], &[ForwardedHeader, IdentityHeader]),
            ("GET", "/", &[("x-neutron-router-id", "1")], &[IdentityHeader]),
        ] {
            let mut request = Request::builder().method(method).uri(target);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).expect("a request").into_parts();
            let found = of(&parts.method, &parts.uri, &parts.headers);
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{method} {target} {headers:?}");
        }
    }
}
