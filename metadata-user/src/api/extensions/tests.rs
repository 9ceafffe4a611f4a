//! Tests of `extensions`: subtrees and tags of whole instances.

use std::sync::Arc;

use super::*;
use crate::api::{Cloud, Date, NovaPages, PLAIN, Page, RenderedInstance};
use crate::config::Config;
use crate::record::{EventKind, EventRecord, EventState, InstanceRecord, Notices};
use crate::store::tests::{id, record};

fn rendered() -> Content {
    let metadata = [("role", "web"), ("a b?%", "odd")];
    let record = InstanceRecord {
        key_name: Some("mine".into()),
        key_data: Some("ssh-ed25519 AAAA".into()),
        availability_zone: Some("nova".into()),
        user_data: Some(Bytes::from_static(b"user-data-of-this-guest")),
        password: Some("password-of-this-guest".into()),
        metadata: metadata.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        ..record(1, "p", &["tap1"])
    };
    Content::Rendered(Arc::new(RenderedInstance::new(Arc::new(record), Arc::new(Cloud::default()))))
}

fn pages() -> Content {
    let page = |path: &str, text: &str| (path.to_owned(), Page::found(Some(PLAIN), text.to_owned().into()));
    let pages = [
        page("latest", "meta-data/\nuser-data"),
        page("latest/meta-data", "hostname\npublic-keys/"),
        page("latest/meta-data/hostname", "h"),
        page("latest/meta-data/public-keys", "0=mine"),
        page("latest/meta-data/public-keys/0", "openssh-key"),
        page("latest/meta-data/public-keys/0/openssh-key", "k"),
    ];
    Content::NovaPages(Arc::new(NovaPages::new(id(1), pages)))
}

fn look(content: &Content, target: &str) -> Look {
    let request = Request {
        method: "GET",
        target,
        accept: None,
        content_length: None,
        body: b"",
        today: || Date::new(2026, 1, 1),
        seed: &|seed| seed.fill(7),
    };
    let own = crate::api::About::of(target).own;
    let query = Query::of(target).expect("a query");
    Look::at(content, &request, own, &query, (&Config::default().policy(), None))
}

