//! Real clients, unchanged, in guests: what each of them makes of the answers is what the captured facts say.
//!
//! The clients are Debian's and PyPI's, put into `target/clients` by `cargo xtask setup --clients`, which
//! `cargo xtask test clients` runs first. None is installed on the machine: nothing there could start one.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as they need it")]

mod aws_sdk;
mod case;
mod client;
mod cloud_init;
mod cloudbase_init;
mod config_drive;
mod ec2_readers;
mod identity;
mod imdsd;
mod readiness;
mod restarted;
