//! Real packets between namespaces: what a guest gets, what it is refused, and what nobody else notices.
//!
//! Each test makes its own node and guests, so they run side by side. They need root and a built daemon:
//! `cargo xtask test netns`.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as they need it")]

mod access;
mod addressing;
mod admin;
mod adversity;
mod attestation;
mod attributes;
mod audit;
mod boots;
mod bystanders;
mod change;
mod config_drives;
mod connections;
mod doctor;
mod documented;
mod documents;
mod extensions;
mod forgery;
mod https;
mod identity;
mod impersonation;
mod isolation;
mod kernel_memory;
mod lifecycle;
mod limits;
mod metrics;
mod operator;
mod passed;
mod password;
mod path_mtu;
mod ports;
mod raced;
mod rebuilt;
mod refusals;
mod reload;
mod repair;
mod restart;
mod security;
mod session;
mod snapshot_copies;
mod trace;
mod troubleshooting;
mod unbound;
mod waiting;
mod watchdog;
mod without_loss;
mod xdp;
