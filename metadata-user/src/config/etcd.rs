//! `[source.etcd]`: the etcd cluster that documents come from, and the names of its keys.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::key::{Key, OptionalKey, Table};
use super::kind::{AbsolutePath, Choice, List, Name, TIMEOUT, Text, Timeout};
use super::refusal::{Fault, Refusal};
use super::target::TargetUrl;
use super::written::Reader;

/// `[source.etcd]`, or `[etcd]` of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Name of the table that it was read from, for messages.
    pub table: &'static str,
    /// URLs of members, as `http://host:port` or `https://host:port`: all the same of the two. Never empty.
    pub endpoints: Vec<String>,
    /// First part of every key, without a slash at its end.
    pub prefix: String,
    /// Name of this node in the keys.
    pub node: String,
    /// The user that authenticates to etcd, with a password.
    pub user: Option<User>,
    /// TLS; `None` for `http`.
    pub tls: Option<Tls>,
    /// Longest time until a connection is established.
    pub connect_timeout: Duration,
    /// Longest time of a request; also how long a silent member is waited for.
    pub request_timeout: Duration,
    /// Who keeps the passwords that guests post.
    pub passwords: Passwords,
}

/// Who keeps the passwords that guests post.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passwords {
    /// The node.
    #[default]
    Node,
    /// The controller, which the node passes them on to.
    Controller,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// File that holds the password.
    pub password_file: PathBuf,
}

/// Files for TLS, all PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that are trusted, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key.
    pub identity: Option<Identity>,
}

/// The client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// File of the certificate, with those between it and the authority.
    pub cert_file: PathBuf,
    /// File of its private key.
    pub key_file: PathBuf,
}

impl Etcd {
    /// Returns what the keys of a node's instances start with; the rest of such a key is the instance's UUID.
    #[must_use]
    pub fn node_prefix(&self, node: &str) -> String {
        format!("{}/nodes/{node}/instances/", self.prefix)
    }

    /// Returns the key of an instance's document.
    #[must_use]
    pub fn key(&self, node: &str, instance: impl fmt::Display) -> String {
        format!("{}{instance}", self.node_prefix(node))
    }

    /// Describes settings that are accepted but unsafe.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let open = self.user.is_some() && self.tls.is_none();
        let warning = "the password goes over http, where others may read it: use https endpoints";
        if open { vec![format!("{}: {warning}", self.table)] } else { Vec::new() }
    }
}

pub(super) static TABLE: Table = Table {
    name: "source.etcd",
    about: "With `kind = \"etcd\"`: the etcd cluster that documents come from. A node's documents have the keys \
            <prefix>/nodes/<node>/instances/<uuid>.",
    keys: &[
        &ENDPOINTS,
        &PREFIX,
        &NODE,
        &USERNAME,
        &PASSWORD_FILE,
        &CA_FILE,
        &CERT_FILE,
        &KEY_FILE,
        &CONNECT_TIMEOUT,
        &REQUEST_TIMEOUT,
        &PASSWORDS,
    ],
    tables: &[],
    is_optional: true,
    live: &[],
};

/// The same for the controller, which writes the documents of every node.
pub(super) static CONTROLLER_TABLE: Table = Table {
    name: "etcd",
    about: "The etcd cluster that the controller writes. A node's documents have the keys <prefix>/nodes/<node>/instances/<uuid>.",
    keys: &[
        &ENDPOINTS,
        &PREFIX,
        &USERNAME,
        &PASSWORD_FILE,
        &CA_FILE,
        &CERT_FILE,
        &KEY_FILE,
        &CONNECT_TIMEOUT,
        &REQUEST_TIMEOUT,
    ],
    tables: &[],
    is_optional: true,
    live: &[],
};

/// etcd's port for clients, for the remedy.
const USUAL_PORT: u16 = 2379;
/// Longest name of a node: of a host (RFC 1035, section 2.3.4).
const LONGEST_NODE: usize = 253;

static ENDPOINTS: OptionalKey<List<Text<Endpoint>>> = OptionalKey {
    name: "endpoints",
    kind: List(Text { what: "http://host:port or https://host:port", check: endpoint }),
    unset: "required",
    example: "[\"https://etcd-1:2379\", \"https://etcd-2:2379\", \"https://etcd-3:2379\"]",
    about: "Members of the cluster, all https or all http. Any of them may fail.",
};