fn body(look: Look) -> serde_json::Value {
    let answer = look.reply.into_answer().expect("an answer");
    assert_eq!((answer.status, answer.content_type.as_deref()), (Status::Ok, Some(JSON)));
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[test]
fn a_subtree_has_what_its_listings_name_and_nothing_that_policies_tell_apart() {
    let content = rendered();
    for version in ["latest", "ec2/2009-04-04"] {
        let all = body(look(&content, &format!("/{version}/?recursive=true&alt=json")));
        assert_eq!(all["meta-data"]["public-keys"]["0"]["openssh-key"], "ssh-ed25519 AAAA");
        assert_eq!(all["meta-data"]["placement"]["availability-zone"], "nova");
        let part = body(look(&content, &format!("/{version}/meta-data?recursive=true&alt=json")));
        assert_eq!(part, all["meta-data"]);
    }
    let own = body(look(&content, "/latest/meta-data/meta-data?recursive=true&alt=json"));
    assert_eq!(own["role"], "web");
    let documents = body(look(&content, "/openstack/latest?recursive=true&alt=json"));
    assert_eq!(documents["meta_data.json"]["uuid"], id(1).to_string());
    assert!(documents["network_data.json"]["links"].is_array());
    let text = documents.to_string() + &body(look(&content, "/latest?recursive=true&alt=json")).to_string();
    assert!(!text.contains("of-this-guest") && !text.contains("vendor_data2"), "{text}");
}

#[test]
fn a_leaf_and_what_is_not_there_are_answered_as_without_recursion() {
    let content = rendered();
    for path in ["/latest/meta-data/hostname", "/latest/user-data", "/latest/nonsense", "/openstack/latest/user_data"] {
        let [with, without] = ["?recursive=true&alt=json", "?x"].map(|query| look(&content, &format!("{path}{query}")));
        assert_eq!((with.reply, with.etag), (without.reply, without.etag), "{path}");
    }
    assert_eq!(look(&content, "/latest/nonsense?recursive=true&alt=json").etag, None);
}

#[test]
fn an_unchanged_openstack_has_subtrees_too_and_its_missing_pages_are_fetched() {
    let content = pages();
    let expected = serde_json::json!({"hostname": "h", "public-keys": {"0": {"openssh-key": "k"}}});
    assert_eq!(body(look(&content, "/latest/meta-data?recursive=true&alt=json")), expected);
    let missing = look(&content, "/openstack/latest?recursive=true&alt=json");
    assert_eq!(missing.reply.into_answer().map(|answer| answer.status), Some(Status::NotFound));
    let page = |path: &str, text: &str| (path.to_owned(), Page::found(Some(PLAIN), text.to_owned().into()));
    let pages = [page("openstack", "latest"), page("openstack/latest", "vendor_data.json")];
    let content = Content::NovaPages(Arc::new(NovaPages::new(id(1), pages)));
    let missing = look(&content, "/openstack/latest?recursive=true&alt=json");
    assert_eq!(missing.reply, Reply::Fetch("openstack/latest/vendor_data.json".to_owned()));
}

#[test]
fn equal_documents_have_equal_tags_whatever_the_seed() {
    let content = rendered();
    let paths = ["/latest/meta-data/", "/openstack/latest/network_data.json", "/openstack/latest/meta_data.json"];
    for path in paths.into_iter().chain(["/openstack/latest?recursive=true&alt=json", "/openstack/latest/capabilities"])
    {
        let [first, second] = [&content, &rendered()].map(|content| look(content, path));
        let tag = first.etag.expect("a tag");
        assert_eq!(Some(tag), second.etag, "{path}");
        let is_seeded = path.contains("meta_data") || path.starts_with("/openstack/latest?");
        assert_eq!(tag.to_string().starts_with("W/"), is_seeded, "{path}");
        let text = first.reply.into_answer().expect("an answer").body;
        let fresh = "BwcHBwcH";
        assert_eq!(String::from_utf8_lossy(&text).contains(fresh), is_seeded, "the seed is the request's: {path}");
    }
    assert_ne!(look(&content, paths[0]).etag, look(&content, paths[1]).etag);
}

#[test]
fn what_there_is_is_said_and_is_in_no_listing() {
    let content = rendered();
    let document = body(look(&content, "/openstack/latest/capabilities/"));
    let policy = Config::default().policy();
    let wait = &document["capabilities"]["wait_for_change"];
    assert_eq!(wait["most_per_instance"], policy.extensions.waits_per_instance);
    assert_eq!(document["limits"]["requests_per_second"], policy.requests.per_second);
    assert_eq!(document["session_tokens"], "off");
    assert_eq!(look(&content, "/openstack/2025-04-04/capabilities").etag, None);
    for listing in ["/", "/openstack", "/openstack/latest", "/latest", "/latest/meta-data"] {
        let answer = look(&content, listing).reply.into_answer().expect("an answer");
        assert!(!String::from_utf8_lossy(&answer.body).contains("capabilities"), "{listing}");
    }
}

fn noticed() -> Content {
    let tags = [("team", "web"), ("cost/center", "42"), ("a%b", "odd")];
    let event = EventRecord {
        id: "evt-1".into(),
        kind: EventKind::Migration,
        state: EventState::Scheduled,
        time: "2026-12-01T02:00:00Z".into(),
        description: None,
        acknowledge: false,
    };
    let notices = Notices {
        tags: tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        events: vec![event],
    };
    let record = InstanceRecord { notices: Some(Box::new(notices)), ..record(1, "p", &["tap1"]) };
    Content::Rendered(Arc::new(RenderedInstance::new(Arc::new(record), Arc::new(Cloud::default()))))
}

#[test]
fn tags_are_where_ec2_has_them_and_in_no_listing() {
    let content = noticed();
    for (path, expected) in [
        ("/latest/meta-data/tags", Some("instance/")),
        ("/ec2/latest//meta-data/tags/instance/", Some("cost/center\nteam")),
        ("/latest/meta-data/tags/instance/team", Some("web")),
        ("/latest/meta-data/tags/instance/cost/center", Some("42")),
        ("/latest/meta-data/tags/instance/cost%2Fcenter?x", Some("42")),
        ("/latest/meta-data/tags/instance/a%25b", Some("odd")),
        ("/latest/meta-data/tags/instance/none", None),
        ("/latest/meta-data/tags/none", None),
        ("/2009-04-04/meta-data/tags/instance/team", None),
    ] {
        let answer = look(&content, path).reply.into_answer().expect("an answer");
        let text = (answer.status == Status::Ok).then(|| String::from_utf8_lossy(&answer.body).into_owned());
        assert_eq!(text.as_deref(), expected, "{path}");
    }
    let untagged = look(&rendered(), "/latest/meta-data/tags/instance");
    assert_eq!(
        (untagged.etag, untagged.reply.into_answer().map(|answer| answer.status)),
        (None, Some(Status::NotFound))
    );
    let listing = look(&content, "/latest/meta-data/").reply.into_answer().expect("an answer");
    assert!(!String::from_utf8_lossy(&listing.body).contains("tags"));
}

#[test]
fn events_are_a_list_that_can_be_waited_for_while_it_is_empty() {
    for content in [rendered(), pages()] {
        let none = look(&content, "/openstack/latest/events");
        assert!(none.is_waited_for && none.etag.is_some());
        assert_eq!(body(none), serde_json::json!({"events": []}));
    }
    let events = body(look(&noticed(), "/openstack/latest/events"));
    let expected = serde_json::json!({
        "id": "evt-1", "type": "migration", "state": "scheduled", "time": "2026-12-01T02:00:00Z", "description": null,
    });
    assert_eq!(events["events"], serde_json::json!([expected]));
}
