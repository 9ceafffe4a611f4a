//! Ports that move from their network to the responder, or back, without a connection that changes sides
//! (`metadata_ebpf::verdict::moving`).
//!
//! Minimum kernel version: 5.2 (`bpf_skc_lookup_tcp`).

use metadata_ebpf::abi::{PORT_ARRIVING, PORT_LEAVING};

use super::{Dataplane, DataplaneError, IfIndex, insert};

/// Which way a port moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moving {
    /// From its network to the responder.
    Arriving,
    /// From the responder to its network.
    Leaving,
}

impl Moving {
    const fn flag(self) -> u16 {
        match self {
            Self::Arriving => PORT_ARRIVING,
            Self::Leaving => PORT_LEAVING,
        }
    }
}

impl Dataplane {
    /// Says which way a port moves from here on; `None`: it stays. Where the programs could not find the responder's connections, it
    /// always stays.
    ///
    /// # Errors
    /// If the map refuses; it is in force with the next [`Self::set_port`] all the same.
    pub fn set_moving(&mut self, ifindex: IfIndex, moving: Option<Moving>) -> Result<(), DataplaneError> {
        match moving.filter(|_| self.constants.netns.is_some()) {
            Some(moving) => self.moving.insert(ifindex, moving),
            None => self.moving.remove(&ifindex),
        };
        let Ok(mut port) = self.ports.get(&ifindex.0, 0) else { return Ok(()) };
        port.flags = port.flags & !(PORT_ARRIVING | PORT_LEAVING) | self.flag(ifindex);
        insert(&mut self.ports, "PORTS", ifindex.0, port)
    }

    /// Returns the ports that move this way.
    #[must_use]
    pub fn moving(&self, way: Moving) -> Vec<IfIndex> {
        self.moving.iter().filter(|(_, moving)| **moving == way).map(|(ifindex, _)| *ifindex).collect()
    }

    /// Tells whether a port moves.
    #[must_use]
    pub fn is_moving(&self, ifindex: IfIndex) -> bool {
        self.moving.contains_key(&ifindex)
    }

    /// The flag of the map's entry.
    pub(super) fn flag(&self, ifindex: IfIndex) -> u16 {
        self.moving.get(&ifindex).map_or(0, |moving| moving.flag())
    }
}
