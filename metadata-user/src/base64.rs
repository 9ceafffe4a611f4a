//! Base64 as documents and answers have it (RFC 4648, section 4: the standard alphabet with padding), over the crate of
//! this name: nothing of a secret is left in memory, and what is wrong with a text is said by its place in it.
//!
//! A leaf: it uses nothing of this crate.

use std::fmt;

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Padding is wanted. Bits that no byte takes may be anything, as for Python and coreutils.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// Appends the encoded bytes: four characters for every three bytes begun.
pub fn encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // It has the room that this takes.
    let _ = ENGINE.encode_slice(bytes, &mut out[start..]);
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
    let counts = |byte: &u8| !byte.is_ascii_whitespace();
    let mut dense = Zeroizing::new(Vec::with_capacity(text.len()));
    dense.extend(text.bytes().filter(counts));
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut out = Vec::with_capacity(dense.len() / 4 * 3 + 3);
    let error = match ENGINE.decode_vec(&*dense, &mut out) {
        Ok(()) => return Ok(out),
        Err(error) => error,
    };
    drop(Zeroizing::new(out));
    let place = match error {
        // Padding in its place is right: what follows it is not.
        base64::DecodeError::InvalidByte(place, b'=') if place % 4 >= 2 => {
            let is_padding = |at: &usize| dense.get(*at) == Some(&b'=') && at / 4 == place / 4;
            (place..).find(|at| !is_padding(at))
        }
        base64::DecodeError::InvalidByte(place, _) => Some(place),
        base64::DecodeError::InvalidLastSymbol { offset, .. } => Some(offset),
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => None,
    };
    // Its place among all characters.
    let mut counted = text.bytes().enumerate().filter(|(_, byte)| counts(byte));
    let character = place.and_then(|place| counted.nth(place));
    Err(character.map_or(DecodeError::Length, |(index, _)| DecodeError::Character(index + 1)))
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
