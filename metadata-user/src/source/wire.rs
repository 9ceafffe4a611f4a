//! The document: one JSON object per instance, in Nova's and Neutron's words.
//!
//! Promises: a document is accepted as a whole or refused with the line, the column, the field and the remedy; unknown
//! fields are refused; what a record holds has been checked here. The JSON Schema comes from the same types.
//!
//! Left out: where documents come from (`source`'s other modules).

use crate::store::record::InstanceRecord;

mod convert;
mod document;
mod error;
mod place;
mod value;

pub use error::DocumentError;

/// Reads a document.
///
/// # Errors
/// [`DocumentError`] with the place, the field and the remedy.
pub fn parse(bytes: &[u8]) -> Result<InstanceRecord, DocumentError> {
    let document = serde_json::from_slice(bytes).map_err(|error| DocumentError::of_json(bytes, &error))?;
    convert::record(document).map_err(|fault| fault.located(bytes))
}

/// Returns the document's JSON Schema (draft 2020-12).
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(document::Document).to_value()
}

#[cfg(test)]
mod tests;
