//! What `ports.pass` names reaches the network and comes back; everything else to the metadata addresses still ends at the tap.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Guest, Namespace, Node, NodePlan, Route};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6, METADATA_MAC};

/// A resolver on the bridge br0, at both metadata addresses: it answers over UDP and TCP what it was asked, reversed.
struct Resolver {
    namespace: Namespace,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Resolver {
    /// With this MAC, and as a gateway with these further addresses (lines of `ip`).
    fn start(node: &Node, mac: [u8; 6], further: &str) -> Self {
        let namespace = Namespace::create("dns").unwrap();
        node.namespace()
            .ip_batch(&format!(
                "link add dns type veth peer name eth0 address {} netns {}\nlink set dns addrgenmode none\n\
                 link set dns master br0\nlink set dns up\n",
                lab::guest::mac_text(mac),
                namespace.name()
            ))
            .unwrap();
        namespace
            .ip_batch(&format!(
                "link set eth0 addrgenmode none\nlink set eth0 up\naddr add 169.254.169.254/32 dev eth0\n\
                 addr add fe80::a9fe:a9fe/64 dev eth0 nodad\n{further}"
            ))
            .unwrap();
        let mut resolver = Self { namespace, ended: Arc::default(), threads: Vec::new() };
        for address in ["169.254.169.254", "fe80::a9fe:a9fe"] {
            resolver.serve(address.parse().unwrap(), 53);
        }
        resolver
    }

    fn serve(&mut self, address: IpAddr, port: u16) {
        let (udp, tcp) = self
            .namespace
            .run(|| {
                let at = at(address, port)?;
                Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?))
            })
            .unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let ended = Arc::clone(&self.ended);
        self.threads.push(std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((count, from)) = udp.recv_from(&mut buffer) {
                    buffer[..count].reverse();
                    let _ = udp.send_to(&buffer[..count], from);
                }
                if let Ok((mut stream, _)) = tcp.accept() {
                    let _ = stream.set_nonblocking(false);
                    if let Ok(count) = stream.read(&mut buffer) {
                        buffer[..count].reverse();
                        let _ = stream.write_all(&buffer[..count]);
                    }
                }
            }
        }));
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Returns a socket address on the calling thread's eth0.
fn at(address: IpAddr, port: u16) -> Result<SocketAddr> {
    Ok(match address {
        IpAddr::V4(_) => SocketAddr::new(address, port),
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, nix::net::if_::if_nametoindex("eth0")?).into(),
    })
}

fn addresses() -> [IpAddr; 2] {
    [IpAddr::from(METADATA_IPV4), IpAddr::from(METADATA_IPV6)]
}

/// Asks over UDP; an unanswered question is an error.
fn asks_over_udp(guest: &Guest, address: IpAddr, port: u16) -> Result<()> {
    guest.namespace().run(|| {
        let to = at(address, port)?;
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        // The first question may be lost while the resolver looks for the guest's MAC.
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut answer = [0; 16];
        for _ in 0..4 {
            socket.send_to(b"question", to)?;
            if let Ok(count) = socket.recv(&mut answer) {
                anyhow::ensure!(&answer[..count] == b"noitseuq", "{:?}", &answer[..count]);
                return Ok(());
            }
        }
        anyhow::bail!("no answer over UDP from {to}")
    })
}

fn asks_over_tcp(guest: &Guest, address: IpAddr, port: u16) -> Result<()> {
    guest.namespace().run(|| {
        let mut stream = TcpStream::connect_timeout(&at(address, port)?, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(b"question")?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).context("reading the answer")?;
        anyhow::ensure!(&answer == b"noitseuq", "{answer:?}");
        Ok(())
    })
}

fn bridged(plan: NodePlan) -> Node {
    let node = plan.make().unwrap();
    node.namespace()
        .ip_batch("link add br0 type bridge mcast_snooping 0\nlink set br0 addrgenmode none\nlink set br0 up\n")
        .unwrap();
    node
}

