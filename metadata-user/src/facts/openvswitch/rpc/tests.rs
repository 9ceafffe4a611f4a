//! Tests of `facts::openvswitch::rpc`.

use proptest::prelude::*;

use super::*;

#[test]
fn messages_are_found_however_the_stream_is_cut() {
    let messages = [json!({"a": "}\"\\{", "b": [{"c": []}]}), json!({}), json!({"d": "\u{e9}\\"})];
    let stream: Vec<u8> = messages.iter().flat_map(|message| format!("{message}\n").into_bytes()).collect();
    for size in 1..=stream.len() {
        let mut frames = Frames::default();
        let found: Vec<_> = stream.chunks(size).flat_map(|chunk| frames.push(chunk).expect("JSON")).collect();
        assert_eq!(found, messages, "{size}");
    }
}

#[test]
fn garbage_ends_a_stream() {
    assert!(matches!(Frames::default().push(b"[]"), Err(FramesError::Garbage)));
    assert!(matches!(Frames::default().push(b"HTTP/1.1"), Err(FramesError::Garbage)));
    assert!(matches!(Frames::default().push(b"{\"a\":}"), Err(FramesError::Json(_))));
    assert!(matches!(Frames::default().push(b"{]"), Err(FramesError::Json(_)) | Ok(_)));
    let deep = "{\"a\":".repeat(100_000) + &"}".repeat(100_000);
    assert!(Frames::default().push(deep.as_bytes()).is_err());
}

#[test]
fn each_message_is_understood() {
    for (message, expected) in [
        (
            json!({"id": "interfaces", "result": {"Interface": {"r": 1}}, "error": null}),
            Incoming::Rows(json!({"r": 1})),
        ),
        (json!({"id": "interfaces", "result": {}, "error": null}), Incoming::Rows(Value::Null)),
        (json!({"id": "interfaces", "result": null, "error": "unknown"}), Incoming::Refused("\"unknown\"".to_owned())),
        (
            json!({"id": null, "method": "update", "params": ["interfaces", {"Interface": {"r": 2}}]}),
            Incoming::Update(json!({"r": 2})),
        ),
        (json!({"id": null, "method": "update", "params": ["another", {}]}), Incoming::Other),
        (
            json!({"id": "x", "method": "echo", "params": [1]}),
            Incoming::Echo(json!({"id": "x", "result": [1], "error": null})),
        ),
        (json!({"id": "echo", "result": [], "error": null}), Incoming::Other),
        (json!({}), Incoming::Other),
    ] {
        assert_eq!(parse(message.clone()), expected, "{message}");
    }
}

/// Found by the fuzzer `ovsdb`: each was a panic, which ended the observers' thread.
#[test]
fn an_answer_or_an_update_that_has_no_tables_is_refused_or_nothing() {
    for result in [json!("text"), json!([]), json!(1), json!(true), Value::Null] {
        let answer = json!({"id": "interfaces", "result": result, "error": null});
        assert_eq!(parse(answer), Incoming::Refused(result.to_string()));
    }
    for params in [json!(["interfaces"]), json!(["interfaces", "text"]), json!(["interfaces", []]), json!("interfaces")]
    {
        assert_eq!(parse(json!({"method": "update", "params": params})), Incoming::Other);
    }
}

proptest! {
    #[test]
    fn no_stream_is_a_panic(chunks in proptest::collection::vec("[\\[\\]{}\":,\\\\a1 ]{0,20}", 0..8)) {
        let mut frames = Frames::default();
        for chunk in chunks {
            match frames.push(format!("{{{chunk}").as_bytes()) {
                Ok(messages) => messages.into_iter().for_each(|message| drop(parse(message))),
                Err(_) => break,
            }
        }
    }
}

#[test]
fn messages_that_are_nested_too_deeply_are_refused() {
    for open in ["[", "{\"a\":"] {
        let mut frames = Frames::default();
        let text = format!("{{\"a\":{}", open.repeat(200_000));
        // Incomplete: nothing is parsed before its end.
        assert_eq!(frames.push(text.as_bytes()).map_err(|error| error.to_string()), Ok(Vec::new()));
        let close = if open == "[" { "]" } else { "}" };
        // The innermost value is missing or not: the depth is what is refused.
        let end = format!("1{}}}", close.repeat(200_000));
        let error = frames.push(end.as_bytes()).expect_err("a limit").to_string();
        assert!(error.contains("recursion limit exceeded"), "{error}");
    }
}
