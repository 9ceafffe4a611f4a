//! The document: one JSON object per instance, with Nova's and Neutron's names.
//!
//! Promises: a document is accepted as a whole or refused with the line, the column, the field and the remedy; unknown
//! fields are refused; what a record holds has been checked here. The JSON Schema comes from the same types. A record can
//! be written as a document again, which reads as an equal record.
//!
//! Left out: where documents come from (`source`'s other modules).

use schemars::{Schema, transform::Transform as _};

use crate::record::{Ec2Ids, InstanceId, InstanceRecord, PortRecord};

mod convert;
mod document;
mod encoding;
mod error;
mod excerpt;
mod notices;
mod pages;
mod place;
mod policy;
mod short;
mod value;
mod work;
mod write;

use convert::Origin;
pub use error::DocumentError;
pub use pages::{MAX_PAGE_BYTES, MAX_PAGES};

/// The largest document, in bytes. User data is at most 64 KiB in Nova; this leaves room for clouds that allow more, and
/// bounds what a stray file costs.
pub const MAX_DOCUMENT: usize = 16 << 20;

/// Reads a document, in time proportional to its size.
///
/// # Errors
/// [`DocumentError`] with the place, the field and the remedy.
pub fn parse(bytes: &[u8]) -> Result<InstanceRecord, DocumentError> {
    parse_text(text(bytes)?, Origin::Written)
}

/// Reads what [`write`] has written. It may be larger than any document, as every field is in it.
///
/// # Errors
/// [`DocumentError`] if something else has written it.
pub fn read_back(bytes: &[u8]) -> Result<InstanceRecord, DocumentError> {
    parse_text(encoding::text(bytes)?, Origin::Record)
}

fn parse_text(text: &str, origin: Origin) -> Result<InstanceRecord, DocumentError> {
    let bytes = text.as_bytes();
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        // serde would take its elements for the fields, in their order.
        return Err(DocumentError::of_list(bytes));
    }
    let document = serde_json::from_str(text).map_err(|error| DocumentError::of_json(bytes, &error))?;
    convert::record(document, origin).map_err(|fault| fault.located(bytes))
}

/// Returns a document's text: without the byte order mark, if it begins with one.
///
/// # Errors
/// [`DocumentError`] if it is too large, or not UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, DocumentError> {
    if bytes.len() > MAX_DOCUMENT {
        let problem = format!("it is larger than {} MiB", MAX_DOCUMENT >> 20);
        return Err(DocumentError::of_document(problem, "make its user data smaller"));
    }
    encoding::text(bytes)
}

/// Writes a record as a document, in one line without a newline at its end. It reads back as an equal record.
///
/// # Errors
/// Those of the writer.
pub fn write(record: &InstanceRecord, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    write::write(record, out)
}

/// Returns a record as a document for people: on lines of its own, without what is default. It parses to an equal record if
/// the record could come of a document. Equal records give the same bytes.
///
/// # Errors
/// Those of the writer of JSON.
pub fn document(record: &InstanceRecord) -> std::io::Result<Vec<u8>> {
    short::document(record)
}

/// Tells whether a document may give this host name.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    convert::host_name::check(name).is_ok()
}

/// Tells whether a document may give a tap this name.
#[must_use]
pub fn is_device_name(name: &str) -> bool {
    convert::port::is_device_name(name)
}

/// Returns the names in the EC2 tree that an instance and its image have where the document does not give them.
#[must_use]
pub fn ec2_ids(instance: InstanceId, image: Option<&str>) -> Ec2Ids {
    convert::ec2_ids::complete(document::Ec2IdsDocument::default(), instance.0, [image, None, None])
}

/// Returns the EC2 tree's `local-ipv4` where the document does not give it.
#[must_use]
pub fn local_ipv4(ports: &[PortRecord]) -> Option<Box<str>> {
    convert::local_ipv4(ports)
}

/// Returns the document's JSON Schema (draft 2020-12).
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(document::Document);
    // Descriptions name the defaults: most are derived, and null means absent.
    schemars::transform::RecursiveTransform(without_null_default).transform(&mut schema);
    schema.to_value()
}

fn without_null_default(schema: &mut Schema) {
    if schema.get("default").is_some_and(serde_json::Value::is_null) {
        schema.remove("default");
    }
}

#[cfg(test)]
mod tests;
