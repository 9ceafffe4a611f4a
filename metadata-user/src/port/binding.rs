//! A tag's life: given to a tap, bound to an instance, ended.
//!
//! Promises:
//! - a tag is bound to an instance only once the kernel has the rules of that instance's port. Until then, and if the
//!   kernel refuses them, it is held: its connections are answered with 503;
//! - a tag that is held stays the tap's for as long as the tap stays held, however often binding it fails, so that
//!   failures end no connection and use up no tags;
//! - a tag that is bound ends as soon as its tap is to have another owner or none, whatever else fails: first
//!   in the kernel, for all but resets, then for its connections, which those resets close;
//! - where the kernel refuses new rules for the same instance and port, the rules that it has stay in force.

use std::time::Duration;

use tokio::time::Instant;

use super::Ports;
use super::owner::{Owner, keeps_tag};
use super::reconcile::DesiredPort;
use crate::config::Guard;
use crate::dataplane::{DataplaneError, IfIndex, Moving, PortEntry, XdpError};
use crate::identity::{Identity, Tag};
use crate::policy::{PolicyOverrides, PortLimits};

/// How long an ended tag lets resets pass: its connections are closed within milliseconds.
const RETIREMENT: Duration = Duration::from_secs(5);

/// A tag, and what it is bound to.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) tag: Tag,
    /// `None`: held.
    pub(super) owner: Option<Owner>,
    /// What the kernel has, with the port's limits; `None`: not known, so it is written again.
    written: Option<(PortEntry, PortLimits)>,
}

/// A tag that ended, and still lets resets pass.
#[derive(Debug)]
pub(super) struct Retired {
    tag: Tag,
    /// The tap that it was on.
    ifindex: IfIndex,
    /// When it ends altogether.
    due: Instant,
}

impl Binding {
    /// Tells whether the kernel should know it.
    fn is_written(&self) -> bool {
        self.written.is_some()
    }
}

impl Ports {
    /// Returns the taps whose bindings are missing in the maps.
    pub(super) fn unknown_to_kernel(&self) -> Vec<IfIndex> {
        let is_unknown = |ifindex: &IfIndex| {
            self.taps
                .binding(*ifindex)
                .is_some_and(|binding| binding.is_written() && !self.dataplane.knows(*ifindex, binding.tag))
        };
        self.taps.indexes().filter(is_unknown).collect()
    }

    /// Has a binding written into the maps again when its tap is settled next.
    pub(super) fn rewrite(&mut self, ifindex: IfIndex) {
        if let Some(Some(binding)) = self.taps.binding_mut(ifindex) {
            binding.written = None;
        }
    }

    /// Puts the program on a tap that does not have it from this daemon, and adopts the binding that an earlier daemon gave
    /// the same device.
    pub(super) fn attach(&mut self, ifindex: IfIndex, name: &str) -> Result<(), DataplaneError> {
        if self.dataplane.attached(ifindex).is_some() {
            return Ok(());
        }
        if !self.dataplane.attach(ifindex, name, self.rules.impersonation_guard)? {
            return if self.starting { self.dataplane.set_moving(ifindex, Some(Moving::Arriving)) } else { Ok(()) };
        }
        let adopted = self.dataplane.adopted(ifindex);
        if let (Some(adopted), Some(binding)) = (adopted, self.taps.binding_mut(ifindex)) {
            let owner = adopted.instance.map(|instance| Owner { instance, port: None });
            *binding = Some(Binding { tag: adopted.tag, owner, written: None });
        }
        Ok(())
    }

    /// Makes an attached tap what it should be.
    pub(super) fn bind(&mut self, ifindex: IfIndex, desired: &DesiredPort) -> Result<(), DataplaneError> {
        let Some(current) = self.taps.binding_mut(ifindex).map(Option::take) else {
            return Ok(());
        };
        let (owner, entry) = match desired {
            DesiredPort::Passed => {
                let cleared = self.dataplane.clear_port(ifindex);
                return self.retire(ifindex, current.map(|binding| binding.tag)).and(cleared);
            }
            DesiredPort::Held | DesiredPort::Refused(_) | DesiredPort::Lacking(_) => (None, PortEntry::Held),
            DesiredPort::Bound(assignment) => (
                Some(assignment.owner()),
                PortEntry::Bound {
                    instance: assignment.instance,
                    mac: assignment.mac,
                    sources: assignment.sources.clone(),
                    any_address: assignment.any_address,
                },
            ),
        };
        let (kept, ended) = match current {
            Some(binding) if keeps_tag(binding.owner, owner) => (Some(binding), None),
            other => (None, other.map(|binding| binding.tag)),
        };
        let binding = match kept {
            Some(binding) => Ok(binding),
            None => self.dataplane.new_tag().map(|tag| Binding { tag, owner: None, written: None }),
        };
        let result = binding.and_then(|mut binding| {
            let result = self.write(ifindex, &mut binding, owner, entry);
            if let Some(place) = self.taps.binding_mut(ifindex) {
                *place = Some(binding);
            }
            result
        });
        self.retire(ifindex, ended).and(result)
    }

