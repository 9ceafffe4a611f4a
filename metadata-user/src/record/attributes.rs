//! What a guest wrote about itself for its operator: texts, by namespace and key.
//!
//! Promises: pure; no more values and bytes than a quota allows, whatever is written in which order.

use std::collections::BTreeMap;

/// Longest name of a namespace or a key, in bytes.
const LONGEST_NAME: usize = 64;
/// Longest value, in bytes.
pub const LONGEST_VALUE: usize = 4096;
/// Most bytes of an instance: names and values.
pub const MOST_BYTES: usize = 64 << 10;

/// The namespace of events that the guest has acknowledged. No path of an attribute spells it.
const ACKNOWLEDGED: &str = "@events";

/// Attributes as they are kept and shown: values by key, by namespace.
pub type Texts = BTreeMap<String, BTreeMap<String, String>>;

/// The attributes of an instance. `Debug` leaves the values out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    spaces: BTreeMap<Box<str>, BTreeMap<Box<str>, Box<str>>>,
    count: usize,
    bytes: usize,
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attributes").field("count", &self.count).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Why a value is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// There are as many values as may be, or as many bytes.
    #[error("the instance has as many guest attributes as it may")]
    Full,
    /// The value is longer than [`LONGEST_VALUE`].
    #[error("a guest attribute has at most {LONGEST_VALUE} bytes")]
    TooLong,
    /// The value is not UTF-8, or has a zero byte.
    #[error("a guest attribute is text in UTF-8, without a zero byte")]
    NoText,
    /// The instance writes too fast.
    #[error("the instance writes guest attributes too fast")]
    TooFast,
    /// There is no such instance.
    #[error("there is no such instance")]
    NoInstance,
}

/// Tells whether a namespace or a key may have this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=LONGEST_NAME).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(is_part)
}

