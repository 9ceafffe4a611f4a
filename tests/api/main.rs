//! What a guest reads, without privilege: captured answers of Nova, given again; and documents of every shape.
//!
//! `METADATAD_GOLDEN_DIR` names a further directory of cases in the format of `tests/golden`.

mod ask;
mod case;
mod compare;
mod derive;
mod expect;
mod hostile;
mod memory;
mod properties;
mod round_trip;
mod schema;

use std::fmt::Write as _;
use std::path::Path;

use case::Case;

/// Answers every captured request of every case in a directory. Returns how many were compared.
fn compare_directory(directory: &Path) -> usize {
    let mut report = String::new();
    let mut differences = expect::Tally::default();
    let (mut compared, mut failed) = (0, 0);
    let cases = Case::all(directory).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(!cases.is_empty(), "no case in {}", directory.display());
    for case in &cases {
        let mut guest = ask::Guest::boot(case);
        let mut expectations = expect::Expectations::new(case);
        for row in &case.rows {
            let (expected, difference) = expectations.of(row);
            if let Some(difference) = difference {
                differences.add(difference);
            }
            let given = guest.ask(row);
            compared += 1;
            if let Some(what) = compare::difference(row, &expected, &given) {
                failed += 1;
                let _ = writeln!(report, "{}: {} {}\n{what}", case.name, row.method, row.shown_path());
            }
        }
    }
    println!("{}: {compared} responses of {} cases compared, {failed} differ", directory.display(), cases.len());
    println!("{differences}");
    assert!(failed == 0, "{report}\n{failed} of {compared} responses differ");
    compared
}

#[test]
fn captured_answers_are_given_again() {
    let compared = compare_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"));
    assert!(compared >= 6800, "only {compared} responses were compared");
}

#[test]
fn captured_answers_of_another_directory_are_given_again() {
    if let Some(directory) = std::env::var_os("METADATAD_GOLDEN_DIR") {
        compare_directory(Path::new(&directory));
    }
}

#[test]
fn dynamic_targets_are_asked_as_nova_asks_them() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/vendordata");
    let case = Case::load(&directory).unwrap_or_else(|error| panic!("{error:#}"));
    let text = std::fs::read(directory.join("vendordata_requests.json")).expect("the captured requests");
    let requests: Vec<serde_json::Value> = serde_json::from_slice(&text).expect("JSON");
    let record = case.record();
    let body = metadata_user::api::vendor_data::request_body(&record);
    let cloud = case.golden.cloud.settings();
    let asked = metadata_user::api::vendor_data::targets(&cloud.vendordata_dynamic_targets);
    assert_eq!(asked.len(), requests.len());
    for (target, request) in asked.iter().zip(&requests) {
        assert!(target.url.ends_with(request["path"].as_str().expect("a path")), "{target:?}");
        assert_eq!(std::str::from_utf8(&body), Ok(request["body"].as_str().expect("a body")));
    }
}

#[test]
fn golden_records_that_are_written_read_back_as_they_were() {
    let cases = Case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")).expect("the cases");
    for case in &cases {
        let mut written = Vec::new();
        metadata_user::source::wire::write(&case.record(), &mut written).expect("a document");
        assert_eq!(metadata_user::source::wire::parse(&written).expect(&case.name), case.record(), "{}", case.name);
    }
}
