//! Entity tags (RFC 9110, section 8.8.3): which bytes an answer has.
//!
//! Promises: the tag is made of the body, so it survives a restart of the daemon and a migration of the instance, and is the
//! same for a client that compares what two nodes answered. A body with a random seed is tagged without the seed, and its
//! tag is weak.

use std::fmt;

use crate::secret::digest::sha256;

/// The tag of a document.
#[derive(Clone, Copy, Debug)]
pub struct ETag {
    /// The first 8 bytes of the SHA-256 of the body.
    digest: u64,
    is_weak: bool,
}

impl PartialEq for ETag {
    /// By weak comparison.
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for ETag {}

/// Hexadecimal digits of a tag.
const DIGITS: usize = 16;

impl ETag {
    /// Returns the tag of a body. `is_weak`: other bytes of the same document have the same tag.
    pub(super) fn of(body: &[u8], is_weak: bool) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = sha256(body);
        Self { digest: u64::from_be_bytes([a, b, c, d, e, f, g, h]), is_weak }
    }

    /// Reads a tag as it was sent, with its quotes or, as Google's clients write it, without; `None`: it is none of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (is_weak, text) = text.trim().strip_prefix("W/").map_or((false, text.trim()), |rest| (true, rest));
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let is_ours = text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let digest = is_ours.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
        Some(Self { digest, is_weak })
    }

    /// Tells whether an `If-None-Match` header names this tag.
    #[must_use]
    pub fn is_in(self, header: &str) -> bool {
        // No tag of ours has a comma.
        header.split(',').any(|tag| Self::parse(tag) == Some(self))
    }
}

impl fmt::Display for ETag {
    /// As in the header `ETag`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\"{:016x}\"", if self.is_weak { "W/" } else { "" }, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_beginning_of_the_bodys_sha_256() {
        assert_eq!(ETag::of(b"abc", false).to_string(), "\"ba7816bf8f01cfea\"");
        assert_eq!(ETag::of(b"abc", true).to_string(), "W/\"ba7816bf8f01cfea\"");
    }

    #[test]
    fn tags_are_read_in_every_form_that_clients_send() {
        let tag = ETag::of(b"abc", true);
        for text in ["ba7816bf8f01cfea", "\"ba7816bf8f01cfea\"", "W/\"ba7816bf8f01cfea\"", " W/\"ba7816bf8f01cfea\" "] {
            assert_eq!(ETag::parse(text), Some(tag), "{text}");
        }
        for text in
            ["", "0", "\"\"", "W/", "BA7816BF8F01CFEA", "ba7816bf8f01cfe", "\"ba7816bf8f01cfea", "+a7816bf8f01cfea"]
        {
            assert_eq!(ETag::parse(text), None, "{text}");
        }
        for (header, is_in) in [
            ("*", false),
            ("\"ba7816bf8f01cfea\"", true),
            ("\"x\", W/\"ba7816bf8f01cfea\"", true),
            ("\"ba7816bf8f01cfeb\"", false),
            ("\"*\"", false),
            ("", false),
            ("\"\"", false),
        ] {
            assert_eq!(tag.is_in(header), is_in, "{header}");
        }
    }
}
