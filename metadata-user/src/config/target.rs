//! A target of dynamic vendor data: a name, and the address of a service.

use std::collections::HashSet;
use std::fmt;

use hyper::Uri;
use hyper::http::uri::Scheme;

/// A target that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The key of its answer.
    pub name: String,
    /// Where it is.
    pub url: TargetUrl,
    /// Whether it is asked when a guest reads, and not ahead of time.
    pub is_on_demand: bool,
}

/// Takes targets apart as Nova does: `name@url`, split at the first `@`. One without a name, or with a name that came before,
/// is skipped.
#[derive(Debug, Default)]
pub struct Targets<'a> {
    names: HashSet<&'a str>,
}

impl<'a> Targets<'a> {
    /// Returns name and URL of the next target; `None` if it is skipped.
    pub fn split(&mut self, target: &'a str) -> Option<(&'a str, &'a str)> {
        target.split_once('@').filter(|(name, _)| self.names.insert(name))
    }
}

/// An `http` or `https` URL with a host. Shown without its query, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetUrl {
    /// Whether it is `https`.
    pub tls: bool,
    /// Host name or IP address; an IPv6 address is without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Host and port as written: the `Host` header.
    pub authority: String,
    /// Path and query: what a request line names.
    pub path: String,
}

impl TargetUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "its URL is malformed")?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err("its URL is neither http nor https"),
        };
        let authority = uri.authority().ok_or("its URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("a user name in the URL is not supported");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("its URL has no host");
        }
        // A port that is written but no number has none here.
        let port = match (authority.port_u16(), tls) {
            (Some(0), _) => return Err("its port is 0"),
            (Some(port), _) => port,
            (None, _) if authority.as_str().len() > authority.host().len() => return Err("its port is no port"),
            (None, true) => 443,
            (None, false) => 80,
        };
        let path = match uri.path_and_query().map_or("", |path| path.as_str()) {
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        };
        Ok(Self { tls, host, port, authority: authority.as_str().to_owned(), path })
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let path = self.path.split_once('?').map_or(&*self.path, |(path, _)| path);
        write!(f, "{scheme}://{}{path}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::TargetUrl;

    #[test]
    fn urls_are_taken_apart() {
        for (text, tls, host, port, path, shown) in [
            ("http://x", false, "x", 80, "/", "http://x/"),
            ("https://x.y/a?b=c", true, "x.y", 443, "/a?b=c", "https://x.y/a"),
            ("http://[::1]:8080/a/", false, "::1", 8080, "/a/", "http://[::1]:8080/a/"),
            ("HTTP://10.0.0.1:1?q", false, "10.0.0.1", 1, "/?q", "http://10.0.0.1:1/"),
        ] {
            let url = TargetUrl::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
            assert_eq!((url.tls, &*url.host, url.port, &*url.path), (tls, host, port, path), "{text}");
            assert_eq!(url.to_string(), shown);
        }
        for text in
            ["", "x", "/x", "ftp://x/", "http://", "http://u:p@x/", "http://x:0/", "http://x:99999/", "http://x y"]
        {
            assert!(TargetUrl::parse(text).is_err(), "{text:?}");
        }
    }
}
