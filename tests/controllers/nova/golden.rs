//! Every path of every golden case: what Nova answers at that moment, the node answers.

use std::sync::Arc;

use anyhow::Result;
use lab::Shared;
use lab::nova::{Application, Front, Nova, another, facts};
use serde_json::Value;

use super::cloud::{Answer, Ask, Node, uuid};
use super::{CHANGED, NOVA};
use crate::openstack::CLOUD;

/// Cases that need no options of Nova's own.
pub(crate) const CASES: [&str; 8] =
    ["plain", "block-devices", "multi-nic", "unicode", "injected", "ipv6-only", "no-network", "gzip-userdata"];

/// The case of which Nova's options are not the default ones.
pub(crate) const CONFIGURED: &str = "vendordata";

/// The instance, like `plain`, that is in a cell of its own.
pub(crate) const ELSEWHERE: u32 = 301;

/// The Nova that has all cases, on `host1` in the first of two cells; on `host2` in the other is one like `plain`.
pub(crate) static GOLDEN: Shared<Nova> = Shared::new(|| {
    let on = |host: &str, mut facts: Value| {
        facts["host"] = host.into();
        // No API of Nova's shows them, and so nodes do not have them when they ask for dynamic vendor data.
        if let Some(metadata) = facts["instance"]["system_metadata"].as_object_mut() {
            metadata.remove("boot_roles");
        }
        facts
    };
    let cases = CASES.iter().chain([&CONFIGURED]).map(|case| Ok(on("host1", facts(case)?)));
    let elsewhere = on("host2", another(&facts("plain")?, ELSEWHERE));
    Nova::with_cells(&[&cases.collect::<Result<Vec<_>>>()?, &[elsewhere]])
});

/// The compute API of [`GOLDEN`], behind the Keystone of the cloud.
pub(crate) struct Whole {
    pub(crate) compute: Application,
    pub(crate) nova: Arc<Nova>,
}

pub(crate) static WHOLE: Shared<Whole> = Shared::new(|| {
    let nova = GOLDEN.get()?;
    Ok(Whole { compute: nova.compute_api(&*CLOUD.get()?)?, nova })
});

/// A case, and what Nova answers to its requests; `None` where it closes the connection.
pub(crate) struct Asked {
    pub(crate) case: &'static str,
    pub(crate) facts: Value,
    pub(crate) answers: Vec<(Ask, Option<Answer>)>,
}

/// What Nova answers in [`CASES`].
pub(crate) static ANSWERS: Shared<Vec<Asked>> = Shared::new(|| answers(GOLDEN.get()?.port(), &CASES));

/// Asks Nova, at this port, all requests of these cases.
pub(crate) fn answers(port: u16, cases: &[&'static str]) -> Result<Vec<Asked>> {
    let ask_all = |case: &'static str| {
        let facts = facts(case)?;
        let asks = requests(case).into_iter();
        let answers = asks.map(|ask| {
            let answer = ask.of_nova(port, &facts).map(Answer::without_seed);
            (ask, answer)
        });
        let answers = answers.collect();
        Ok(Asked { case, facts, answers })
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = cases.iter().map(|case| scope.spawn(|| ask_all(case))).collect();
        all.into_iter().map(|thread| thread.join().expect("answers")).collect()
    })
}

/// What clients look for that know another cloud's service, and Nova does not have.
const CLIENTS: [&str; 8] = [
    "/latest/api/token",
    "/latest/dynamic/instance-identity/document",
    "/latest/meta-data/iam/security-credentials/",
    "/latest/meta-data/tags/instance",
    "/latest/meta-data/network/interfaces/macs/",
    "/2009-04-04/dynamic/instance-identity/document",
    "/2007-01-19/unheard-of",
    "/1.0/meta-data/placement/availability-zone",
];
/// Headers that say who is asking, between agent and Nova.
const IDENTITY: [&str; 4] = ["x-instance-id", "x-tenant-id", "x-instance-id-signature", "x-forwarded-for"];

