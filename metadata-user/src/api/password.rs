//! The password that a guest posts: Nova's rules, for every kind of instance.
//!
//! Promises: a password is posted once, then read; a second POST is 409 as soon as the first is kept; an empty one is
//! taken and changes nothing.
//!
//! Left out: where a password is kept (`store`, or the controller).

use std::fmt;

use bytes::Bytes;

use super::error::Refusal;
use super::found::{self, Found};
use super::{Answer, HTML, Request};

/// The most bytes that a guest may post as its password, as in Nova.
pub const PASSWORD_LIMIT: usize = 1020;

/// A password: text, and not empty. Cheap to clone; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Bytes);

impl Password {
    /// Returns the password, unless it is empty or not UTF-8.
    #[must_use]
    pub fn new(text: impl Into<Bytes>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty() && std::str::from_utf8(&text).is_ok()).then_some(Self(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // `new` takes nothing else.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// What a guest writes, and who keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The store keeps this password.
    Store(Password),
    /// The controller keeps this password.
    Controller {
        /// The path that it is posted to.
        path: String,
        /// The password.
        password: Password,
    },
}

/// What became of a [`Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is kept.
    Kept,
    /// There is a password already.
    Exists,
    /// The controller takes none of this length.
    TooLarge,
    /// Nobody can keep it now: the guest has to ask again.
    Unavailable,
}

impl Written {
    /// Returns the answer to the request that wrote; `None`: 503.
    #[must_use]
    pub fn answer(self, request: &Request<'_>) -> Option<Answer> {
        let found = match self {
            Self::Kept => Ok(Found::new(HTML, Bytes::new())),
            Self::Exists => Err(Refusal::Conflict),
            Self::TooLarge => Err(Refusal::TooLarge),
            Self::Unavailable => return None,
        };
        Some(found::answer(found, request))
    }
}

/// What a request to the password's path asks for.
pub(super) enum Exchange {
    /// To read it.
    Read,
    /// To keep this one.
    Keep(Password),
    /// Nothing: an empty password was posted, and a later POST still works.
    Nothing,
}

/// Reads a request to the password's path.
pub(super) fn exchange(is_set: bool, request: &Request<'_>) -> Result<Exchange, Refusal> {
    match request.method {
        "GET" => Ok(Exchange::Read),
        "POST" if is_set => Err(Refusal::Conflict),
        "POST" => {
            // A body without a length, or one that is not text, crashes Nova.
            let length = request.content_length.ok_or(Refusal::NotFound)?;
            if length > PASSWORD_LIMIT as u64 || request.body.len() > PASSWORD_LIMIT {
                return Err(Refusal::TooLarge);
            }
            if request.body.is_empty() {
                return Ok(Exchange::Nothing);
            }
            let password = Password::new(Bytes::copy_from_slice(request.body)).ok_or(Refusal::NotFound)?;
            Ok(Exchange::Keep(password))
        }
        _ => Err(Refusal::Method),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Date;

    fn post(is_set: bool, length: Option<u64>, body: &[u8]) -> Result<Option<Password>, Refusal> {
        let request = Request {
            method: "POST",
            target: "/openstack/latest/password",
            accept: None,
            content_length: length,
            body,
            today: || Date::new(2026, 1, 1),
            seed: &|_| {},
        };
        Ok(match exchange(is_set, &request)? {
            Exchange::Keep(password) => Some(password),
            Exchange::Read | Exchange::Nothing => None,
        })
    }

    #[test]
    fn the_rules_are_novas() {
        let longest = [b'x'; PASSWORD_LIMIT];
        let too_long = [b'x'; PASSWORD_LIMIT + 1];
        assert_eq!(post(false, Some(6), b"cipher"), Ok(Password::new("cipher")));
        assert_eq!(post(false, Some(PASSWORD_LIMIT as u64), &longest), Ok(Password::new(longest.to_vec())));
        assert_eq!(post(false, Some(0), b""), Ok(None), "an empty one changes nothing");
        for (is_set, length, body, refusal) in [
            (true, Some(6), b"cipher".as_slice(), Refusal::Conflict),
            (false, None, b"cipher", Refusal::NotFound),
            (false, Some(1), b"\xff", Refusal::NotFound),
            (false, Some(PASSWORD_LIMIT as u64 + 1), b"", Refusal::TooLarge),
            (false, Some(1), &too_long, Refusal::TooLarge),
        ] {
            assert_eq!(post(is_set, length, body), Err(refusal), "{is_set} {length:?}");
        }
    }

    #[test]
    fn a_password_is_text_and_is_not_shown() {
        assert_eq!((Password::new(""), Password::new(&b"\xff"[..])), (None, None));
        let password = Password::new("geheim").unwrap();
        assert_eq!((password.as_str(), format!("{password:?}").as_str()), ("geheim", "Password(..)"));
    }
}
