//! The layout of everything that both halves read, as text, held against `layout.txt` and the versions that have been.
//!
//! A daemon adopts pinned maps of the same [`ABI_VERSION`] without looking at them. So a type, a flag or a number that changes
//! under the same version would be misread by whichever half is older.

use core::{any::type_name, fmt::Write as _, mem::offset_of};
use std::string::String;

use super::*;
use crate::addr::{Family, IdentityAddress, Vlan};

/// The layout of the current version.
const RECORDED: &str = include_str!("layout.txt");

/// Each version and the digest of its layout. Append-only. Version 1 was before this list.
const VERSIONS: [(u32, u64); 3] = [(2, 0xa566cbcd6a632d75), (3, 0xbb1f3d98fcded110), (4, 0x9545e939f637bc8b)];

/// Writes a type's size and alignment, and each field's place and type. The pattern names every field: one that is not listed
/// does not compile.
macro_rules! write_layout {
    ($out:ident, $type:ident { $($field:ident),* $(,)? }) => {
        let _ = |value: $type| {
            let $type { $($field: _),* } = value;
        };
        writeln!($out, "{}: {} bytes, aligned to {}", stringify!($type), size_of::<$type>(), align_of::<$type>())
            .expect("a String grows");
        $(
            let name = type_of(|value: &$type| &value.$field);
            writeln!($out, "  {} at {}: {name}", stringify!($field), offset_of!($type, $field)).expect("a String grows");
        )*
    };
}

fn type_of<T, F>(_: impl Fn(&T) -> &F) -> &'static str {
    type_name::<F>()
}

fn current() -> String {
    let mut out = String::new();
    write_layout!(out, Source { mac, family, prefix_len, addr, mask });
    write_layout!(out, Port { tag, ifindex, mac, flags, source_count, place, limits, sources, instance });
    write_layout!(out, ReturnPath { tag, ifindex, mac, flags, place, reserved });
    write_layout!(out, Neighbours { sets });
    write_layout!(out, Neighbour { guest, link });
    write_layout!(out, Limits { connections, packets });
    write_layout!(out, Bucket { interval, tolerance, due });
    write_layout!(out, Meta { abi_version, next_tag, own_mark });
    write_layout!(out, PassList { pairs });
    write_layout!(out, Event { ifindex, reason, count, len, ethertype, vlan, head });
    for (name, flag) in [
        ("PORT_HELD", PORT_HELD),
        ("PORT_ANY_ADDRESS", PORT_ANY_ADDRESS),
        ("PORT_LEARN", PORT_LEARN),
        ("PORT_ENDED", PORT_ENDED),
    ] {
        writeln!(out, "{name}: {flag}").expect("a String grows");
    }
    writeln!(out, "Counters: {} bytes, {COUNTER_PLACES} places", size_of::<Counters>()).expect("a String grows");
    writeln!(out, "  ifindex at {}", offset_of!(Counters, ifindex) / 8).expect("a String grows");
    for (place, name) in Counters::NAMES.into_iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        writeln!(out, "  {name} at {place}").expect("a String grows");
    }
    for reason in DropReason::ALL {
        writeln!(out, "{}: reason {}", reason.name(), reason as u32).expect("a String grows");
    }
    let identity = IdentityAddress {
        family: Family::Ipv6,
        vlan: Vlan { id: 0x123, service: true },
        tag: 0x0405_0607,
        guest: [8, 9, 10, 11, 12, 13, 14, 15],
    };
    writeln!(out, "IdentityAddress: {:02x?}", identity.encode()).expect("a String grows");
    let identity = IdentityAddress::of_ipv4(identity.tag, identity.vlan, [12, 13, 14, 15]);
    writeln!(out, "IdentityAddress of IPv4: {:02x?}", identity.encode()).expect("a String grows");
    writeln!(out, "PassList of 17/53: {:x}", PassList::of(&[(17, 53)]).pairs[0]).expect("a String grows");
    out
}

/// FNV-1a, 64 bits.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[test]
fn a_change_of_the_layout_changes_the_version() {
    let (current, versions) = (current(), VERSIONS);
    let (last, recorded) = versions[versions.len() - 1];
    let found = digest(&current);
    assert!(
        (last, recorded) == (ABI_VERSION, found) || last != ABI_VERSION,
        "the layout of a type that is shared with the kernel is not that of version {ABI_VERSION}: raise ABI_VERSION in \
         src/abi.rs, and run this test again, which then says what to record. If the change was not meant, undo it. Now:\n\
         {current}"
    );
    assert!(
        last == ABI_VERSION,
        "version {ABI_VERSION} is not recorded: append ({ABI_VERSION}, {found:#018x}) to VERSIONS, keep the others, and \
         replace src/abi/layout.txt by:\n{current}"
    );
    assert!(RECORDED == current, "src/abi/layout.txt is not the layout of version {ABI_VERSION}, which is:\n{current}");
    assert!(versions.is_sorted_by(|(a, _), (b, _)| a < b), "VERSIONS are not ascending");
}

#[test]
fn a_changed_type_is_noticed() {
    let text = current();
    assert_ne!(digest(&text), digest(&text.replace("tag at 0", "tag at 4")));
    assert!(text.contains("  sources at 72: [metadata_ebpf::abi::Source; 64]"), "{text}");
}
