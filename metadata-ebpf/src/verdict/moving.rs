//! A port that moves from its network to the responder, or back: whose a segment is.
//!
//! Promises: no connection changes sides. One that was begun with the network stays there while the port arrives, one that was begun
//! with the responder stays here while the port leaves; new ones are the responder's while it arrives, the network's while it leaves.
//! Nothing is remembered for that: the responder's kernel knows its connections.

use crate::abi::{PORT_ARRIVING, PORT_LEAVING};

/// `TCP_LISTEN` of the kernel's states (include/net/tcp_states.h).
const LISTEN: u32 = 10;
/// `TCP_NEW_SYN_RECV`: the first segment has come, and the handshake is not complete.
const NEW_SYN_RECV: u32 = 12;

/// Tells whether a port moves.
#[inline(always)]
#[must_use]
pub const fn moves(flags: u16) -> bool {
    flags & (PORT_ARRIVING | PORT_LEAVING) != 0
}

/// Tells whether a port moves back to its network.
#[inline(always)]
#[must_use]
pub const fn leaves(flags: u16) -> bool {
    flags & PORT_LEAVING != 0
}

/// Tells whether a segment of a port that moves is the network's. `begins`: it asks for a new connection; `state`: that of the socket
/// which the responder's kernel has for it, 0 for none.
#[inline(always)]
#[must_use]
pub const fn is_networks(flags: u16, begins: bool, state: u32) -> bool {
    if begins {
        // Sent again, as its answer was lost or has not come yet.
        return leaves(flags) && state != NEW_SYN_RECV;
    }
    state == 0 || state == LISTEN
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTABLISHED: u32 = 1;
    const TIME_WAIT: u32 = 6;

    #[test]
    fn no_connection_changes_sides() {
        for (flags, begins, state, expected) in [
            (PORT_ARRIVING, true, LISTEN, false),
            (PORT_ARRIVING, true, 0, false),
            (PORT_ARRIVING, true, TIME_WAIT, false),
            (PORT_ARRIVING, false, ESTABLISHED, false),
            (PORT_ARRIVING, false, NEW_SYN_RECV, false),
            (PORT_ARRIVING, false, LISTEN, true),
            (PORT_ARRIVING, false, 0, true),
            (PORT_LEAVING, true, LISTEN, true),
            (PORT_LEAVING, true, 0, true),
            // Its port is used again.
            (PORT_LEAVING, true, TIME_WAIT, true),
            (PORT_LEAVING, true, NEW_SYN_RECV, false),
            (PORT_LEAVING, false, ESTABLISHED, false),
            (PORT_LEAVING, false, TIME_WAIT, false),
            (PORT_LEAVING, false, LISTEN, true),
            (PORT_LEAVING, false, 0, true),
        ] {
            assert_eq!(is_networks(flags, begins, state), expected, "{flags} {begins} {state}");
        }
        assert!(!moves(0) && moves(PORT_ARRIVING) && moves(PORT_LEAVING));
        assert!(leaves(PORT_LEAVING) && !leaves(PORT_ARRIVING));
    }
}
