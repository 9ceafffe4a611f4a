//! A posted password and its answer, as keys and values of etcd.

use serde_json::{Value, json};

use crate::api::{Password, Written};
use crate::config::etcd::Etcd;
use crate::record::InstanceId;

/// Where guests post it, if a value does not say.
const PATH: &str = "/openstack/latest/password";
/// What an answer's key ends with.
const ANSWER: &str = "/answer";

/// Returns what the keys of all nodes' passwords start with.
pub(crate) fn prefix(settings: &Etcd) -> String {
    format!("{}/passwords/", settings.prefix)
}

/// Returns the key of an instance's password on a node.
pub(crate) fn key(settings: &Etcd, node: &str, id: InstanceId) -> String {
    format!("{}{node}/{id}", prefix(settings))
}

/// Returns the key of the answer to a password's key.
pub(crate) fn answer_key(key: &str) -> String {
    format!("{key}{ANSWER}")
}

/// A key under the prefix of all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// A password of an instance on a node.
    Password(&'a str, InstanceId),
    /// The answer to the password with this key.
    Answer(&'a str),
}

impl<'a> Name<'a> {
    /// Reads a key; `None` if it is another's.
    pub(crate) fn of(key: &'a [u8], prefix: &str) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        if let Some(of) = key.strip_suffix(ANSWER) {
            return Some(Self::Answer(of));
        }
        let (node, id) = key.strip_prefix(prefix)?.split_once('/')?;
        Some(Self::Password(node, id.parse().ok()?))
    }
}

/// What a guest posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posted {
    /// The path that it was posted to.
    pub(crate) path: String,
    pub(crate) password: Password,
}

impl Posted {
    pub(crate) fn write(&self) -> Vec<u8> {
        json!({ "path": self.path, "password": self.password.as_str() }).to_string().into_bytes()
    }

    /// Reads a value; `None` if it holds no password.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(value).ok()?;
        let password = Password::new(value["password"].as_str()?.to_owned())?;
        Some(Self { path: value["path"].as_str().unwrap_or(PATH).to_owned(), password })
    }
}

/// What became of a posted password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The `mod_revision` of the key that this is the answer to.
    pub(crate) request: i64,
    pub(crate) written: Written,
}

/// The words of a value.
const WORDS: [(&str, Written); 4] = [
    ("kept", Written::Kept),
    ("exists", Written::Exists),
    ("too_large", Written::TooLarge),
    ("unavailable", Written::Unavailable),
];

impl Answer {
    pub(crate) fn write(self) -> Vec<u8> {
        let word = WORDS.iter().find(|(_, written)| *written == self.written).map_or("unavailable", |(word, _)| word);
        json!({ "request": self.request, "outcome": word }).to_string().into_bytes()
    }

    /// Reads a value; `None` if it is none of ours.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(value).ok()?;
        let word = value["outcome"].as_str()?;
        let (_, written) = WORDS.iter().find(|(known, _)| *known == word)?;
        Some(Self { request: value["request"].as_i64()?, written: *written })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_were_written() {
        let posted =
            Posted { path: "/openstack/2018-08-27/password".to_owned(), password: Password::new("x\"y").unwrap() };
        assert_eq!(Posted::read(&posted.write()), Some(posted.clone()));
        assert!(!format!("{posted:?}").contains("x\\\"y"));
        for (_, written) in WORDS {
            let answer = Answer { request: 7, written };
            assert_eq!(Answer::read(&answer.write()), Some(answer));
        }
        assert_eq!(Posted::read(b"{\"password\":\"\"}"), None);
        assert_eq!(Answer::read(b"{\"request\":1,\"outcome\":\"else\"}"), None);
    }

    #[test]
    fn a_passwords_key_is_told_from_its_answers() {
        let id: InstanceId = "12345678-1234-4234-8234-123456789abc".parse().unwrap();
        let key = format!("/m/passwords/n1/{id}");
        assert_eq!(Name::of(key.as_bytes(), "/m/passwords/"), Some(Name::Password("n1", id)));
        assert_eq!(Name::of(answer_key(&key).as_bytes(), "/m/passwords/"), Some(Name::Answer(&key)));
        assert_eq!(Name::of(b"/m/passwords/n1", "/m/passwords/"), None);
        assert_eq!(Name::of(b"/m/passwords/n1/x", "/m/passwords/"), None);
    }
}
