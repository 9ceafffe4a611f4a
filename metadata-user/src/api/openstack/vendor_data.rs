//! `vendor_data.json` and `vendor_data2.json`, and what a dynamic target is asked.
//!
//! Left out: asking. Results come with the instance, fetched ahead of time.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::meta_data::Pairs;
use crate::api::{Cloud, VendordataProvider, json};
use crate::base64;
use crate::config::target::Targets;
use crate::on_demand::Member;
use crate::record::InstanceRecord;

/// What dynamic targets answered for an instance, by target name. A missing one reads as `{}`.
pub type DynamicResults = HashMap<String, Value>;

/// A target of dynamic vendor data that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The key of its answer.
    pub name: &'a str,
    /// Where it is.
    pub url: &'a str,
}

/// Returns the targets that are asked: `name@url`, split at the first `@`; one without a name, or with a name that came
/// before, is passed over.
#[must_use]
pub fn targets(configured: &[String]) -> Vec<Target<'_>> {
    let mut targets = Targets::default();
    configured.iter().filter_map(|target| targets.split(target)).map(|(name, url)| Target { name, url }).collect()
}

/// Returns the body of the request to a target.
#[must_use]
pub fn request_body(record: &InstanceRecord) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Body<'a> {
        project_id: &'a str,
        instance_id: String,
        image_id: Option<&'a str>,
        user_data: Option<String>,
        hostname: &'a str,
        metadata: Pairs<'a>,
        boot_roles: &'a str,
    }
    let user_data = record.user_data.as_ref().map(|bytes| {
        let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
        base64::encode_into(bytes, &mut out);
        out.into_iter().map(char::from).collect()
    });
    json::to_vec(&Body {
        project_id: record.project_id.as_str(),
        instance_id: record.uuid.to_string(),
        image_id: record.image_ref.as_deref(),
        user_data,
        hostname: &record.hostname,
        metadata: Pairs(&record.metadata),
        boot_roles: record.boot_roles.as_deref().unwrap_or_default(),
    })
}

/// Why an answer of a target is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The status is one of an error.
    #[error("answered with status {0}")]
    Status(u16),
    /// The body is not JSON.
    #[error("answered with something that is not JSON")]
    NotJson(#[source] serde_json::Error),
}

/// Reads a target's answer: any JSON, and `{}` for an empty body.
///
/// # Errors
/// [`Unusable`]: Nova shows `{}` then.
pub fn read(status: u16, body: &[u8]) -> Result<Value, Unusable> {
    match body {
        _ if status >= 400 => Err(Unusable::Status(status)),
        [] => Ok(Value::Object(Map::new())),
        body => serde_json::from_slice(body).map_err(Unusable::NotJson),
    }
}

/// Reads a target's answer as Nova shows it: `{}` if it is of no use.
#[must_use]
pub fn result(status: u16, body: &[u8]) -> Value {
    read(status, body).unwrap_or_else(|_| Value::Object(Map::new()))
}

/// Returns a target's answer as text, written as Nova writes JSON.
#[must_use]
pub fn text(answer: &Value) -> Bytes {
    json::to_vec(answer).into()
}

/// Adds members to a `vendor_data2.json`, in place of those that it has under their names. One that is no object stays as it is.
#[must_use]
pub fn with_members(document: Bytes, added: &[Member]) -> Bytes {
    let Ok(Value::Object(mut map)) = serde_json::from_slice(&document) else { return document };
    let is_other = added.iter().all(|member| !map.contains_key(&member.name));
    let document = if is_other {
        document
    } else {
        map.retain(|name, _| added.iter().all(|member| *name != member.name));
        json::to_vec(&map).into()
    };
    let text = document.trim_ascii_end();
    let Some(before) = text.strip_suffix(b"}") else { return document };
    let mut out = before.to_vec();
    for Member { name, value } in added {
        if !out.trim_ascii_end().ends_with(b"{") {
            out.extend_from_slice(b", ");
        }
        json::append(&mut out, name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
    }
    out.push(b'}');
    out.into()
}

/// The operator's vendor data, the same for all instances of a cloud, rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticVendordata {
    text: Bytes,
    /// `vendor_data2.json` when nothing else is in it.
    alone: Bytes,
}

impl From<&Value> for StaticVendordata {
    fn from(value: &Value) -> Self {
        let text = Bytes::from(json::to_vec(value));
        let alone = object(&[("static", text.clone())]);
        Self { text, alone }
    }
}

/// An empty object, as without a file.
impl Default for StaticVendordata {
    fn default() -> Self {
        Self::from(&Value::Object(Map::new()))
    }
}

