//! Which answers are right: one of some bodies, or a property that only grows.

use std::collections::BTreeSet;

use crate::http::Response;

/// Which answers with status 200 are right.
pub trait Right: Send + 'static {
    /// What is right at a moment.
    type Now;

    /// Returns what is right now, before a request.
    fn now(&self) -> Self::Now;

    /// Returns what is wrong with the answer to a request that was sent `then`; `None`: nothing.
    fn fault(&mut self, then: &Self::Now, answer: &Response) -> Option<String>;
}

/// Some bodies.
#[derive(Clone, Debug)]
pub struct Bodies(BTreeSet<Vec<u8>>);

impl Bodies {
    pub(super) fn new(body: &[u8]) -> Self {
        Self(BTreeSet::from([body.to_vec()]))
    }

    pub(super) fn allow(&mut self, body: &[u8]) {
        self.0.insert(body.to_vec());
    }

    pub(super) fn only(&mut self, body: &[u8]) {
        *self = Self::new(body);
    }
}

impl Right for Bodies {
    type Now = BTreeSet<Vec<u8>>;

    fn now(&self) -> Self::Now {
        self.0.clone()
    }

    fn fault(&mut self, then: &Self::Now, answer: &Response) -> Option<String> {
        let is_right = then.contains(&answer.body) || self.0.contains(&answer.body);
        (!is_right).then(|| format!("body {:.200}", answer.text()))
    }
}

/// An instance's own `meta_data.json`, whose property `value` is a number that never goes back, and is not beyond what was set.
#[derive(Clone, Debug)]
pub struct Values {
    instance: String,
    /// The one that was read last.
    read: u64,
    /// The greatest that was set.
    set: u64,
}

impl Values {
    /// What is asked for.
    pub(super) const PATH: &'static str = "/openstack/latest/meta_data.json";

    pub(super) fn new(instance: &str, value: u64) -> Self {
        Self { instance: instance.to_owned(), read: value, set: value }
    }

    pub(super) fn allow(&mut self, value: u64) {
        self.set = self.set.max(value);
    }

    pub(super) fn has_newest(&self) -> bool {
        self.read == self.set
    }
}

impl Right for Values {
    /// The value that was read last.
    type Now = u64;

    fn now(&self) -> u64 {
        self.read
    }

    fn fault(&mut self, then: &u64, answer: &Response) -> Option<String> {
        let fields = match answer.json() {
            Ok(fields) => fields,
            Err(error) => return Some(format!("{error:#}")),
        };
        if fields["uuid"] != self.instance.as_str() {
            return Some(format!("instance {} instead of {}", fields["uuid"], self.instance));
        }
        let value = fields["meta"]["value"].as_str().and_then(|value| value.parse::<u64>().ok());
        match value {
            Some(value) if (*then..=self.set).contains(&value) => {
                self.read = self.read.max(value);
                None
            }
            _ => Some(format!("value {}, after {then} was read and {} was set", fields["meta"]["value"], self.set)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(instance: &str, value: &str) -> Response {
        let body = format!(r#"{{"uuid": "{instance}", "meta": {{"value": "{value}"}}}}"#);
        Response { status: 200, headers: Vec::new(), body: body.into_bytes() }
    }

    #[test]
    fn a_value_that_goes_back_is_beyond_what_was_set_or_of_another_instance_is_wrong() {
        let mut values = Values::new("a", 1);
        assert!(values.has_newest());
        values.allow(3);
        assert!(!values.has_newest());
        for (value, is_right) in [("1", true), ("2", true), ("1", false), ("4", false), ("x", false), ("3", true)] {
            let then = values.now();
            assert_eq!(values.fault(&then, &answer("a", value)).is_none(), is_right, "{value}");
        }
        assert!(values.has_newest());
        let then = values.now();
        assert!(values.fault(&then, &answer("b", "3")).is_some());
    }

    #[test]
    fn a_body_that_was_right_when_it_was_asked_for_is_right() {
        let mut bodies = Bodies::new(b"1");
        let then = bodies.now();
        bodies.only(b"2");
        let of = |body: &[u8]| Response { status: 200, headers: Vec::new(), body: body.to_vec() };
        assert_eq!(bodies.fault(&then, &of(b"1")), None);
        assert_eq!(bodies.fault(&then, &of(b"2")), None);
        assert!(bodies.fault(&bodies.now(), &of(b"1")).is_some());
    }
}
