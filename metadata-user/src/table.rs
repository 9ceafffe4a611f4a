//! Concurrent hash tables whose keys no guest chooses.
//!
//! Every request looks into some of them, so the hash is a fast one. It is seeded at random, but does not withstand somebody
//! who chooses keys and measures: keys that are or hold a guest's bytes belong in a table with the standard hasher.
//!
//! A leaf: it uses nothing of this crate.

use dashmap::DashMap;

/// The hasher, seeded anew for each table.
pub type Hasher = foldhash::fast::RandomState;

/// A table of tags, ports or instances.
pub type Table<K, V> = DashMap<K, V, Hasher>;
