//! `[identity]`: signed proof of what an instance is.

use std::path::PathBuf;
use std::time::Duration;

use super::etcd::host_name;
use super::key::{Key, OptionalKey, Table};
use super::kind::{AbsolutePath, Number, Text, Timeout};
use super::refusal::{Fault, Refusal};
use super::written::Reader;
use crate::policy::IdentityPolicy;

/// `[identity]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What signs, and as whom; `None`: nothing is signed.
    pub signer: Option<Signer>,
    /// What tokens guests get.
    pub tokens: IdentityPolicy,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The keys (PEM): the first one signs.
    pub key_file: PathBuf,
    /// The claim `iss`.
    pub issuer: String,
    /// The name of this node in tokens.
    pub node: String,
}

pub(super) static TABLE: Table = Table {
    name: "identity",
    about: "Signed proof of what an instance is, for whoever it logs in to: a JWT at /openstack/latest/identity, and EC2's instance identity \
            document. Off without a key. docs/identity.md.",
    keys: &[&KEY_FILE, &ISSUER, &NODE, &TOKEN_LIFETIME, &TOKENS_PER_SECOND],
    tables: &[],
    is_optional: false,
    live: &["token_lifetime", "tokens_per_second"],
};

/// Longest issuer and node, in bytes.
const LONGEST: usize = 256;

static KEY_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "key_file",
    kind: AbsolutePath::Any,
    unset: "nothing is signed",
    example: "\"/etc/metadatad/identity.pem\"",
    about: "Keys (PEM, of P-256): the first one, which must be private, signs; the others, private or public, are published beside it, so \
            that verifiers know a key before it signs and after. The file must not be readable by everyone, and is read again when it \
            changes. Needs `issuer`.",
};

static ISSUER: OptionalKey<Text<String>> = OptionalKey {
    name: "issuer",
    kind: Text { what: "an issuer: printable ASCII without spaces, at most 256 characters", check: name },
    unset: "nothing is signed",
    example: "\"https://identity.cloud.example\"",
    about: "Who signs, as the claim `iss` of tokens: the same on all nodes of a cloud. Verifiers compare it, character by character. Needs \
            `key_file`.",
};

static NODE: OptionalKey<Text<String>> = OptionalKey {
    name: "node",
    kind: Text { what: "a node's name: printable ASCII without spaces, at most 256 characters", check: name },
    unset: "this host's name, as `uname -n` says it",
    example: "\"compute-1\"",
    about: "The name of this node in tokens, as verifiers know it.",
};

static TOKEN_LIFETIME: Key<Timeout> = Key {
    name: "token_lifetime",
    kind: Timeout { range: Duration::from_secs(60)..=Duration::from_secs(3600), zero: false },
    default: "\"5m\"",
    about: "How long a token is valid. In whole seconds.",
    reason: "A login takes seconds, and a token that is stolen is of use for no longer; clocks may differ by a minute or two.",
};

static TOKENS_PER_SECOND: Key<Number<u32>> = Key {
    name: "tokens_per_second",
    kind: Number { least: 1, most: 1000 },
    default: "20",
    about: "Most tokens and signatures for one instance per second, all its ports together, and at once after a pause; one beyond is answered \
            with 429 and `Retry-After: 1`.",
    reason: "Enough for a container host whose pods all log in when it starts.",
};

fn name(text: &str) -> Result<String, Fault> {
    match text.len() {
        0 => Err(Fault::new("an empty text", "write the name, or remove the key")),
        1..=LONGEST if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text.to_owned()),
        1..=LONGEST => {
            Err(Fault::new(format!("`{text}` is not printable ASCII without spaces"), "write it without these"))
        }
        _ => Err(Fault::new(format!("a text of {} bytes", text.len()), format!("use at most {LONGEST}"))),
    }
}

pub(super) fn read(table: &Reader<'_>) -> Result<Identity, Refusal> {
    let (files, node) = (table.both(&KEY_FILE, &ISSUER)?, table.optional(&NODE)?);
    let tokens = IdentityPolicy {
        enabled: files.is_some(),
        lifetime: table.value(&TOKEN_LIFETIME)?,
        per_second: table.value(&TOKENS_PER_SECOND)?,
    };
    let Some((key_file, issuer)) = files else { return Ok(Identity { signer: None, tokens }) };
    let node = node.or_else(host_name).ok_or_else(|| {
        Fault::new("this host has no name that tokens could have", "write identity.node").at(table.span())
    })?;
    Ok(Identity { signer: Some(Signer { key_file, issuer, node }), tokens })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{read, refuses};

    #[test]
    fn it_is_off_without_a_key() {
        let off = read("[identity]\ntoken_lifetime = '1m'\n").expect("accepted").identity;
        assert_eq!((off.signer, off.tokens.enabled), (None, false));
        let on = read("[identity]\nkey_file = '/k'\nissuer = 'i'\ntokens_per_second = 3\n").expect("accepted");
        let signer = Signer { key_file: "/k".into(), issuer: "i".to_owned(), node: host_name().expect("a name") };
        assert_eq!(on.identity.signer, Some(signer));
        let tokens = IdentityPolicy { enabled: true, lifetime: Duration::from_secs(300), per_second: 3 };
        assert_eq!((on.identity.tokens, on.policy().identity), (tokens, tokens));
        let named = read("[identity]\nkey_file = '/k'\nissuer = 'i'\nnode = 'n'\n").expect("accepted");
        assert_eq!(named.identity.signer.expect("it is on").node, "n");
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[identity]\nkey_file = '/k'\n", "m.toml:2:12", "key_file without issuer", "write issuer too"),
            ("[identity]\nissuer = 'i'\n", "m.toml:2:10", "issuer without key_file", "write key_file too"),
            ("[identity]\nissuer = ''\n", "m.toml:2:10", "an empty text", "write the name"),
            ("[identity]\nnode = 'a b'\n", "m.toml:2:8", "not printable ASCII", "without these"),
            ("[identity]\ntoken_lifetime = '61m'\n", "m.toml:2:18", "not a possible time-out", "\"1m\" to \"60m\""),
            ("[identity]\ntokens_per_second = 0\n", "m.toml:2:21", "0 is out of range", "use 1 to"),
        ]);
    }
}