impl Attributes {
    /// Returns the namespaces, ascending, each with its keys and values, ascending.
    pub fn spaces(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, &str)>)> {
        self.spaces.iter().map(|(space, values)| (&**space, values.iter().map(|(key, value)| (&**key, &**value))))
    }

    /// Returns a value.
    #[must_use]
    pub fn get(&self, space: &str, key: &str) -> Option<&str> {
        self.spaces.get(space)?.get(key).map(|value| &**value)
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes a value, in the place of one that is there. `most`: values of the instance. Returns whether anything changed.
    ///
    /// # Errors
    /// [`AttributeError`], and nothing has changed.
    pub fn set(&mut self, space: &str, key: &str, value: &str, most: usize) -> Result<bool, AttributeError> {
        if value.len() > LONGEST_VALUE {
            return Err(AttributeError::TooLong);
        }
        let before = self.get(space, key).map(|before| (before == value, before.len()));
        let (count, bytes) = match before {
            Some((true, _)) => return Ok(false),
            Some((false, length)) => (self.count, self.bytes - length + value.len()),
            None => (self.count + 1, self.bytes + space.len() + key.len() + value.len()),
        };
        // A smaller quota than before still lets values be replaced by shorter ones.
        if (count > most || bytes > MOST_BYTES) && (count > self.count || bytes > self.bytes) {
            return Err(AttributeError::Full);
        }
        self.spaces.entry(space.into()).or_default().insert(key.into(), value.into());
        (self.count, self.bytes) = (count, bytes);
        Ok(true)
    }

    /// Makes attributes of texts that were kept, as many as there are.
    #[must_use]
    pub fn of_texts(texts: &Texts) -> Self {
        let mut attributes = Self::default();
        for (space, values) in texts {
            for (key, value) in values {
                // What was kept once was within a quota.
                _ = attributes.set(space, key, value, usize::MAX);
            }
        }
        attributes
    }

    /// Returns all of them as texts.
    #[must_use]
    pub fn texts(&self) -> Texts {
        let texts = self.spaces().map(|(space, values)| {
            (space.to_owned(), values.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
        });
        texts.collect()
    }

    /// Tells whether the guest has acknowledged the event of this id.
    #[must_use]
    pub fn has_acknowledged(&self, event: &str) -> bool {
        self.get(ACKNOWLEDGED, event).is_some()
    }

    /// Notes that the guest has acknowledged an event, and forgets those that are not among the current ones. Returns whether anything
    /// changed.
    ///
    /// # Errors
    /// [`AttributeError::Full`], if the instance's other attributes leave no room.
    pub fn acknowledge(&mut self, event: &str, is_current: impl Fn(&str) -> bool) -> Result<bool, AttributeError> {
        let known = self.spaces.get(ACKNOWLEDGED).into_iter().flatten().map(|(id, _)| id.to_string());
        let gone: Vec<String> = known.filter(|id| !is_current(id)).collect();
        for id in &gone {
            self.remove(ACKNOWLEDGED, id);
        }
        // Their number is that of the document's events.
        Ok(self.set(ACKNOWLEDGED, event, "acknowledged", usize::MAX)? || !gone.is_empty())
    }

    /// Removes a value. Returns whether there was one.
    pub fn remove(&mut self, space: &str, key: &str) -> bool {
        let Some(values) = self.spaces.get_mut(space) else { return false };
        let Some(value) = values.remove(key) else { return false };
        if values.is_empty() {
            self.spaces.remove(space);
        }
        self.count -= 1;
        self.bytes -= space.len() + key.len() + value.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["a", "ssh-ed25519", "A_b.c", "..a", &"x".repeat(LONGEST_NAME)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "ä", "a%", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_full_instance_keeps_what_it_has_and_may_replace_and_remove() {
        let mut attributes = Attributes::default();
        assert_eq!(attributes.set("a", "1", "x", 2), Ok(true));
        assert_eq!(attributes.set("a", "1", "x", 2), Ok(false));
        assert_eq!(attributes.set("b", "1", "y", 2), Ok(true));
        assert_eq!(attributes.set("b", "2", "z", 2), Err(AttributeError::Full));
        assert_eq!(attributes.set("b", "1", "other", 1), Err(AttributeError::Full), "the quota is smaller now");
        assert_eq!(attributes.set("b", "1", "", 1), Ok(true));
        assert!(attributes.remove("a", "1") && !attributes.remove("a", "1"));
        assert_eq!(attributes.set("b", "2", "z", 2), Ok(true));
        let all: Vec<_> = attributes.spaces().map(|(space, values)| (space, values.collect::<Vec<_>>())).collect();
        assert_eq!(all, [("b", vec![("1", ""), ("2", "z")])]);
        assert_eq!(attributes.set("b", "3", &"x".repeat(LONGEST_VALUE + 1), 9), Err(AttributeError::TooLong));
        let shown = format!("{attributes:?}");
        assert!(!shown.contains('z'), "{shown}");
    }

    #[test]
    fn acknowledgements_are_of_current_events_and_are_apart() {
        let mut attributes = Attributes::default();
        assert!(!is_name(ACKNOWLEDGED));
        let all = |_: &str| true;
        assert_eq!((attributes.acknowledge("a", all), attributes.acknowledge("a", all)), (Ok(true), Ok(false)));
        assert_eq!(attributes.acknowledge("b", |id| id == "b"), Ok(true));
        assert!(attributes.has_acknowledged("b") && !attributes.has_acknowledged("a"));
        assert_eq!(attributes.texts()[ACKNOWLEDGED]["b"], "acknowledged");
    }

    proptest! {
        #[test]
        fn count_and_bytes_are_those_of_what_is_there(
            steps in proptest::collection::vec(("[ab]", "[a-c]", proptest::option::of("[x]{0,4096}")), 0..60),
        ) {
            let mut attributes = Attributes::default();
            for (space, key, value) in steps {
                match value {
                    Some(value) => _ = attributes.set(&space, &key, &value, 4),
                    None => _ = attributes.remove(&space, &key),
                }
                let sizes = attributes.spaces().flat_map(|(space, values)| {
                    values.map(move |(key, value)| space.len() + key.len() + value.len())
                });
                let sizes: Vec<_> = sizes.collect();
                prop_assert_eq!((attributes.count, attributes.bytes), (sizes.len(), sizes.iter().sum()));
                prop_assert!(attributes.count <= 4 && attributes.bytes <= MOST_BYTES);
                prop_assert!(attributes.spaces.values().all(|values| !values.is_empty()));
            }
        }
    }
}
