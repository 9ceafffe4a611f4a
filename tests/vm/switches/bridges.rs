//! Linux bridges.

use anyhow::Result;
use lab::netns::Namespace;
use lab::{Guest, Node};

use crate::watch::{Watch, ask_often, talk};

/// Two guests on a bridge, and a further port of it.
fn world(kind: &str) -> Result<(Guest, Guest, Namespace, Node)> {
    let node = Node::start()?;
    let further = Namespace::create("further")?;
    node.namespace().ip_batch(&format!(
        "link add br0 type bridge {kind}\nlink set br0 up\n\
         link add further0 type veth peer name eth0 netns {}\nlink set further0 master br0\nlink set further0 up\n",
        further.name()
    ))?;
    further.ip("link set eth0 up")?;
    let (a, b) = (node.guest("a").bridge("br0").boot()?, node.guest("b").bridge("br0").boot()?);
    Ok((a, b, further, node))
}

fn silent(a: &Guest, b: &Guest, others: &[(&Namespace, &str)]) -> Result<()> {
    let watch = Watch::begin(others)?;
    ask_often(a)?;
    talk(a, b)?;
    talk(b, a)?;
    watch.end_silent(a)?;
    ask_often(b)
}

pub(crate) fn plain() -> Result<()> {
    let (a, b, further, node) = world("")?;
    silent(&a, &b, &[(b.namespace(), "eth0"), (&further, "eth0"), (node.namespace(), "br0")])
}

pub(crate) fn vlan_filtering() -> Result<()> {
    let (a, b, further, node) = world("vlan_filtering 1 vlan_default_pvid 0")?;
    for port in [a.tap(), b.tap(), "further0"] {
        lab::command::run(
            node.namespace().command("bridge")?.args(["vlan", "add", "dev", port, "vid", "7", "pvid", "untagged"]),
            "",
        )?;
    }
    silent(&a, &b, &[(b.namespace(), "eth0"), (&further, "eth0")])
}
