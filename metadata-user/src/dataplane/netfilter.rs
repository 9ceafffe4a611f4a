//! Which chains of netfilter are in the calling thread's network namespace, as nft and iptables-nft make them.
//!
//! The kernel's protocol (`linux/netfilter/nfnetlink.h`, `nf_tables.h`) is spoken by hand, as it takes one message: programs that list
//! chains need not be installed. Left out: rules. Where none belong, a chain with a hook is enough to know.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct nfgenmsg`, which follows it.
const FAMILY: usize = 4;
/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFT_MSG_NEWCHAIN`.
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
/// `NFT_MSG_GETCHAIN`.
const GET_CHAIN: u16 = SUBSYSTEM | 4;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `NFTA_CHAIN_TABLE`.
const TABLE: u16 = 1;
/// `NFTA_CHAIN_NAME`.
const NAME: u16 = 3;
/// `NFTA_CHAIN_HOOK`: only chains that see packets by themselves have it.
const HOOK: u16 = 4;
/// `NFTA_CHAIN_POLICY`.
const POLICY: u16 = 5;

/// Returns the chains that have a hook, for people: `inet filter input, policy drop`.
///
/// # Errors
/// If the kernel does not tell, for example because it has no nftables.
pub(super) fn base_chains() -> io::Result<Vec<String>> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    let here = NetlinkAddr::new(0, 0);
    bind(socket.as_raw_fd(), &here)?;
    sendto(socket.as_raw_fd(), &request(), &here, MsgFlags::empty())?;
    let (mut chains, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if !read(buffer.get(..length).unwrap_or_default(), &mut chains) {
            return Ok(chains);
        }
    }
}

/// Asks for all chains, of every family.
fn request() -> Vec<u8> {
    let length = u32::try_from(HEADER + FAMILY).unwrap_or_default();
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(GET_CHAIN.to_ne_bytes());
    message.extend(DUMP.to_ne_bytes());
    message.extend([0; HEADER - 8 + FAMILY]);
    message
}

/// Reads messages. `false`: they were the last ones.
fn read(mut bytes: &[u8], chains: &mut Vec<String>) -> bool {
    while let Some(kind) = number(bytes, 4) {
        let length = bytes.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length) as usize);
        let Some(message) = bytes.get(HEADER..length) else { return false };
        match kind {
            DONE | ERROR => return false,
            NEW_CHAIN => chains.extend(chain(message)),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

fn chain(message: &[u8]) -> Option<String> {
    let family = match message.first()? {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "other",
    };
    let attributes = attributes(message.get(FAMILY..)?);
    let find = |kind| attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value);
    find(HOOK)?;
    let text = |kind| find(kind).map(|value| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
    let policy = match find(POLICY)?.first_chunk().map(|policy| u32::from_be_bytes(*policy)) {
        Some(0) => "drop",
        _ => "accept",
    };
    Some(format!("{family} {} {}, policy {policy}", text(TABLE)?, text(NAME)?))
}

/// Returns the attributes of a message, by type.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    /// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    const FLAGS: u16 = 0xc000;
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (number(bytes, 0), number(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else { break };
        found.push((kind & !FLAGS, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|number| u16::from_ne_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).expect("short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).expect("short");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; HEADER - 6]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn only_chains_with_a_hook_are_listed_and_the_end_is_seen() {
        let chain = |hook: &[u8]| {
            let parts = [&[1, 0, 0, 0][..], &attribute(TABLE, b"filter\0"), &attribute(NAME, b"input\0"), hook];
            message(NEW_CHAIN, &[&parts.concat()[..], &attribute(POLICY, &[0, 0, 0, 0])].concat())
        };
        let mut chains = Vec::new();
        assert!(read(&[chain(&attribute(HOOK | 0x8000, &[])), chain(&[])].concat(), &mut chains));
        assert_eq!(chains, ["inet filter input, policy drop"]);
        assert!(!read(&message(DONE, &[0; 4]), &mut chains));
        for length in 0..20 {
            read(&chain(&attribute(HOOK, &[]))[..length], &mut Vec::new());
        }
    }
}