    /// Gives a tag its owner and the kernel the port's entry. If the kernel refuses, the tag's owner stays as it was.
    fn write(
        &mut self,
        ifindex: IfIndex,
        binding: &mut Binding,
        owner: Option<Owner>,
        entry: PortEntry,
    ) -> Result<(), DataplaneError> {
        // Known before the first packet carries the tag.
        self.identify(binding.tag, binding.owner);
        let wanted = (entry, self.limits(owner));
        if binding.written.as_ref() != Some(&wanted) {
            binding.written = None;
            self.dataplane.set_port(ifindex, binding.tag, &wanted.0, &wanted.1)?;
            binding.written = Some(wanted);
        }
        binding.owner = owner;
        self.identify(binding.tag, owner);
        Ok(())
    }

    /// Returns the limits of a port with this owner: as configured, its document over them.
    fn limits(&self, owner: Option<Owner>) -> PortLimits {
        self.rules.limits.with(&self.overrides(owner).port_limits)
    }

    /// Returns what the owner's document says otherwise than the configuration.
    fn overrides(&self, owner: Option<Owner>) -> PolicyOverrides {
        let content = owner.and_then(|owner| self.store.served(owner.instance));
        content.map(|content| content.policy()).unwrap_or_default()
    }

    /// Guards a tap against impersonation as its owner wants, or not at all if its requests, or some of them, are left to others.
    pub(super) fn guard(&mut self, ifindex: IfIndex, name: &str) -> Result<(), DataplaneError> {
        let on = !self.dataplane.is_moving(ifindex)
            && self.taps.binding(ifindex).is_some_and(|binding| {
                self.overrides(binding.owner).impersonation_guard.unwrap_or(self.rules.impersonation_guard)
            });
        self.dataplane.set_guard(ifindex, name, on)
    }

    /// Applies a tap's limits at XDP too where the configuration says so, and there are any. Returns whether they are.
    pub(super) fn guard_by_xdp(&mut self, ifindex: IfIndex, name: &str) -> Result<bool, XdpError> {
        let written = self.taps.binding(ifindex).and_then(|binding| binding.written.as_ref());
        let on = self.rules.guard == Guard::Xdp && written.is_some_and(|(_, limits)| limits.is_any());
        self.dataplane.set_xdp(ifindex, name, on).map(|()| on)
    }

    fn identify(&self, tag: Tag, owner: Option<Owner>) {
        let identity = match owner {
            Some(Owner { instance, port }) => Identity::Bound { instance, port },
            None => Identity::Held,
        };
        let bound = self.identities.bind(tag, identity);
        debug_assert!(bound.is_ok(), "keeps_tag keeps a tag for one owner only");
    }

    /// Ends a tag: first in the kernel, for all but resets, then for its connections, which are closed by resets.
    fn retire(&mut self, ifindex: IfIndex, tag: Option<Tag>) -> Result<(), DataplaneError> {
        let Some(tag) = tag else {
            return Ok(());
        };
        let result = self.dataplane.retire_tag(tag);
        self.identities.end(tag);
        self.retired.push_back(Retired { tag, ifindex, due: Instant::now() + RETIREMENT });
        result
    }

    /// Ends a tag for resets too.
    pub(super) fn end(&mut self, tag: Tag) {
        // Should the kernel have forgotten the port half-way, its tag is left.
        let _ = self.dataplane.end_tag(tag);
        self.identities.end(tag);
    }

    /// Returns when the next retired tag is due.
    pub(super) fn next_retired(&self) -> Option<Instant> {
        self.retired.front().map(|retired| retired.due)
    }

    /// Ends the retired tags that are due.
    pub(super) fn end_due(&mut self) {
        let now = Instant::now();
        self.end_retired(|retired| retired.due <= now);
    }

    /// Ends the retired tags that were on a tap.
    pub(super) fn end_retired_on(&mut self, ifindex: IfIndex) {
        self.end_retired(|retired| retired.ifindex == ifindex);
    }

    fn end_retired(&mut self, which: impl Fn(&Retired) -> bool) {
        for retired in std::mem::take(&mut self.retired) {
            if !which(&retired) {
                self.retired.push_back(retired);
            } else if let Err(error) = self.dataplane.end_tag(retired.tag) {
                super::report(retired.ifindex, "", &error);
            }
        }
    }
}
