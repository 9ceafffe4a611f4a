//! What a guest reads: record, path and date in, bytes out, as Nova 34 answers.
//!
//! Promises:
//! - no I/O, no async, no clock, no randomness of its own;
//! - a document is rendered when it is first asked for, and once for all versions in which its bytes are equal; from then
//!   on an answer is a look-up and a reference-counted body (`meta_data.json` is a copy, for its fresh random seed);
//! - what crashes Nova is 404.
//!
//! Ours, not Nova's: `meta-data/meta-data/` in the EC2 tree (see `ec2`), a password that is readable at once, and a
//! second POST of one that is 409 at once.
//!
//! Pages that a record keeps beside its facts are answered as they are (`beside`).
//!
//! What guests may ask beyond Nova's trees is in `extensions`.
//!
//! An instance of an unchanged OpenStack has no record: its answers are Nova's own ([`NovaPages`]). [`Content`] is either.
//!
//! Left out: who asks (`http`), whether there is an instance yet (`http`: 503), fetching of dynamic vendor data.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::config;
use crate::on_demand::Member;

mod accept;
mod beside;
mod config_drive;
mod content;
mod date;
mod denial;
mod ec2;
mod error;
mod extensions;
mod found;
mod json;
mod nova_pages;
mod openstack;
mod own;
mod password;
mod rendered;
mod route;
mod subject;

pub use crate::config::VendordataProvider;
pub use beside::{PathError, check_path};
pub use config_drive::{DriveFile, DriveParts, Incomplete};
pub use content::{Content, Reply};
pub use date::Date;
pub use denial::Denial;
pub use extensions::proof::{self, InDynamic, Signed, TokenRequest};
pub use extensions::{AttributePath, ETag, Known, Look, Query, QueryError, Wait};
pub use nova_pages::{NOT_FOUND_TEXT, NovaPages, Page};
pub use openstack::vendor_data::{self, StaticVendordata};
pub use own::{Own, acknowledged_event};
pub use password::{PASSWORD_LIMIT, Password, Write, Written};
pub use rendered::RenderedInstance;
pub use subject::{About, Subject, Tree, is_public};

/// The content type of text, and of most else.
pub(crate) const PLAIN: &str = "text/plain; charset=UTF-8";
/// The content type of a password, and of errors for browsers.
const HTML: &str = "text/html; charset=UTF-8";
/// The content type of JSON documents but for `network_data.json`.
const JSON: &str = "application/json";

/// Settings that are the same for all instances of a cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct Cloud {
    /// Nova's `dhcp_domain`: added to host names; empty adds nothing.
    pub dhcp_domain: String,
    /// Nova's `vendordata_providers`, in order.
    pub vendordata_providers: Vec<VendordataProvider>,
    /// The content of Nova's `vendordata_jsonfile_path`; the default when there is no such file.
    pub vendordata_static: StaticVendordata,
    /// Nova's `vendordata_dynamic_targets`, in order, each `name@url`; but for those that are asked when a guest reads.
    pub vendordata_dynamic_targets: Vec<String>,
}

impl Cloud {
    /// Returns what a configuration says, with the content of the vendor-data file that it names.
    #[must_use]
    pub fn of(settings: &config::Cloud, vendordata_static: StaticVendordata) -> Self {
        Self {
            dhcp_domain: settings.dhcp_domain.clone(),
            vendordata_providers: settings.vendordata_providers.clone(),
            vendordata_static,
            vendordata_dynamic_targets: settings.targets_ahead(),
        }
    }
}

impl Default for Cloud {
    fn default() -> Self {
        Self::of(&config::Config::default().cloud, StaticVendordata::default())
    }
}

/// A guest's request.
#[expect(missing_debug_implementations, reason = "holds a closure and a guest's secret")]
pub struct Request<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// The request target as sent.
    pub target: &'a str,
    /// The `Accept` header.
    pub accept: Option<&'a str>,
    /// The `Content-Length` header. `None` for a chunked body.
    pub content_length: Option<u64>,
    /// The body, complete, or as much of it as was read beyond [`PASSWORD_LIMIT`]. Used by a POST of the password only.
    pub body: &'a [u8],
    /// Tells the date, UTC.
    pub today: fn() -> Date,
    /// Gives fresh random bytes for `random_seed`. Called at most once.
    pub seed: &'a dyn Fn(&mut [u8; 512]),
}

/// The answer to a request. `Debug` leaves the body out.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: Status,
    /// The `Content-Type` header.
    pub content_type: Option<Cow<'static, str>>,
    /// The body. `http` leaves it out for HEAD, and sends its length.
    pub body: Bytes,
}

impl Answer {
    /// Returns an answer that is a `vendor_data2.json` with what services answered for it.
    #[must_use]
    pub fn with_members(self, members: &[Member]) -> Self {
        Self { body: vendor_data::with_members(self.body, members), ..self }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl Answer {
    /// Returns the answer to a request that is one too many, in the form that its `Accept` header asks for.
    #[must_use]
    pub fn too_many_requests(accept: Option<&str>) -> Self {
        Self::refusal(error::Refusal::TooMany, accept)
    }

    /// Returns the answer to a request of which the target is too long.
    #[must_use]
    pub fn target_too_long(accept: Option<&str>) -> Self {
        Self::refusal(error::Refusal::TargetTooLong, accept)
    }

    fn refusal(refusal: error::Refusal, accept: Option<&str>) -> Self {
        let (content_type, body) = refusal.body(accept);
        Self { status: refusal.status(), content_type: Some(Cow::Borrowed(content_type)), body }
    }
}

/// The HTTP status of an answer. Nova has 200, 400, 404 and 409 in these trees; the others are of refusals by policy and of extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200.
    Ok = 200,
    /// 304: the client has the document already.
    NotModified = 304,
    /// 400: a method that is none of the password's, a password that is too long, or a query that cannot be.
    BadRequest = 400,
    /// 401: a session token is missing, or not valid.
    Unauthorized = 401,
    /// 403: the instance's policy forbids it.
    Forbidden = 403,
    /// 404.
    NotFound = 404,
    /// 405: a session token is had by PUT.
    MethodNotAllowed = 405,
    /// 409: there is a password already.
    Conflict = 409,
    /// 413: there is no room for what the guest writes.
    ContentTooLarge = 413,
    /// 414: the target is longer than the configuration allows.
    TargetTooLong = 414,
    /// 429: the instance asks too much.
    TooManyRequests = 429,
    /// 503: nothing can be signed now.
    ServiceUnavailable = 503,
}

impl Status {
    /// Returns the number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}
