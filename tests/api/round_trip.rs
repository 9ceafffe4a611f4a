//! Documents of every shape, to records and back; to answers and back.

use metadata_user::source::wire;
use proptest::prelude::*;
use serde_json::Value;

use crate::derive;
use crate::properties::document;

/// Returns a document of which every port has an id of its own.
fn valid() -> impl Strategy<Value = Value> {
    document().prop_map(|mut document| {
        if let Some(ports) = document["ports"].as_array_mut() {
            ports.dedup_by(|a, b| a["id"] == b["id"]);
        }
        document
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_that_is_written_reads_back_as_it_was(document in valid()) {
        let record = wire::parse(document.to_string().as_bytes()).unwrap();
        let mut written = Vec::new();
        wire::write(&record, &mut written).unwrap();
        prop_assert!(!written.contains(&b'\n'));
        prop_assert_eq!(&wire::parse(&written).unwrap(), &record);
        let short = wire::document(&record).unwrap();
        prop_assert_eq!(&wire::parse(&short).unwrap(), &record);
        let short = serde_json::from_slice::<Value>(&short).unwrap().to_string();
        prop_assert!(short.len() < written.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_any_document_renders_to_becomes_a_document_again(document in valid()) {
        derive::check(&document, true).map_err(TestCaseError::fail)?;
    }
}
