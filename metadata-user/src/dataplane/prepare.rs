//! Making what only a mount can keep: the responder's namespace under `/run/netns`, and the BPF file system for the pins.
//!
//! metadatad.service runs the daemon in a mount namespace of its own, and what is mounted there nobody else sees: neither the
//! next start, nor `ip netns`, nor bpftool. So the unit has this done first, outside, and the daemon adopts what is there.
//! Elsewhere the daemon makes both by itself.

use std::path::Path;

use super::{DataplaneError, pins::Pins, responder::NetnsError, responder::ResponderNetns};

/// Why not everything is there.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The directory of the pins.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The responder's namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

/// Makes the namespace `namespace` and the directory of the pins, each with its mount, unless they are there.
///
/// # Errors
/// The first failure. What was made stays, for the next try.
pub fn prepare(pin_dir: &Path, namespace: &str) -> Result<(), PrepareError> {
    Pins::open(pin_dir)?;
    ResponderNetns::make(namespace)?;
    Ok(())
}
