//! `[https]`: answering guests over TLS as well.

use std::path::PathBuf;

use super::key::{Key, OptionalKey, Table};
use super::kind::{AbsolutePath, Number};
use super::refusal::Refusal;
use super::written::Reader;

/// `[https]`, where it is switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// The certificate that guests see, followed by those of the authorities between it and one that they trust (PEM).
    pub cert_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
    /// TCP port on which guests are answered over TLS.
    pub port: u16,
}

pub(super) static TABLE: Table = Table {
    name: "https",
    about: "Answers guests over TLS 1.2 and 1.3 too, at https://169.254.169.254 and https://[fe80::a9fe:a9fe]. Off without \
            a certificate.",
    keys: &[&CERT_FILE, &KEY_FILE, &PORT],
    tables: &[],
    is_optional: false,
    live: &[],
};

static CERT_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "cert_file",
    kind: AbsolutePath::Any,
    unset: "guests are not answered over TLS",
    example: "\"/etc/metadatad/https.pem\"",
    about: "Certificate (PEM) for the metadata addresses, followed by its intermediate certificates. Needs `key_file`. \
            Both files are read again when they change.",
};

static KEY_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "key_file",
    kind: AbsolutePath::Any,
    unset: "guests are not answered over TLS",
    example: "\"/etc/metadatad/https-key.pem\"",
    about: "Private key (PEM) of that certificate. Needs `cert_file`. An ECDSA key costs a tenth of an RSA key's time for \
            each handshake.",
};

pub(super) static PORT: Key<Number<u16>> = Key {
    name: "port",
    kind: Number { least: 1, most: 65535 },
    default: "443",
    about: "TCP port on which guests are answered over TLS.",
    reason: "The port of https.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Option<Https>, Refusal> {
    let port = table.value(&PORT)?;
    let files = table.both(&CERT_FILE, &KEY_FILE)?;
    Ok(files.map(|(cert_file, key_file)| Https { cert_file, key_file, port }))
}

#[cfg(test)]
mod tests {
    use super::Https;
    use crate::config::tests::{read, refuses};

    #[test]
    fn it_is_off_without_a_certificate() {
        assert_eq!(read("[https]\nport = 8443\n").expect("accepted").https, None);
        let text = "[https]\ncert_file = '/c'\nkey_file = '/k'\n";
        let expected = Https { cert_file: "/c".into(), key_file: "/k".into(), port: 443 };
        assert_eq!(read(text).expect("accepted").https, Some(expected));
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[https]\ncert_file = '/c'\n", "m.toml:2:13", "cert_file without key_file", "write key_file too"),
            ("[https]\nkey_file = '/c'\n", "m.toml:2:12", "key_file without cert_file", "write cert_file too"),
            ("[https]\ncert_file = 'c'\nkey_file = '/k'\n", "m.toml:2:13", "not an absolute path", "from `/`"),
            ("[https]\nport = 0\n", "m.toml:2:8", "0 is out of range", "use 1 to 65535"),
            (
                "[https]\ncert_file = '/c'\nkey_file = '/k'\nport = 80\n",
                "m.toml:4:8",
                "https.port is also responder.port",
                "choose another port for one",
            ),
        ]);
    }
}
