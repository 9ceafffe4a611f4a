//! Many guests at once: a tap each, their own ends in one namespace, where IPv6 scopes keep them apart.

use std::net::SocketAddrV6;

use anyhow::{Context as _, Result};
use metadata_ebpf::addr::METADATA_IPV6;
use serde_json::json;

use crate::document::Document;
use crate::guest::{default_tap, mac_text, port_id};
use crate::http::Request;
use crate::netns::Namespace;
use crate::node::Node;

/// Guests numbered from 1, and the namespace that has their interfaces.
#[derive(Debug)]
pub struct Rack {
    namespace: Namespace,
    guests: u32,
}

impl Rack {
    /// Makes this many taps on the node, and their documents.
    ///
    /// # Errors
    /// If the network cannot be made.
    pub fn plug(node: &Node, guests: u32, document: impl Fn(Document) -> Document) -> Result<Self> {
        let namespace = Namespace::create("rack")?;
        let (mut outside, mut inside) = (String::new(), String::new());
        for number in 1..=guests {
            let (tap, mac) = (default_tap(number), mac_text(mac(number)));
            let name = namespace.name();
            outside += &format!(
                "link add {tap} type veth peer name g{number} address {mac} netns {name}\n\
                 link set {tap} addrgenmode none up\n"
            );
            inside +=
                &format!("link set g{number} addrgenmode none up\naddr add fe80::{number:x}/64 dev g{number} nodad\n");
            node.write(&document(self::document(number)))?;
        }
        node.namespace().ip_batch(&outside).context("making the taps")?;
        namespace.ip_batch(&inside).context("addressing the guests")?;
        Ok(Self { namespace, guests })
    }

    /// Returns the namespace of all guests' interfaces.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns where each guest asks, from inside the namespace.
    ///
    /// # Errors
    /// If an interface is gone.
    pub fn servers(&self) -> Result<Vec<SocketAddrV6>> {
        self.namespace.run(|| {
            let scope = |number| nix::net::if_::if_nametoindex(format!("g{number}").as_str());
            (1..=self.guests)
                .map(|number| {
                    let scope = scope(number).with_context(|| format!("the interface g{number}"))?;
                    Ok(SocketAddrV6::new(METADATA_IPV6.into(), 80, 0, scope))
                })
                .collect()
        })
    }

    /// Returns how many guests read their own metadata.
    ///
    /// # Errors
    /// If one gets no answer.
    pub fn served(&self) -> Result<u32> {
        self.namespace.run(|| {
            let path = "/openstack/latest/meta_data.json";
            let mut own = 0;
            for number in 1..=self.guests {
                let response = Request::get(path).over_ipv6().through(&format!("g{number}")).send()?;
                own += u32::from(response.json()?["uuid"] == uuid(number).as_str());
            }
            Ok(own)
        })
    }
}

/// Returns the MAC of a guest.
fn mac(number: u32) -> [u8; 6] {
    let [_, _, high, low] = number.to_be_bytes();
    [0xfa, 0x16, 0x3e, 7, high, low]
}

fn uuid(number: u32) -> String {
    format!("{number:08x}-0000-4000-9000-000000000000")
}

/// Returns the document of a guest, whether it has a tap or not.
#[must_use]
pub fn document(number: u32) -> Document {
    let port = json!({"id": port_id(number), "mac_address": mac_text(mac(number))});
    Document::new(&uuid(number), &format!("guest-{number}"), port)
}
