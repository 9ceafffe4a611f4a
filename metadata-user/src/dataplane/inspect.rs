//! The kernel half as it is at this moment, for a command that runs beside the daemon, or without one. Nothing is changed.
//!
//! Promises: each part is read by itself, and one that cannot be read is an error that says why; nothing of the daemon's is asked,
//! so that what it believes and what is there can be compared.
//!
//! Needs root: `CAP_BPF` for the maps, `CAP_SYS_ADMIN` for the names of others' programs and for namespaces.

mod elsewhere;
mod hook;
mod pinned;

pub use self::{
    elsewhere::{Elsewhere, taps_elsewhere},
    hook::{OnHook, Way, on_hook},
    pinned::{Pinned, PinnedPort},
};
