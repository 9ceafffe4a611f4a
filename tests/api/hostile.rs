//! Answers that make no sense, or are missing: a document all the same, or an error that says why.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use metadata_user::api::{NovaPages, Page};
use metadata_user::controller::derive::{DeriveError, Facts, PortFacts, derive, differences};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::case::Case;
use crate::derive::{pages, ports};

/// Cases with all that answers may have.
static CASES: LazyLock<Vec<(Case, NovaPages, Vec<PortFacts>)>> = LazyLock::new(|| {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let cases = ["multi-nic", "injected", "block-devices"].map(|name| Case::load(&golden.join(name)).expect("a case"));
    let with_facts = cases.into_iter().map(|case| {
        let (pages, ports) = (pages(&case), ports(&case.record()));
        (case, pages, ports)
    });
    with_facts.collect()
});

/// What becomes of a page.
#[derive(Clone, Debug)]
enum Change {
    Missing,
    NotThere,
    Garbage(Vec<u8>),
    Byte(Index, u8),
    Cut(Index),
    Repeated(usize),
    Other(Index),
    ContentType(String),
    Value(Index, String),
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("\"\"".to_owned()),
        Just("-1".to_owned()),
        Just("1e400".to_owned()),
        Just("[[[[{}]]]]".to_owned()),
        Just("\"255.0.255.0\"".to_owned()),
        Just("\"interface0\"".to_owned()),
        any::<String>().prop_map(|text| format!("{text:?}")),
    ];
    prop_oneof![
        Just(Change::Missing),
        Just(Change::NotThere),
        proptest::collection::vec(any::<u8>(), 0..64).prop_map(Change::Garbage),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        any::<Index>().prop_map(Change::Cut),
        (1_usize..40).prop_map(Change::Repeated),
        any::<Index>().prop_map(Change::Other),
        "[ -~]{0,20}".prop_map(Change::ContentType),
        (any::<Index>(), value).prop_map(|(at, value)| Change::Value(at, value)),
    ]
}

fn changed(page: &Page, change: &Change, all: &[(String, Page)]) -> Option<Page> {
    let body = page.body();
    let with = |body: Vec<u8>| Some(Page::found(page.content_type(), body.into()));
    match change {
        Change::Missing => None,
        Change::NotThere => Some(Page::not_found()),
        Change::Garbage(bytes) => with(bytes.clone()),
        Change::Byte(at, byte) => {
            let mut bytes = body.to_vec();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            with(bytes)
        }
        Change::Cut(at) => with(body[..at.index(body.len() + 1)].to_vec()),
        Change::Repeated(times) => with(body.repeat(*times)),
        Change::Other(other) => Some(all[other.index(all.len())].1.clone()),
        Change::ContentType(name) => Some(Page::found(Some(name), body.clone())),
        Change::Value(at, value) => {
            // After a colon of JSON, up to what ends a value.
            let text = String::from_utf8_lossy(body);
            let starts: Vec<usize> = text.match_indices(": ").map(|(at, _)| at + 2).collect();
            if starts.is_empty() {
                return with(value.clone().into_bytes());
            }
            let start = starts[at.index(starts.len())];
            let end = text[start..].find([',', '}', ']']).map_or(text.len(), |end| start + end);
            with(format!("{}{value}{}", &text[..start], &text[end..]).into_bytes())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_that_make_no_sense_are_given_again_or_refused(
        case in any::<Index>(),
        changes in proptest::collection::vec((any::<Index>(), 0_usize..4, change()), 1..6),
        with_ports: bool,
    ) {
        let (case, pages, ports) = case.get(&CASES);
        let mut all: Vec<(String, Page)> = pages.pages().map(|(path, page)| (path.to_owned(), page.clone())).collect();
        for (at, kind, change) in &changes {
            // Half of them where most of the facts are.
            let wanted = ["network_data.json", "latest/meta_data.json", "content/0000"].get(*kind);
            let found = wanted.and_then(|name| all.iter().position(|(path, _)| path.ends_with(name)));
            let at = found.unwrap_or_else(|| at.index(all.len()));
            match changed(&all[at].1, change, &all) {
                Some(page) => all[at].1 = page,
                None => drop(all.remove(at)),
            }
        }
        let pages = NovaPages::new(pages.uuid(), all);
        let cloud = Arc::new(case.golden.cloud.settings());
        let ports = if with_ports { &**ports } else { &[] };
        match derive(&Facts { pages: &pages, ports, image: None }, &cloud) {
            Ok(derived) => {
                prop_assert!(differences(&pages, &derived.record, &cloud).is_empty());
                prop_assert!(derived.beside.iter().all(|page| !page.reason.is_empty()));
            }
            Err(DeriveError::NoPort(_)) => prop_assert!(!with_ports),
            Err(error) => prop_assert!(matches!(
                error,
                DeriveError::NoProject(_) | DeriveError::Contradiction { .. }
            ), "{}", error),
        }
    }
}
