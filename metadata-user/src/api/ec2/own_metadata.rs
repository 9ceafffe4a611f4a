//! Which keys of the owner's metadata have a path below `meta-data/meta-data/`, and which of them are listed there.
//!
//! Promises: a client that reads a line of the listing and asks for it, as it is or percent-encoded, gets that key's value.
//! Keys are any text, so some are left out of the listing; `meta_data.json` has all of them.

use crate::api::route;

/// Whether a path leads to a key: not to an empty one, nor to one that paths cannot spell (`a//b`, `a/`, `..`).
pub(super) fn has_path(key: &str) -> bool {
    !key.is_empty() && route::is_normal(key)
}

/// Whether a key is listed.
///
/// A percent sign, `?` and `#` mean something else to a client that asks for the line as it is; a line break, or a blank at
/// an end, is lost to a client that splits the listing into lines.
pub(in crate::api) fn is_listed(key: &str) -> bool {
    let is_lost = |c: char| c.is_control() || matches!(c, '%' | '?' | '#' | '\u{2028}' | '\u{2029}');
    has_path(key) && !key.contains(is_lost) && key.trim() == key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_listed_if_its_line_leads_to_it() {
        let listed =
            ["role", "k8s.io/cluster/x", "Patch Group", "a=b", "0=key", "schl\u{fc}ssel", "+;:@&$,'()*!~", "..."];
        let by_path_only = ["100%", "a%2Fb", "a?b", "a#b", "a\nb", "a\u{85}b", "a\u{2028}b", " a", "a\u{a0}", " "];
        let without_path = ["", ".", "..", "a/../b", "x/", "/y", "a//b"];
        for (keys, expected) in
            [(&listed[..], (true, true)), (&by_path_only[..], (true, false)), (&without_path[..], (false, false))]
        {
            for key in keys {
                assert_eq!((has_path(key), is_listed(key)), expected, "{key:?}");
            }
        }
    }
}
