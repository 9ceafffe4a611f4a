//! What a guest reads when there is no answer: Nova's text in the form that `Accept` asks for.

use bytes::Bytes;

use super::accept::{self, Form};
use super::{Denial, HTML, JSON, PLAIN, QueryError, Status};

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Complete, and no such path. Also what crashes Nova.
    NotFound,
    /// A password is there already.
    Conflict,
    /// The password is too long.
    TooLarge,
    /// Neither GET nor POST of the password.
    Method,
    /// The instance's policy forbids it.
    Denied(Denial),
    /// The target is too long.
    TargetTooLong,
    /// Too many requests. Nova has none of these: in webob's words.
    TooMany,
    /// The query says something that cannot be.
    Query(QueryError),
    /// Too many requests of the instance wait for a change.
    TooManyWaits,
    /// The instance has got as many signatures as it may, lately.
    TooManySignatures,
    /// There is no room for an attribute.
    Attribute,
    /// An attribute is not text.
    AttributeText,
    /// An attribute is written or read with another method.
    AttributeMethod,
    /// There is nothing to sign with now.
    NoKey,
    /// A proxy asks for a signature.
    ForwardedSignature,
}

/// The three forms of one error, put together when the program is built.
macro_rules! texts {
    ($status:ident, $code:literal, $reason:literal, $text:literal) => {
        Texts {
            status: Status::$status,
            plain: concat!($code, " ", $reason, "\n\n", $text, "\n\n   "),
            html: concat!(
                "<html>\n <head>\n  <title>",
                $code,
                " ",
                $reason,
                "</title>\n </head>\n <body>\n  <h1>",
                $code,
                " ",
                $reason,
                "</h1>\n  ",
                $text,
                "<br /><br />\n\n\n\n </body>\n</html>"
            ),
            json: concat!(
                r#"{"message": ""#,
                $text,
                r#"<br /><br />\n\n\n", "code": ""#,
                $code,
                " ",
                $reason,
                r#"", "title": ""#,
                $reason,
                r#""}"#
            ),
        }
    };
}

struct Texts {
    status: Status,
    plain: &'static str,
    html: &'static str,
    json: &'static str,
}

const NOT_FOUND: Texts = texts!(NotFound, 404, "Not Found", "The resource could not be found.");
const CONFLICT: Texts = texts!(Conflict, 409, "Conflict", "There was a conflict when trying to complete your request.");
const TOO_LARGE: Texts = texts!(BadRequest, 400, "Bad Request", "Request is too large.");
const METHOD: Texts = texts!(BadRequest, 400, "Bad Request", "GET and POST only are supported.");
const METADATA_OFF: Texts = texts!(Forbidden, 403, "Forbidden", "Metadata is switched off for this instance.");
const IPV6_OFF: Texts = texts!(
    Forbidden,
    403,
    "Forbidden",
    "Metadata over IPv6 is switched off for this instance. Use http://169.254.169.254 instead."
);
const UNPRIVILEGED: Texts =
    texts!(Forbidden, 403, "Forbidden", "Only a client with a source port below 1024 may ask for this.");
const FORWARDED: Texts = texts!(Forbidden, 403, "Forbidden", "A request with X-Forwarded-For gets no session token.");
const TOKEN_TTL: Texts =
    texts!(BadRequest, 400, "Bad Request", "X-aws-ec2-metadata-token-ttl-seconds must have a number from 1 to 21600.");
const TOKEN_METHOD: Texts = texts!(MethodNotAllowed, 405, "Method Not Allowed", "Ask for a session token with PUT.");
const TOKEN_MISSING: Texts = texts!(
    Unauthorized,
    401,
    "Unauthorized",
    "A session token is required: get one with PUT /latest/api/token, and send it in X-aws-ec2-metadata-token."
);
const TOKEN_INVALID: Texts = texts!(
    Unauthorized,
    401,
    "Unauthorized",
    "The session token is not valid here, or has expired: get another with PUT /latest/api/token."
);

const TOO_MANY: Texts = texts!(
    TooManyRequests,
    429,
    "Too Many Requests",
    "The client has sent too many requests in a given amount of time."
);

const TOO_MANY_WAITS: Texts = texts!(
    TooManyRequests,
    429,
    "Too Many Requests",
    "As many requests of this instance wait for a change as may. Ask again when one of them is answered."
);
const QUERY_TIMEOUT: Texts =
    texts!(BadRequest, 400, "Bad Request", "timeout_sec must be a whole number of seconds, 0 or more.");
