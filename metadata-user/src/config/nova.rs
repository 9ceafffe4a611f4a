//! `[source.nova]`: the Nova metadata API that content comes from.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use super::raw::{File, Written};
use super::target::TargetUrl;

/// Where Nova's metadata API listens by default (`metadata_listen_port`).
pub const ENDPOINT: &str = "http://127.0.0.1:8775";

/// Beside the configuration, readable by root alone.
pub const SHARED_SECRET_FILE: &str = "/etc/metadatad/nova_shared_secret";

/// A change in Nova is on the node within five minutes; an instance costs Nova about a request in three seconds then.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// Requests in flight of one node. Two of them are kept for guests that wait.
pub const REQUESTS: usize = 8;

/// An endpoint in the same data centre connects in milliseconds, or not at all.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Nova without its cache asks its database and Neutron: seconds, when they are busy. Longer than a guest waits.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Most requests in flight: a node has no use for more, and Nova has other nodes.
const MOST_REQUESTS: i64 = 256;
/// An endpoint's own path, before Nova's.
const LONGEST_PATH: usize = 255;

/// `[source.nova]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nova {
    /// Where Nova's metadata API is. Never empty.
    pub endpoints: Vec<TargetUrl>,
    /// File that holds Nova's `metadata_proxy_shared_secret`.
    pub shared_secret_file: PathBuf,
    /// Certificates of the authorities that are trusted for https; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate by which this node shows who it is, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How old an instance's content grows until it is read again.
    pub refresh_interval: Duration,
    /// Most requests in flight.
    pub requests: usize,
    /// Longest time until a connection stands.
    pub connect_timeout: Duration,
    /// Longest time from a request to the end of its answer.
    pub read_timeout: Duration,
}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    endpoints: Written<Vec<Spanned<String>>>,
    shared_secret_file: Written<String>,
    ca_file: Written<String>,
    cert_file: Written<String>,
    key_file: Written<String>,
    refresh_interval: Written<String>,
    requests: Written<i64>,
    connect_timeout: Written<String>,
    read_timeout: Written<String>,
}

impl Raw {
    /// Checks the table.
    pub(super) fn check(self, file: &File<'_>) -> Result<Nova, ConfigError> {
        const REMEDY: &str = "write it as \"http://host:8775\" or \"https://host:8775\"";
        let endpoints = match self.endpoints {
            None => vec![ENDPOINT.to_owned()].into_iter().map(|url| (url, 0..0)).collect(),
            Some(list) if list.get_ref().is_empty() => {
                return Err(file.refuse(list.span(), "no endpoint of Nova".to_owned(), REMEDY));
            }
            Some(list) => {
                list.into_inner().into_iter().map(|url| (url.get_ref().clone(), url.span())).collect::<Vec<_>>()
            }
        };
        let endpoints = endpoints.into_iter().map(|(text, span)| {
            let mut url = TargetUrl::parse(&text)
                .map_err(|problem| file.refuse(span.clone(), format!("`{text}` is no endpoint: {problem}"), REMEDY))?;
            if url.path.contains('?') || url.path.len() > LONGEST_PATH {
                return Err(file.refuse(
                    span,
                    format!("`{text}` is no endpoint: it has a query, or is too long"),
                    REMEDY,
                ));
            }
            // Nova's paths begin with a slash.
            url.path.truncate(url.path.trim_end_matches('/').len());
            Ok(url)
        });
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let identity = match (self.cert_file, self.key_file) {
            (Some(cert), Some(key)) => Some((file.absolute(cert)?, file.absolute(key)?)),
            (None, None) => None,
            (Some(lone), None) | (None, Some(lone)) => {
                let problem = "cert_file and key_file belong together".to_owned();
                return Err(file.refuse(lone.span(), problem, "write both, or remove this one"));
            }
        };
        let timeout = |written: Written<String>, default| written.map_or(Ok(default), |text| file.timeout(text));
        Ok(Nova {
            endpoints,
            shared_secret_file: self
                .shared_secret_file
                .map_or_else(|| Ok(SHARED_SECRET_FILE.into()), |path| file.absolute(path))?,
            ca_file: self.ca_file.map(|path| file.absolute(path)).transpose()?,
            identity,
            refresh_interval: timeout(self.refresh_interval, REFRESH_INTERVAL)?,
            requests: self.requests.map_or(Ok(REQUESTS), |number| file.number(number, 1, MOST_REQUESTS))?,
            connect_timeout: timeout(self.connect_timeout, CONNECT_TIMEOUT)?,
            read_timeout: timeout(self.read_timeout, READ_TIMEOUT)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Source};

    const HEAD: &str = "[source]\nkind = 'nova'\n";

    fn read(text: &str) -> Result<Nova, ConfigError> {
        match Config::parse(Path::new("m.toml"), text)?.source {
            Source::Nova(nova) => Ok(nova),
            source => panic!("{source:?}"),
        }
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let example = include_str!("../../../deploy/metadatad.toml");
        let lines = example.lines().skip_while(|line| *line != "# [source.nova]");
        let table: Vec<&str> =
            lines.take_while(|line| line.starts_with('#')).filter_map(|line| line.strip_prefix("# ")).collect();
        let keys = table.iter().filter(|line| line.contains(" = ") || line.starts_with('['));
        let mut text = HEAD.to_owned();
        keys.for_each(|line| text += &format!("{line}\n"));
        let mut shown = read(&text).expect("the example");
        shown.ca_file.take();
        assert!(shown.identity.take().is_some(), "{text}");
        assert_eq!(shown, read(HEAD).expect("the defaults"));
    }

    #[test]
    fn all_may_be_written() {
        let nova = read(&format!(
            "{HEAD}[source.nova]\nendpoints = ['http://a', 'https://b:1/x/']\nshared_secret_file = '/s'\nca_file = '/a'\n\
             cert_file = '/c'\nkey_file = '/k'\nrefresh_interval = '1m'\nrequests = 2\nconnect_timeout = '1s'\n\
             read_timeout = '2s'\n"
        ))
        .expect("a table");
        assert_eq!(nova.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(), ["http://a", "https://b:1/x"]);
        assert_eq!(nova.identity, Some(("/c".into(), "/k".into())));
        assert_eq!((nova.refresh_interval, nova.requests), (Duration::from_secs(60), 2));
        assert_eq!((nova.connect_timeout, nova.read_timeout), (Duration::from_secs(1), Duration::from_secs(2)));
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        for (table, place, problem, remedy) in [
            ("endpoints = []", "m.toml:4:13", "no endpoint", "http://host:8775"),
            ("endpoints = ['x:8775']", "m.toml:4:14", "neither http nor https", "http://host:8775"),
            ("endpoints = ['http://x/?a']", "m.toml:4:14", "a query", "http://host:8775"),
            ("shared_secret_file = 's'", "m.toml:4:22", "not an absolute path", "from `/`"),
            ("cert_file = '/c'", "m.toml:4:13", "belong together", "write both"),
            ("key_file = '/c'", "m.toml:4:12", "belong together", "write both"),
            ("requests = 0", "m.toml:4:12", "out of range", "use 1 to 256"),
            ("read_timeout = '1'", "m.toml:4:16", "not a possible time-out", "10s"),
            ("secret = 'x'", "m.toml:4:1", "unknown field", "correct the name"),
        ] {
            let message = read(&format!("{HEAD}[source.nova]\n{table}")).expect_err(table).to_string();
            assert!(message.starts_with(place), "{table}: {message}");
            assert!(message.contains(problem) && message.contains(remedy), "{table}: {message}");
        }
    }
}