static PREFIX: Key<Text<String>> = Key {
    name: "prefix",
    kind: Text { what: "starts with `/`, without one at its end", check: prefix },
    default: "\"/metadatad\"",
    about: "First part of every key.",
    reason: "The name of the program, for a cluster that others use too.",
};

static NODE: OptionalKey<Name> = OptionalKey {
    name: "node",
    kind: Name { longest: LONGEST_NODE },
    unset: "the host's name",
    example: "\"compute-1\"",
    about: "This node's name in the keys.",
};

static USERNAME: OptionalKey<Text<String>> = OptionalKey {
    name: "username",
    kind: Text { what: "a user's name", check: username },
    unset: "no password authentication",
    example: "\"node-compute-1\"",
    about: "Name of the user that authenticates to etcd. Needs `password_file`.",
};

static PASSWORD_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "password_file",
    kind: AbsolutePath::Any,
    unset: "no password authentication",
    example: "\"/etc/metadatad/etcd_password\"",
    about: "File (mode 0600) that holds the user's password. Needs `username`.",
};

static CA_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "ca_file",
    kind: AbsolutePath::Any,
    unset: "the system's certificate authorities",
    example: "\"/etc/metadatad/etcd-ca.pem\"",
    about: "Certificates (PEM) of the authorities that are trusted for https.",
};

static CERT_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "cert_file",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/etc/metadatad/etcd-client.pem\"",
    about: "This node's certificate (PEM), with those between it and its authority, where etcd asks for one. Needs \
            `key_file`.",
};

static KEY_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "key_file",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/etc/metadatad/etcd-client-key.pem\"",
    about: "Private key (PEM) of that certificate. Needs `cert_file`.",
};

static CONNECT_TIMEOUT: Key<Timeout> = Key {
    name: "connect_timeout",
    kind: TIMEOUT,
    default: "\"3s\"",
    about: "Longest time until a connection is established.",
    reason: "A member that runs answers within a round trip; one that does not is given up for the next.",
};

static REQUEST_TIMEOUT: Key<Timeout> = Key {
    name: "request_timeout",
    kind: TIMEOUT,
    default: "\"5s\"",
    about: "Longest time of a request; also how long a silent member is waited for.",
    reason: "A page of documents is read within this, also from a cluster that is busy electing its leader.",
};

static PASSWORDS: Key<Choice<Passwords>> = Key {
    name: "passwords",
    kind: Choice(&[("node", Passwords::Node), ("controller", Passwords::Controller)]),
    default: "\"node\"",
    about: "Who keeps the password that a guest posts. \"node\": this node, in its snapshot. \"controller\": `metadatad controller`, \
            which posts it to Nova; the guest has Nova's answer.",
    reason: "Without a controller of ours nobody answers; the node's role in etcd must allow it to write.",
};

/// Reads the table. `place` is what to point at when the whole table is missing.
pub(super) fn read(table: &Reader<'_>, place: Range<usize>) -> Result<Etcd, Refusal> {
    let place = if table.written().is_some() { table.span() } else { place };
    let node = match table.optional(&NODE)? {
        Some(node) => node,
        None => host_name().ok_or_else(|| {
            Fault::new("this host has no name that could be the node's", "write source.etcd.node").at(place.clone())
        })?,
    };
    Ok(Etcd { passwords: table.value(&PASSWORDS)?, ..read_with_node(table, place, node)? })
}

/// Reads the controller's table, which has no node.
pub(super) fn read_for_controller(table: &Reader<'_>) -> Result<Etcd, Refusal> {
    read_with_node(table, table.span(), String::new())
}

fn read_with_node(table: &Reader<'_>, place: Range<usize>, node: String) -> Result<Etcd, Refusal> {
    let name = table.name();
    let (endpoints, is_https) = endpoints(table.optional(&ENDPOINTS)?, place, name)?;
    let user = table.both(&USERNAME, &PASSWORD_FILE)?;
    let tls_files = [CA_FILE.name, CERT_FILE.name, KEY_FILE.name];
    if let Some(span) = tls_files.into_iter().find_map(|name| table.span_of(name)).filter(|_| !is_https) {
        let fault = Fault::new(
            "a file for TLS is set, but the endpoints are http",
            "write the endpoints as https://…, or remove the file",
        );
        return Err(fault.at(span));
    }
    let identity = table.both(&CERT_FILE, &KEY_FILE)?;
    let identity = identity.map(|(cert_file, key_file)| Identity { cert_file, key_file });
    let ca_file = table.optional(&CA_FILE)?;
    Ok(Etcd {
        table: name,
        endpoints,
        prefix: table.value(&PREFIX)?,
        node,
        user: user.map(|(name, password_file)| User { name, password_file }),
        tls: is_https.then_some(Tls { ca_file, identity }),
        connect_timeout: table.value(&CONNECT_TIMEOUT)?,
        request_timeout: table.value(&REQUEST_TIMEOUT)?,
        passwords: Passwords::default(),
    })
}

