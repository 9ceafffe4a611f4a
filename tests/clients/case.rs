//! A golden case brought to life: its document on a node, its guest with the case's MAC and addresses, and what Nova
//! answered to compare with.

use std::path::Path;

use anyhow::{Context as _, Result};
use lab::golden::Golden;
use lab::{Document, Guest, Node};
use serde_json::Value;

/// A case of `tests/golden`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) facts: Value,
    responses: Value,
    document: Document,
}

/// The address of the service over each family, as a client is told it. cloud-init 22.4 asks the resolver for the host
/// of a URL, which knows a zone after a bare `%` only.
pub(crate) const IPV4: &str = "http://169.254.169.254";
pub(crate) const IPV6: &str = "http://[fe80::a9fe:a9fe%eth0]";

impl Case {
    pub(crate) fn load(name: &str) -> Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        let read =
            |file: &str| std::fs::read(directory.join(file)).with_context(|| format!("reading {file} of {name}"));
        let facts = read("instance.json")?;
        Ok(Self {
            document: Golden::from_facts(&facts)?.document.into(),
            facts: serde_json::from_slice(&facts)?,
            responses: serde_json::from_slice(&read("responses.json")?)?,
        })
    }

    /// Boots the case's guest and waits until its document is served.
    pub(crate) fn boot(&self, node: &Node) -> Result<Guest> {
        let guest = self.boot_without_document(node)?;
        self.publish(node)?;
        node.wait_bound(guest.ifindex())?;
        Ok(guest)
    }

    /// Boots the case's guest, whose port is held until [`Self::publish`].
    pub(crate) fn boot_without_document(&self, node: &Node) -> Result<Guest> {
        let nics = self.facts["network_info"].as_array().context("no network")?;
        let first = nics.first().context("no port")?;
        let mut mac = [0; 6];
        let text = first["address"].as_str().unwrap_or_default();
        for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
            *byte = u8::from_str_radix(digits, 16)?;
        }
        let ips =
            first["network"]["subnets"].as_array().into_iter().flatten().flat_map(|subnet| subnet["ips"].as_array());
        let ipv4 = ips.flatten().find(|ip| ip["version"] == 4);
        let plan = node.guest("a").undocumented().mac(mac).tap(first["devname"].as_str().unwrap_or_default());
        let plan = match ipv4.and_then(|ip| ip["address"].as_str()) {
            Some(address) => plan.ipv4(&format!("{address}/24")),
            None => plan.ipv6_only(),
        };
        let guest = plan.boot()?;
        for (number, nic) in nics.iter().enumerate().skip(1) {
            let mac = nic["address"].as_str().unwrap_or_default();
            guest.namespace().ip(&format!("link add eth{number} address {mac} type veth peer name peer{number}"))?;
        }
        node.wait_held(guest.ifindex())?;
        Ok(guest)
    }

    /// Writes the case's document.
    pub(crate) fn publish(&self, node: &Node) -> Result<()> {
        node.write(&self.document)
    }

    /// Returns the text that Nova answered with.
    pub(crate) fn nova(&self, path: &str) -> Result<&str> {
        let rows = self.responses["responses"].as_array().into_iter().flatten();
        let row = rows.into_iter().find(|row| row["path"] == path && row["method"] == "GET" && row["status"] == 200);
        let row = row.with_context(|| format!("Nova was not asked for {path}"))?;
        let stored = row["body_ref"].as_str().map(|name| &self.responses["bodies"][name]["body"]);
        stored.unwrap_or(&row["body"]).as_str().with_context(|| format!("no text at {path}"))
    }

    /// Returns the JSON that Nova answered with.
    pub(crate) fn nova_json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(self.nova(path)?)?)
    }
}
