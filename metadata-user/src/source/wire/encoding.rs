//! From bytes to text: a document is UTF-8, with or without a byte order mark.
//!
//! Promises: what is not UTF-8 is named for what it is, as far as its bytes tell, with the place and the remedy.

use super::error::DocumentError;

/// What begins a text in an encoding, or a compressed file. The longer one of two that begin alike comes first.
const SIGNATURES: [(&[u8], &str, &str); 7] = [
    (b"\xff\xfe\0\0", "it is UTF-32", SAVE),
    (b"\0\0\xfe\xff", "it is UTF-32", SAVE),
    (b"\xff\xfe", "it is UTF-16", SAVE),
    (b"\xfe\xff", "it is UTF-16", SAVE),
    (b"\x1f\x8b", "it is compressed with gzip", DECOMPRESS),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd", DECOMPRESS),
    (b"\xfd7zXZ\0", "it is compressed with xz", DECOMPRESS),
];

const SAVE: &str = "save it as UTF-8";
const DECOMPRESS: &str = "decompress it";

/// Returns a document's text, without the byte order mark.
///
/// # Errors
/// [`DocumentError`] if it is not UTF-8.
pub(super) fn text(bytes: &[u8]) -> Result<&str, DocumentError> {
    if let Some((_, problem, remedy)) = SIGNATURES.into_iter().find(|(signature, ..)| bytes.starts_with(signature)) {
        return Err(DocumentError::of_document(problem, remedy));
    }
    // JSON begins with an ASCII character, so where its zero bytes are gives the encoding away (RFC 4627, section 3).
    match bytes.iter().take(4).map(|byte| *byte == 0).collect::<Vec<_>>().as_slice() {
        [true, true, true, false] | [false, true, true, true] => {
            return Err(DocumentError::of_document("it is UTF-32", SAVE));
        }
        [true, false, ..] | [false, true, ..] => return Err(DocumentError::of_document("it is UTF-16", SAVE)),
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = bytes.get(at).copied().unwrap_or_default();
        match error.error_len() {
            Some(_) => {
                let problem = format!("the byte {byte:#04x} is not UTF-8 but Latin-1, Windows-1252 or the like");
                DocumentError::at(bytes, at, problem, SAVE)
            }
            None => {
                let remedy = "write the whole file, best by renaming a complete one";
                DocumentError::at(bytes, at, "the text ends within a character".to_owned(), remedy)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "{\"a\":\n \"K\u{f6}ln\"}";

    fn utf16(order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        JSON.encode_utf16().flat_map(order).collect()
    }

    fn utf32(order: fn(u32) -> [u8; 4]) -> Vec<u8> {
        JSON.chars().map(u32::from).flat_map(order).collect()
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(text(JSON.as_bytes()).as_deref(), Ok(JSON));
        assert_eq!(text(&[b"\xef\xbb\xbf", JSON.as_bytes()].concat()).as_deref(), Ok(JSON));
    }

    #[test]
    fn other_encodings_are_named() {
        let latin1 = [b"{\"a\":\n \"K\xf6ln\"}".to_vec(), b"\xef\xbb\xbf{\"a\":\n \"K\xf6ln\"}".to_vec()];
        let marked = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
        for (bytes, expected) in [
            (utf16(u16::to_le_bytes), "line 1, column 1, at document: it is UTF-16; save it as UTF-8"),
            (utf16(u16::to_be_bytes), "it is UTF-16; save it as UTF-8"),
            (marked(b"\xff\xfe", utf16(u16::to_le_bytes)), "it is UTF-16; save it as UTF-8"),
            (marked(b"\xfe\xff", utf16(u16::to_be_bytes)), "it is UTF-16; save it as UTF-8"),
            (utf32(u32::to_le_bytes), "it is UTF-32; save it as UTF-8"),
            (utf32(u32::to_be_bytes), "it is UTF-32; save it as UTF-8"),
            (marked(b"\xff\xfe\0\0", utf32(u32::to_le_bytes)), "it is UTF-32; save it as UTF-8"),
            (marked(b"\0\0\xfe\xff", utf32(u32::to_be_bytes)), "it is UTF-32; save it as UTF-8"),
            (latin1[0].clone(), "line 2, column 4, at a: the byte 0xf6 is not UTF-8 but Latin-1, Windows-1252 or"),
            (latin1[1].clone(), "line 2, column 4, at a: the byte 0xf6 is not UTF-8 but Latin-1, Windows-1252 or"),
            (b"{\"a\": \"K\xc3".to_vec(), "column 9, at a: the text ends within a character; write the whole file"),
            (b"\x1f\x8b\x08\0".to_vec(), "it is compressed with gzip; decompress it"),
        ] {
            let error = text(&bytes).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}\n  does not say: {expected}");
        }
    }
}
