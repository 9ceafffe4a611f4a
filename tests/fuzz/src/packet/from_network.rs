//! What others send to a guest, as the program `from_network` looks at it.

use metadata_ebpf::abi::PassList;
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6};
use metadata_ebpf::packet::{
    ETH_IPV4_LEN, ETH_IPV6_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthArp, EthIpv4, EthIpv6, Neighbour,
    PROTOCOL_ICMPV6, Transport, View, view,
};
use metadata_ebpf::verdict::impersonation::{self, MAX_EXTENSIONS, MAX_TAGS, Next};

use crate::input::Input;

pub(super) fn run(mut input: Input<'_>) {
    let pass = super::pass_list(input.byte());
    let frame = input.rest();
    let claims = claims(frame, &pass);
    let mentions = |address: &[u8]| frame.windows(address.len()).any(|window| window == address);
    if !mentions(&METADATA_IPV4) && !mentions(&METADATA_IPV6) {
        assert!(!claims || has_extensions(frame), "a frame without the address is taken for a claim");
    }
    if !pass.is_empty() || frame.len() < 14 {
        return;
    }
    // Where nothing passes, the address in the sender's place is a claim, whatever follows.
    let is_claim = match u16::from_be_bytes([frame[12], frame[13]]) {
        ETHERTYPE_IPV4 => frame.get(26..30) == Some(&METADATA_IPV4) && frame.len() >= ETH_IPV4_LEN,
        ETHERTYPE_IPV6 => frame.get(22..38) == Some(&METADATA_IPV6) && frame.len() >= ETH_IPV6_LEN,
        ETHERTYPE_ARP => frame.get(28..32) == Some(&METADATA_IPV4) && frame.len() >= size_of::<EthArp>(),
        _ => return,
    };
    assert!(claims || !is_claim, "a claim is not seen");
}

/// Tells whether a frame may have more headers than are looked at.
fn has_extensions(frame: &[u8]) -> bool {
    frame.windows(2).any(|window| window == ETHERTYPE_IPV6.to_be_bytes())
}

/// Goes through a frame as the program does.
fn claims(frame: &[u8], pass: &PassList) -> bool {
    let mut shift = 0;
    for _ in 0..=MAX_TAGS {
        let Some([high, low]) = frame.get(shift + 12..shift + 14) else { return false };
        match u16::from_be_bytes([*high, *low]) {
            ETHERTYPE_IPV4 => return ipv4(frame, shift, pass),
            ETHERTYPE_IPV6 => return ipv6(frame, shift, pass),
            ETHERTYPE_ARP => return load::<EthArp>(frame, shift).is_some_and(|frame| impersonation::arp(frame, pass)),
            tag if impersonation::is_tag(tag) => shift += 4,
            _ => return false,
        }
    }
    false
}

fn load<T: View>(frame: &[u8], offset: usize) -> Option<&T> {
    view(frame.get(offset..)?)
}

fn ipv4(frame: &[u8], shift: usize, pass: &PassList) -> bool {
    let Some(header) = load::<EthIpv4>(frame, shift) else { return false };
    impersonation::is_from_ipv4(header)
        && impersonation::ipv4(header, load::<Transport>(frame, shift + ETH_IPV4_LEN), pass)
}

fn ipv6(frame: &[u8], shift: usize, pass: &PassList) -> bool {
    let Some(header) = load::<EthIpv6>(frame, shift) else { return false };
    let start = shift + ETH_IPV6_LEN;
    if impersonation::is_from_ipv6(header) {
        if header.next_header == PROTOCOL_ICMPV6 {
            return load::<Neighbour>(frame, start).is_none_or(|message| impersonation::own_message(message, pass));
        }
        return impersonation::ipv6(header, load::<Transport>(frame, start), pass);
    }
    let (mut offset, mut next_header) = (start, header.next_header);
    for _ in 0..=MAX_EXTENSIONS {
        let Some([first, second]) = frame.get(offset..offset + 2) else { return false };
        match impersonation::next(next_header, [*first, *second]) {
            Next::Other => return false,
            Next::Message => return load::<Neighbour>(frame, offset).is_some_and(impersonation::message),
            Next::Extension { next_header: following, len } => {
                assert!(len >= 8, "no way on");
                next_header = following;
                offset += usize::from(len);
            }
        }
    }
    true
}