/// A member: its URL, and whether it is https.
type Endpoint = (String, bool);

fn endpoint(text: &str) -> Result<Endpoint, Fault> {
    let refuse =
        |problem: &str, remedy: String| Err(Fault::new(format!("`{text}` is not an endpoint: {problem}"), remedy));
    let remedy = || "write it as \"https://host:2379\"".to_owned();
    let url = match TargetUrl::parse(text) {
        Ok(url) => url,
        Err(problem) => return refuse(problem, remedy()),
    };
    if url.path != "/" {
        return refuse("it has a path", remedy());
    }
    if url.authority.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return refuse("it has no port", format!("write the port, usually {USUAL_PORT}"));
    }
    Ok((format!("{}://{}", if url.tls { "https" } else { "http" }, url.authority), url.tls))
}

/// Returns the URLs, and whether they are https.
fn endpoints(
    written: Option<Spanned<Vec<Spanned<Endpoint>>>>,
    place: Range<usize>,
    table: &str,
) -> Result<(Vec<String>, bool), Refusal> {
    let place = written.as_ref().map_or(place, Spanned::span);
    let written = written.map(Spanned::into_inner).unwrap_or_default();
    let Some(is_https) = written.first().map(|first| first.get_ref().1) else {
        let remedy = format!("write {table}.endpoints, for example [\"https://etcd-1:2379\", \"https://etcd-2:2379\"]");
        return Err(Fault::new("no endpoint of etcd", remedy).at(place));
    };
    if let Some(other) = written.iter().find(|endpoint| endpoint.get_ref().1 != is_https) {
        let problem = format!("`{}`: some endpoints are http and some https", other.get_ref().0);
        return Err(Fault::new(problem, "write all as https://…, or all as http://…").at(other.span()));
    }
    Ok((written.into_iter().map(|endpoint| endpoint.into_inner().0).collect(), is_https))
}

fn prefix(text: &str) -> Result<String, Fault> {
    let prefix = text.trim_end_matches('/');
    let possible = prefix.starts_with('/')
        && !prefix.contains("//")
        && prefix.bytes().all(|byte| byte.is_ascii_graphic())
        && text.len() - prefix.len() <= 1;
    if possible {
        return Ok(prefix.to_owned());
    }
    let remedy = "start it with `/` and end it without, for example \"/metadatad\"";
    Err(Fault::new(format!("`{text}` is not a possible prefix of keys"), remedy))
}

fn username(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::new("an empty user name", "write the user's name"));
    }
    Ok(text.to_owned())
}

