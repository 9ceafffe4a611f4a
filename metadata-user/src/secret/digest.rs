//! SHA-256, for values that must be equal on every node and in every version.

use aws_lc_rs::digest;

/// Returns the first 4 bytes of a text's SHA-256 as a number: what `printf %s TEXT | sha256sum | cut -c1-8` prints.
#[must_use]
pub fn short(text: &str) -> u32 {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Returns the SHA-256 of these bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_fips_180() {
        assert_eq!(format!("{:08x}", short("abc")), "ba7816bf");
        assert_eq!(format!("{:08x}", short("")), "e3b0c442");
        assert!(crate::secret::hex(&sha256(b"abc")).starts_with("ba7816bf8f01cfea"));
    }
}
