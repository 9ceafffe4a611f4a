//! Percent-encoding (RFC 3986), with one set of characters that stand for themselves.
//!
//! A leaf: it uses nothing of this crate.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but what means itself in a path, whoever reads it.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// Returns a path so that it means itself in a request line.
pub(crate) fn encode(path: &str) -> String {
    utf8_percent_encode(path, ESCAPED).to_string()
}

/// Tells whether a path means itself in a request line as it is.
pub(crate) fn is_plain(path: &str) -> bool {
    utf8_percent_encode(path, ESCAPED).all(|piece| !piece.starts_with('%'))
}

/// Undoes [`encode`]; `None` if a percent sign is not followed by two digits, or the result is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let is_coded = |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_coded) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_written_so_that_they_mean_themselves() {
        let encoded = encode("latest/meta-data/public-keys/0=a b?%€");
        assert_eq!(encoded, "latest/meta-data/public-keys/0=a%20b%3F%25%E2%82%AC");
        assert!(is_plain("latest/meta-data/public-keys/0=a:b@c~_") && is_plain(""));
        for path in ["a b", "a%2e", "a\\b", "a?b", "\0", "é", "a\r\n", "a#", "a&b", "a+b"] {
            assert!(!is_plain(path), "{path}");
        }
        for text in ["%ff", "%", "%2", "%zz", "a%2g"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(text: String) {
            let encoded = encode(&text);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(decode(&encoded), Some(text.clone()));
            prop_assert_eq!(is_plain(&text), encoded == text);
        }
    }
}
