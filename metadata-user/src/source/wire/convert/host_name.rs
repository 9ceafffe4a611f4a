//! The host name that an instance gets when its document names none: what Nova 34 makes of the display name.

use uuid::Uuid;

/// The longest name, of Nova's: what `dnsmasq` takes as one label.
const LONGEST: usize = 63;

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
