//! Text of a guest, bounded and harmless.
//!
//! Promises: it is printable ASCII, whatever the guest sent, so that it cannot forge a line, a field or a terminal's
//! commands; it needs no memory of its own. What was cut ends with `…`, which no escaped text has.

use std::fmt;

use arrayvec::ArrayString;

/// What is at the end of a text that was cut.
const CUT: char = '…';

/// A text of at most `N` bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Text<const N: usize>(ArrayString<N>);

impl<const N: usize> Text<N> {
    /// Keeps as much of these bytes as fits. All but printable ASCII, and the backslash, becomes `\xNN`.
    #[must_use]
    pub fn escaped(bytes: &[u8]) -> Self {
        let mut text = ArrayString::new();
        // How long the text was when the mark of a cut still fitted.
        let mut cut_at = 0;
        for byte in bytes {
            let escape;
            let piece = match byte {
                b' '..=b'~' if *byte != b'\\' => std::slice::from_ref(byte),
                byte => {
                    let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                    escape = [b'\\', b'x', digit(byte >> 4), digit(byte & 0xf)];
                    &escape
                }
            };
            // Always ASCII.
            let piece = std::str::from_utf8(piece).unwrap_or_default();
            if text.try_push_str(piece).is_err() {
                text.truncate(cut_at);
                // It fits by `cut_at`, unless `N` is too small for anything.
                let _ = text.try_push(CUT);
                break;
            }
            if text.len() + CUT.len_utf8() <= N {
                cut_at = text.len();
            }
        }
        Self(text)
    }

    /// Returns a text that was escaped before; what does not fit is left out.
    #[must_use]
    pub fn kept(escaped: &str) -> Self {
        let mut end = escaped.len().min(N);
        while !escaped.is_char_boundary(end) {
            end -= 1;
        }
        Self(ArrayString::from(&escaped[..end]).unwrap_or_default())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_printable_is_escaped_and_what_is_too_long_is_cut() {
        for (bytes, expected) in [
            (&b"/latest"[..], "/latest"),
            (b"a\\b", "a\\x5cb"),
            (b"\n\xff", "\\x0a\\xff"),
            (b"0123456789", "0123456789"),
            (b"0123456789ab", "0123456789ab"),
            (b"0123456789abc", "012345678…"),
            (b"01234567\n\n", "01234567…"),
            (b"", ""),
        ] {
            assert_eq!(Text::<12>::escaped(bytes).as_str(), expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_printable_bounded_and_unambiguous(bytes: Vec<u8>) {
            let text = Text::<40>::escaped(&bytes);
            prop_assert!(text.as_str().len() <= 40);
            let whole = text.as_str().strip_suffix(CUT);
            prop_assert!(whole.unwrap_or(text.as_str()).bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let long = Text::<4096>::escaped(&bytes);
            match whole {
                Some(begin) => prop_assert!(long.as_str().starts_with(begin)),
                None => prop_assert_eq!(text.as_str(), long.as_str()),
            }
        }
    }
}
