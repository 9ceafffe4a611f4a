//! What a record renders to, compared with what Nova answered.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::api::vendor_data::{self, DynamicResults};
use crate::api::{
    Cloud, Date, NovaPages, Page, RenderedInstance, Request, Status, VendordataProvider, check_path, is_public,
};
use crate::percent;
use crate::record::InstanceRecord;

/// How much of an answer an excerpt shows before and after the first byte that differs.
const EXCERPT: (usize, usize) = (24, 72);

/// A path that a node answers otherwise than Nova. `Debug` leaves the excerpts out.
#[derive(Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path, without the first slash.
    pub path: Box<str>,
    /// What differs, in a few words, without any value of the instance's.
    pub reason: String,
    /// What Nova answers, around the first byte that differs; in one line.
    pub nova: String,
    /// What the node answers there.
    pub ours: String,
    /// Whether the answers hold nothing that the instance's owner would keep to themselves.
    pub is_public: bool,
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Difference").field("path", &self.path).field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl Difference {
    /// Returns the difference of two answers.
    pub(super) fn of(path: &str, nova: &Page, ours: &Page) -> Self {
        let (nova_bytes, our_bytes) = (nova.body(), ours.body());
        let at = nova_bytes.iter().zip(our_bytes).take_while(|(nova, ours)| nova == ours).count();
        Self {
            path: path.into(),
            reason: reason(path, nova, ours),
            nova: excerpt(nova, at),
            ours: excerpt(ours, at),
            is_public: is_public(&target(path)),
        }
    }
}

fn excerpt(page: &Page, at: usize) -> String {
    if !page.is_found() {
        return "404".to_owned();
    }
    let (from, to) = (at.saturating_sub(EXCERPT.0), at.saturating_add(EXCERPT.1).min(page.body().len()));
    let part = String::from_utf8_lossy(&page.body()[from..to]).escape_debug().to_string();
    let (before, after) = (if from > 0 { "…" } else { "" }, if to < page.body().len() { "…" } else { "" });
    format!("{} {before}{part}{after}", page.content_type().unwrap_or("no content type"))
}

/// Returns the pages that a record answers otherwise, with Nova's answer and ours. Passwords are left out, and paths that no
/// request leads to.
pub(super) fn differing<'a>(
    pages: &'a NovaPages,
    record: &Arc<InstanceRecord>,
    cloud: &Arc<Cloud>,
) -> Vec<(&'a str, &'a Page, Page)> {
    let instance = RenderedInstance::new(Arc::clone(record), Arc::clone(cloud));
    let instance = instance.with_dynamic(Arc::new(dynamic(pages, cloud)));
    let compared = pages.pages().filter(|(path, _)| check_path(path).is_ok());
    compared
        .filter_map(|(path, nova)| {
            let ours = answer(&instance, path);
            (ours != *nova).then_some((path, nova, ours))
        })
        .collect()
}

fn target(path: &str) -> String {
    format!("/{}", percent::encode(path))
}

fn answer(instance: &RenderedInstance, path: &str) -> Page {
    let reply = instance.reply(&Request {
        method: "GET",
        target: &target(path),
        accept: None,
        content_length: None,
        body: b"",
        // Nova lists versions that are not in the future; all that there are.
        today: || Date::new(9999, 12, 31),
        seed: &|seed| seed.fill(0),
    });
    match reply.into_answer() {
        Some(answer) if answer.status == Status::Ok => Page::found(answer.content_type.as_deref(), answer.body),
        _ => Page::not_found(),
    }
}

/// Returns what dynamic targets answered Nova, as far as nodes ask the same: that is no difference.
fn dynamic(pages: &NovaPages, cloud: &Cloud) -> DynamicResults {
    if !cloud.vendordata_providers.contains(&VendordataProvider::DynamicJson) {
        return DynamicResults::new();
    }
    let of_any_version = pages.pages().filter(|(path, page)| path.ends_with("/vendor_data2.json") && page.is_found());
    let newest = of_any_version.last().and_then(|(_, page)| object(page.body())).unwrap_or_default();
    let targets = vendor_data::targets(&cloud.vendordata_dynamic_targets);
    targets.into_iter().filter_map(|target| Some((target.name.to_owned(), newest.get(target.name)?.clone()))).collect()
}

fn object(body: &Bytes) -> Option<Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// Returns what differs, without a value of the instance's.
pub(super) fn reason(path: &str, nova: &Page, ours: &Page) -> String {
    match (nova.is_found(), ours.is_found()) {
        (false, _) => return "Nova does not have it".to_owned(),
        (true, false) => return "the facts do not give it".to_owned(),
        (true, true) => {}
    }
    if nova.body() == ours.body() {
        return "another content type".to_owned();
    }
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    match name {
        "vendor_data.json" => "the vendor data of [cloud] is not Nova's".to_owned(),
        "vendor_data2.json" => {
            "the vendor data of [cloud] is not Nova's, or dynamic targets are missing there".to_owned()
        }
        _ if name.ends_with(".json") => members(nova.body(), ours.body()),
        "hostname" | "local-hostname" | "public-hostname" => "the host name, or the domain of [cloud]".to_owned(),
        "" | "openstack" => "other versions".to_owned(),
        _ if nova.body().contains(&b'\n') || ours.body().contains(&b'\n') => "another list".to_owned(),
        _ => "another value".to_owned(),
    }
}

/// Names the members of two JSON objects that differ.
fn members(nova: &Bytes, ours: &Bytes) -> String {
    let (Some(nova), Some(ours)) = (object(nova), object(ours)) else { return "it is no JSON object".to_owned() };
    let differs = |name: &&String| nova.get(*name) != ours.get(*name);
    let only_ours = ours.keys().filter(|name| !nova.contains_key(*name));
    let mut names: Vec<&str> = nova.keys().chain(only_ours).filter(differs).map(String::as_str).collect();
    names.retain(|name| name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_graphic()));
    names.truncate(8);
    if names.is_empty() {
        "the order or spelling of its members".to_owned()
    } else {
        format!("members {}", names.join(", "))
    }
}
