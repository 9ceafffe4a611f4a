//! Texts from a document as messages show them: in one line, and cut where they get long.

use std::borrow::Cow;
use std::fmt::Write as _;

/// How much of a text is quoted, in characters.
const LONGEST_QUOTE: usize = 60;

/// Returns a text from the document as a message shows it: in quotes, and cut where it gets long.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = format!("{:?}", start_of(text, LONGEST_QUOTE));
    if quoted.len() < text.len() {
        // Writing to a string does not fail.
        let _ = write!(quoted, "… ({} bytes)", text.len());
    }
    quoted
}

/// Returns a text in one line, cut where it gets long.
pub(super) fn shown(text: &str, longest: usize) -> Cow<'_, str> {
    let start = start_of(text, longest);
    if start.len() == text.len() && !text.contains(char::is_control) {
        return text.into();
    }
    let mut shown = String::with_capacity(start.len() + 8);
    for c in start.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if start.len() < text.len() {
        shown.push('…');
    }
    shown.into()
}

fn start_of(text: &str, longest: usize) -> &str {
    text.char_indices().nth(longest).map_or(text, |(end, _)| &text[..end])
}
