//! Where content comes from.
pub mod wire;
