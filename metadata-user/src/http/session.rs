//! Session tokens, as version 2 of EC2's instance metadata service has them.
//!
//! `PUT /latest/api/token` with [`TTL`] issues a token; a request with it in [`TOKEN`] is of that session. One process of a
//! guest that forwards requests of others, as an open proxy or by server-side request forgery, can seldom be made to send a PUT
//! with a header of its own, and seldom passes the token on.
//!
//! Promises:
//! - where tokens are off, a PUT and the header mean nothing: the answer is Nova's;
//! - a token is of this binding of this instance's port, and of this node (`secret::token`); a wrong one is refused even where
//!   none is required, so that a client never believes in a session that is none;
//! - a token is neither logged nor kept; the one that a request brings is marked so that no `Debug` shows it.
//!
//! Left out: refusing `X-Forwarded-For` but for the PUT, as EC2; one-time tokens; what a process can do that may send any
//! request: only root-only reading (`privileged`) is against that.

use hyper::Method;
use hyper::header::{Entry, HeaderMap, HeaderName, HeaderValue};

use crate::api::{About, Denial, Subject};
use crate::audit::TokenMode;
use crate::policy::SessionMode;
use crate::secret::token::TokenError;

/// Says for how many seconds a token is wanted; in an answer, how many are left.
pub(super) const TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
/// Has the token.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
/// Whom a proxy forwards for.
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Longest life of a token, in seconds, as with EC2: six hours.
const LONGEST: u64 = 21_600;

/// What a request has to do with tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenUse {
    /// Nothing: they are off.
    Off,
    /// It wants one.
    Wanted,
    /// It has none.
    Absent,
    /// It has a valid one.
    Valid,
    /// It has one that is refused.
    Refused(TokenError),
}

impl TokenUse {
    /// Returns what the audit log has of it.
    pub(super) const fn mode(self) -> TokenMode {
        match self {
            Self::Off => TokenMode::None,
            Self::Wanted => TokenMode::Wanted,
            Self::Absent => TokenMode::Absent,
            Self::Valid => TokenMode::Valid,
            Self::Refused(_) => TokenMode::Refused,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered; with a token, which has this many seconds left.
    Pass(Option<u64>),
    /// A token is issued for this many seconds.
    Issue(u64),
    /// It is refused.
    Refuse(Denial),
}

/// Decides on a request. `open` returns how many seconds a token has left.
pub(super) fn judge(
    mode: SessionMode,
    about: About,
    method: &Method,
    headers: &HeaderMap,
    open: impl FnOnce(&[u8]) -> Result<u64, TokenError>,
) -> (Verdict, TokenUse) {
    if mode == SessionMode::Off {
        return (Verdict::Pass(None), TokenUse::Off);
    }
    if about.subject == Subject::Token {
        return (wanted(method, headers), TokenUse::Wanted);
    }
    match only(headers, &TOKEN).map(|token| open(token.as_bytes())) {
        Ok(Ok(left)) => (Verdict::Pass(Some(left)), TokenUse::Valid),
        Ok(Err(error)) => (Verdict::Refuse(Denial::TokenInvalid), TokenUse::Refused(error)),
        Err(Repeated::Several) => (Verdict::Refuse(Denial::TokenInvalid), TokenUse::Refused(TokenError::Malformed)),
        Err(Repeated::None) if mode == SessionMode::Required => {
            (Verdict::Refuse(Denial::TokenMissing), TokenUse::Absent)
        }
        Err(Repeated::None) => (Verdict::Pass(None), TokenUse::Absent),
    }
}

fn wanted(method: &Method, headers: &HeaderMap) -> Verdict {
    if *method != Method::PUT {
        return Verdict::Refuse(Denial::TokenMethod);
    }
    if headers.contains_key(FORWARDED_FOR) {
        return Verdict::Refuse(Denial::Forwarded);
    }
    let seconds = only(headers, &TTL).ok().and_then(seconds);
    seconds.map_or(Verdict::Refuse(Denial::TokenTtl), Verdict::Issue)
}

/// Reads a life: digits only.
fn seconds(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().filter(|seconds| (1..=LONGEST).contains(seconds))
}

/// Why there is not one value.
enum Repeated {
    None,
    Several,
}

/// Returns a header's value, if there is one and no other.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a HeaderValue, Repeated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (None, _) => Err(Repeated::None),
        (Some(_), Some(_)) => Err(Repeated::Several),
    }
}

