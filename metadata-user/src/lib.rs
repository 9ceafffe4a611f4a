//! metadatad, as a library with a thin binary, so that tests can drive its parts in process.
//!
//! Which module may use which is written in ARCHITECTURE.md.

pub mod api;
pub mod dataplane;
pub mod identity;
pub mod source;
pub mod store;
