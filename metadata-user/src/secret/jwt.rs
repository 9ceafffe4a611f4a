//! Signatures that others verify: tokens as signed JWTs (RFC 7515, 7519) with ES256, and the public keys as a set of JWKs
//! (RFC 7517).
//!
//! Promises: the first key of a file signs, and all of them are published, so that a key can be known before it signs and
//! after; a key is named by its thumbprint (RFC 7638), which is the same wherever the key is; private keys are in no `Debug`,
//! and are overwritten when they are freed.
//!
//! Left out: verifying, encryption, and other algorithms: ES256 is what every library verifies, and what SPIFFE's JWT-SVIDs
//! allow.

use std::fmt;

use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::pem::{self, PemObject as _, SectionKind};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Secret;
use super::digest::sha256;

/// Most keys of a set: one that signs, one that will, and some that did.
pub const MOST_KEYS: usize = 8;

/// What a public key in a file (RFC 5480) has before its point, if it is one of P-256.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Bytes of a coordinate of P-256.
const COORDINATE: usize = 32;

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is not PEM.
    #[error("it is damaged: write keys in PEM, as `openssl genpkey` does")]
    Pem(#[source] pem::Error),
    /// It has no private key.
    #[error(
        "it has no private key in PEM: write one, as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` does"
    )]
    NoKey,
    /// A key is of another kind, or damaged.
    #[error(
        "key {0} is not one of P-256: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
    )]
    Unusable(usize),
    /// A key is there twice.
    #[error("key {0} is there twice: remove one of them")]
    Repeated(usize),
    /// There are too many.
    #[error("it has more than {MOST_KEYS} keys: remove those that signed longest ago")]
    TooMany,
    /// The first one cannot sign.
    #[error("its first key is a public one: write the private key that signs before it")]
    FirstIsPublic,
}

/// The library, or the system's random numbers, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the crypto library failed")]
pub struct SigningError;

/// A key that signs, and the public keys that are known with it.
pub struct KeySet {
    signs: SigningKey,
    public: Vec<PublicKey>,
}

/// One private key, prepared for both forms of its signatures.
struct SigningKey {
    fixed: EcdsaKeyPair,
    asn1: EcdsaKeyPair,
    /// The head of a token, encoded.
    head: String,
}

/// A public key, as JWKs have it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PublicKey {
    id: String,
    x: String,
    y: String,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySet").field(&self.key_ids().collect::<Vec<_>>()).finish()
    }
}

impl KeySet {
    /// Reads the keys of a file: the private key that signs, then any number of others, private or public.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn parse(file: &Secret) -> Result<Self, KeySetError> {
        let (mut signs, mut public) = (None, Vec::new());
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(file.expose()) {
            let (kind, der) = section.map_err(KeySetError::Pem)?;
            let (place, der) = (public.len() + 1, Zeroizing::new(der));
            let unusable = || KeySetError::Unusable(place);
            let point = match kind {
                SectionKind::PublicKey if signs.is_none() => return Err(KeySetError::FirstIsPublic),
                SectionKind::PublicKey => point_of(&der).ok_or_else(unusable)?,
                SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
                    let key = SigningKey::read(&der).ok_or_else(unusable)?;
                    let point = key.fixed.public_key().as_ref().to_vec();
                    signs.get_or_insert(key);
                    point
                }
                SectionKind::RsaPrivateKey => return Err(unusable()),
                // Certificates and the like may be beside a key.
                _ => continue,
            };
            let key = PublicKey::of(&point).ok_or_else(unusable)?;
            match public.len() {
                _ if public.contains(&key) => return Err(KeySetError::Repeated(place)),
                MOST_KEYS => return Err(KeySetError::TooMany),
                _ => public.push(key),
            }
        }
        let mut signs = signs.ok_or(KeySetError::NoKey)?;
        let first = public.first().ok_or(KeySetError::NoKey)?;
        signs.head = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES256","kid":"{}","typ":"JWT"}}"#, first.id));
        Ok(Self { signs, public })
    }

    /// Returns the names of the keys; the first one's signs.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.public.iter().map(|key| key.id.as_str())
    }

    /// Returns a token: the claims, which are JSON, with their signature, in the compact form.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn token(&self, claims: &[u8]) -> Result<String, SigningError> {
        let mut token = format!("{}.", self.signs.head);
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.signs.fixed.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| SigningError)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }

    /// Returns a signature of these bytes with the same key, as `openssl dgst -sha256 -verify` takes it once it is decoded:
    /// ASN.1 (RFC 3279) in base64.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn signature(&self, bytes: &[u8]) -> Result<String, SigningError> {
        let signature = self.signs.asn1.sign(&SystemRandom::new(), bytes).map_err(|_| SigningError)?;
        Ok(STANDARD.encode(signature.as_ref()))
    }

    /// Returns the public keys as a JWK set.
    #[must_use]
    pub fn jwks(&self) -> String {
        let keys: Vec<_> = self.public.iter().map(PublicKey::jwk).collect();
        format!("{{\"keys\":[{}]}}\n", keys.join(","))
    }
}

/// Returns a name that no other token has.
///
/// # Errors
/// [`SigningError`] if the system gives no random bytes.
pub fn random_id() -> Result<Uuid, SigningError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| SigningError)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

impl SigningKey {
    /// Reads a private key, as PKCS #8 or as RFC 5915 has it; `None`: it is none of P-256.
    fn read(der: &[u8]) -> Option<Self> {
        let read = |algorithm| EcdsaKeyPair::from_private_key_der(algorithm, der).ok();
        let (fixed, asn1) = (read(&ECDSA_P256_SHA256_FIXED_SIGNING)?, read(&ECDSA_P256_SHA256_ASN1_SIGNING)?);
        Some(Self { fixed, asn1, head: String::new() })
    }
}

