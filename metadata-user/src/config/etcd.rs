//! `[source.etcd]`: the etcd cluster that documents come from, and the names of its keys.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::raw::{File, Written};
use super::target::TargetUrl;

/// First part of every key.
pub const PREFIX: &str = "/metadatad";

/// A member that is there answers within a round trip; one that lost its packets is given up for the next.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A page of documents is read within this, also from a cluster that is busy electing its leader.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// etcd's port for clients, for the remedy.
const USUAL_PORT: u16 = 2379;

/// `[source.etcd]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// URLs of members, as `http://host:port` or `https://host:port`: all the same of the two. Never empty.
    pub endpoints: Vec<String>,
    /// First part of every key, without a slash at its end.
    pub prefix: String,
    /// Name of this node in the keys.
    pub node: String,
    /// Whom to be towards etcd, with a password.
    pub user: Option<User>,
    /// TLS; `None` for `http`.
    pub tls: Option<Tls>,
    /// Longest time until a connection stands.
    pub connect_timeout: Duration,
    /// Longest time of a request; also how long a silent member is waited for.
    pub request_timeout: Duration,
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

/// What the client shows to prove who it is.
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

    /// Tells in words what is possible and unwise.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let open = self.user.is_some() && self.tls.is_none();
        let warning = "source.etcd: the password goes over http, where others may read it: use https endpoints";
        if open { vec![warning.to_owned()] } else { Vec::new() }
    }
}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    endpoints: Written<Vec<Spanned<String>>>,
    prefix: Written<String>,
    node: Written<String>,
    username: Written<String>,
    password_file: Written<String>,
    ca_file: Written<String>,
    cert_file: Written<String>,
    key_file: Written<String>,
    connect_timeout: Written<String>,
    request_timeout: Written<String>,
}

impl Raw {
    /// Checks the table. `span` is where it is, or where it is missed.
    pub(super) fn check(self, file: &File<'_>, span: Range<usize>) -> Result<Etcd, ConfigError> {
        let (endpoints, is_https) = endpoints(self.endpoints, file, span.clone())?;
        let prefix = self.prefix.map_or(Ok(PREFIX.to_owned()), |prefix| check_prefix(prefix, file))?;
        let node = match self.node {
            Some(node) => file.name(node, LONGEST_NODE)?,
            None => host_name().ok_or_else(|| {
                let problem = "this host has no name that could be the node's".to_owned();
                file.refuse(span, problem, "write source.etcd.node")
            })?,
        };
        let user = both(self.username, self.password_file, ["username", "password_file"], file)?;
        let user = user.map(|(name, path)| {
            if name.get_ref().is_empty() {
                return Err(file.refuse(name.span(), "an empty user name".to_owned(), "write the user's name"));
            }
            Ok(User { name: name.into_inner(), password_file: file.absolute(path)? })
        });
        let tls_files = [&self.ca_file, &self.cert_file, &self.key_file];
        if let Some(written) = tls_files.into_iter().flatten().next().filter(|_| !is_https) {
            let problem = "a file for TLS, and the endpoints are http".to_owned();
            return Err(file.refuse(written.span(), problem, "write the endpoints as https://…, or remove the file"));
        }
        let identity = both(self.cert_file, self.key_file, ["cert_file", "key_file"], file)?;
        let identity =
            identity.map(|(cert, key)| Ok(Identity { cert_file: file.absolute(cert)?, key_file: file.absolute(key)? }));
        let ca_file = self.ca_file.map(|path| file.absolute(path)).transpose()?;
        let identity = identity.transpose()?;
        let timeout = |written: Written<String>, default| written.map_or(Ok(default), |text| file.timeout(text));
        Ok(Etcd {
            endpoints,
            prefix,
            node,
            user: user.transpose()?,
            tls: is_https.then_some(Tls { ca_file, identity }),
            connect_timeout: timeout(self.connect_timeout, CONNECT_TIMEOUT)?,
            request_timeout: timeout(self.request_timeout, REQUEST_TIMEOUT)?,
        })
    }
}

/// Longest name of a node: of a host (RFC 1035, section 2.3.4).
const LONGEST_NODE: usize = 253;