/// The requests of a case that do not depend on one another.
fn requests(case: &str) -> Vec<Ask> {
    let path = format!("{}/golden/{case}/responses.json", env!("CARGO_MANIFEST_DIR"));
    let golden: Value = serde_json::from_slice(&std::fs::read(path).expect("golden")).expect("JSON");
    let rows = golden["responses"].as_array().expect("rows").iter();
    let rows = rows.filter(|row| {
        !["identity", "password"].contains(&row["group"].as_str().unwrap_or(""))
            && row.get("protocol").is_none()
            && row.get("host").is_none()
            && row.get("request_body").is_none()
            && row["status"] != 0
            // What is no request line to hyper is 400 before anybody is asked, as with documents.
            && row["path"].as_str().is_some_and(|path| path.starts_with(['/', 'h']))
            // A preliminary answer comes first, from uWSGI alone.
            && !row["request_headers"].to_string().contains("Expect")
    });
    let asks = rows.map(|row| {
        let headers = row["request_headers"].as_array().into_iter().flatten();
        let headers = headers.map(|pair| (pair[0].as_str().expect("name"), pair[1].as_str().expect("value")));
        let headers = headers.filter(|(name, _)| !IDENTITY.contains(&name.to_ascii_lowercase().as_str()));
        Ask {
            method: row["method"].as_str().expect("a method").to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ..Ask::get(row["path"].as_str().expect("a path"))
        }
    });
    asks.collect()
}

#[test]
fn what_nova_answers_guests_read() {
    let nova = GOLDEN.get().unwrap();
    let asked = ANSWERS.get().unwrap();
    let front = Front::start(nova.port(), None).unwrap();
    let node = Node::start(&[front.url()], "");
    asked.iter().for_each(|asked| node.boot(&asked.facts));
    node.wait_current();
    let (mut compared, mut kept) = (0, 0);
    let mut answers = Vec::new();
    for Asked { case, facts, answers: of_nova } in &*asked {
        for (ask, nova) in of_nova {
            let Some(nova) = nova else {
                assert_eq!(node.ask(&uuid(facts), ask).status, 404, "Nova crashes: {case} {ask:?}");
                continue;
            };
            let guest = node.ask(&uuid(facts), ask).without_seed();
            assert_eq!(guest, *nova, "{case} {ask:?}");
            answers.push((uuid(facts), ask, guest));
            compared += 1;
        }
    }
    // To the node as if Nova were stopped: nothing listens any more.
    drop(front);
    for (id, ask, before) in &answers {
        assert_eq!(node.ask(id, ask).without_seed(), *before, "without Nova: {id} {ask:?}");
    }
    for Asked { facts, .. } in &*asked {
        let copied = node.store.nova_pages(metadata_user::record::InstanceId(uuid(facts).parse().unwrap())).unwrap();
        for (path, page) in copied.pages() {
            let escaped: String = path.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let answer = node.get(&uuid(facts), &format!("/{escaped}"));
            assert_eq!(answer.status, page.status().code(), "{path}: {answer:?}");
            kept += 1;
        }
        for path in CLIENTS {
            for method in ["GET", "PUT", "HEAD"] {
                let ask = Ask { method: method.to_owned(), ..Ask::get(path) };
                assert_eq!(node.ask(&uuid(facts), &ask).status, 404, "{method} {path}");
            }
        }
    }
    eprintln!("{compared} answers compared, {kept} kept");
    assert!(compared > 1000 && kept > 800, "{compared} {kept}");
}

#[test]
fn a_change_in_nova_reaches_the_guest_whole() {
    let facts = another(&facts("plain").unwrap(), CHANGED);
    let nova = NOVA.get().unwrap();
    let node = Node::start(&[nova.url()], "refresh_interval = '1s'\n");
    node.boot(&facts);
    node.wait_current();
    let id = uuid(&facts);
    let versions = ["latest", "2018-08-27", "2012-08-10"];
    nova.set(&id, "colour", "green").unwrap();
    let start = std::time::Instant::now();
    lab::wait::until("the change is there", || {
        let copied = node.store.nova_pages(metadata_user::record::InstanceId(id.parse().unwrap())).unwrap();
        let seen: Vec<Value> = versions
            .iter()
            .map(|version| {
                let page = copied.page(&format!("openstack/{version}/meta_data.json")).unwrap();
                serde_json::from_slice::<Value>(page.body()).unwrap()["meta"]["colour"].clone()
            })
            .collect();
        assert!(seen.windows(2).all(|two| two[0] == two[1]), "half of it: {seen:?}");
        Ok((seen[0] == "green").then_some(()))
    })
    .unwrap();
    eprintln!("the change was there after {:?}", start.elapsed());
}