/// Returns the point of a public key of P-256.
fn point_of(der: &[u8]) -> Option<Vec<u8>> {
    let point = der.strip_prefix(&P256)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).parse().ok()?;
    Some(point.to_vec())
}

impl PublicKey {
    /// Makes one of an uncompressed point (SEC 1, section 2.3.3).
    fn of(point: &[u8]) -> Option<Self> {
        let (&4, coordinates) = point.split_first()? else { return None };
        let (x, y) = coordinates.split_at_checked(COORDINATE).filter(|(_, y)| y.len() == COORDINATE)?;
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        // RFC 7638, section 3: these members, in this order, without spaces.
        let thumbprint = sha256(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes());
        Some(Self { id: URL_SAFE_NO_PAD.encode(thumbprint), x, y })
    }

    fn jwk(&self) -> String {
        let Self { id, x, y } = self;
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","kid":"{id}","use":"sig","alg":"ES256"}}"#)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;

    use super::*;

    /// A new private key in PEM.
    pub(crate) fn private_key() -> String {
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem()
    }

    pub(crate) fn key_set(pem: &str) -> Result<KeySet, KeySetError> {
        KeySet::parse(&Secret::new(pem.as_bytes().to_vec()))
    }

    fn public_pem(private: &str) -> String {
        rcgen::KeyPair::from_pem(private).expect("a key").public_key_pem()
    }

    static KEYS: LazyLock<[String; 3]> = LazyLock::new(|| std::array::from_fn(|_| private_key()));

    fn decoded(part: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(part).expect("base64")
    }

    /// The point of a JWK.
    fn point(jwk: &serde_json::Value) -> Vec<u8> {
        let part = |name: &str| decoded(jwk[name].as_str().expect("a text"));
        [vec![4], part("x"), part("y")].concat()
    }

    fn jwks(set: &KeySet) -> Vec<serde_json::Value> {
        let set: serde_json::Value = serde_json::from_str(&set.jwks()).expect("JSON");
        set["keys"].as_array().expect("a list").clone()
    }

    #[test]
    fn a_token_is_verified_with_the_published_key_that_it_names() {
        let set = key_set(&KEYS.concat()).expect("keys");
        let token = set.token(br#"{"a":1}"#).expect("signed");
        let parts: Vec<_> = token.split('.').collect();
        let head: serde_json::Value = serde_json::from_slice(&decoded(parts[0])).expect("JSON");
        assert_eq!((&head["alg"], &head["typ"]), (&"ES256".into(), &"JWT".into()));
        assert_eq!(decoded(parts[1]), br#"{"a":1}"#);
        let keys = jwks(&set);
        assert_eq!(keys.len(), 3);
        let signed = format!("{}.{}", parts[0], parts[1]);
        for key in &keys {
            let (point, signature) = (point(key), decoded(parts[2]));
            let verified = |signed: &str| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).verify(signed.as_bytes(), &signature).is_ok()
            };
            assert_eq!(verified(&signed), key["kid"] == head["kid"]);
            assert!(!verified(&format!("{signed}A")));
        }
        assert_eq!(keys[0]["kid"], head["kid"], "the first one signs");
        assert_eq!(format!("{set:?}").matches('"').count(), 6, "names, and nothing else");
    }

    #[test]
    fn bytes_are_signed_with_the_same_key() {
        let set = key_set(&KEYS[0]).expect("keys");
        let signature = STANDARD.decode(set.signature(b"document").expect("signed")).expect("base64");
        let point = point(&jwks(&set)[0]);
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point);
        assert!(key.verify(b"document", &signature).is_ok() && key.verify(b"documents", &signature).is_err());
    }

    #[test]
    fn a_key_that_signs_no_more_may_be_a_public_one_and_has_the_same_name() {
        let both = key_set(&[&*KEYS[0], &KEYS[1]].concat()).expect("keys");
        let public = key_set(&[&*KEYS[0], &public_pem(&KEYS[1])].concat()).expect("keys");
        assert_eq!(both.jwks(), public.jwks());
        let first = key_set(&KEYS[1]).expect("keys");
        assert_eq!(first.key_ids().next(), both.key_ids().nth(1));
    }

    /// The key of RFC 7517, appendix A.1, whose thumbprint other implementations give.
    #[test]
    fn a_thumbprint_is_that_of_rfc_7638() {
        let part = |text| URL_SAFE_NO_PAD.decode(text).expect("base64");
        let x = part("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4");
        let y = part("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
        let key = PublicKey::of(&[vec![4], x, y].concat()).expect("a key");
        assert_eq!(key.id, "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let other = |algorithm| rcgen::KeyPair::generate_for(algorithm).expect("a key").serialize_pem();
        let (p384, ed25519) = (other(&rcgen::PKCS_ECDSA_P384_SHA384), other(&rcgen::PKCS_ED25519));
        let too_many: String = (0..=MOST_KEYS).map(|_| private_key()).collect();
        for (pem, expected) in [
            ("nonsense", "no private key in PEM"),
            (&KEYS[0].replace("-----END", "-----and"), "it is damaged"),
            (&p384, "key 1 is not one of P-256"),
            (&[&*KEYS[0], &*ed25519].concat(), "key 2 is not one of P-256"),
            (&[&*KEYS[0], &*KEYS[1], &*KEYS[0]].concat(), "key 3 is there twice"),
            (&[&public_pem(&KEYS[0]), &*KEYS[1]].concat(), "its first key is a public one"),
            (&too_many, "more than 8 keys"),
            (&[&*KEYS[0], &public_pem(&p384)].concat(), "key 2 is not one of P-256"),
        ] {
            let error = key_set(pem).expect_err(expected).to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
