//! Boot history: what each guest requested when it booted, from its link coming up to the last document that it read.
//!
//! Promises: memory is bounded, whatever guests do: [`MOST`] bindings, each with its latest boot and the one before, with [`READS`]
//! paths of 64 bytes and [`CLIENTS`] clients of 64 bytes: 5.6 KB each, 23 MB in all; recording a request allocates nothing, and takes a
//! lock that only requests of the same port share.
//!
//! **What begins a boot.** A binding's first request; the link coming up again; and, since a guest that restarts inside its virtual
//! machine leaves the link up, a request with the path and client of the previous boot's first one after [`SILENCE`] without any. An
//! agent that asks regularly begins none that way.
//!
//! Links (`links`) are known by interface, requests by the tag of the binding; `app` joins the two. Left out: diagnosis and remedies,
//! which are `metadatad doctor`'s.

mod boot;
mod links;
mod outcome;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::record::InstanceId;
use crate::table::Table;

pub use boot::{Beginning, Boot, CLIENTS, READS, Read};
pub use links::{Asked, LinkTimes, Links};
pub use outcome::{Observed, Outcome, judge};

/// Most bindings that are kept; beyond that, the one with the oldest request goes.
const MOST: usize = 4096;

/// Milliseconds without a request after which one like the first begins another boot: longer than any client pauses between attempts.
const SILENCE: u64 = 10 * 60 * 1000;

/// The boots of all bindings, and the state of links.
#[derive(Debug, Default)]
pub struct Boots {
    histories: Table<u32, Arc<History>>,
    /// The state of links.
    pub links: Links,
}

/// A request and its result.
#[derive(Clone, Copy, Debug)]
pub struct Asks<'a> {
    /// When it ended, in milliseconds of Unix time.
    pub at: u64,
    /// Its path, without a query.
    pub path: &'a [u8],
    /// The status; `None`: it got no answer.
    pub status: Option<u16>,
    /// The `User-Agent`, empty without one.
    pub agent: &'a [u8],
}

/// The boots of one binding.
#[derive(Debug, Default)]
pub struct History {
    /// When something was last noted, in milliseconds of Unix time.
    last: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    instance: Option<InstanceId>,
    boot: Boot,
    former: Option<Box<Boot>>,
}

impl Boots {
    /// Returns the history of a binding, by its tag.
    #[must_use]
    pub fn of(&self, tag: u32) -> Arc<History> {
        if let Some(history) = self.histories.get(&tag) {
            return Arc::clone(&history);
        }
        if self.histories.len() >= MOST {
            let last = |history: &History| history.last.load(Ordering::Relaxed);
            let oldest = self.histories.iter().map(|entry| (last(entry.value()), *entry.key())).min();
            if let Some((_, oldest)) = oldest {
                self.histories.remove(&oldest);
            }
        }
        Arc::clone(&self.histories.entry(tag).or_default())
    }

    /// Returns the history of a binding; `None`: its guest never connected.
    #[must_use]
    pub fn known(&self, tag: u32) -> Option<Arc<History>> {
        self.histories.get(&tag).map(|history| Arc::clone(&history))
    }

    /// Returns all tags that have a history, ascending.
    #[must_use]
    pub fn tags(&self) -> Vec<u32> {
        let mut tags: Vec<_> = self.histories.iter().map(|entry| *entry.key()).collect();
        tags.sort_unstable();
        tags
    }
}

impl History {
    /// Records a connection, with its instance if that is known, at a time in milliseconds of Unix time.
    pub fn connected(&self, instance: Option<InstanceId>, at: u64) {
        self.last.store(at, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        kept.instance = instance.or(kept.instance);
        kept.boot.connected_at.get_or_insert(at);
    }

    /// Records a request.
    pub fn asked(&self, asks: Asks<'_>) {
        let last = self.last.swap(asks.at, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        if asks.at.saturating_sub(last) >= SILENCE && kept.boot.began_like(&asks) {
            kept.rotate(Beginning::Silence, Some(asks.at));
        }
        kept.boot.note(asks);
    }

    /// The link has come up: what follows is another boot.
    pub fn link_up(&self) {
        let mut kept = self.kept.lock();
        if kept.boot.requests > 0 || kept.boot.connected_at.is_some() {
            kept.rotate(Beginning::Link, None);
        }
    }

    /// Returns the instance, and the boots, the latest first.
    #[must_use]
    pub fn view(&self) -> (Option<InstanceId>, Vec<Boot>) {
        let kept = self.kept.lock();
        let former = kept.former.as_deref().cloned();
        (kept.instance, std::iter::once(kept.boot.clone()).chain(former).collect())
    }
}

impl Kept {
    /// Begins another boot. Memory for the previous one is allocated once in a binding's life.
    fn rotate(&mut self, beginning: Beginning, connected_at: Option<u64>) {
        let ended = std::mem::replace(&mut self.boot, Boot { beginning, connected_at, ..Boot::default() });
        match &mut self.former {
            Some(former) => **former = ended,
            None => self.former = Some(Box::new(ended)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(at: u64, path: &str) -> Asks<'_> {
        Asks { at, path: path.as_bytes(), status: Some(200), agent: b"cloud-init/24.1" }
    }

    #[test]
    fn what_is_kept_is_as_small_as_it_is_said_to_be() {
        let bytes = size_of::<History>() + size_of::<Boot>();
        assert!(bytes <= 5600, "{bytes}");
    }

    #[test]
    fn a_boot_begins_with_the_link_or_after_silence_as_the_one_before_began() {
        let history = History::default();
        for (seconds, path, boots) in [
            (0, "/openstack", 1),
            (1, "/openstack/latest/meta_data.json", 1),
            (700, "/openstack/latest/meta_data.json", 1),
            (1400, "/openstack", 2),
            (1401, "/openstack", 2),
        ] {
            history.asked(asks(seconds * 1000, path));
            assert_eq!(history.view().1.len(), boots, "{seconds}");
        }
        assert_eq!(history.view().1[0].beginning, Beginning::Silence);
        history.link_up();
        history.link_up();
        assert_eq!(history.view().1[0].requests, 0);
        history.asked(asks(1_500_000, "/openstack"));
        let (_, boots) = history.view();
        assert_eq!((boots.len(), boots[0].beginning, boots[0].requests, boots[1].requests), (2, Beginning::Link, 1, 2));
    }

    #[test]
    fn who_asked_nothing_for_longest_goes_first() {
        let boots = Boots::default();
        for tag in 0..5000 {
            boots.of(tag).connected(None, u64::from(tag) + 1);
        }
        assert_eq!(boots.tags().len(), MOST);
        assert!(boots.known(903).is_none() && boots.known(904).is_some());
    }
}
