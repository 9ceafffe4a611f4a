//! The hook of deploy/libvirt with a real libvirtd: when it is called, what is there then, and that no start fails for it.
//!
//! The guest has no disk: what matters is over before it runs, and its firmware waits for ever.

use std::fs;

use lab::guest::mac_text;
use lab::{Document, Libvirtd, Nic, Node, machine, wait};
use serde_json::json;

use crate::guest::world::{nic, node, port};
use crate::run::Slot;

const UUID: &str = "77777777-0000-4000-9000-00000000000c";
const HOOK: &str = include_str!("../../deploy/libvirt/qemu");

/// Notes each call, with what is there: the tap, and the process of QEMU.
fn recorder(node: &Node, label: &str, tap: &str) -> String {
    format!(
        "#!/bin/sh\ncat >/dev/null\n\
         ip link show {tap} >/dev/null 2>&1 && tap=yes || tap=no\n\
         bound=no; metadatad ports --socket {socket} | grep -q '{tap} .* bound .*{UUID}' && bound=yes\n\
         qemu=no; pgrep -f 'guest=hooked,' >/dev/null && qemu=yes\n\
         echo \"{label} $2 $3 tap=$tap bound=$bound qemu=$qemu\" >>{record}\nexit 0\n",
        socket = node.path("admin.sock").display(),
        record = node.path("record").display(),
    )
}

fn domain(nic: &Nic) -> String {
    format!(
        "<domain type='qemu'><name>hooked</name><uuid>{UUID}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type machine='pc'>hvm</type></os><on_reboot>destroy</on_reboot>
<devices>
<interface type='bridge'><mac address='{}'/><source bridge='br0'/><target dev='{}'/><model type='virtio'/></interface>
<memballoon model='none'/>
</devices></domain>",
        mac_text(nic.mac),
        nic.tap
    )
}

fn record(node: &Node) -> String {
    fs::read_to_string(node.path("record")).unwrap_or_default()
}

#[test]
fn a_guest_starts_when_its_content_is_there_and_no_start_fails() {
    let _slot = Slot::take();
    let node = node("");
    let nic = nic(1);
    // The shortened time of the second start; the first waits for as long as the machine takes.
    let hook = |time: &str| HOOK.replace("time=5s", time).replace("limit=6", "limit=300");
    let config = fs::read_to_string(node.config()).unwrap();
    let (before, after) = (recorder(&node, "before", &nic.tap), recorder(&node, "after", &nic.tap));
    let files = [
        ("libvirt/hooks/qemu.d/10-before", before.as_str()),
        ("libvirt/hooks/qemu.d/50-metadatad", &hook("time=4m")),
        ("libvirt/hooks/qemu.d/90-after", &after),
        ("metadatad/metadatad.toml", &config),
    ];
    let libvirtd = Libvirtd::start_with(&node, &files).unwrap();
    assert!(machine::directory().is_ok());
    libvirtd.virsh_with(&["define"], &domain(&nic), &[]).unwrap();

    std::thread::scope(|scope| {
        let start = scope.spawn(|| libvirtd.virsh(&["start", "hooked"]));
        let begun = wait::until("the hook is called", || {
            assert!(!start.is_finished(), "{:?}: {}", record(&node), libvirtd.log());
            Ok(record(&node).contains("before start begin").then_some(()))
        });
        begun.unwrap();
        assert!(record(&node).contains("before start begin tap=yes bound=no qemu=no"), "{}", record(&node));
        assert!(!record(&node).contains("after start begin"), "it waits: {}", record(&node));
        node.write(&Document::new(UUID, "hooked", port(&nic, &["10.77.1.5"], json!({})))).unwrap();
        start.join().unwrap().unwrap();
    });
    let shown = record(&node);
    for line in [
        "before prepare begin tap=no bound=no qemu=no",
        "after prepare begin tap=no bound=no qemu=no",
        "after start begin tap=yes bound=yes qemu=no",
        "before started begin tap=yes bound=yes qemu=yes",
    ] {
        assert!(shown.contains(line), "{line}:\n{shown}");
    }

    // Content that does not come, and no daemon: the guest starts all the same.
    libvirtd.virsh(&["destroy", "hooked"]).unwrap();
    node.remove_document(UUID).unwrap();
    fs::remove_file(node.path("record")).unwrap();
    libvirtd.replace("libvirt/hooks/qemu.d/50-metadatad", &hook("time=100ms")).unwrap();
    libvirtd.virsh(&["start", "hooked"]).unwrap();
    assert!(record(&node).contains("after start begin tap=yes bound=no qemu=no"), "{}", record(&node));
    libvirtd.virsh(&["destroy", "hooked"]).unwrap();
    node.stop_daemon().unwrap();
    libvirtd.virsh(&["start", "hooked"]).unwrap();
    libvirtd.virsh(&["destroy", "hooked"]).unwrap();
}
