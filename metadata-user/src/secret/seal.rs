//! Authenticated encryption of files: without the key they can neither be read nor be changed undetected.
//!
//! Promises: AES-256-GCM under a key that is derived anew for every text, by HKDF-SHA-256 from the key and a random salt
//! of 32 bytes. So no nonce is ever used twice, however often a node writes, and each can be a plain counter. A text is
//! sealed in pieces of at most [`PIECE`] bytes as it is written, so no more of it than that is in memory in the clear.
//! Each piece is bound to its place, to whether it is the last, and to the associated data: a text that is cut off at
//! any byte, reordered, or put under another header does not open. Clear bytes are overwritten after use.
//!
//! Left out: replay. An older text of the same node opens as well as the newest one.

use std::fmt;
use std::io::{self, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};
use zeroize::Zeroizing;

use super::Secret;

/// Smallest key, in bytes: the key length of the cipher.
pub const KEY_LENGTH: usize = 32;

/// Largest piece, in clear bytes. Large enough that tag and length are negligible, small enough to keep in memory.
pub const PIECE: usize = 1 << 20;

/// Bytes before a piece: its clear length, big endian, with [`LAST`] set in the last piece.
const LENGTH: usize = 4;
/// Marks the last piece.
const LAST: u32 = 1 << 31;

/// The random part of a text's key, which is stored beside the text.
pub type Salt = [u8; 32];

/// A key to seal with.
pub struct SealKey {
    pub(super) material: Secret,
    id: String,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

/// Why a text cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key has too few bytes.
    #[error("the key has {0} bytes, and at least {KEY_LENGTH} are required: make one with `openssl rand -hex 32`")]
    Short(usize),
    /// There are no random bytes, or the crypto library reports an error.
    #[error("the crypto library failed")]
    Library,
}

/// Why a text does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It ends before its last piece does.
    #[error("it ends too early")]
    Torn,
    /// A piece, or the associated data, is not what was sealed.
    #[error("it was altered, or sealed with another key")]
    Altered,
}

impl SealKey {
    /// Derives a key from a secret of at least [`KEY_LENGTH`] bytes.
    ///
    /// # Errors
    /// [`SealError::Short`] if it is shorter.
    pub fn new(material: Secret) -> Result<Self, SealError> {
        let length = material.expose().len();
        if length < KEY_LENGTH {
            return Err(SealError::Short(length));
        }
        let print = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, material.expose()), b"metadatad key id");
        let id = super::hex(&print.as_ref()[..8]);
        Ok(Self { material, id })
    }

    /// Returns a fingerprint that identifies the key and reveals nothing of it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn derive(&self, salt: &Salt) -> Result<LessSafeKey, SealError> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.material.expose());
        let okm = prk.expand(&[b"metadatad snapshot"], &AES_256_GCM).map_err(|_| SealError::Library)?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

/// Returns a random key as 64 hex digits, a form that survives editors and copying.
///
/// # Errors
/// [`SealError::Library`] if the system gives no random bytes.
pub fn random_key() -> Result<Secret, SealError> {
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    rand::fill(&mut *bytes).map_err(|_| SealError::Library)?;
    Ok(Secret::new(super::hex(&*bytes).into_bytes()))
}

/// Returns a salt for one text.
///
/// # Errors
/// [`SealError::Library`] if the system gives no random bytes.
pub fn random_salt() -> Result<Salt, SealError> {
    let mut salt = Salt::default();
    rand::fill(&mut salt).map_err(|_| SealError::Library)?;
    Ok(salt)
}

/// Seals what is written to it. Only [`Sealer::finish`] completes the text: without it, it does not open.
#[expect(missing_debug_implementations, reason = "holds clear bytes")]
pub struct Sealer<'a, W> {
    key: LessSafeKey,
    associated: &'a [u8],
    /// Never grows: a vector that does leaves copies behind.
    piece: Zeroizing<Vec<u8>>,
    sealed: u64,
    out: W,
}

impl<'a, W: Write> Sealer<'a, W> {
    /// Begins a text. The salt must be a new one, and stored beside the text, best within `associated`.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn new(key: &SealKey, salt: &Salt, associated: &'a [u8], out: W) -> Result<Self, SealError> {
        let key = key.derive(salt)?;
        Ok(Self { key, associated, piece: Zeroizing::new(Vec::with_capacity(PIECE)), sealed: 0, out })
    }

    /// Seals the last piece.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.out)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = nonce(self.sealed, last);
        self.sealed += 1;
        let length = u32::try_from(self.piece.len()).map_err(io::Error::other)? | if last { LAST } else { 0 };
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(self.associated), &mut self.piece)
            .map_err(|_| io::Error::other(SealError::Library))?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(&self.piece)?;
        self.out.write_all(tag.as_ref())?;
        self.piece.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealer<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.seal(false)?;
        }
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // What is not a whole piece yet waits for more.
        Ok(())
    }
}

