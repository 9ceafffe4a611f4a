//! Session tokens: sealed rather than stored.
//!
//! A token is 76 characters of base64 (RFC 4648, section 5): version, expiry, 16 random bytes, and an HMAC-SHA-256 of these and
//! of whom it is for. Nothing of it is kept, so tokens cost no memory, and outlive the daemon as long as the key does.
//!
//! Promises: a token opens for whom it was issued, until it expires, under the same key, and only as it was issued, byte for
//! byte. It is compared in constant time; what is not of its length is refused before it is decoded. Tokens are overwritten
//! when they are freed, and shown by no `Debug`.
//!
//! Left out: revocation of a single token. Another key, or another binding, ends all of them.

use std::fmt;

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::Secret;
use super::seal::{KEY_LENGTH, SealError, SealKey};

/// Characters of a token. A multiple of four, so that there is one text for each token and no padding.
pub const LENGTH: usize = 76;

/// The layout below. Raised when it changes, so that no token is misread.
const VERSION: u8 = 1;
/// Version, expiry in seconds of Unix time (big endian), random bytes.
const HEAD: usize = 1 + 8 + 16;
const MAC: usize = 32;
const BYTES: usize = HEAD + MAC;

/// A key that tokens are sealed with.
pub struct TokenKey(hmac::Key);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not one that this version issues.
    #[error("it is not a session token of metadatad")]
    Malformed,
    /// It was altered, issued to somebody else, or sealed with another key.
    #[error("it was altered, or issued for another port, instance or node")]
    Foreign,
    /// It is over.
    #[error("it has expired")]
    Expired,
}

