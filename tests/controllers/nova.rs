//! The `nova` source, with Nova's own metadata application.
//!
//! The source, the store and the guests' side run in this process, on facts that the test gives; Nova runs as it does in
//! an OpenStack. Guests' connections are pipes, so no namespace is needed.

pub(crate) mod cloud;
mod daemon;
mod drive;
pub(crate) mod golden;
mod outage;
mod password;
mod slow;
mod trust;

use lab::Shared;
use lab::nova::{Nova, another, facts};

/// Instances like `plain` that [`NOVA`] knows, one test's each, and those that are new together (`slow`).
const NEW: std::ops::RangeInclusive<u32> = 1..=100;
const DELETED: u32 = 201;
const CHANGED: u32 = 202;
/// One like `multi-nic`.
const POSTING: u32 = 203;

/// The Nova of all tests that neither stop it nor change an instance that is not their own: starting one takes seconds.
/// The others start theirs.
static NOVA: Shared<Nova> = Shared::new(|| {
    let plain = facts("plain")?;
    let mut all = vec![plain.clone()];
    all.extend(NEW.chain([DELETED, CHANGED]).map(|number| another(&plain, number)));
    all.push(another(&facts("multi-nic")?, POSTING));
    Nova::start(&all)
});
