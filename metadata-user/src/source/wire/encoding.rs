//! From bytes to a document's text.

use super::error::DocumentError;
use crate::encoding;

/// Returns a document's text, without the byte order mark.
///
/// # Errors
/// [`DocumentError`] if it is not UTF-8.
pub(super) fn text(bytes: &[u8]) -> Result<&str, DocumentError> {
    encoding::text(bytes).map_err(|error| match error.at {
        None => DocumentError::of_document(error.problem, error.remedy),
        Some(at) => DocumentError::at(encoding::without_mark(bytes), at, error.problem, error.remedy),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf_8_is_named_with_its_place() {
        for (bytes, expected) in [
            (&b"\xff\xfe{\0"[..], "line 1, column 1, at document: it is UTF-16; save it as UTF-8"),
            (
                b"{\"a\":\n \"K\xf6ln\"}",
                "line 2, column 4, at a: the byte 0xf6 is not UTF-8 but Latin-1, Windows-1252 or",
            ),
            (
                b"\xef\xbb\xbf{\"a\":\n \"K\xf6ln\"}",
                "line 2, column 4, at a: the byte 0xf6 is not UTF-8 but Latin-1, Windows-1252 or",
            ),
            (b"{\"a\": \"K\xc3", "column 9, at a: the text ends within a character; write the whole file"),
        ] {
            let error = text(bytes).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}\n  does not say: {expected}");
        }
    }
}
