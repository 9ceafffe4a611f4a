//! Config drives: the files that Nova's own builder writes, with ours for the same instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use lab::golden::Golden;
use lab::nova::facts;
use metadata_user::api::{Content, Date, DriveParts, RenderedInstance};
use metadata_user::record::InstanceId;
use metadata_user::source::wire;
use serde_json::{Value, json};

use super::cloud::{Node, uuid};
use super::golden::{self, CASES, CONFIGURED};

type Files = BTreeMap<String, Vec<u8>>;

const ALL: DriveParts = DriveParts { ec2: true, user_data: true };

/// Returns the files without their seeds, which are new in every file.
fn without_seeds(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Files {
    const KEY: &[u8] = b"\"random_seed\": \"";
    let seedless = |(path, mut body): (String, Vec<u8>)| {
        if let Some(at) = body.windows(KEY.len()).rposition(|window| window == KEY)
            && path.ends_with("/meta_data.json")
        {
            let start = at + KEY.len();
            let length = body[start..].iter().position(|byte| *byte == b'"').expect("an end");
            assert_eq!(length, 684, "512 bytes in base64");
            body.drain(start..start + length);
        }
        (path, body)
    };
    files.into_iter().map(seedless).collect()
}

fn drive(content: &Content) -> Files {
    let files = content.drive_files(ALL, || Date::new(2026, 1, 1), &|seed| seed.fill(7)).expect("complete");
    without_seeds(files.into_iter().map(|file| (file.path, file.body.to_vec())))
}

#[test]
fn a_documents_drive_is_the_one_that_novas_builder_makes_byte_for_byte() {
    let nova = golden::GOLDEN.get().unwrap();
    let cases: Vec<&str> = CASES.iter().copied().chain([CONFIGURED]).collect();
    let of = |case: &&str| {
        let mut facts = facts(case).unwrap();
        // As that Nova has it.
        facts["instance"]["system_metadata"].as_object_mut().unwrap().remove("boot_roles");
        facts
    };
    let all: Vec<Value> = cases.iter().map(of).collect();
    let mut compared = 0;
    for ((case, facts), novas) in cases.iter().zip(&all).zip(nova.config_drives(&all).unwrap()) {
        let novas = without_seeds(novas);
        let golden = Golden::from_facts(facts.to_string().as_bytes()).unwrap();
        let record = wire::parse(golden.document.to_string().as_bytes()).unwrap();
        let dynamic = Arc::new(golden.cloud.results(&record));
        let instance = RenderedInstance::new(Arc::new(record), Arc::new(golden.cloud.settings())).with_dynamic(dynamic);
        let ours = drive(&Content::Rendered(Arc::new(instance)));
        assert_eq!(ours.keys().collect::<Vec<_>>(), novas.keys().collect::<Vec<_>>(), "{case}");
        for (path, body) in &novas {
            assert!(ours[path] == *body, "{case}: {path}\n{}\n{}", text(&ours[path]), text(body));
        }
        compared += novas.len();
    }
    eprintln!("{compared} files compared");
    assert!(compared > 350, "{compared}");
}

#[test]
fn a_drive_of_novas_pages_has_novas_files_and_values() {
    // The Nova that all cases are in has the default options.
    let of = |case: &&str| {
        let mut facts = facts(case).unwrap();
        facts["config"] = json!({});
        facts
    };
    let all: Vec<Value> = CASES.iter().map(of).collect();
    let nova = golden::GOLDEN.get().unwrap();
    let node = Node::start(&[nova.url()], "");
    all.iter().for_each(|facts| node.boot(facts));
    node.wait_current();
    for ((case, facts), novas) in CASES.iter().zip(&all).zip(nova.config_drives(&all).unwrap()) {
        let pages = node.store.nova_pages(InstanceId(uuid(facts).parse().unwrap())).unwrap();
        let (ours, novas) = (drive(&Content::NovaPages(pages)), without_seeds(novas));
        assert_eq!(ours.keys().collect::<Vec<_>>(), novas.keys().collect::<Vec<_>>(), "{case}");
        for (path, body) in &novas {
            if !path.ends_with("/meta-data.json") {
                assert!(ours[path] == *body, "{case}: {path}\n{}\n{}", text(&ours[path]), text(body));
                continue;
            }
            let [mut ours, nova] = [&ours[path], body].map(|body| serde_json::from_slice::<Value>(body).unwrap());
            if nova["local-ipv4"].is_null() {
                // Nova's pages have the address that asked.
                ours["local-ipv4"] = Value::Null;
            }
            assert_eq!(ours, nova, "{case}: {path}");
        }
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}
