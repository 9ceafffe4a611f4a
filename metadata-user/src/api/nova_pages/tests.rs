//! Pages as Nova answers them, and what is asked for besides.

use super::*;
use crate::api::{Date, PASSWORD_LIMIT};
use crate::store::tests::id;

fn text(body: &'static str) -> Page {
    Page::found(Some(PLAIN), Bytes::from_static(body.as_bytes()))
}

fn copied() -> NovaPages {
    let seed = "z".repeat(SEED_LENGTH - 1);
    let meta_data = format!(r#"{{"meta": {{"random_seed": "mine"}}, "random_seed": "{seed}=", "project_id": "p"}}"#);
    let pages = [
        ("", text("2009-04-04\nlatest")),
        ("openstack", text("2018-08-27\nlatest")),
        ("openstack/latest/meta_data.json", Page::found(Some(JSON), meta_data.clone().into())),
        ("openstack/2018-08-27/meta_data.json", Page::found(Some(JSON), meta_data.into())),
        ("openstack/latest/user_data", Page::not_found()),
        ("openstack/latest/password", Page::found(Some(HTML), Bytes::new())),
        ("latest", text("meta-data/\nuser-data")),
        ("latest/meta-data", text("hostname\npublic-keys/")),
        ("latest/meta-data/public-keys", text("0=k")),
        ("latest/odd", Page::found(Some("x/odd"), Bytes::from_static(b"odd"))),
    ];
    NovaPages::new(id(1), pages.map(|(path, page)| (path.to_owned(), page)))
}

fn ask(copied: &NovaPages, method: &str, target: &str, body: &[u8]) -> Reply {
    copied.reply(&Request {
        method,
        target,
        accept: None,
        content_length: Some(body.len() as u64),
        body,
        today: || Date::new(2026, 1, 1),
        seed: &|seed| *seed = [1; 512],
    })
}

fn answer(copied: &NovaPages, method: &str, target: &str, body: &[u8]) -> crate::api::Answer {
    match ask(copied, method, target, body) {
        Reply::Answer(answer) => answer,
        other => panic!("{method} {target}: {other:?}"),
    }
}

#[test]
fn spellings_methods_and_errors_are_novas() {
    let copied = copied();
    for (method, target, status, content_type, length) in [
        ("GET", "/openstack//", 200, PLAIN, 17),
        ("BREW", "/ec2", 200, PLAIN, 17),
        ("GET", "/ec2/latest/meta%2Ddata/", 200, PLAIN, 21),
        ("HEAD", "/latest/odd?x", 200, "x/odd", 3),
        ("GET", "/openstack/latest/user_data", 404, PLAIN, NOT_FOUND_TEXT.len()),
        ("HEAD", "/openstack/latest/user_data", 404, HTML, 0),
        ("OPTIONS", "/openstack/latest/user_data", 200, "", 0),
        ("GET", "*", 404, PLAIN, NOT_FOUND_TEXT.len()),
        ("GET", "/openstack/latest/password", 200, HTML, 0),
        (
            "PUT",
            "/openstack/latest/password",
            400,
            PLAIN,
            "400 Bad Request\n\nGET and POST only are supported.\n\n   ".len(),
        ),
    ] {
        let answer = answer(&copied, method, target, b"");
        let found = (answer.status.code(), answer.content_type.as_deref().unwrap_or(""), answer.body.len());
        assert_eq!(found, (status, content_type, length), "{method} {target}");
    }
    let unread = ask(&copied, "GET", "//openstack/x/../latest", b"");
    assert_eq!(unread, Reply::Fetch("openstack/latest".to_owned()));
    assert_eq!(answer(&copied, "GET", "/openstack/latest/user_data", b"").body, NOT_FOUND_TEXT);
}

#[test]
fn seeds_are_fresh_and_all_else_is_novas() {
    let copied = copied();
    let body = answer(&copied, "GET", "/openstack/latest/meta_data.json", b"").body;
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.starts_with(r#"{"meta": {"random_seed": "mine"}, "random_seed": "AQEBAQ"#), "{text}");
    assert!(text.ends_with(r#"AQEBAQE=", "project_id": "p"}"#), "{text}");
    let kept = |path: &str| copied.page(path).unwrap().body().clone();
    let (one, other) = (kept("openstack/latest/meta_data.json"), kept("openstack/2018-08-27/meta_data.json"));
    assert_eq!(one.as_ptr(), other.as_ptr(), "equal bodies are one");
    assert!(!one.windows(2).any(|bytes| bytes == b"zz"), "Nova's seed is forgotten");
    let again = NovaPages::new(id(1), copied.pages().map(|(path, page)| (path.to_owned(), page.clone())));
    assert_eq!(again, copied);
    let page = copied.page("openstack/latest/meta_data.json").unwrap();
    assert_eq!(Page::found(page.content_type(), page.body().clone()), *page, "as read from a disk");
}

#[test]
fn user_data_is_the_users_to_the_last_byte() {
    let seed = "z".repeat(SEED_LENGTH);
    let text = format!(r#"{{"copy of meta_data": {{"random_seed": "{seed}"}}}}"#);
    let page = Page::found(Some(PLAIN), text.clone().into());
    let copied = NovaPages::new(id(1), [("openstack/latest/user_data".to_owned(), page)]);
    assert_eq!(answer(&copied, "GET", "/openstack/latest/user_data", b"").body, text);
}

#[test]
fn only_what_nova_could_have_is_asked_for() {
    let copied = copied();
    for path in [
        "openstack/latest",
        "openstack/2018-08-27/version",
        "openstack/latest/anything",
        "2009-04-04/user-data",
        "2009-04-04/meta-data/public-keys/0/_name",
        "2009-04-04/meta-data/public-keys/0/openssh-key",
    ] {
        assert_eq!(ask(&copied, "GET", &format!("/{path}"), b""), Reply::Fetch(path.to_owned()));
    }
    let long = format!("/latest/{}", "x".repeat(255));
    for target in [
        "/openstack/2012-08-10/meta_data.json",
        "/openstack/content",
        "/openstack/content/0000",
        "/openstack/latest/content",
        "/openstack/latest/content/0000",
        "/openstackx",
        "/ec2/openstack/latest",
        "/latest/unlisted/x",
        "/latest/api/token",
        "/2009-04-04/api/token",
        "/latest/dynamic/instance-identity/document",
        "/latest/meta-data/iam/security-credentials/",
        "/latest/meta-data/tags/instance",
        "/latest/meta-data/public-keys/1/openssh-key",
        "/nonsense",
        "/latest/meta-data/hostname/x",
        "/2009-04-04/meta-data/hostname/x/y",
        "/2009-04-04/user-data/x",
        "/latest/%00",
        "/latest/a%0d%0aX-Instance-ID:%20b",
        "/openstack/latest/%252e%252e",
        "/openstack/content/%E2%82%AC",
        "/latest/a%5Cb",
        "/latest/a%3Fb",
        &long,
    ] {
        assert_eq!(answer(&copied, "GET", target, b"").status, Status::NotFound, "{target}");
    }
}

#[test]
fn a_password_is_novas_to_take_once() {
    let copied = copied();
    let (path, key) = ("/openstack/latest/password", Password::new("cipher").unwrap());
    let posted = Write::Controller { path: path[1..].to_owned(), password: key.clone() };
    assert_eq!(ask(&copied, "POST", path, key.bytes()), Reply::Keep(posted));
    assert_eq!(answer(&copied, "POST", path, b"").status, Status::Ok);
    assert_eq!(answer(&copied, "POST", path, &[b'x'; PASSWORD_LIMIT + 1]).status, Status::BadRequest);
    assert_eq!(answer(&copied, "POST", path, b"\xff").status, Status::NotFound);
    assert!(copied.password().is_empty());
    let copied = copied.with_password(&key);
    assert_eq!((copied.password(), answer(&copied, "GET", path, b"").body), (key.bytes().clone(), key.bytes().clone()));
    assert_eq!(answer(&copied, "POST", path, b"other").status, Status::Conflict);
}
