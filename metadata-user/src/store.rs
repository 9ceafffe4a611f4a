//! The cache.
pub mod record;
