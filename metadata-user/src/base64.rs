//! Base64 (RFC 4648, section 4): the standard alphabet with padding.

use std::fmt;

use zeroize::Zeroizing;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the encoded bytes: four characters for every three bytes begun.
pub fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let [a, b, c] = group;
        let sextets = [a >> 2, (a & 0x03) << 4 | b >> 4, (b & 0x0f) << 2 | c >> 6, c & 0x3f];
        for (place, sextet) in sextets.into_iter().enumerate() {
            out.push(if place <= chunk.len() { ALPHABET[usize::from(sextet)] } else { b'=' });
        }
    }
}

/// Bytes that are shown in base64, piece by piece.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "may be secret")]
pub struct Encoded<'a>(pub &'a [u8]);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut piece = Zeroizing::new(Vec::with_capacity(1024));
        // A multiple of three, so that only the last piece is padded.
        for bytes in self.0.chunks(768) {
            piece.clear();
            encode_into(bytes, &mut piece);
            f.write_str(std::str::from_utf8(&piece).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

/// Why a text is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A character outside the alphabet, or after the padding.
    #[error("character {0} (from 1) does not belong in base64")]
    Character(usize),
    /// The end came too soon or too late.
    #[error("the length is not a multiple of four")]
    Length,
}

/// Decodes a text. Spaces and line breaks are skipped.
///
/// # Errors
/// [`DecodeError`] if the text is not base64.
pub fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut group = [0_u8; 4];
    let (mut filled, mut padding) = (0_usize, 0_usize);
    for (index, byte) in text.bytes().enumerate() {
        if byte.is_ascii_whitespace() {
            continue;
        }
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if filled >= 2 => {
                padding += 1;
                0
            }
            _ => return Err(DecodeError::Character(index + 1)),
        };
        // Nothing follows the padding: neither a value in its group nor another group.
        let finished = padding > 0 && (byte != b'=' || filled == 0);
        if finished {
            return Err(DecodeError::Character(index + 1));
        }
        group[filled] = value;
        filled += 1;
        if filled == 4 {
            let [a, b, c, d] = group;
            let bytes = [a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d];
            out.extend_from_slice(&bytes[..3 - padding]);
            filled = 0;
        }
    }
    if filled == 0 { Ok(out) } else { Err(DecodeError::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_hold() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            encode_into(plain.as_bytes(), &mut out);
            assert_eq!(out, encoded.as_bytes());
            assert_eq!(decode(encoded).unwrap(), plain.as_bytes());
        }
        assert_eq!(decode("Zm9v\n YmFy\r\n").unwrap(), b"foobar");
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, error) in [
            ("Zm9", DecodeError::Length),
            ("Zg=", DecodeError::Length),
            ("=g==", DecodeError::Character(1)),
            ("Z===", DecodeError::Character(2)),
            ("Zg=a", DecodeError::Character(4)),
            ("Zg==Zg==", DecodeError::Character(5)),
            ("Zm-v", DecodeError::Character(3)),
            ("Zg===", DecodeError::Character(5)),
        ] {
            assert_eq!(decode(text), Err(error), "{text}");
        }
    }
}
