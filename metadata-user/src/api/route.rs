//! From a request target to a path.
//!
//! Promises: the same path is reached by the same spellings as with Nova behind uWSGI (percent signs, repeated slashes,
//! dot segments, trailing slash, query, fragment, absolute form); a target that crashes Nova is `None`.

use std::borrow::Cow;

/// Returns the path that a request target names: its segments joined by single slashes, without a leading or trailing
/// one; the root is empty. `None` stands for a target that has no path or whose path is not UTF-8.
///
/// A target that is spelled like its path is not copied.
pub(super) fn path(target: &str) -> Option<Cow<'_, str>> {
    let rest = without_authority(target);
    let end = rest.bytes().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(rest.len());
    let raw = &rest[..end];
    if !raw.is_empty() && !raw.starts_with('/') {
        return None;
    }
    let plain = raw.strip_prefix('/').unwrap_or(raw);
    if is_normal(plain) && !plain.bytes().any(|byte| byte == b'%') {
        return Some(Cow::Borrowed(plain));
    }
    let decoded = String::from_utf8(percent_decoded(raw.as_bytes())).ok()?;
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    Some(Cow::Owned(segments.join("/")))
}

/// Whether a text is a path that some request target names: no empty segment, and none of dots that mean something.
pub(super) fn is_normal(path: &str) -> bool {
    // By bytes, as every request has it looked at: a slash is no part of another character.
    path.is_empty() || !path.as_bytes().split(|byte| *byte == b'/').any(|segment| matches!(segment, b"" | b"." | b".."))
}

/// Takes the scheme and host off an absolute-form target (RFC 9112, section 3.2.2).
fn without_authority(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let Some((scheme, rest)) = target.split_once("://") else {
        return target;
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return target;
    }
    rest.find(['/', '?', '#']).map_or("", |start| &rest[start..])
}

/// Decodes percent signs as uWSGI does: an unfinished escape at the end vanishes, one that is not hexadecimal becomes
/// a zero byte, `%%` is a percent sign.
pub(super) fn percent_decoded(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let Some(high) = bytes.next() else { break };
        if high == b'%' {
            out.push(b'%');
            continue;
        }
        let Some(low) = bytes.next() else { break };
        if low == b'%' {
            out.push(b'%');
            continue;
        }
        out.push(hex_value(high).zip(hex_value(low)).map_or(0, |(high, low)| high << 4 | low));
    }
    out
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn spellings_of_a_path_are_equal() {
        for (target, expected) in [
            ("/", ""),
            ("//", ""),
            ("/..", ""),
            ("/%2e%2e/", ""),
            ("?", ""),
            ("/?x=1", ""),
            ("http://169.254.169.254", ""),
            ("http://169.254.169.254/latest/meta-data/", "latest/meta-data"),
            ("/openstack//latest/", "openstack/latest"),
            ("/openstack/x/../latest", "openstack/latest"),
            ("/openstack/../../../latest", "latest"),
            ("/openstack%2Flatest", "openstack/latest"),
            ("/openstack/%6Catest", "openstack/latest"),
            ("/openstack/latest/%", "openstack/latest"),
            ("/openstack/latest/%2", "openstack/latest"),
            ("/openstack/latest/%zz", "openstack/latest/\0"),
            ("/a%%41", "a%41"),
            ("/a%4%41", "a%41"),
            ("/a%20b", "a b"),
            ("/a+b", "a+b"),
            ("/a;b=c", "a;b=c"),
            ("/a#b/c?d", "a"),
            ("/a?b/../c", "a"),
            ("/...", "..."),
            ("/%E2%82%AC", "€"),
            ("/a://b", "a:/b"),
        ] {
            assert_eq!(path(target).as_deref(), Some(expected), "{target}");
        }
    }

    #[test]
    fn targets_that_crash_nova_name_nothing() {
        for target in ["*", "latest/meta-data/", "/%ff", "/a%e2%82"] {
            assert_eq!(path(target), None, "{target}");
        }
    }
}
