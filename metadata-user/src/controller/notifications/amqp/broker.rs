//! The brokers: a file of URLs, one a line. It holds passwords, so errors name lines, never what is in them.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::percent;
use crate::secret::{Secret, SecretError};

/// Ports by scheme, as IANA has them.
const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;

/// A broker and who we are there.
pub(super) struct Broker {
    /// Over TLS.
    pub(super) tls: bool,
    /// Its name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) vhost: String,
    /// Whether user and password are written in the URL.
    pub(super) has_user: bool,
}

/// Why the file of URLs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UrlsError {
    /// It cannot be read.
    #[error("rabbitmq.urls_file")]
    File(#[from] SecretError),
    /// It is not UTF-8.
    #[error("rabbitmq.urls_file {} is not text: write one URL a line", .0.display())]
    NotText(PathBuf),
    /// It has no URL.
    #[error("rabbitmq.urls_file {} has no URL: write amqp://user:password@host:5672/vhost, one a line", .0.display())]
    None(PathBuf),
    /// A line is not a URL of a broker.
    #[error(
        "rabbitmq.urls_file {} line {line}: {problem}; write amqp://user:password@host:5672/vhost, or amqps, with special characters \
         percent-encoded",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Which, from 1 on.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({self})")
    }
}

/// As messages name it: scheme, host and port.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        if self.host.contains(':') {
            return write!(f, "{scheme}://[{}]:{}", self.host, self.port);
        }
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl Broker {
    /// Reads the brokers from a file; at least one.
    ///
    /// # Errors
    /// [`UrlsError`] if it cannot be read, everybody may read it, or a line is not a URL of a broker.
    pub(super) fn read(path: &Path) -> Result<Vec<Self>, UrlsError> {
        let secret = Secret::read(path)?;
        let text = std::str::from_utf8(secret.expose()).map_err(|_| UrlsError::NotText(path.to_owned()))?;
        let mut brokers = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let error = |problem| UrlsError::Line { path: path.to_owned(), line, problem };
            brokers.push(Self::parse(text).map_err(error)?);
        }
        if brokers.is_empty() { Err(UrlsError::None(path.to_owned())) } else { Ok(brokers) }
    }

    /// Reads a URL; an error says what is wrong with it. No virtual host, and an empty one, are `/`.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let tls = match scheme {
            "amqp" => false,
            "amqps" => true,
            "rabbit" | "kombu" => return Err("it is in oslo.messaging's form"),
            _ => return Err("its scheme is neither amqp nor amqps"),
        };
        if rest.contains(['?', '#', ',']) {
            return Err("it has options, a fragment, or several brokers in one URL");
        }
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, address) = match authority.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, authority),
        };
        let decoded = |text: &str| percent::decode(text).ok_or("a percent sign is not followed by two digits");
        let (user, password) = match userinfo {
            Some(userinfo) => {
                let (user, password) = userinfo.split_once(':').ok_or("it has a user without a password")?;
                (decoded(user)?, decoded(password)?)
            }
            // RabbitMQ's own, which it accepts from its host alone.
            None => ("guest".to_owned(), "guest".to_owned()),
        };
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port),
            None => address.split_at(address.find(':').unwrap_or(address.len())),
        };
        if host.is_empty() || host.contains(|character: char| character.is_whitespace() || character.is_control()) {
            return Err("it has no host");
        }
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| "its port is not a number up to 65535")?,
            None if !port.is_empty() => return Err("its host is not followed by a port"),
            None if tls => TLS_PORT,
            None => PORT,
        };
        let vhost = match decoded(vhost)? {
            vhost if vhost.is_empty() => "/".to_owned(),
            vhost => vhost,
        };
        let host = host.to_owned();
        Ok(Self {
            tls,
            host,
            port,
            user,
            password: Secret::new(password.into_bytes()),
            vhost,
            has_user: userinfo.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn check(url: &str, shown: &str, user: &str, password: &str, vhost: &str) {
        let broker = Broker::parse(url).unwrap();
        assert_eq!(broker.to_string(), shown, "{url}");
        assert_eq!(
            (&*broker.user, broker.password.expose(), &*broker.vhost),
            (user, password.as_bytes(), vhost),
            "{url}"
        );
    }

    #[test]
    fn urls_of_brokers() {
        check("amqp://nova:pass@rabbit", "amqp://rabbit:5672", "nova", "pass", "/");
        check("amqps://nova:pass@rabbit/", "amqps://rabbit:5671", "nova", "pass", "/");
        check("amqp://nova:p%40ss%2f@192.0.2.1:56/cloud", "amqp://192.0.2.1:56", "nova", "p@ss/", "cloud");
        check("amqp://nova:a@b@[2001:db8::1]:56/%2Fcloud", "amqp://[2001:db8::1]:56", "nova", "a@b", "/cloud");
        check("amqp://[::1]", "amqp://[::1]:5672", "guest", "guest", "/");
        check("amqp://nova:pass@rabbit//", "amqp://rabbit:5672", "nova", "pass", "/");
    }

    #[test]
    fn what_is_not_a_url_of_a_broker_is_refused_without_naming_it() {
        for url in [
            "rabbit",
            "rabbit://nova:pass@rabbit:5672//",
            "http://nova:pass@rabbit",
            "amqp://nova:pass@rabbit:x",
            "amqp://nova:pass@rabbit:66000",
            "amqp://nova:pa%ss@rabbit",
            "amqp://nova@rabbit",
            "amqp://nova:pass@",
            "amqp://nova:pass@[::1]5672",
            "amqp://nova:pass@a,nova:pass@b",
            "amqp://nova:pass@rabbit?heartbeat=1",
        ] {
            let problem = Broker::parse(url).expect_err(url);
            assert!(!problem.contains("pass@") && !problem.contains("nova"), "{problem}");
        }
    }

    #[test]
    fn a_file_of_urls_has_comments_and_its_errors_name_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("urls");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            Broker::read(&path)
        };
        let brokers = write("# ours\namqp://a:b@c\n\n amqps://a:b@d \n").unwrap();
        assert_eq!(brokers.iter().map(Broker::to_string).collect::<Vec<_>>(), ["amqp://c:5672", "amqps://d:5671"]);
        assert!(!format!("{brokers:?}").contains('b'.to_string().as_str()) || !format!("{brokers:?}").contains("a:b"));
        assert!(matches!(write("# none\n"), Err(UrlsError::None(_))));
        let error = write("amqp://a:b@c\nrabbit://a:s3cret@c\n").unwrap_err().to_string();
        assert!(error.contains("line 2: it is in oslo.messaging's form") && !error.contains("s3cret"), "{error}");
    }
}
