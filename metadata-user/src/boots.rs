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

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::record::InstanceId;
use crate::table::Table;

pub use boot::{Beginning, Boot, CLIENTS, READS, Read};
pub use links::{Asked, LinkState, LinkTimes, Links};
use outcome::settled_without_request;
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

/// The history of an earlier daemon.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Of each binding that is bound to an instance.
    pub bindings: Vec<PastBinding>,
    /// Links, by interface index.
    pub links: Vec<(u32, LinkTimes)>,
}

/// The boots of a binding.
#[derive(Clone, Debug)]
pub struct PastBinding {
    /// Its tag.
    pub tag: u32,
    /// Its instance.
    pub instance: InstanceId,
    /// When something was last recorded, in milliseconds of Unix time.
    pub last: u64,
    /// Its boots, the latest first: one or two.
    pub boots: Vec<Boot>,
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

    /// As [`Self::known`], of a binding to this instance: after the programs' maps were made again, a tag may be another instance's.
    #[must_use]
    pub fn of_instance(&self, tag: u32, instance: Option<InstanceId>) -> Option<Arc<History>> {
        self.known(tag).filter(|history| {
            let known = history.kept.lock().instance;
            known.is_none() || instance.is_none() || known == instance
        })
    }

    /// Returns what a later daemon needs of a binding; `None`: nothing, or its instance is not known.
    #[must_use]
    pub fn past_of(&self, tag: u32) -> Option<PastBinding> {
        let history = self.known(tag)?;
        let (instance, boots) = history.view();
        Some(PastBinding { tag, instance: instance?, last: history.last.load(Ordering::Relaxed), boots })
    }

