//! Signatures that prove to Nova that the sender of a request has the shared secret.

use std::fmt;

use aws_lc_rs::hmac;

use super::Secret;

/// Signs with one secret. Redacted in `Debug`.
pub struct Signer(hmac::Key);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// Prepares to sign. The library overwrites its copy of the secret when this is dropped.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
    }

    /// Returns the HMAC-SHA256 of a text in lower-case hexadecimal, as Nova's `X-Instance-ID-Signature` has it.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        super::hex(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        let signer = Signer::new(&Secret::new(b"Jefe".to_vec()));
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signer.sign("what do ya want for nothing?"), expected, "test case 2");
        assert!(!format!("{signer:?}").contains("Jefe"));
    }
}
