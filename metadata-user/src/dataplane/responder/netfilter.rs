//! Which chains of nftables are in the calling thread's network namespace, as nft and iptables-nft make them.
//!
//! Asked of the kernel itself (`linux/netfilter/nfnetlink.h`, `nf_tables.h`): programs that list chains need not be installed. Left
//! out: rules. Where none belong, a chain with a hook is enough to know.

use std::{convert::Infallible, io};

use rtnetlink::{
    packet_core::{
        NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
        NetlinkSerializable, NlasIterator,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

/// Length of `struct nfgenmsg`, which precedes the attributes.
const FAMILY: usize = 4;
/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFT_MSG_NEWCHAIN`.
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
/// `NFT_MSG_GETCHAIN`.
const GET_CHAIN: u16 = SUBSYSTEM | 4;
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
/// If the kernel does not list them, for example because it has no nftables.
pub(super) fn base_chains() -> io::Result<Vec<String>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(&request(), &SocketAddr::new(0, 0), 0)?;
    let mut chains = Vec::new();
    while read(&socket.recv_from_full()?.0, &mut chains)? {}
    Ok(chains)
}

/// A message about chains.
#[derive(Debug)]
enum Message {
    /// Asks for all of them, of every family.
    List,
    /// One, if it has a hook.
    Chain(Option<String>),
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Self::List => GET_CHAIN,
            Self::Chain(_) => NEW_CHAIN,
        }
    }

    fn buffer_len(&self) -> usize {
        FAMILY
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

impl NetlinkDeserializable for Message {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self::Chain((header.message_type == NEW_CHAIN).then(|| chain(payload)).flatten()))
    }
}

fn request() -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(Message::List));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads the messages of one datagram. `false`: they were the last ones.
fn read(mut bytes: &[u8], chains: &mut Vec<String>) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<Message>::deserialize(bytes).map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(false),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(Message::Chain(chain)) => chains.extend(chain),
            _ => {}
        }
        bytes = bytes.get((message.header.length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
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
    let attributes: Vec<_> = NlasIterator::new(message.get(FAMILY..)?).map_while(Result::ok).collect();
    let find = |kind| attributes.iter().find(|attribute| attribute.kind() == kind).map(|attribute| attribute.value());
    find(HOOK)?;
    let text = |kind| find(kind).map(|value| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
    let policy = match find(POLICY)?.first_chunk().map(|policy| u32::from_be_bytes(*policy)) {
        Some(0) => "drop",
        _ => "accept",
    };
    Some(format!("{family} {} {}, policy {policy}", text(TABLE)?, text(NAME)?))
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
        let length = u32::try_from(16 + body.len()).expect("short");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
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
        let more = read(&[chain(&attribute(HOOK | 0x8000, &[])), chain(&[])].concat(), &mut chains);
        assert!(more.expect("read"));
        assert_eq!(chains, ["inet filter input, policy drop"]);
        // `NLMSG_DONE`, and `NLMSG_ERROR` with EPERM.
        assert!(!read(&message(3, &[0; 4]), &mut chains).expect("read"));
        let refused = message(2, &[&(-1_i32).to_ne_bytes()[..], &[0; 16]].concat());
        assert_eq!(read(&refused, &mut chains).expect_err("refused").kind(), io::ErrorKind::PermissionDenied);
        for length in 1..20 {
            assert!(read(&chain(&attribute(HOOK, &[]))[..length], &mut Vec::new()).is_err(), "{length}");
        }
    }
}
