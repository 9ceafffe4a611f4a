//! Open vSwitch's database: what comes over its socket into `facts::openvswitch`.
//!
//! An input is the size of a read, then the stream.
//!
//! Checked: how the stream is cut changes nothing; a row that is removed leaves nothing; what cannot be read is one bounded
//! line.

use metadata_user::facts::openvswitch::rows::Rows;
use metadata_user::facts::openvswitch::rpc::{self, Frames, Incoming};
use metadata_user::facts::report::Report;
use serde_json::{Value, json};

use crate::input::Input;

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let size = usize::from(input.byte()) + 1;
    let stream = input.rest();
    let whole = messages(stream, stream.len().max(1));
    let cut = messages(stream, size);
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => {
            assert_eq!(whole, cut, "in reads of {size} bytes");
            whole.into_iter().for_each(check);
            follow(cut);
        }
        (Err(_), Err(before)) => follow(before),
        (whole, cut) => panic!("in reads of {size} bytes: {cut:?}; in one: {whole:?}"),
    }
}

/// Cuts a stream into messages. Where it cannot be read on: those before that read.
fn messages(stream: &[u8], size: usize) -> Result<Vec<Value>, Vec<Value>> {
    let (mut frames, mut messages) = (Frames::default(), Vec::new());
    for read in stream.chunks(size) {
        match frames.push(read) {
            Ok(some) => messages.extend(some),
            Err(error) => {
                assert!(error.to_string().len() <= 300, "{error}");
                return Err(messages);
            }
        }
    }
    Ok(messages)
}

fn check(message: Value) {
    match rpc::parse(message) {
        Incoming::Echo(answer) => assert!(answer["error"].is_null() && answer.get("id").is_some()),
        // Three hundred characters of the database's.
        Incoming::Refused(reason) => assert!(reason.chars().count() <= 300),
        Incoming::Rows(_) | Incoming::Update(_) | Incoming::Other => {}
    }
}

/// Follows the rows, as the observer does.
fn follow(messages: Vec<Value>) {
    let (mut rows, mut connected) = (Rows::default(), false);
    for message in messages {
        match rpc::parse(message) {
            Incoming::Rows(all) => {
                rows.replace(&all);
                connected = true;
            }
            Incoming::Update(some) if connected => {
                let before = rows.report();
                rows.update(&some);
                let after = rows.report();
                rows.update(&some);
                assert_eq!(rows.report(), after, "the same update again");
                if some.as_object().is_none_or(serde_json::Map::is_empty) {
                    assert_eq!(before, after, "an update of nothing");
                }
                let gone = some.as_object().into_iter().flatten().map(|(id, _)| (id.clone(), json!({"new": null})));
                let mut without = Rows::default();
                without.replace(&some);
                without.update(&Value::Object(gone.collect()));
                assert_eq!(without.report(), Report::default(), "a removed row leaves nothing");
            }
            Incoming::Refused(_) => return,
            Incoming::Update(_) | Incoming::Echo(_) | Incoming::Other => {}
        }
        let report = rows.report();
        for problem in &report.unreadable {
            assert!(problem.len() <= 1000, "{problem}");
        }
    }
}
