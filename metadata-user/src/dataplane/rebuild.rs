//! Replacing the maps of another version of metadatad, whose layout this one does not know, without opening a port meanwhile.
//!
//! Promises: the programs of the other version stay on the taps, with their own maps, until this version's are put in their place;
//! a tap is held in this version's maps before its program is replaced, so at no moment does a guest's packet to the metadata
//! addresses go out to a network. That also holds if the daemon ends half-way: a mark beside the links says that it is not done.
//!
//! Guests' open connections end: their tags are in the other maps.

use metadata_ebpf::abi::ABI_VERSION;

use super::pins::Pins;
use super::{Dataplane, DataplaneError, IfIndex, PortEntry};
use crate::policy::PortLimits;

/// The mark: a directory, since a BPF file system has no files.
const MARK: &str = "rebuilding";

/// Replaces maps of the version `found`; `None`: of something else.
pub(super) fn begin(pins: &Pins, found: Option<u32>) -> Result<(), DataplaneError> {
    tracing::warn!(
        found = found.unwrap_or_default(),
        expected = ABI_VERSION,
        "replacing the maps of another version of metadatad; connections of guests start anew"
    );
    // Without it nothing is held while its program is replaced; it is served all the same.
    if let Err(error) = std::fs::create_dir(pins.link(MARK))
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        tracing::warn!(%error, "cannot mark the pins as incomplete");
    }
    pins.remove_unknown_links()?;
    pins.remove_maps()
}

/// Tells whether programs of another version may be on taps.
pub(super) fn is_under_way(pins: &Pins) -> bool {
    pins.link(MARK).is_dir()
}

impl Dataplane {
    /// Holds a tap that these maps do not know, before its program is replaced.
    pub(super) fn hold_unknown(&mut self, ifindex: IfIndex) -> Result<(), DataplaneError> {
        if self.rebuilding && self.adopted(ifindex).is_none() {
            let tag = self.new_tag()?;
            self.set_port(ifindex, tag, &PortEntry::Held, &PortLimits::NONE)?;
        }
        Ok(())
    }

    /// Every tap has this version's programs.
    pub fn rebuilt(&mut self) {
        if std::mem::take(&mut self.rebuilding) {
            let _ = std::fs::remove_dir(self.pins.link(MARK));
        }
    }
}
