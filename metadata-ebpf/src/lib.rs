//! What the two halves of metadatad share, and the parts of the kernel half that need no kernel.
//!
//! Promises: `no_std`, no dependencies without the feature `user`, builds and is tested on the host. A change of
//! any type in [`abi`] changes [`abi::ABI_VERSION`], which a test notices. The eBPF programs themselves are in `main.rs` and `programs/`,
//! compiled for `target_arch = "bpf"` only.
#![no_std]
// One instruction, in `limit`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod addr;
pub mod checksum;
pub mod limit;
pub mod mss;
pub mod neighbours;
pub mod packet;
pub mod translate;
pub mod verdict;