/// Returns the URLs, and whether they are https.
fn endpoints(
    written: Written<Vec<Spanned<String>>>,
    file: &File<'_>,
    span: Range<usize>,
) -> Result<(Vec<String>, bool), ConfigError> {
    const EXAMPLE: &str = "write source.etcd.endpoints, for example [\"https://etcd-1:2379\", \"https://etcd-2:2379\"]";
    let span = written.as_ref().map_or(span, Spanned::span);
    let mut urls = Vec::new();
    let mut is_https = None;
    for url in written.map(Spanned::into_inner).unwrap_or_default() {
        let refuse = |problem: &str, remedy: &str| {
            Err(file.refuse(url.span(), format!("`{}` is no endpoint: {problem}", url.get_ref()), remedy))
        };
        let parsed = match TargetUrl::parse(url.get_ref()) {
            Ok(parsed) => parsed,
            Err(problem) => return refuse(problem, "write it as \"https://host:2379\""),
        };
        if parsed.path != "/" {
            return refuse("it has a path", "write it as \"https://host:2379\"");
        }
        let has_port = parsed.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !has_port {
            return refuse("it has no port", &format!("write the port, usually {USUAL_PORT}"));
        }
        if is_https.is_some_and(|is_https| is_https != parsed.tls) {
            return refuse("some endpoints are http and some https", "write all as https://…, or all as http://…");
        }
        is_https = Some(parsed.tls);
        urls.push(format!("{}://{}", if parsed.tls { "https" } else { "http" }, parsed.authority));
    }
    match is_https {
        Some(is_https) => Ok((urls, is_https)),
        None => Err(file.refuse(span, "no endpoint of etcd".to_owned(), EXAMPLE)),
    }
}

fn check_prefix(written: Spanned<String>, file: &File<'_>) -> Result<String, ConfigError> {
    let prefix = written.get_ref().trim_end_matches('/');
    let possible = prefix.starts_with('/')
        && !prefix.contains("//")
        && prefix.bytes().all(|byte| byte.is_ascii_graphic())
        && written.get_ref().len() - prefix.len() <= 1;
    if possible {
        return Ok(prefix.to_owned());
    }
    let problem = format!("`{}` is not a possible prefix of keys", written.get_ref());
    Err(file.refuse(
        written.span(),
        problem,
        &format!("start it with `/` and end it without, for example \"{PREFIX}\""),
    ))
}

/// Two keys that belong together.
type Pair = (Spanned<String>, Spanned<String>);

/// Returns both or none.
fn both(
    first: Written<String>,
    second: Written<String>,
    [first_name, second_name]: [&str; 2],
    file: &File<'_>,
) -> Result<Option<Pair>, ConfigError> {
    let (written, name, missing) = match (first, second) {
        (Some(first), Some(second)) => return Ok(Some((first, second))),
        (None, None) => return Ok(None),
        (Some(first), None) => (first, first_name, second_name),
        (None, Some(second)) => (second, second_name, first_name),
    };
    let problem = format!("{name} without {missing}");
    Err(file.refuse(written.span(), problem, &format!("write {missing} too, or remove {name}")))
}

/// Returns this host's name, as `uname -n` says it.
fn host_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let possible = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    possible.then_some(name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Source};

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
        assert_eq!((etcd.prefix.as_str(), etcd.user, etcd.tls), (PREFIX, None, None));
        assert_eq!(Some(etcd.node), host_name());
        assert_eq!((etcd.connect_timeout, etcd.request_timeout), (CONNECT_TIMEOUT, REQUEST_TIMEOUT));
    }

    #[test]
    fn all_may_be_written() {
        let etcd = read(concat!(
            "endpoints = ['https://a:2379']\nprefix = '/cloud/'\nnode = 'n1'\nusername = 'u'\npassword_file = '/p'\n",
            "ca_file = '/ca'\ncert_file = '/c'\nkey_file = '/k'\nconnect_timeout = '1s'\nrequest_timeout = '2s'\n",
        ))
        .expect("a table");
        let expected = Etcd {
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
        };
        assert_eq!(etcd, expected);
        assert_eq!(etcd.node_prefix("n2"), "/cloud/nodes/n2/instances/");
        assert_eq!(etcd.key("n2", "x"), "/cloud/nodes/n2/instances/x");
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let example = include_str!("../../../deploy/metadatad.toml");
        let lines = example.lines().skip_while(|line| *line != "# [source.etcd]").skip(1);
        let table = lines.take_while(|line| line.starts_with('#')).filter_map(|line| line.strip_prefix("# "));
        let keys: Vec<&str> = table.filter(|line| line.contains(" = ")).collect();
        assert_eq!(keys.len(), 10, "{keys:?}");
        let shown = read(&keys.join("\n")).expect("the example");
        let plain = read("endpoints = ['http://a:1']").expect("a table");
        assert_eq!(shown.prefix, plain.prefix);
        assert_eq!((shown.connect_timeout, shown.request_timeout), (plain.connect_timeout, plain.request_timeout));
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
            ("", "", "m.toml:3:1", "no endpoint", "write source.etcd.endpoints"),
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
