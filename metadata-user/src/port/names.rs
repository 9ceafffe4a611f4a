//! An index from names to interface indexes.
//!
//! A name belongs to one interface at a time, but events may lag: when one interface has gone and another has taken its
//! name, both are known by it until the first one's event comes. So a name may have several.

use std::collections::HashMap;
use std::hash::Hash;

use crate::dataplane::IfIndex;

/// The index. Each operation looks at the entries of one name only, however many names there are.
#[derive(Debug)]
pub(super) struct Names<K = String>(HashMap<K, Vec<IfIndex>>);

impl<K> Default for Names<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Names<K> {
    /// Adds an interface that has this name.
    pub(super) fn insert(&mut self, name: K, ifindex: IfIndex) {
        let indexes = self.0.entry(name).or_default();
        if !indexes.contains(&ifindex) {
            indexes.push(ifindex);
        }
    }

    /// Removes an interface that had this name.
    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, name: &Q, ifindex: IfIndex)
    where
        K: std::borrow::Borrow<Q>,
    {
        if let Some(indexes) = self.0.get_mut(name) {
            indexes.retain(|other| *other != ifindex);
            if indexes.is_empty() {
                self.0.remove(name);
            }
        }
    }

    /// Returns the interfaces that have this name.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> &[IfIndex]
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::Hasher;

    use super::*;

    thread_local! {
        static COMPARED: Cell<u32> = const { Cell::new(0) };
    }

    /// A name that counts how often names are compared.
    #[derive(Clone, Debug, Eq)]
    struct Counted(String);

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.set(COMPARED.get() + 1);
            self.0 == other.0
        }
    }

    impl Hash for Counted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    #[test]
    fn ten_thousand_changes_do_not_look_at_all_ports_for_each() {
        const PORTS: u32 = 10_000;
        let name = |number: u32| Counted(format!("tap{number}"));
        let mut names = Names::default();
        for number in 1..=PORTS {
            names.insert(name(number), IfIndex(number));
        }
        COMPARED.set(0);
        for number in 1..=PORTS {
            assert_eq!(names.get(&name(number)), [IfIndex(number)]);
        }
        assert!(COMPARED.get() <= 2 * PORTS, "{} names compared", COMPARED.get());
    }

    #[test]
    fn a_name_that_was_taken_over_has_both_interfaces_until_the_first_is_gone() {
        let mut names: Names = Names::default();
        names.insert("tap1".to_owned(), IfIndex(1));
        names.insert("tap1".to_owned(), IfIndex(2));
        names.insert("tap1".to_owned(), IfIndex(2));
        assert_eq!(names.get("tap1"), [IfIndex(1), IfIndex(2)]);
        names.remove("tap1", IfIndex(1));
        names.remove("tap9", IfIndex(1));
        assert_eq!(names.get("tap1"), [IfIndex(2)]);
        names.remove("tap1", IfIndex(2));
        assert!(names.get("tap1").is_empty());
    }
}
