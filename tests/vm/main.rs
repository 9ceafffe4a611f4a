//! Real machines: QEMU without KVM, Debian's kernels, and what runs on them unchanged.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as they need it")]

mod config_drive;
mod guest;
mod kernels;
mod libvirt;
mod libvirt_hook;
mod packages;
mod run;
