//! Host names: which ones a document may give, and which one an instance gets otherwise: what Nova 34 makes of the display
//! name.

use schemars::{Schema, SchemaGenerator, json_schema};
use uuid::Uuid;

use super::super::error::Fault;
use super::fault;

/// The longest name that a document may give, in characters; Nova's API has the same limit.
const LONGEST_GIVEN: usize = 255;

/// The longest name, of Nova's: what `dnsmasq` takes as one label.
const LONGEST: usize = 63;

/// Refuses a host name that Nova 34 does not store. It stores what its API accepts, and the Latin-1 letters and digits that
/// it keeps in a host name made of a display name.
pub(in crate::source::wire) fn check(name: &str) -> Result<(), Fault> {
    let is_allowed = |c: char| match c {
        '-' | '.' | '_' => true,
        c if c.is_ascii() => c.is_ascii_alphanumeric(),
        c => c <= '\u{ff}' && c.is_alphanumeric() && c.to_lowercase().eq([c]),
    };
    let refused = |problem: String, remedy| Err(fault(["hostname"], problem, remedy));
    if let Some(c) = name.chars().find(|c| !is_allowed(*c)) {
        let remedy = "use letters, digits, dashes, dots and underscores, or leave the field out";
        return refused(format!("a host name cannot contain {c:?}"), remedy);
    }
    match name.chars().count() {
        0 => refused("the host name is empty".to_owned(), "write one, or leave the field out"),
        1..=LONGEST_GIVEN => Ok(()),
        length => refused(format!("the host name has {length} characters"), "use at most 255"),
    }
}

/// Returns the schema of what [`check`] accepts.
pub(in crate::source::wire) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": LONGEST_GIVEN,
        "pattern": "^[0-9A-Za-z._ª²³µ¹º¼-¾ß-öø-ÿ-]*$"
    })
}

/// Returns the host name of an instance without a display name.
pub(super) fn unnamed(uuid: Uuid) -> Box<str> {
    format!("server-{uuid}").into()
}

/// Returns the host name that Nova 34 makes of a display name (`sanitize_hostname` in nova/utils.py, and
/// `_populate_instance_names` in nova/compute/api.py for a name of which nothing is left).
pub(super) fn of(display_name: &str, uuid: Uuid) -> Box<str> {
    // In Nova's order: it cuts before it drops, so what is dropped counts towards the length.
    let latin = display_name.chars().filter(|c| *c <= '\u{ff}').take(LONGEST);
    let kept = latin.filter_map(|c| match c {
        ' ' | '_' | '.' | '-' => Some('-'),
        c if c.is_alphanumeric() => c.to_lowercase().next(),
        _ => None,
    });
    let name: String = kept.collect();
    match name.trim_matches('-') {
        // Nova does not lower this one.
        "" => format!("Server-{uuid}").into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Display names, and what `sanitize_hostname` of nova 34.0.0 returns for each.
    const NOVA: &str = include_str!("host_name/nova34.json");

    #[test]
    fn host_names_are_those_of_nova_34() {
        let uuid = Uuid::from_u128(1);
        let cases: Vec<(String, String)> = serde_json::from_str(NOVA).unwrap();
        assert!(cases.len() > 500);
        for (display_name, nova) in &cases {
            let expected = if nova.is_empty() { format!("Server-{uuid}") } else { nova.clone() };
            assert_eq!(&*of(display_name, uuid), expected, "{display_name:?}");
        }
    }
}
