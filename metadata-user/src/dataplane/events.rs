//! Sampled drops, as log lines.

use aya::maps::{MapData, RingBuf};
use metadata_ebpf::{
    abi::{DropReason, Event},
    packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthArp, EthIpv4, EthIpv6, view},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::IfIndex;

/// A drop that was sampled.
#[derive(Clone, Debug)]
pub struct SampledDrop {
    /// The tap.
    pub ifindex: IfIndex,
    /// Its name; empty if it is not known (any more).
    pub tap: String,
    /// Why.
    pub reason: DropReason,
    /// How many of this reason have been dropped on this tap: 1, 2, 4, 8 …
    pub count: u64,
    /// Source MAC of the frame; empty if it is not there.
    pub mac: String,
    /// Source address of the packet; empty if it is not there.
    pub source: String,
}

/// Logs every event of the ring and gives it to `seen`, for as long as it is polled; `name_of` knows the taps' names.
/// Cancel-safe.
///
/// # Errors
/// If the ring cannot be waited for.
pub async fn log(
    ring: RingBuf<MapData>,
    name_of: impl Fn(IfIndex) -> Option<String> + Send,
    seen: impl Fn(SampledDrop) + Send,
) -> std::io::Result<()> {
    // SAFETY: the ring owns its descriptor, always returns the same one and keeps it open until it is dropped.
    let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
    loop {
        let mut ready = ring.readable_mut().await?;
        while let Some(item) = ready.get_inner_mut().next() {
            if let Some(event) = read(&item) {
                let tap = name_of(IfIndex(event.ifindex)).unwrap_or_default();
                let (mac, source) = addresses(&event);
                write(&event, &tap, &mac, &source);
                if let Some(reason) = DropReason::from_number(event.reason) {
                    let ifindex = IfIndex(event.ifindex);
                    seen(SampledDrop { ifindex, tap, reason, count: event.count, mac, source });
                }
            }
        }
        ready.clear_ready();
    }
}

/// Copies an event out of the ring; `None` if the item is of another size.
fn read(item: &[u8]) -> Option<Event> {
    // SAFETY: as long as an `Event` (checked here), which is made of integers only; read without regard to alignment.
    (item.len() == size_of::<Event>()).then(|| unsafe { item.as_ptr().cast::<Event>().read_unaligned() })
}

fn write(event: &Event, name: &str, mac: &str, source: &str) {
    let reason = DropReason::from_number(event.reason).map_or("unknown", DropReason::name);
    tracing::warn!(
        ifindex = event.ifindex,
        name,
        reason,
        count = event.count,
        bytes = event.len,
        vlan = event.vlan,
        mac,
        source,
        "packet to a metadata address dropped"
    );
}

/// Returns source MAC and source address of the sampled frame, as far as they are there.
fn addresses(event: &Event) -> (String, String) {
    let mac = |mac: [u8; 6]| crate::record::MacAddress(mac).to_string();
    let head = &event.head[..];
    match event.ethertype {
        ETHERTYPE_IPV4 => {
            view::<EthIpv4>(head).map(|frame| (mac(frame.src_mac), std::net::Ipv4Addr::from(frame.src).to_string()))
        }
        ETHERTYPE_IPV6 => {
            view::<EthIpv6>(head).map(|frame| (mac(frame.src_mac), std::net::Ipv6Addr::from(frame.src).to_string()))
        }
        ETHERTYPE_ARP => {
            view::<EthArp>(head).map(|frame| (mac(frame.src_mac), std::net::Ipv4Addr::from(frame.sender).to_string()))
        }
        _ => None,
    }
    .unwrap_or_default()
}