impl TokenKey {
    /// Derives the key from a secret that has other uses too.
    #[must_use]
    pub fn derive(material: &Secret) -> Self {
        let whole = hmac::Key::new(hmac::HMAC_SHA256, material.expose());
        let derived = hmac::sign(&whole, b"metadatad session tokens");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// Derives the key from that of the snapshot, for as long as this boot of the node lasts: tags, by which a token knows its
    /// binding, are given anew after the next one, and by a node with a copy of the same key.
    #[must_use]
    pub fn of(key: &SealKey, boot: &[u8]) -> Self {
        let Self(lasting) = Self::derive(&key.material);
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&lasting, boot).as_ref()))
    }

    /// Makes a key that ends with the process.
    ///
    /// # Errors
    /// [`SealError::Library`] if the system gives no random bytes.
    pub fn random() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        rand::fill(&mut *bytes).map_err(|_| SealError::Library)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*bytes)))
    }

    /// Issues a token for `holder` until `expires`, in seconds of Unix time.
    ///
    /// # Errors
    /// [`SealError::Library`] if the system gives no random bytes.
    pub fn issue(&self, holder: &[u8], expires: u64) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&expires.to_be_bytes());
        rand::fill(&mut bytes[9..HEAD]).map_err(|_| SealError::Library)?;
        let (head, mac) = bytes.split_at_mut(HEAD);
        mac.copy_from_slice(self.sign(head, holder).as_ref());
        let mut text = Zeroizing::new(vec![0; LENGTH]);
        // It has the room that this takes.
        let _ = URL_SAFE_NO_PAD.encode_slice(bytes.as_slice(), &mut text);
        Ok(text)
    }

    /// Returns how many seconds a token that `holder` presents has left at `now`, in seconds of Unix time: at least one.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn open(&self, token: &[u8], holder: &[u8], now: u64) -> Result<u64, TokenError> {
        if token.len() != LENGTH {
            return Err(TokenError::Malformed);
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut *bytes).map_err(|_| TokenError::Malformed)?;
        if length != BYTES || bytes[0] != VERSION {
            return Err(TokenError::Malformed);
        }
        let (head, mac) = bytes.split_at(HEAD);
        let signed = Zeroizing::new([head, holder].concat());
        hmac::verify(&self.0, &signed, mac).map_err(|_| TokenError::Foreign)?;
        let expires = head[1..9].iter().fold(0, |seconds, byte| seconds << 8 | u64::from(*byte));
        expires.checked_sub(now).filter(|left| *left > 0).ok_or(TokenError::Expired)
    }

    fn sign(&self, head: &[u8], holder: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(head);
        context.update(holder);
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> TokenKey {
        TokenKey::derive(&Secret::new(vec![byte; KEY_LENGTH]))
    }

    #[test]
    fn a_token_opens_for_its_holder_until_it_expires_and_for_nobody_else() {
        let token = key(1).issue(b"a", 1000).unwrap();
        assert_eq!(token.len(), LENGTH);
        assert!(token.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
        assert_eq!(key(1).open(&token, b"a", 0), Ok(1000));
        assert_eq!(key(1).open(&token, b"a", 999), Ok(1));
        for now in [1000, 1001, u64::MAX] {
            assert_eq!(key(1).open(&token, b"a", now), Err(TokenError::Expired), "{now}");
        }
        assert_eq!(key(1).open(&token, b"b", 0), Err(TokenError::Foreign));
        assert_eq!(key(1).open(&token, b"", 0), Err(TokenError::Foreign));
        assert_eq!(key(2).open(&token, b"a", 0), Err(TokenError::Foreign));
        assert_eq!(TokenKey::random().unwrap().open(&token, b"a", 0), Err(TokenError::Foreign));
        assert_ne!(*token, *key(1).issue(b"a", 1000).unwrap(), "two tokens are never the same");
        assert_eq!(format!("{:?}", key(1)), "TokenKey(…)");
    }

    #[test]
    fn the_key_is_not_the_secret_that_it_is_derived_from() {
        let token = key(1).issue(b"a", 1000).unwrap();
        let secret = TokenKey(hmac::Key::new(hmac::HMAC_SHA256, &[1; KEY_LENGTH]));
        assert_eq!(secret.open(&token, b"a", 0), Err(TokenError::Foreign));
    }

    #[test]
    fn a_token_is_of_one_boot_of_one_node_though_their_keys_are_the_same() {
        let sealing = SealKey::new(Secret::new(vec![1; KEY_LENGTH])).unwrap();
        let token = TokenKey::of(&sealing, b"boot 1").issue(b"a", 1000).unwrap();
        assert_eq!(TokenKey::of(&sealing, b"boot 1").open(&token, b"a", 0), Ok(1000));
        for boot in [&b"boot 2"[..], b"boot 1 ", b""] {
            assert_eq!(TokenKey::of(&sealing, boot).open(&token, b"a", 0), Err(TokenError::Foreign));
        }
    }

    #[test]
    fn a_token_that_is_changed_in_any_bit_or_cut_or_longer_is_refused() {
        let token = key(1).issue(b"a", 1000).unwrap();
        for at in 0..token.len() {
            for bit in 0..8 {
                let mut changed = token.to_vec();
                changed[at] ^= 1 << bit;
                assert!(key(1).open(&changed, b"a", 0).is_err(), "byte {at}, bit {bit}");
            }
            assert_eq!(key(1).open(&token[..at], b"a", 0), Err(TokenError::Malformed), "{at} bytes");
        }
        for more in [&b"A"[..], b"AAAA", b"=", b" "] {
            assert_eq!(key(1).open(&[&token[..], more].concat(), b"a", 0), Err(TokenError::Malformed));
        }
        assert_eq!(key(1).open(&[b'A'; 10_000], b"a", 0), Err(TokenError::Malformed));
    }

    proptest! {
        #[test]
        fn what_was_not_issued_does_not_open(token in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(key(1).open(&token, b"a", 0).is_err());
        }

        #[test]
        fn what_is_base64_and_was_not_issued_does_not_open(token in "[A-Za-z0-9_-]{76}") {
            prop_assert!(key(1).open(token.as_bytes(), b"a", 0).is_err());
        }
    }
}