/// Returns this host's name, as `uname -n` says it.
pub fn host_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let possible = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    possible.then_some(name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigError, Source};

    const HEAD: &str = "[source]\nkind = 'etcd'\n[source.etcd]\n";

    fn read(table: &str) -> Result<Etcd, ConfigError> {
        match Config::parse(Path::new("m.toml"), &format!("{HEAD}{table}"))?.source {
            Source::Etcd(etcd) => Ok(etcd),
            source => panic!("{source:?}"),
        }
    }

    #[test]
    fn little_needs_to_be_written() {
        let etcd = read("endpoints = ['http://[::1]:2379/', 'http://b:1']").expect("a table");
        assert_eq!(etcd.endpoints, ["http://[::1]:2379", "http://b:1"]);
        assert_eq!((etcd.prefix.as_str(), etcd.user, etcd.tls), ("/metadatad", None, None));
        assert_eq!(Some(etcd.node), host_name());
        assert_eq!((etcd.connect_timeout, etcd.request_timeout), (Duration::from_secs(3), Duration::from_secs(5)));
    }

    #[test]
    fn all_may_be_written() {
        let etcd = read(concat!(
            "endpoints = ['https://a:2379']\nprefix = '/cloud/'\nnode = 'n1'\nusername = 'u'\npassword_file = '/p'\n",
            "ca_file = '/ca'\ncert_file = '/c'\nkey_file = '/k'\nconnect_timeout = '1s'\nrequest_timeout = '2s'\n",
            "passwords = 'controller'\n",
        ))
        .expect("a table");
        let expected = Etcd {
            table: "source.etcd",
            endpoints: vec!["https://a:2379".to_owned()],
            prefix: "/cloud".to_owned(),
            node: "n1".to_owned(),
            user: Some(User { name: "u".to_owned(), password_file: "/p".into() }),
            tls: Some(Tls {
                ca_file: Some("/ca".into()),
                identity: Some(Identity { cert_file: "/c".into(), key_file: "/k".into() }),
            }),
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(2),
            passwords: Passwords::Controller,
        };
        assert_eq!(etcd, expected);
        assert_eq!(etcd.node_prefix("n2"), "/cloud/nodes/n2/instances/");
        assert_eq!(etcd.key("n2", "x"), "/cloud/nodes/n2/instances/x");
    }

    #[test]
    fn a_password_over_http_is_warned_of() {
        let text = "endpoints = ['http://a:1']\nusername = 'u'\npassword_file = '/p'";
        assert_eq!(read(text).expect("a table").warnings().len(), 1);
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        const HTTP: &str = "endpoints = ['http://a:1']\n";
        const HTTPS: &str = "endpoints = ['https://a:1']\n";
        for (head, table, place, problem, remedy) in [
            ("", "", "m.toml:3:9", "no endpoint", "write source.etcd.endpoints"),
            ("", "endpoints = []", "m.toml:4:13", "no endpoint", "write source.etcd.endpoints"),
            ("", "endpoints = ['a:2379']", "m.toml:4:14", "neither http nor https", "https://host:2379"),
            ("", "endpoints = ['http://a']", "m.toml:4:14", "no port", "usually 2379"),
            ("", "endpoints = ['http://a:1/x']", "m.toml:4:14", "a path", "https://host:2379"),
            ("", "endpoints = ['http://u@a:1']", "m.toml:4:14", "user name", "https://host:2379"),
            ("", "endpoints = ['http://a:1', 'https://b:1']", "m.toml:4:28", "some https", "all as"),
            (HTTP, "prefix = 'x'", "m.toml:5:10", "not a possible prefix", "/metadatad"),
            (HTTP, "prefix = '/a//b'", "m.toml:5:10", "not a possible prefix", "/metadatad"),
            (HTTP, "node = 'a/b'", "m.toml:5:8", "not a possible name", "letters"),
            (HTTP, "username = 'u'", "m.toml:5:12", "username without password_file", "write password_file too"),
            (HTTP, "password_file = '/p'", "m.toml:5:17", "password_file without username", "remove password_file"),
            (HTTP, "username = ''\npassword_file = '/p'", "m.toml:5:12", "empty", "user's name"),
            (HTTP, "ca_file = '/p'", "m.toml:5:11", "the endpoints are http", "https://"),
            (HTTPS, "cert_file = '/p'", "m.toml:5:13", "cert_file without key_file", "write key_file too"),
            (HTTPS, "key_file = '/p'", "m.toml:5:12", "key_file without cert_file", "write cert_file too"),
            (HTTPS, "ca_file = 'p'", "m.toml:5:11", "not an absolute path", "from `/`"),
            (HTTP, "request_timeout = '1'", "m.toml:5:19", "not a possible time-out", "10s"),
            (HTTP, "passwords = 'nova'", "m.toml:5:13", "`nova`", "\"node\" or \"controller\""),
            (HTTP, "enpoints = 1", "m.toml:5:1", "unknown field", "correct the name"),
        ] {
            let text = format!("{head}{table}");
            let message = read(&text).expect_err(&text).to_string();
            assert!(message.starts_with(place), "{text:?}: {message}");
            assert!(message.contains(problem) && message.contains(remedy), "{text:?}: {message}");
        }
        let message = Config::parse(Path::new("m.toml"), "[source]\nkind = 'etcd'").expect_err("no table").to_string();
        assert!(message.starts_with("m.toml:2:8") && message.contains("no endpoint"), "{message}");
    }
}
