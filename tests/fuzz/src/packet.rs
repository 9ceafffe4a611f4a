//! Packets: frames into the decisions and the translation of the eBPF programs.
//!
//! An input is which program it is for, what that knows, and the frame. The programs themselves are the kernel's to run
//! (`tests/datapath`); what they call is called here in their order.
//!
//! Checked, each against what is written out here once more: only a port's own sources get in; what gets in carries the
//! port's tag; a reply goes where its tag leads, or nowhere; checksums that were right are right afterwards; a claim to be the
//! metadata service is seen.

mod from_guest;
mod from_network;
mod to_guest;

use metadata_ebpf::abi::PassList;
use metadata_ebpf::addr::Vlan;

use crate::input::Input;

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 3 {
        0 => from_guest::run(input),
        1 => to_guest::run(input),
        _ => from_network::run(input),
    }
}

fn pass_list(choice: u8) -> PassList {
    match choice % 4 {
        0 | 1 => PassList::EMPTY,
        2 => PassList::of(&[(6, 53), (17, 53)]),
        _ => PassList::of(&[(17, u16::from(choice))]),
    }
}

fn vlan(number: u16) -> Vlan {
    Vlan { id: number & 0xfff, service: number & 0x8000 != 0 }
}