/// Opens a text in its own memory. Nothing of it is returned unless all of it is as it was sealed.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    key: &SealKey,
    salt: &Salt,
    associated: &[u8],
    mut text: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let key = key.derive(salt).map_err(|_| OpenError::Altered)?;
    let (mut from, mut to) = (0, 0);
    for count in 0.. {
        let length = text.get(from..from + LENGTH).and_then(|bytes| bytes.try_into().ok()).ok_or(OpenError::Torn)?;
        let length = u32::from_be_bytes(length);
        let last = length & LAST != 0;
        let clear = usize::try_from(length & !LAST).ok().filter(|clear| *clear <= PIECE).ok_or(OpenError::Altered)?;
        let start = from + LENGTH;
        let end = start + clear + MAX_TAG_LEN;
        let piece = text.get_mut(start..end).ok_or(OpenError::Torn)?;
        key.open_in_place(nonce(count, last), Aad::from(associated), piece).map_err(|_| OpenError::Altered)?;
        text.copy_within(start..start + clear, to);
        to += clear;
        from = end;
        if last {
            break;
        }
    }
    if from != text.len() {
        return Err(OpenError::Altered);
    }
    text.truncate(to);
    Ok(text)
}

/// The nonce of a piece: its place, and whether it is the last.
fn nonce(count: u64, last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[0] = u8::from(last);
    bytes[NONCE_LEN - 8..].copy_from_slice(&count.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SealKey {
        SealKey::new(Secret::new(vec![byte; KEY_LENGTH])).unwrap()
    }

    fn sealed(text: &[u8], associated: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(&key(1), &[7; 32], associated, Vec::new()).unwrap();
        sealer.write_all(text).unwrap();
        sealer.finish().unwrap()
    }

    fn opened(key: &SealKey, associated: &[u8], text: &[u8]) -> Result<Vec<u8>, OpenError> {
        open(key, &[7; 32], associated, Zeroizing::new(text.to_vec())).map(|text| text.to_vec())
    }

    #[test]
    fn texts_of_any_length_open_and_are_not_readable_before() {
        for length in [0, 1, 100, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 5] {
            let text: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let sealed = sealed(&text, b"head");
            assert!(opened(&key(1), b"head", &sealed).unwrap() == text, "{length} bytes");
            assert!(length < 16 || !sealed.windows(16).any(|window| window == &text[..16]), "{length} bytes");
        }
    }

    #[test]
    fn another_key_or_header_does_not_open() {
        let sealed = sealed(b"secret", b"head");
        assert_eq!(opened(&key(2), b"head", &sealed), Err(OpenError::Altered));
        assert_eq!(opened(&key(1), b"heat", &sealed), Err(OpenError::Altered));
        let other = open(&key(1), &[8; 32], b"head", Zeroizing::new(sealed));
        assert_eq!(other.unwrap_err(), OpenError::Altered);
        assert_ne!(key(1).id(), key(2).id());
        assert!(matches!(SealKey::new(Secret::new(vec![1; 31])), Err(SealError::Short(31))));
    }

    #[test]
    fn pieces_cannot_be_dropped_repeated_or_put_in_another_order() {
        let text = vec![5; 3 * PIECE];
        let sealed = sealed(&text, b"");
        let whole = LENGTH + PIECE + MAX_TAG_LEN;
        let piece = |at: usize| &sealed[at * whole..(at + 1) * whole];
        for (pieces, expected) in [
            (vec![0, 1], OpenError::Torn),
            (vec![1, 0, 2], OpenError::Altered),
            (vec![0, 2], OpenError::Altered),
            (vec![0, 0, 1, 2], OpenError::Altered),
            (vec![0, 1, 2, 2], OpenError::Altered),
        ] {
            let joined: Vec<u8> = pieces.iter().flat_map(|at| piece(*at).to_vec()).collect();
            assert_eq!(opened(&key(1), b"", &joined), Err(expected), "{pieces:?}");
        }
    }

    #[test]
    fn a_text_cut_off_at_any_byte_does_not_open() {
        let sealed = sealed(&[3; 200], b"");
        for length in 0..sealed.len() {
            assert_eq!(opened(&key(1), b"", &sealed[..length]), Err(OpenError::Torn), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn a_changed_bit_does_not_open(bit in 0_usize..220 * 8) {
            let mut sealed = sealed(&[3; 200], b"");
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(opened(&key(1), b"", &sealed).is_err());
        }

        #[test]
        fn anything_else_does_not_open_and_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(opened(&key(1), b"", &bytes).is_err());
        }
    }
}