    /// Returns when something was last recorded of any binding, in milliseconds of Unix time.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.histories.iter().map(|entry| entry.value().last.load(Ordering::Relaxed)).max().unwrap_or_default()
    }

    /// Goes on with the history of an earlier daemon. Called before guests are answered.
    pub fn restore(&self, past: Past) {
        for PastBinding { tag, instance, last, boots } in past.bindings.into_iter().take(MOST) {
            let mut boots = boots.into_iter();
            let boot = boots.next().unwrap_or_default();
            let kept = Kept { instance: Some(instance), boot, former: boots.next().map(Box::new) };
            self.histories.insert(tag, Arc::new(History { last: AtomicU64::new(last), kept: Mutex::new(kept) }));
        }
        self.links.restore(past.links);
    }

    /// Returns the outcomes of boots that are final and were not returned before. `ports`: each tap's interface index and tag.
    ///
    /// A boot that was counted without a request is not counted again if its guest asks later. Left out are guests whose link was up before
    /// the daemon started, until they boot again: whether their first request belongs to a boot is not known.
    #[must_use]
    pub fn settle(&self, ports: &[(u32, Option<u32>)], now: u64) -> Vec<Outcome> {
        let mut settled = Vec::new();
        for (ifindex, tag) in ports {
            let (link, history) = (self.links.get(*ifindex), tag.and_then(|tag| self.known(tag)));
            match history {
                Some(history) => {
                    if history.settle(link, now, &mut settled) {
                        self.links.count(*ifindex);
                    }
                }
                None => {
                    if let Some(link) = link.filter(|link| !link.is_counted)
                        && let Some(outcome) = settled_without_request(None, link, now)
                    {
                        settled.push(outcome);
                        self.links.count(*ifindex);
                    }
                }
            }
        }
        let of_ports: BTreeSet<u32> = ports.iter().filter_map(|(_, tag)| *tag).collect();
        for entry in self.histories.iter().filter(|entry| !of_ports.contains(entry.key())) {
            entry.value().end(now, &mut settled);
        }
        settled
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
        if instance.is_some() && kept.instance.is_some() && instance != kept.instance {
            // Of an earlier daemon, and of another binding.
            *kept = Kept::default();
        }
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

    /// Adds the outcomes of boots that are final. Returns whether the latest is counted.
    fn settle(&self, link: Option<LinkTimes>, now: u64, settled: &mut Vec<Outcome>) -> bool {
        let mut kept = self.kept.lock();
        kept.settle_former(settled);
        let boot = &mut kept.boot;
        if boot.beginning != Beginning::Silence && link.is_some_and(|link| link.is_counted) {
            boot.is_counted = true;
        }
        if boot.beginning == Beginning::Binding && link.is_some_and(|link| link.up_at.is_none()) {
            boot.is_counted = true;
        }
        if !boot.is_counted {
            let outcome = match (boot.requests, link) {
                (0, Some(link)) => settled_without_request(Some(boot), link, now),
                _ => outcome::settled(boot, true, now),
            };
            boot.is_counted = outcome.is_some();
            settled.extend(outcome);
        }
        boot.is_counted
    }

    /// Adds the outcomes of the boots of a binding that has ended, unless something was recorded in the last minute: a new binding has
    /// requests a moment before it is shown.
    fn end(&self, now: u64, settled: &mut Vec<Outcome>) {
        if now.saturating_sub(self.last.load(Ordering::Relaxed)) < outcome::GOES_ON {
            return;
        }
        let mut kept = self.kept.lock();
        kept.settle_former(settled);
        let boot = &mut kept.boot;
        if !std::mem::replace(&mut boot.is_counted, true) {
            settled.extend(outcome::settled(boot, false, 0));
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
    /// Adds the outcome of the boot before, if it was not added yet.
    fn settle_former(&mut self, settled: &mut Vec<Outcome>) {
        if let Some(former) = &mut self.former
            && !std::mem::replace(&mut former.is_counted, true)
        {
            settled.extend(outcome::settled(former, false, 0));
        }
    }

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

    const LINK: u32 = 3;
    const MINUTE: u64 = 60 * 1000;

    fn link(has_carrier: bool) -> LinkState {
        LinkState { ifindex: LINK, has_carrier, carrier_ups: 1 }
    }

    /// Returns the outcomes that become final at this minute.
    fn settled(boots: &Boots, minute: u64) -> Vec<Outcome> {
        boots.settle(&[(LINK, Some(7))], minute * MINUTE)
    }

    #[test]
    fn a_boot_is_counted_once_when_its_outcome_is_final() {
        let boots = Boots::default();
        boots.links.changed(link(true), || 0, 0);
        let history = boots.of(7);
        history.connected(None, 1000);
        history.asked(asks(2000, "/openstack/latest/meta_data.json"));
        assert_eq!(settled(&boots, 0), [], "it may go on");
        for (minute, expected) in [(2, &[Outcome::Complete][..]), (3, &[]), (30, &[])] {
            assert_eq!(settled(&boots, minute), expected, "{minute}");
        }
        let again = |minute: u64| {
            boots.links.changed(link(false), || 0, minute * MINUTE);
            boots.links.changed(link(true), || 0, minute * MINUTE);
            history.link_up();
        };
        // Two boots that end early: one asked for the list only, the other only connected.
        again(39);
        history.asked(asks(40 * MINUTE, "/openstack"));
        again(40);
        assert_eq!(settled(&boots, 40), [Outcome::Stopped]);
        history.connected(None, 41 * MINUTE);
        again(41);
        assert_eq!(settled(&boots, 41), [Outcome::Unconnected]);
        // One that asks for ten minutes without the document, and one whose binding ends.
        history.asked(asks(50 * MINUTE, "/openstack"));
        history.asked(asks(59 * MINUTE, "/openstack"));
        assert_eq!(settled(&boots, 52), []);
        assert_eq!(settled(&boots, 61), [Outcome::Stopped]);
        again(69);
        history.asked(asks(70 * MINUTE, "/openstack/latest/meta_data.json"));
        assert_eq!(boots.settle(&[], 70 * MINUTE), []);
        assert_eq!(boots.settle(&[], 71 * MINUTE), [Outcome::Complete], "the binding has ended");
        assert_eq!(boots.settle(&[], 90 * MINUTE), []);
    }

    #[test]
    fn a_silent_boot_is_counted_late_and_not_again_when_its_guest_asks() {
        let boots = Boots::default();
        boots.links.changed(link(true), || 0, 0);
        for (minute, expected) in [(9, &[][..]), (10, &[Outcome::Silent]), (20, &[])] {
            assert_eq!(settled(&boots, minute), expected, "{minute}");
        }
        boots.of(7).asked(asks(21 * MINUTE, "/openstack/latest/meta_data.json"));
        assert_eq!(settled(&boots, 40), [], "it was counted");
        boots.links.changed(link(false), || 0, 41 * MINUTE);
        boots.links.changed(link(true), || 0, 42 * MINUTE);
        boots.of(7).link_up();
        boots.of(7).asked(asks(42 * MINUTE, "/openstack/latest/meta_data.json"));
        assert_eq!(settled(&boots, 50), [Outcome::Complete], "another boot");
    }

    #[test]
    fn requests_of_guests_that_booted_before_the_daemon_started_are_no_boots() {
        let boots = Boots::default();
        boots.links.found(link(true), 5, 0);
        boots.of(7).asked(asks(1000, "/openstack/latest/meta_data.json"));
        assert_eq!(settled(&boots, 30), []);
        boots.of(7).asked(asks(31 * MINUTE, "/openstack/latest/meta_data.json"));
        assert_eq!(settled(&boots, 40), [Outcome::Complete], "it has restarted inside its machine");
    }

    #[test]
    fn a_later_daemon_goes_on_where_the_earlier_one_ended() {
        let [one, other] = [1, 2].map(|number| Some(InstanceId(uuid::Uuid::from_u128(number))));
        let boots = Boots::default();
        boots.links.changed(link(true), || 0, 0);
        boots.of(7).connected(one, 1000);
        boots.of(7).asked(asks(2000, "/openstack/latest/meta_data.json"));
        boots.of(8).connected(None, 1000);
        assert_eq!(settled(&boots, 2), [Outcome::Complete, Outcome::Unconnected]);
        let later = Boots::default();
        let bindings = boots.tags().into_iter().filter_map(|tag| boots.past_of(tag)).collect();
        later.restore(Past { bindings, links: boots.links.all() });
        later.links.found(link(true), 9, 3 * MINUTE);
        assert_eq!(later.tags(), [7], "whose instance is not known is not kept");
        let (instance, kept) = later.known(7).expect("kept").view();
        assert_eq!((instance, kept[0].requests, kept[0].connected_at, later.last()), (one, 1, Some(1000), 2000));
        assert_eq!(later.links.get(LINK).and_then(|link| link.up_at), Some(0));
        assert_eq!(settled(&later, 4), [], "it was counted");
        // An agent's request is no boot; after silence, one like the first is.
        later.known(7).expect("kept").asked(asks(20 * MINUTE, "/latest/meta-data/"));
        assert_eq!(later.known(7).expect("kept").view().1.len(), 1);
        // The tag of another instance.
        assert!(later.of_instance(7, one).is_some() && later.of_instance(7, other).is_none());
        later.of(7).connected(other, 30 * MINUTE);
        assert_eq!(later.known(7).expect("kept").view().1[0].requests, 0);
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
