//! The taps that are there, by index and by name.

use std::collections::BTreeMap;

use super::binding::Binding;
use super::names::Names;
use crate::dataplane::IfIndex;

/// A tap.
#[derive(Debug, Default)]
struct Tap {
    name: String,
    binding: Option<Binding>,
}

/// All taps.
#[derive(Debug, Default)]
pub(super) struct Taps {
    by_index: BTreeMap<IfIndex, Tap>,
    by_name: Names,
}

impl Taps {
    pub(super) fn len(&self) -> usize {
        self.by_index.len()
    }

    pub(super) fn contains(&self, ifindex: IfIndex) -> bool {
        self.by_index.contains_key(&ifindex)
    }

    /// Returns every index, ascending.
    pub(super) fn indexes(&self) -> impl Iterator<Item = IfIndex> {
        self.by_index.keys().copied()
    }

    pub(super) fn name(&self, ifindex: IfIndex) -> Option<&str> {
        self.by_index.get(&ifindex).map(|tap| tap.name.as_str())
    }

    /// Returns the taps that have one of these names, ascending.
    pub(super) fn named(&self, names: &[String]) -> Vec<IfIndex> {
        let mut indexes: Vec<_> = names.iter().flat_map(|name| self.by_name.get(name.as_str())).copied().collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }

    /// Adds a tap, or gives it another name.
    pub(super) fn set_name(&mut self, ifindex: IfIndex, name: String) {
        let tap = self.by_index.entry(ifindex).or_default();
        self.by_name.remove(tap.name.as_str(), ifindex);
        self.by_name.insert(name.clone(), ifindex);
        tap.name = name;
    }

    /// Removes a tap, and returns its name and binding.
    pub(super) fn remove(&mut self, ifindex: IfIndex) -> Option<(String, Option<Binding>)> {
        let tap = self.by_index.remove(&ifindex)?;
        self.by_name.remove(tap.name.as_str(), ifindex);
        Some((tap.name, tap.binding))
    }

    pub(super) fn binding(&self, ifindex: IfIndex) -> Option<&Binding> {
        self.by_index.get(&ifindex)?.binding.as_ref()
    }

    /// Returns the place of a tap's binding; `None` if there is no such tap.
    pub(super) fn binding_mut(&mut self, ifindex: IfIndex) -> Option<&mut Option<Binding>> {
        self.by_index.get_mut(&ifindex).map(|tap| &mut tap.binding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_tap_is_found_by_its_new_name_only() {
        let mut taps = Taps::default();
        taps.set_name(IfIndex(1), "tap1".to_owned());
        taps.set_name(IfIndex(2), "tap2".to_owned());
        taps.set_name(IfIndex(1), "tap9".to_owned());
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(taps.named(&names(&["tap1"])).is_empty());
        assert_eq!(taps.named(&names(&["tap2", "tap9", "tap2", "tap3"])), [IfIndex(1), IfIndex(2)]);
        assert_eq!(taps.name(IfIndex(1)), Some("tap9"));
        assert!(taps.remove(IfIndex(1)).is_some());
        assert!(taps.named(&names(&["tap9"])).is_empty());
        assert!(!taps.contains(IfIndex(1)) && taps.len() == 1);
    }
}
