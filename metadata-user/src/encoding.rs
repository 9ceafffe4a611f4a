//! From bytes to text: what operators and controllers write is UTF-8, with or without a byte order mark.
//!
//! Promises: what is not UTF-8 is named for what it is, as far as its bytes tell, with the place and the remedy.
//!
//! A leaf: it uses nothing of this crate.

/// A byte order mark, which editors of other systems write.
const MARK: &[u8] = "\u{feff}".as_bytes();

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

/// Why bytes are not text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotText {
    /// The byte that cannot be, counted from 0 after the byte order mark; `None`: the whole.
    pub(crate) at: Option<usize>,
    /// What is wrong.
    pub(crate) problem: String,
    /// What to do about it.
    pub(crate) remedy: &'static str,
}

/// Returns the text without its byte order mark. The text must begin with an ASCII character, as JSON and TOML do.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, NotText> {
    let whole = |problem: &str, remedy| NotText { at: None, problem: problem.to_owned(), remedy };
    if let Some((_, problem, remedy)) = SIGNATURES.into_iter().find(|(signature, ..)| bytes.starts_with(signature)) {
        return Err(whole(problem, remedy));
    }
    // Where the first character's zero bytes are gives the encoding away (RFC 4627, section 3).
    match bytes.iter().take(4).map(|byte| *byte == 0).collect::<Vec<_>>().as_slice() {
        [true, true, true, false] | [false, true, true, true] => return Err(whole("it is UTF-32", SAVE)),
        [true, false, ..] | [false, true, ..] => return Err(whole("it is UTF-16", SAVE)),
        _ => {}
    }
    let bytes = without_mark(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = bytes.get(at).copied().unwrap_or_default();
        let (problem, remedy) = match error.error_len() {
            Some(_) => (format!("the byte {byte:#04x} is not UTF-8 but Latin-1, Windows-1252 or the like"), SAVE),
            None => {
                ("the text ends within a character".to_owned(), "write the whole file, best by renaming a complete one")
            }
        };
        NotText { at: Some(at), problem, remedy }
    })
}

/// Takes a byte order mark away.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(MARK).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\"a\":\n \"K\u{f6}ln\"}";

    fn utf16(order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        TEXT.encode_utf16().flat_map(order).collect()
    }

    fn utf32(order: fn(u32) -> [u8; 4]) -> Vec<u8> {
        TEXT.chars().map(u32::from).flat_map(order).collect()
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(text(TEXT.as_bytes()), Ok(TEXT));
        assert_eq!(text(&[MARK, TEXT.as_bytes()].concat()), Ok(TEXT));
        assert_eq!(text(b""), Ok(""));
    }

    #[test]
    fn other_encodings_are_named() {
        let marked = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
        let latin1 = "the byte 0xf6 is not UTF-8 but Latin-1, Windows-1252 or the like; save it as UTF-8";
        for (bytes, at, expected) in [
            (utf16(u16::to_le_bytes), None, "it is UTF-16; save it as UTF-8"),
            (utf16(u16::to_be_bytes), None, "it is UTF-16; save it as UTF-8"),
            (marked(b"\xff\xfe", utf16(u16::to_le_bytes)), None, "it is UTF-16; save it as UTF-8"),
            (marked(b"\xfe\xff", utf16(u16::to_be_bytes)), None, "it is UTF-16; save it as UTF-8"),
            (utf32(u32::to_le_bytes), None, "it is UTF-32; save it as UTF-8"),
            (utf32(u32::to_be_bytes), None, "it is UTF-32; save it as UTF-8"),
            (marked(b"\xff\xfe\0\0", utf32(u32::to_le_bytes)), None, "it is UTF-32; save it as UTF-8"),
            (marked(b"\0\0\xfe\xff", utf32(u32::to_be_bytes)), None, "it is UTF-32; save it as UTF-8"),
            (b"{\"a\":\n \"K\xf6ln\"}".to_vec(), Some(9), latin1),
            (b"\xef\xbb\xbf{\"a\":\n \"K\xf6ln\"}".to_vec(), Some(9), latin1),
            (b"\0".to_vec(), Some(1), ""),
            (
                b"{\"a\": \"K\xc3".to_vec(),
                Some(8),
                "the text ends within a character; write the whole file, best by renaming a complete one",
            ),
            (b"\x1f\x8b\x08\0".to_vec(), None, "it is compressed with gzip; decompress it"),
        ] {
            match text(&bytes) {
                Err(NotText { at: found, problem, remedy }) => {
                    assert_eq!((found, format!("{problem}; {remedy}")), (at, expected.to_owned()));
                }
                // A zero alone tells nothing, and is the reader's to refuse.
                Ok(text) => assert_eq!((text, expected), ("\0", "")),
            }
        }
    }
}