/// Returns `vendor_data.json`; `None` if the operator's file is not among the providers.
pub(in crate::api) fn render(cloud: &Cloud) -> Option<Bytes> {
    let is_provided = cloud.vendordata_providers.contains(&VendordataProvider::StaticJson);
    is_provided.then(|| cloud.vendordata_static.text.clone())
}

/// Returns `vendor_data2.json`.
pub(in crate::api) fn render2(cloud: &Cloud, dynamic: &DynamicResults) -> Bytes {
    let mut members: Vec<(&str, Bytes)> = Vec::new();
    for provider in &cloud.vendordata_providers {
        match provider {
            VendordataProvider::StaticJson => {
                let text = cloud.vendordata_static.text.clone();
                // Takes the place of an earlier value, where that was.
                match members.iter_mut().find(|(name, _)| *name == "static") {
                    Some(member) => member.1 = text,
                    None => members.push(("static", text)),
                }
            }
            VendordataProvider::DynamicJson => {
                for Target { name, .. } in targets(&cloud.vendordata_dynamic_targets) {
                    if members.iter().all(|(taken, _)| *taken != name) {
                        let result = dynamic.get(name).map_or_else(|| b"{}".to_vec(), json::to_vec);
                        members.push((name, result.into()));
                    }
                }
            }
        }
    }
    match members.as_slice() {
        [("static", text)] if *text == cloud.vendordata_static.text => cloud.vendordata_static.alone.clone(),
        members => object(members),
    }
}

/// Returns an object of rendered values.
fn object(members: &[(&str, Bytes)]) -> Bytes {
    let mut out = vec![b'{'];
    for (index, (name, text)) in members.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        json::append(&mut out, name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(text);
    }
    out.push(b'}');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn targets_need_a_name_of_their_own() {
        let configured =
            ["a@http://x", "http://nameless", "a@http://y", "b@http://u@v", "@http://z"].map(str::to_owned);
        let expected = [("a", "http://x"), ("b", "http://u@v"), ("", "http://z")];
        assert_eq!(targets(&configured), expected.map(|(name, url)| Target { name, url }));
    }

    #[test]
    fn answers_that_are_no_use_read_as_an_empty_object() {
        for (status, body, expected) in [
            (200, "[1]", json!([1])),
            (200, "\"x\"", json!("x")),
            (200, "null", json!(null)),
            (200, "", json!({})),
            (200, "hello", json!({})),
            (500, "[1]", json!({})),
            (404, "[1]", json!({})),
        ] {
            assert_eq!(result(status, body.as_bytes()), expected, "{status} {body}");
        }
    }

    fn rendered(providers: &[VendordataProvider], targets: &[&str]) -> String {
        let cloud = Cloud {
            vendordata_providers: providers.to_vec(),
            vendordata_static: StaticVendordata::from(&json!({"s": 1})),
            vendordata_dynamic_targets: targets.iter().map(|&target| target.to_owned()).collect(),
            ..Cloud::default()
        };
        let dynamic = HashMap::from([("a".to_owned(), json!([1])), ("static".to_owned(), json!("d"))]);
        String::from_utf8(render2(&cloud, &dynamic).to_vec()).unwrap()
    }

    #[test]
    fn members_are_added_to_what_there_is() {
        for (document, expected) in [
            ("{}", r#"{"a": 1, "b": {"x": []}}"#),
            (r#"{"static": {"s":1}}"#, r#"{"static": {"s":1}, "a": 1, "b": {"x": []}}"#),
            ("{\"z\": \"{\"}\n", r#"{"z": "{", "a": 1, "b": {"x": []}}"#),
            (r#"{"a":  2, "z": 0.5}"#, r#"{"z": 0.5, "a": 1, "b": {"x": []}}"#),
            ("[1]", "[1]"),
            ("no JSON }", "no JSON }"),
        ] {
            let added = [("a", json!(1)), ("b", json!({"x": []}))];
            let added = added.map(|(name, value)| Member { name: name.to_owned(), value: text(&value) });
            assert_eq!(with_members(document.into(), &added), expected, "{document}");
        }
        assert_eq!(with_members("{ }".into(), &[]), "{ }");
    }

    #[test]
    fn providers_take_part_in_their_order() {
        use VendordataProvider::{DynamicJson, StaticJson};
        let targets = ["a@http://x", "static@http://y", "b@http://z"];
        assert_eq!(rendered(&[], &targets), "{}");
        assert_eq!(rendered(&[StaticJson], &targets), r#"{"static": {"s": 1}}"#);
        assert_eq!(rendered(&[StaticJson, DynamicJson], &targets), r#"{"static": {"s": 1}, "a": [1], "b": {}}"#);
        assert_eq!(rendered(&[DynamicJson, StaticJson], &targets), r#"{"a": [1], "static": {"s": 1}, "b": {}}"#);
    }
}
