//! What a guest reads: record, path and date in, bytes out.
//!
//! Promises: no I/O, no async, no clock, no randomness of its own.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::record::InstanceRecord;

mod date;

pub use date::Date;

/// Settings that are the same for all instances of a cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct Cloud {
    /// Nova's `dhcp_domain`: added to host names; empty adds nothing.
    pub dhcp_domain: String,
    /// Nova's `vendordata_providers`, in order.
    pub vendordata_providers: Vec<VendordataProvider>,
    /// The content of Nova's `vendordata_jsonfile_path`; `None` when there is no such file.
    pub vendordata_static: Option<serde_json::Value>,
    /// Nova's `vendordata_dynamic_targets`, in order, each `name@url`.
    pub vendordata_dynamic_targets: Vec<String>,
}

/// A provider of vendor data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VendordataProvider {
    /// The operator's JSON file.
    StaticJson,
    /// The operator's services.
    DynamicJson,
}

impl Default for Cloud {
    fn default() -> Self {
        Self {
            dhcp_domain: "novalocal".to_owned(),
            vendordata_providers: vec![VendordataProvider::StaticJson],
            vendordata_static: None,
            vendordata_dynamic_targets: Vec::new(),
        }
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
    /// The date, UTC.
    pub today: Date,
    /// Gives fresh random bytes for `random_seed`. Called at most once.
    pub seed: &'a dyn Fn(&mut [u8; 512]),
}

/// The most bytes that a guest may post as its password.
pub const PASSWORD_LIMIT: usize = 1020;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: Option<&'static str>,
    /// The body; empty for HEAD.
    pub body: Bytes,
    /// The `Content-Length` header: for HEAD, that of the GET answer.
    pub content_length: u64,
    /// What must be done before the answer is sent.
    pub effect: Option<Effect>,
}

/// What a request changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The guest posted its password: keep it (see [`Instance::with_password`]), unless another one came first; then
    /// the answer is that of the same request to the new instance.
    SetPassword(Arc<str>),
}

/// An instance's answers.
#[derive(Clone, Debug)]
pub struct Instance {
    record: Arc<InstanceRecord>,
    cloud: Arc<Cloud>,
    password: Option<Arc<str>>,
}

impl Instance {
    /// Returns the answers for a record. Nothing is rendered yet.
    #[must_use]
    pub fn new(record: Arc<InstanceRecord>, cloud: Arc<Cloud>) -> Self {
        let password = record.password.as_deref().map(Arc::from);
        Self { record, cloud, password }
    }

    /// Returns the record.
    #[must_use]
    pub fn record(&self) -> &InstanceRecord {
        &self.record
    }

    /// Returns the password that the guest posted.
    #[must_use]
    pub fn password(&self) -> Option<&Arc<str>> {
        self.password.as_ref()
    }

    /// Returns the same instance with another password; what is rendered already is kept.
    #[must_use]
    pub fn with_password(&self, password: Arc<str>) -> Self {
        Self { password: Some(password), ..self.clone() }
    }

    /// Answers a request.
    #[must_use]
    pub fn answer(&self, _request: &Request<'_>) -> Answer {
        let _ = &self.cloud;
        Answer { status: 404, content_type: None, body: Bytes::new(), content_length: 0, effect: None }
    }
}
