//! A golden case as it is on disk.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use lab::golden::Golden;
use metadata_user::base64;
use metadata_user::record::InstanceRecord;
use metadata_user::source::wire;
use serde_json::Value;

/// A case: facts, and what Nova answered.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) golden: Golden,
    pub(crate) rows: Vec<Row>,
}

/// A captured request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) group: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) protocol: String,
    /// `None`: no `Host` header.
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) request_body: Option<Vec<u8>>,
    pub(crate) note: String,
    pub(crate) is_seeded: bool,
    pub(crate) answer: Captured,
}

/// An answer, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    /// 0: the server closed the connection without an answer.
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) content_length: Option<u64>,
    pub(crate) body: Vec<u8>,
}

impl Row {
    /// Returns a header of the request.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Returns the path, shortened.
    pub(crate) fn shown_path(&self) -> String {
        let note = if self.note.is_empty() { String::new() } else { format!(" ({})", self.note) };
        let accept = self.header("accept").map(|accept| format!(" Accept: {accept}")).unwrap_or_default();
        format!("{}{accept}{note}", self.path.chars().take(120).collect::<String>())
    }
}

impl Case {
    /// Reads every case of a directory.
    pub(crate) fn all(directory: &Path) -> Result<Vec<Self>> {
        let mut directories = Vec::new();
        for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
            let path = entry?.path();
            if path.join("instance.json").is_file() && path.join("responses.json").is_file() {
                directories.push(path);
            }
        }
        directories.sort();
        directories.iter().map(|path| Self::load(path)).collect()
    }

    /// Reads a case.
    pub(crate) fn load(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let golden = Golden::from_facts(&read("instance.json")?)?;
        let responses: Value = serde_json::from_slice(&read("responses.json")?)?;
        let defaults = headers(&responses["default_request_headers"]);
        let rows = responses["responses"].as_array().context("no responses")?;
        let rows = rows.iter().map(|row| Row::of(row, &defaults, &responses["bodies"])).collect::<Result<_>>()?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, golden, rows })
    }

    /// Returns the record that the daemon has of the case's document.
    pub(crate) fn record(&self) -> InstanceRecord {
        let document = format!("{:#}", self.golden.document);
        wire::parse(document.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}\n{document}", self.name))
    }
}

impl Row {
    fn of(row: &Value, defaults: &[(String, String)], bodies: &Value) -> Result<Self> {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let body = match row["body_ref"].as_str() {
            Some(reference) => &bodies[reference],
            None => row,
        };
        let answer_headers = headers(&row["headers"]);
        let answer_header = |name: &str| {
            answer_headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        Ok(Self {
            group: text("group"),
            method: text("method"),
            path: text("path"),
            protocol: row["protocol"].as_str().unwrap_or("HTTP/1.1").to_owned(),
            host: match row.get("host") {
                Some(host) => host.as_str().map(str::to_owned),
                None => Some("169.254.169.254".to_owned()),
            },
            headers: if row["request_headers"].is_array() {
                headers(&row["request_headers"])
            } else {
                defaults.to_vec()
            },
            request_body: bytes(row, "request_body")?,
            note: text("note"),
            is_seeded: row["volatile"].as_array().is_some_and(|keys| keys.iter().any(|key| key == "random_seed")),
            answer: Captured {
                status: row["status"].as_u64().context("no status")?.try_into()?,
                content_type: answer_header("content-type"),
                content_length: answer_header("content-length").map(|length| length.parse()).transpose()?,
                body: bytes(body, "body")?.unwrap_or_default(),
            },
        })
    }
}

/// Returns a body that is given as text or in base64.
fn bytes(value: &Value, field: &str) -> Result<Option<Vec<u8>>> {
    if let Some(text) = value[field].as_str() {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    match value[format!("{field}_b64").as_str()].as_str() {
        Some(text) => Ok(Some(base64::decode(text)?)),
        None => Ok(None),
    }
}

fn headers(value: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    value.as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}