/// Gives `ports.pass` another value, for the daemon's next start.
fn set_pass(node: &Node, list: &str) {
    let text = std::fs::read_to_string(node.config()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("pass = ")).collect();
    let text = lines.join("\n").replace("[ports]\n", &format!("[ports]\npass = {list}\n"));
    std::fs::write(node.config(), text).unwrap();
}

/// The resolver's own link: it has the MAC under which metadatad answers ARP and neighbour discovery.
const ON_THE_LINK: &str = "route add 10.0.0.0/16 dev eth0\n";

#[test]
fn a_resolver_at_the_metadata_addresses_answers_beside_metadata() {
    let node = bridged(NodePlan::default());
    node.start_daemon().unwrap();
    let resolver = Resolver::start(&node, METADATA_MAC, ON_THE_LINK);
    let guest = node.guest("a").bridge("br0").boot().unwrap();
    for address in addresses() {
        asks_over_udp(&guest, address, 53).unwrap();
        asks_over_tcp(&guest, address, 53).unwrap();
    }
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
    assert!(node.counters(guest.ifindex()).unwrap().passed >= 4);
    drop(resolver);
}

#[test]
fn a_resolver_behind_the_guests_gateway_answers() {
    let node = bridged(NodePlan::default());
    node.start_daemon().unwrap();
    let gateway = [0x02, 0xde, 0xad, 0x00, 0xbe, 0xef];
    let resolver = Resolver::start(&node, gateway, "addr add 10.0.255.254/16 dev eth0\n");
    let guest = node.guest("a").bridge("br0").route(Route::DeadGateway).boot().unwrap();
    asks_over_udp(&guest, METADATA_IPV4.into(), 53).unwrap();
    asks_over_tcp(&guest, METADATA_IPV4.into(), 53).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    drop(resolver);
}

#[test]
fn a_held_guest_and_one_that_passes_have_their_resolver_too() {
    for unbound in ["hold", "pass"] {
        let node = bridged(NodePlan::default().unbound(unbound));
        node.start_daemon().unwrap();
        let resolver = Resolver::start(&node, METADATA_MAC, ON_THE_LINK);
        let guest = node.guest("a").bridge("br0").undocumented().boot().unwrap();
        match unbound {
            "hold" => node.wait_held(guest.ifindex()).unwrap(),
            _ => node.wait_unknown(guest.ifindex()).unwrap(),
        }
        for address in addresses() {
            asks_over_udp(&guest, address, 53).unwrap_or_else(|error| panic!("{unbound}: {error:#}"));
            asks_over_tcp(&guest, address, 53).unwrap_or_else(|error| panic!("{unbound}: {error:#}"));
        }
        drop(resolver);
    }
}

#[test]
fn a_restart_with_another_list_takes_effect_on_taps_that_stay() {
    let node = bridged(NodePlan::default());
    set_pass(&node, "[]");
    node.start_daemon().unwrap();
    let mut resolver = Resolver::start(&node, METADATA_MAC, ON_THE_LINK);
    resolver.serve(METADATA_IPV4.into(), 5353);
    let guest = node.guest("a").bridge("br0").boot().unwrap();
    let address = METADATA_IPV4.into();
    node.assert_moved(guest.ifindex(), &[("answered_arp", 1), ("not_answered", 4)], || {
        anyhow::ensure!(asks_over_udp(&guest, address, 53).is_err(), "passed without being in the list");
        Ok(())
    })
    .unwrap();
    let error = asks_over_tcp(&guest, address, 53).unwrap_err();
    assert!(format!("{error:#}").contains("refused"), "{error:#}");

    node.stop_daemon().unwrap();
    set_pass(&node, "[\"udp/53\", \"tcp/5353\"]");
    node.start_daemon().unwrap();
    asks_over_udp(&guest, address, 53).unwrap();
    asks_over_tcp(&guest, address, 5353).unwrap();
    assert!(asks_over_tcp(&guest, address, 53).is_err(), "only UDP is in the list");
    assert!(asks_over_udp(&guest, address, 5353).is_err(), "only TCP is in the list");
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    drop(resolver);
}
