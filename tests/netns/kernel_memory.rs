//! What guests can make the kernel keep for them: answers that are never acknowledged, and answers that are not read.

use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use lab::http::Connection;
use lab::{FrameSocket, Guest, Node, NodePlan, Request, command, wait};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_MAC};

const PATH: &str = "/latest/user-data";

/// A guest whose user data is as large as an answer gets that fits whole into the kernel.
fn guest(node: &Node) -> Guest {
    node.guest("a").document(|document| document.with_user_data(&vec![b'x'; 60_000])).boot().unwrap()
}

/// The responder's sockets that have something unacknowledged: how much, and how much memory that takes.
fn unacknowledged(node: &Node) -> Vec<(u64, u64)> {
    let mut ss = node.responder().command("ss").unwrap();
    // All states but listening; memory; one line each.
    let shown = command::run(ss.args(["-HtanmO"]), "").unwrap();
    let sockets = shown.lines().filter(|line| !line.starts_with("LISTEN")).filter_map(|line| {
        let queued: u64 = line.split_whitespace().nth(2)?.parse().ok()?;
        let memory = line.split_once("skmem:(")?.1;
        let written = memory.split([',', ')']).find_map(|part| part.strip_prefix('w')?.parse().ok())?;
        Some((queued, written))
    });
    sockets.filter(|(queued, _)| *queued > 0).collect()
}

/// The guest's own TCP, in three packets: it asks, and acknowledges nothing of the answer.
fn ask_and_go(guest: &Guest, frames: &FrameSocket, address: [u8; 4], port: u16) {
    let packet = || PacketBuilder::ethernet2(guest.mac(), METADATA_MAC).ipv4(address, METADATA_IPV4, 64);
    let mut syn = Vec::new();
    packet().tcp(port, 80, 1000, 65_535).syn().write(&mut syn, &[]).unwrap();
    frames.send(&syn).unwrap();
    let sequence = wait::until("the responder answers the SYN", || {
        let Some(frame) = frames.receive(Duration::from_millis(100))? else { return Ok(None) };
        let Ok(packet) = SlicedPacket::from_ethernet(&frame) else { return Ok(None) };
        let (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Tcp(tcp))) = (packet.net, packet.transport) else {
            return Ok(None);
        };
        Ok((tcp.syn() && tcp.destination_port() == port).then(|| tcp.sequence_number()))
    })
    .unwrap();
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    let mut asking = Vec::new();
    packet().tcp(port, 80, 1001, 65_535).ack(sequence + 1).psh().write(&mut asking, request.as_bytes()).unwrap();
    frames.send(&asking).unwrap();
}

#[test]
fn an_answer_that_is_never_acknowledged_keeps_a_place_of_its_guests_and_is_gone_in_time() {
    let limits = "[http]\nconnections_per_port = 4\nrequest_timeout = \"2s\"\n";
    let node = NodePlan::default().further(limits).start().unwrap();
    let guest = guest(&node);
    let address = guest.ipv4().unwrap();
    let frames = guest.frames().unwrap();
    // What comes for an address that it does not have, the guest's own kernel does not answer with a reset.
    guest.namespace().ip(&format!("addr del {address}/16 dev eth0")).unwrap();
    let mut most = 0;
    for port in 20_000..20_040 {
        ask_and_go(&guest, &frames, address.octets(), port);
        most = most.max(unacknowledged(&node).len());
    }
    // Four that have a place, and four that have given theirs away and end.
    assert!((1..=8).contains(&most), "the kernel keeps answers of {most} connections");
    wait::until("the kernel keeps no answer", || Ok(unacknowledged(&node).is_empty().then_some(()))).unwrap();
    wait::until("every place is free", || Ok((node.status()?["http"]["open"] == 0).then_some(()))).unwrap();
}

#[test]
fn answers_that_are_not_read_take_bounded_memory_and_their_connections_end() {
    let node =
        NodePlan::default().further("[http]\nidle_timeout = \"1m\"\nrequest_timeout = \"3s\"\n").start().unwrap();
    let guest = guest(&node);
    let connect = || -> Connection {
        let mut connection = guest.namespace().run(|| Request::get(PATH).connect()).unwrap();
        // More than fits into both sides' buffers.
        let requests = format!("GET {PATH} HTTP/1.1\r\nHost: m\r\n\r\n").repeat(200);
        connection.send_raw(requests.as_bytes()).unwrap();
        connection
    };
    let connections: Vec<_> = (0..100).map(|_| connect()).collect();
    let mut most = 0;
    wait::until("all are closed", || {
        let kept = unacknowledged(&node);
        most = most.max(kept.iter().map(|(_, memory)| *memory).sum());
        Ok((kept.is_empty() && node.status()?["http"]["timed_out"].as_u64() >= Some(100)).then_some(()))
    })
    .unwrap();
    drop(connections);
    // As `http/listener.rs` and `dataplane/responder/pair.rs` have it, and one packet more for each.
    let bound = 64 * (256 << 10) + 36 * (32 << 10) + 100 * (64 << 10);
    assert!((1..=bound).contains(&most), "{most} bytes in send buffers, of at most {bound}");
}