/// Keeps the token of a request out of every `Debug`.
pub(super) fn hide(headers: &mut HeaderMap) {
    // An entry may cost memory, also of what is not there.
    if headers.contains_key(&TOKEN)
        && let Entry::Occupied(mut token) = headers.entry(TOKEN)
    {
        token.iter_mut().for_each(|value| value.set_sensitive(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Tree;

    const TOKEN_PATH: About = About { tree: Tree::Ec2, subject: Subject::Token, own: None };
    const PATH: About = About { tree: Tree::OpenStack, subject: Subject::Other, own: None };

    fn judged(mode: SessionMode, about: About, method: &str, headers: &[(&HeaderName, &str)]) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let open = |token: &[u8]| match token {
            b"good" => Ok(7),
            b"old" => Err(TokenError::Expired),
            _ => Err(TokenError::Malformed),
        };
        judge(mode, about, &method, &map, open).0
    }

    #[test]
    fn where_tokens_are_off_nothing_of_them_counts() {
        for about in [TOKEN_PATH, PATH] {
            for headers in [&[(&TOKEN, "bad")][..], &[(&TTL, "x")], &[(&FORWARDED_FOR, "a")], &[]] {
                for method in ["GET", "PUT"] {
                    assert_eq!(judged(SessionMode::Off, about, method, headers), Verdict::Pass(None));
                }
            }
        }
    }

    #[test]
    fn a_token_is_issued_to_a_put_with_a_possible_life_that_no_proxy_forwards() {
        use Denial::{Forwarded, TokenMethod, TokenTtl};
        for mode in [SessionMode::Optional, SessionMode::Required] {
            for (method, headers, expected) in [
                ("PUT", &[(&TTL, "1")][..], Verdict::Issue(1)),
                ("PUT", &[(&TTL, "21600")], Verdict::Issue(21_600)),
                ("PUT", &[(&TTL, "0060"), (&TOKEN, "bad")], Verdict::Issue(60)),
                ("PUT", &[], Verdict::Refuse(TokenTtl)),
                ("PUT", &[(&TTL, "")], Verdict::Refuse(TokenTtl)),
                ("PUT", &[(&TTL, "0")], Verdict::Refuse(TokenTtl)),
                ("PUT", &[(&TTL, "21601")], Verdict::Refuse(TokenTtl)),
                ("PUT", &[(&TTL, "-1")], Verdict::Refuse(TokenTtl)),
                ("PUT", &[(&TTL, "+1")], Verdict::Refuse(TokenTtl)),
                ("PUT", &[(&TTL, "1.5")], Verdict::Refuse(TokenTtl)),
                ("PUT", &[(&TTL, "99999999999999999999999")], Verdict::Refuse(TokenTtl)),
                ("PUT", &[(&TTL, "1"), (&TTL, "1")], Verdict::Refuse(TokenTtl)),
                ("PUT", &[(&TTL, "1"), (&FORWARDED_FOR, "")], Verdict::Refuse(Forwarded)),
                ("PUT", &[(&FORWARDED_FOR, "10.0.0.1")], Verdict::Refuse(Forwarded)),
                ("GET", &[(&TTL, "1")], Verdict::Refuse(TokenMethod)),
                ("HEAD", &[(&TTL, "1")], Verdict::Refuse(TokenMethod)),
                ("POST", &[(&TTL, "1")], Verdict::Refuse(TokenMethod)),
                ("OPTIONS", &[], Verdict::Refuse(TokenMethod)),
            ] {
                assert_eq!(judged(mode, TOKEN_PATH, method, headers), expected, "{method} {headers:?}");
            }
        }
    }

    #[test]
    fn a_wrong_token_is_refused_also_where_none_is_required() {
        use Denial::{TokenInvalid, TokenMissing};
        for method in ["GET", "POST", "OPTIONS", "PUT"] {
            for mode in [SessionMode::Optional, SessionMode::Required] {
                for token in ["", "bad", "old"] {
                    assert_eq!(
                        judged(mode, PATH, method, &[(&TOKEN, token)]),
                        Verdict::Refuse(TokenInvalid),
                        "{token}"
                    );
                }
                let two = [(&TOKEN, "good"), (&TOKEN, "good")];
                assert_eq!(judged(mode, PATH, method, &two), Verdict::Refuse(TokenInvalid));
                assert_eq!(judged(mode, PATH, method, &[(&TOKEN, "good")]), Verdict::Pass(Some(7)));
                let forwarded = [(&TOKEN, "good"), (&FORWARDED_FOR, "10.0.0.1")];
                assert_eq!(judged(mode, PATH, method, &forwarded), Verdict::Pass(Some(7)));
            }
            assert_eq!(judged(SessionMode::Optional, PATH, method, &[]), Verdict::Pass(None));
            assert_eq!(judged(SessionMode::Required, PATH, method, &[]), Verdict::Refuse(TokenMissing));
        }
    }

    #[test]
    fn a_requests_token_is_in_no_debug_output() {
        let mut headers = HeaderMap::new();
        headers.append(TOKEN, HeaderValue::from_static("secret-1"));
        headers.append(TOKEN, HeaderValue::from_static("secret-2"));
        headers.append(TTL, HeaderValue::from_static("60"));
        hide(&mut headers);
        let shown = format!("{headers:?}");
        assert!(!shown.contains("secret") && shown.contains("60"), "{shown}");
    }
}
