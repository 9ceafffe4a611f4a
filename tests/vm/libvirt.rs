//! A real libvirt: a domain as Nova defines it, whose interfaces come and go while it runs.

use lab::dhcp::Dhcp;
use lab::guest::mac_text;
use lab::{Document, Libvirtd, Nic, Terminal, machine, wait};
use serde_json::json;

use crate::guest::world::{node, port, proofs, read_by_large_request};
use crate::run::Slot;

const UUID: &str = "77777777-0000-4000-9000-00000000000b";

/// An interface as Nova's driver for Linux bridges and os-vif write it; libvirt makes the tap.
fn interface(nic: &Nic) -> String {
    format!(
        "<interface type='bridge'><mac address='{}'/><source bridge='br0'/><target dev='{}'/><model type='virtio'/>\
         <driver rx_queue_size='256'/></interface>",
        mac_text(nic.mac),
        nic.tap
    )
}

/// The domain, with Nova's metadata.
fn domain(libvirtd: &Libvirtd, nic: &Nic, port: &str) -> String {
    let vm = machine::directory().unwrap();
    let debian = vm.join("debian");
    let (kernel, initrd) = (machine::kernel(&debian).unwrap(), vm.join("guest/initrd"));
    let path = |name: &str| libvirtd.path(name).display().to_string();
    format!(
        "<domain type='qemu'>
<name>instance-0000000b</name><uuid>{UUID}</uuid>
<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>
<nova:package version='34.0.0'/><nova:name>virt</nova:name><nova:creationTime>2026-11-24 00:00:00</nova:creationTime>
<nova:flavor name='m1.tiny'><nova:memory>512</nova:memory><nova:disk>1</nova:disk><nova:swap>0</nova:swap>
<nova:ephemeral>0</nova:ephemeral><nova:vcpus>1</nova:vcpus></nova:flavor>
<nova:owner><nova:user uuid='u'>demo</nova:user><nova:project uuid='project-of-nova'>demo</nova:project></nova:owner>
<nova:ports><nova:port uuid='{port}'><nova:ip type='fixed' address='10.77.1.5' ipVersion='4'/></nova:port></nova:ports>
</nova:instance></metadata>
<memory unit='MiB'>512</memory><vcpu>1</vcpu>
<sysinfo type='smbios'><system><entry name='manufacturer'>OpenStack Foundation</entry>
<entry name='product'>OpenStack Nova</entry><entry name='uuid'>{UUID}</entry></system></sysinfo>
<os><type machine='pc'>hvm</type><kernel>{}</kernel><initrd>{}</initrd><cmdline>{}</cmdline><smbios mode='sysinfo'/></os>
<features><acpi/><apic/></features><cpu mode='maximum'/>
<on_reboot>destroy</on_reboot>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe'/><source file='{}'/>
<target dev='vda' bus='virtio'/></disk>
{}
<serial type='file'><source path='{}'/><target port='0'/></serial>
<serial type='unix'><source mode='bind' path='{}'/><target port='1'/></serial>
<memballoon model='none'/>
</devices>
</domain>",
        kernel.display(),
        initrd.display(),
        machine::COMMAND_LINE,
        path("disk"),
        interface(nic),
        path("console"),
        path("shell"),
    )
}

#[test]
fn a_domain_of_a_real_libvirt_is_bound_by_its_word_and_interfaces_come_and_go() {
    let _slot = Slot::take();
    let node = node("");
    // Names that no document tells, nor the port's id.
    let nics = [1, 2].map(|number| Nic { tap: format!("tapvirt{number}"), mac: [0xfa, 0x16, 0x3e, 0x78, 0, number] });
    let [first, second] = &nics;
    let hosts = [(first.mac, "10.77.1.5"), (second.mac, "10.77.1.6")];
    let _dhcp = Dhcp::start(&node, "br0", "10.77.1", &hosts).unwrap();
    let libvirtd = Libvirtd::start(&node).unwrap();
    machine::copy_disk(&libvirtd.path("disk")).unwrap();
    let mut ports =
        [(first, "10.77.1.5"), (second, "10.77.1.6")].map(|(nic, address)| port(nic, &[address], json!({})));
    for (number, port) in ports.iter_mut().enumerate() {
        port["id"] = json!(format!("0000000{number}-aaaa-4000-8000-000000000078"));
    }
    let document = Document::new(UUID, "virt", ports[0].clone());
    node.write(&document).unwrap();

    libvirtd.virsh_with(&["define"], &domain(&libvirtd, first, "00000000-aaaa-4000-8000-000000000078"), &[]).unwrap();
    libvirtd.virsh(&["start", "instance-0000000b"]).unwrap();
    let mut terminal = Terminal::new(libvirtd.path("").as_path());
    let is_bound =
        |port: &serde_json::Value| port["state"] == "bound" && port["instance"] == UUID && port["origin"] == "libvirt";
    node.wait_port_shown(&first.tap, "is bound by libvirt", is_bound).unwrap();
    let finished = terminal.wait("finished at", || Ok(())).unwrap();
    println!("libvirt: cloud-init done {:.1} s after power-on", finished.as_secs_f64());
    terminal.wait("proof done", || Ok(())).unwrap();
    let console = terminal.console();
    assert_eq!(proofs(&console, "instance"), [UUID], "{console}");
    assert_eq!(proofs(&console, "hostname"), ["virt"], "{console}");

    // One more while it runs, and Nova's documents follow.
    libvirtd.virsh_with(&["attach-device", "instance-0000000b"], &interface(second), &["--live"]).unwrap();
    node.write(&document.clone().with("ports", json!(ports))).unwrap();
    node.wait_port_shown(&second.tap, "is bound by libvirt", is_bound).unwrap();
    terminal
        .shell(
            "until ip link set eth1 up; do :; done; \
             until ip -6 -o addr show dev eth1 scope link | grep fe80 | grep -qv tentative; do :; done; \
             ip addr add 10.77.1.6/24 dev eth1; ip route replace 169.254.169.254 dev eth1",
        )
        .unwrap();
    let served = |terminal: &mut Terminal, interface: &str| {
        for url in ["http://169.254.169.254".to_owned(), format!("http://[fe80::a9fe:a9fe%{interface}]")] {
            let answer = terminal.shell(&read_by_large_request(&url)).unwrap();
            assert!(answer.contains("links"), "{url}: {answer}");
        }
    };
    served(&mut terminal, "eth1");

    // And away: the guest gives it up, libvirt removes the tap, and nothing of it is left.
    libvirtd.virsh_with(&["detach-device", "instance-0000000b"], &interface(second), &["--live"]).unwrap();
    wait::until("the tap's port is gone", || Ok(node.port(&second.tap).is_err().then_some(()))).unwrap();
    terminal.shell("until ! ip link show eth1; do :; done; ip route replace 169.254.169.254 dev eth0").unwrap();
    served(&mut terminal, "eth0");

    libvirtd.virsh(&["destroy", "instance-0000000b"]).unwrap();
    wait::until("the other tap's port is gone", || Ok(node.port(&first.tap).is_err().then_some(()))).unwrap();
    let facts = node.status().unwrap()["facts"].clone();
    let libvirt = facts.as_array().unwrap().iter().find(|fact| fact["name"] == "libvirt").cloned();
    assert!(libvirt.is_some_and(|fact| fact["present"] == true), "{facts}");
}
