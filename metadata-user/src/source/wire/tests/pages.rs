//! The member `pages`.

use serde_json::json;

use super::{SHORT, parse, read, read_back, with, write};
use crate::record::{PageAnswer, PageRecord};
use crate::source::wire::{MAX_PAGE_BYTES, MAX_PAGES, document};

fn page(path: &str, answer: Option<(Option<&str>, &'static [u8])>) -> PageRecord {
    let answer = answer.map(|(content_type, body)| PageAnswer {
        content_type: content_type.map(Into::into),
        body: bytes::Bytes::from_static(body),
    });
    PageRecord { path: path.into(), answer }
}

#[test]
fn pages_are_read_and_written() {
    assert!(read(SHORT).pages.is_empty());
    assert!(read(&with(r#""pages": null"#)).pages.is_empty());
    let record = read(&with(
        r#""pages": {
            "openstack/latest/user_data": null,
            "latest/meta-data/hostname": {"text": "h\n"},
            "openstack/2030-01-01/x": {"content_type": null, "base64": "AP8="},
            "": {"content_type": "x/y", "text": ""}
        }"#,
    ));
    let plain = Some("text/plain; charset=UTF-8");
    let expected = [
        page("", Some((Some("x/y"), b""))),
        page("latest/meta-data/hostname", Some((plain, b"h\n"))),
        page("openstack/2030-01-01/x", Some((None, b"\0\xff"))),
        page("openstack/latest/user_data", None),
    ];
    assert_eq!(record.pages, expected);
    let mut written = Vec::new();
    write(&record, &mut written).expect("written");
    assert_eq!(read_back(&written).expect("reads back"), record);
    let short = document(&record).expect("a document");
    assert_eq!(parse(&short).expect("reads back"), record);
    let short = String::from_utf8(short).expect("text");
    assert!(short.contains("\"latest/meta-data/hostname\": {\n      \"text\": \"h\\n\"\n    }"), "{short}");
}

#[test]
fn what_is_wrong_with_a_page_is_said_with_its_place() {
    for (pages, path, problem, remedy) in [
        (r#"{"/latest": null}"#, "pages", "\"/latest\": no request leads to this path", "single slashes"),
        (r#"{"a/../b": null}"#, "pages", "no request leads", "single slashes"),
        (r#"{"ec2/latest": null}"#, "pages", "\"ec2/latest\": what is below ec2/", "write it without ec2/"),
        (r#"{"openstack/latest/password": {"text": "x"}}"#, "pages", "a password is posted", "member password"),
        (r#"{"a": null, "a": null}"#, "pages", "the path \"a\" occurs twice", "keep one of them"),
        (r#"{"a": {}}"#, "pages.a", "a page without a body", "null for a path that is not there"),
        (r#"{"a/b": {"text": "", "base64": ""}}"#, "pages.a/b.base64", "given twice", "keep text or base64"),
        (r#"{"a": {"text": "", "same_as": "b"}, "b": {"text": ""}}"#, "pages.a.same_as", "given twice", "keep same_as"),
        (
            r#"{"a": {"same_as": "a"}}"#,
            "pages.a.same_as",
            "no page with a body has the path \"a\"",
            "has text or base64",
        ),
        (r#"{"a": {"same_as": "b"}, "b": null}"#, "pages.a.same_as", "no page with a body", "has text or base64"),
        (r#"{"a": {"text": "", "content_type": "x\ny"}}"#, "pages.a.content_type", "cannot be in a header", "in ASCII"),
        (r#"{"a": {"base64": "?"}}"#, "pages.a.base64", "not base64", "user_data"),
        (r#"{"a": {"status": 200}}"#, "pages.a.status", "unknown field", "correct its spelling"),
        ("[]", "pages", "expected an object of pages by path", "write what is expected"),
    ] {
        let text = with(&format!("\"pages\": {pages}"));
        let error = parse(text.as_bytes()).expect_err(pages);
        assert!(error.path.starts_with(path), "{pages}: {error}");
        assert!(error.problem.contains(problem) && error.remedy.contains(remedy), "{pages}: {error}");
        assert_eq!(error.line, 3, "{pages}: {error}");
    }
}

#[test]
fn a_long_answer_of_several_pages_is_written_once() {
    let body = "x".repeat(100);
    let record = read(&with(&format!(
        r#""pages": {{"b": {{"same_as": "c"}}, "c": {{"content_type": null, "text": "{body}"}}, "a": {{"same_as": "c"}}, "d": {{"text": "{body}"}}}}"#
    )));
    let answer = |path: &str| record.pages.iter().find(|page| &*page.path == path).and_then(|page| page.answer.clone());
    assert!(answer("a") == answer("c") && answer("b") == answer("c") && answer("c") != answer("d"));
    let short = document(&record).expect("a document");
    assert_eq!(parse(&short).expect("reads back"), record);
    let text = String::from_utf8(short).expect("text");
    assert_eq!(text.matches(&body).count(), 2, "{text}");
    assert_eq!(text.matches("\"same_as\": \"a\"").count(), 2, "{text}");
}

#[test]
fn pages_are_bounded_in_number_and_bytes() {
    let count = |count: usize| {
        let pages: serde_json::Map<_, _> = (0..count).map(|number| (number.to_string(), json!(null))).collect();
        with(&format!("\"pages\": {}", json!(pages)))
    };
    assert_eq!(read(&count(MAX_PAGES)).pages.len(), MAX_PAGES);
    let error = parse(count(MAX_PAGES + 1).as_bytes()).expect_err("too many");
    assert!(error.problem.contains("more than 4096 pages"), "{error}");
    let bytes =
        |bytes: usize| with(&format!(r#""pages": {{"a": {{"text": "{}"}}, "b": {{"text": "x"}}}}"#, "x".repeat(bytes)));
    assert_eq!(read(&bytes(MAX_PAGE_BYTES - 1)).pages.len(), 2);
    let error = parse(bytes(MAX_PAGE_BYTES).as_bytes()).expect_err("too much");
    assert!(error.problem.contains("more than 4 MiB"), "{error}");
}