const QUERY_VERSION: Texts = texts!(
    BadRequest,
    400,
    "Bad Request",
    "With recursive=true, the path must name a version: /openstack/latest or /latest."
);
const QUERY_AUDIENCE: Texts = texts!(
    BadRequest,
    400,
    "Bad Request",
    "Name the verifier that the token is for: audience=, once, of 1 to 256 printable characters (ASCII, no spaces)."
);
const QUERY_NONCE: Texts = texts!(
    BadRequest,
    400,
    "Bad Request",
    "nonce= may be there once, and has 1 to 128 printable characters (ASCII, no spaces)."
);
const TOO_MANY_SIGNATURES: Texts = texts!(
    TooManyRequests,
    429,
    "Too Many Requests",
    "This instance has got as many identity tokens as it may per second. Keep one until it expires."
);
const ATTRIBUTE: Texts = texts!(
    ContentTooLarge,
    413,
    "Content Too Large",
    "An attribute has at most 4096 bytes, those of an instance together 65536, and their number is limited: see /openstack/latest/capabilities."
);
const ATTRIBUTE_TEXT: Texts =
    texts!(BadRequest, 400, "Bad Request", "An attribute is text in UTF-8, without a zero byte.");
const ATTRIBUTE_METHOD: Texts = texts!(
    MethodNotAllowed,
    405,
    "Method Not Allowed",
    "Write an attribute with PUT /openstack/latest/guest-attributes/NAMESPACE/KEY, remove it with DELETE."
);
const NO_KEY: Texts =
    texts!(ServiceUnavailable, 503, "Service Unavailable", "Nothing can be signed here now. Ask again in a second.");
const FORWARDED_SIGNATURE: Texts =
    texts!(Forbidden, 403, "Forbidden", "A request with X-Forwarded-For gets no proof of identity.");

const TARGET_TOO_LONG: Texts =
    texts!(TargetTooLong, 414, "URI Too Long", "The request URI was too long for this server.");

impl Refusal {
    fn texts(self) -> &'static Texts {
        match self {
            Self::NotFound => &NOT_FOUND,
            Self::Conflict => &CONFLICT,
            Self::TooLarge => &TOO_LARGE,
            Self::Method => &METHOD,
            Self::Denied(Denial::Absent) => &NOT_FOUND,
            Self::Denied(Denial::MetadataOff) => &METADATA_OFF,
            Self::Denied(Denial::Ipv6Off) => &IPV6_OFF,
            Self::Denied(Denial::Unprivileged) => &UNPRIVILEGED,
            Self::Denied(Denial::Forwarded) => &FORWARDED,
            Self::Denied(Denial::TokenTtl) => &TOKEN_TTL,
            Self::Denied(Denial::TokenMethod) => &TOKEN_METHOD,
            Self::Denied(Denial::TokenMissing) => &TOKEN_MISSING,
            Self::Denied(Denial::TokenInvalid) => &TOKEN_INVALID,
            Self::TooMany => &TOO_MANY,
            Self::TargetTooLong => &TARGET_TOO_LONG,
            Self::Query(QueryError::Timeout) => &QUERY_TIMEOUT,
            Self::Query(QueryError::Version) => &QUERY_VERSION,
            Self::TooManyWaits => &TOO_MANY_WAITS,
            Self::Query(QueryError::Audience) => &QUERY_AUDIENCE,
            Self::Query(QueryError::Nonce) => &QUERY_NONCE,
            Self::TooManySignatures => &TOO_MANY_SIGNATURES,
            Self::Attribute => &ATTRIBUTE,
            Self::AttributeText => &ATTRIBUTE_TEXT,
            Self::AttributeMethod => &ATTRIBUTE_METHOD,
            Self::NoKey => &NO_KEY,
            Self::ForwardedSignature => &FORWARDED_SIGNATURE,
        }
    }

    /// Returns the HTTP status.
    pub(super) fn status(self) -> Status {
        self.texts().status
    }

    /// Returns the content type and the body.
    pub(super) fn body(self, accept: Option<&str>) -> (&'static str, Bytes) {
        let texts = self.texts();
        let (content_type, text) = match accept::form(accept) {
            Form::Plain => (PLAIN, texts.plain),
            Form::Html => (HTML, texts.html),
            Form::Json => (JSON, texts.json),
        };
        (content_type, Bytes::from_static(text.as_bytes()))
    }
}
