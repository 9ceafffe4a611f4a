//! The query of a request to the admin API: names and percent-encoded values.

use crate::percent;

/// Returns a value; `None` if it is not there, is empty, or is not encoded as one.
pub(super) fn value(query: &str, name: &str) -> Option<String> {
    let text = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    percent::decode(text).filter(|text| !text.is_empty())
}

/// Tells whether a name is there, with a value or without.
pub(super) fn has(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        for (text, expected) in
            [("tap1", Some("tap1")), ("a%20b%25", Some("a b%")), ("%2", None), ("%zz", None), ("", None)]
        {
            assert_eq!(value(&format!("x=y&port={text}&z"), "port").as_deref(), expected, "{text}");
        }
        assert_eq!(value("ports=a", "port"), None);
        assert!(has("a&b=c", "a") && has("a&b=c", "b") && !has("a&b=c", "c"));
    }
}
