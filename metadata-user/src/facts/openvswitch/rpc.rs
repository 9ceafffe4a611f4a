//! OVSDB's JSON-RPC (RFC 7047, section 4): objects one after another on a stream, with nothing between them.
//!
//! Pure: bytes in, messages out, and the few messages that are sent.

use serde_json::{Value, json};

/// Largest message. Ten thousand interfaces come to about 5 MB.
const LARGEST: usize = 64 << 20;

/// Names the one monitor, and the request for it.
const MONITOR: &str = "interfaces";

/// Names requests that probe the connection.
const ECHO: &str = "echo";

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    /// Bytes between messages.
    #[error("the database sent something that is not a JSON object")]
    Garbage,
    /// A message that is not JSON.
    #[error("the database sent a message that is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A message that is too long.
    #[error("the database sent a message of more than {LARGEST} bytes")]
    TooLong,
}

/// Cuts a stream into messages. Each byte is looked at once, however the stream comes.
#[derive(Debug, Default)]
pub struct Frames {
    message: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Frames {
    /// Takes bytes and returns the messages that they complete.
    ///
    /// # Errors
    /// [`FramesError`]: the stream is of no use from here on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Value>, FramesError> {
        let mut messages = Vec::new();
        for byte in bytes {
            if self.depth == 0 {
                match byte {
                    b'{' => {}
                    b' ' | b'\t' | b'\r' | b'\n' => continue,
                    _ => return Err(FramesError::Garbage),
                }
            }
            if self.message.len() >= LARGEST {
                return Err(FramesError::TooLong);
            }
            self.message.push(*byte);
            if self.ends(*byte) {
                messages.push(serde_json::from_slice(&self.message)?);
                self.message.clear();
            }
        }
        Ok(messages)
    }

    /// Tells whether the message ends with this byte.
    fn ends(&mut self, byte: u8) -> bool {
        match (self.in_string, byte) {
            (true, _) if self.escaped => self.escaped = false,
            (true, b'\\') => self.escaped = true,
            (_, b'"') => self.in_string = !self.in_string,
            (false, b'{' | b'[') => self.depth += 1,
            (false, b'}' | b']') => {
                self.depth -= 1;
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// A message of the database.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// All rows: the answer to [`monitor`].
    Rows(Value),
    /// Rows that changed.
    Update(Value),
    /// It probes the connection; this is the answer.
    Echo(Value),
    /// It refuses the monitor.
    Refused(String),
    /// Anything else.
    Other,
}

/// Reads a message.
#[must_use]
pub fn parse(mut message: Value) -> Incoming {
    match message["method"].as_str() {
        Some("update") if message["params"][0] == MONITOR => {
            message.pointer_mut("/params/1").and_then(interfaces).map_or(Incoming::Other, Incoming::Update)
        }
        Some("echo") => {
            Incoming::Echo(json!({"id": message["id"].take(), "result": message["params"].take(), "error": null}))
        }
        Some(_) => Incoming::Other,
        None if message["id"] != MONITOR => Incoming::Other,
        None if !message["error"].is_null() => Incoming::Refused(shown(&message["error"])),
        None => {
            let rows = message.pointer_mut("/result").and_then(interfaces);
            rows.map_or_else(|| Incoming::Refused(shown(&message["result"])), Incoming::Rows)
        }
    }
}

/// Takes the rows of the table out of tables by name; null where it is not among them, `None` where these are no tables.
fn interfaces(tables: &mut Value) -> Option<Value> {
    tables.as_object_mut().map(|tables| tables.get_mut("Interface").map(Value::take).unwrap_or_default())
}

/// Shows the start of what the database has sent.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

/// Returns the request for all rows, and for every change from then on.
#[must_use]
pub fn monitor() -> Value {
    let columns = json!({"Interface": [{"columns": ["name", "type", "external_ids"]}]});
    json!({"id": MONITOR, "method": "monitor", "params": ["Open_vSwitch", MONITOR, columns]})
}

/// Returns a request that probes the connection.
#[must_use]
pub fn echo() -> Value {
    json!({"id": ECHO, "method": "echo", "params": []})
}

#[cfg(test)]
mod tests;
