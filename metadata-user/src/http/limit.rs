//! How many connections there may be, of one port and in all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use super::Refusal;
use crate::identity::Tag;

#[derive(Debug)]
pub(super) struct Limits {
    total: usize,
    per_port: usize,
    open: AtomicUsize,
    /// Ports with at least one connection.
    ports: DashMap<Tag, usize>,
}

/// A place for one connection, given back by `Drop`.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<Limits>,
    tag: Tag,
}

impl Limits {
    pub(super) fn new(total: usize, per_port: usize) -> Self {
        Self { total, per_port, open: AtomicUsize::new(0), ports: DashMap::new() }
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn admit(self: &Arc<Self>, tag: Tag) -> Result<Permit, Refusal> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.total {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::TotalLimit);
        }
        let mut port = self.ports.entry(tag).or_insert(0);
        if *port >= self.per_port {
            drop(port);
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::PortLimit(tag.0));
        }
        *port += 1;
        drop(port);
        Ok(Permit { limits: Arc::clone(self), tag })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(mut port) = self.limits.ports.get_mut(&self.tag) {
            *port -= 1;
        }
        self.limits.ports.remove_if(&self.tag, |_, count| *count == 0);
        self.limits.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_port_and_in_all_and_given_back() {
        let limits = Arc::new(Limits::new(3, 2));
        let first = limits.admit(Tag(1)).expect("a place");
        let _second = limits.admit(Tag(1)).expect("a place");
        assert_eq!(limits.admit(Tag(1)).expect_err("full"), Refusal::PortLimit(1));
        let other = limits.admit(Tag(2)).expect("another port has places");
        assert_eq!(limits.admit(Tag(3)).expect_err("full"), Refusal::TotalLimit);
        drop(first);
        assert_eq!(limits.open(), 2);
        let _third = limits.admit(Tag(1)).expect("given back");
        drop(other);
        assert!(limits.ports.get(&Tag(2)).is_none(), "a port without connections costs nothing");
    }
}
