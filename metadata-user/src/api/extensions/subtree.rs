//! Everything below a path as one JSON document.
//!
//! A directory becomes an object, a text a string, and a document that is JSON itself: `{"placement":
//! {"availability-zone": "nova"}, …}`. What is in it is found as a client finds it, by the listings, so it is the same for a
//! document and for an instance of an unchanged OpenStack.
//!
//! Promises: what is in no listing is not in it, and neither is anything that policies tell apart: user data, password and
//! identity are asked for by their own paths.

use serde::de::IgnoredAny;

use super::json as answered;
use crate::api::nova_pages::without_alias;
use crate::api::subject::{About, Subject};
use crate::api::{Answer, Content, Reply, Request, Status, json, route};
use crate::percent;

/// Deeper than any directory of either tree.
const DEEPEST: usize = 16;

/// The instance's own metadata in the EC2 tree, which no listing names.
const OWN_METADATA: &str = "meta-data/meta-data";

/// Returns what becomes of a request for a subtree; `None`: the path is no directory, or is not there.
pub(super) fn reply(content: &Content, request: &Request<'_>) -> Option<Reply> {
    let path = route::path(request.target)?;
    let path = without_alias(&path);
    let walk = Walk { content, request };
    let mut out = Vec::new();
    let written = match path.strip_prefix("openstack/") {
        Some(version) if version.contains('/') || version == "content" => return None,
        Some(_) => walk.documents(path, &mut out),
        None => walk.is_directory(path).and_then(|is_directory| match is_directory {
            true => walk.directory(path, DEEPEST, &mut out),
            false => Ok(false),
        }),
    };
    match written {
        Ok(true) => Some(Reply::Answer(answered(out.into()))),
        Ok(false) => None,
        Err(Missing(path)) => Some(Reply::Fetch(path)),
    }
}

/// A page that only the controller has.
struct Missing(String);

/// A walk through an instance's content.
struct Walk<'a> {
    content: &'a Content,
    request: &'a Request<'a>,
}

impl Walk<'_> {
    /// Returns the bytes at a path, if there are any.
    fn get(&self, path: &str) -> Result<Option<bytes::Bytes>, Missing> {
        let target = format!("/{}", percent::encode(path));
        let Request { today, seed, .. } = *self.request;
        let asked =
            Request { method: "GET", target: &target, accept: None, content_length: None, body: b"", today, seed };
        match self.content.reply(&asked) {
            Reply::Answer(Answer { status: Status::Ok, body, .. }) => Ok(Some(body)),
            Reply::Answer(_) | Reply::Keep(_) => Ok(None),
            Reply::Fetch(path) => Err(Missing(path)),
        }
    }

    /// Tells whether a path of the EC2 tree is a directory: its parent's listing says so.
    fn is_directory(&self, path: &str) -> Result<bool, Missing> {
        let Some((parent, name)) = path.rsplit_once('/') else { return Ok(true) };
        if path.split_once('/').is_some_and(|(_, rest)| rest == OWN_METADATA) {
            return Ok(true);
        }
        if !parent.contains('/') || self.is_directory(parent)? {
            let Some(listing) = self.get(parent)? else { return Ok(false) };
            return Ok(children(&listing, parent).any(|child| child.name == name && child.is_directory));
        }
        Ok(false)
    }

    /// Writes a directory of the EC2 tree. Returns whether there is one.
    fn directory(&self, path: &str, depth: usize, out: &mut Vec<u8>) -> Result<bool, Missing> {
        let Some(listing) = self.get(path)? else { return Ok(false) };
        self.object(children(&listing, path), path, out, |child, path, out| {
            if child.is_directory {
                return if depth == 0 { Ok(false) } else { self.directory(path, depth - 1, out) };
            }
            let Some(text) = self.get(path)? else { return Ok(false) };
            json::append(out, &String::from_utf8_lossy(&text));
            Ok(true)
        })?;
        Ok(true)
    }

    /// Writes the documents of a version of the OpenStack tree. Returns whether there is such a version.
    fn documents(&self, path: &str, out: &mut Vec<u8>) -> Result<bool, Missing> {
        let Some(listing) = self.get(path)? else { return Ok(false) };
        self.object(children(&listing, path), path, out, |_, path, out| {
            let Some(document) = self.get(path)? else { return Ok(false) };
            match serde_json::from_slice::<IgnoredAny>(&document) {
                Ok(_) => out.extend_from_slice(&document),
                Err(_) => json::append(out, &String::from_utf8_lossy(&document)),
            }
            Ok(true)
        })?;
        Ok(true)
    }

    /// Writes an object with the children that anybody may have who may have their directory.
    fn object<'l>(
        &self,
        children: impl Iterator<Item = Child<'l>>,
        path: &str,
        out: &mut Vec<u8>,
        value: impl Fn(&Child<'l>, &str, &mut Vec<u8>) -> Result<bool, Missing>,
    ) -> Result<(), Missing> {
        out.push(b'{');
        let mut is_first = true;
        for child in children {
            let path = format!("{path}/{}", child.name);
            if About::of(&format!("/{}", percent::encode(&path))).subject != Subject::Other {
                continue;
            }
            let before = out.len();
            if !is_first {
                out.extend_from_slice(b", ");
            }
            json::append(out, &child.name);
            out.extend_from_slice(b": ");
            if value(&child, &path, out)? {
                is_first = false;
            } else {
                out.truncate(before);
            }
        }
        out.push(b'}');
        Ok(())
    }
}

/// What a line of a listing names.
struct Child<'a> {
    name: &'a str,
    is_directory: bool,
}

/// Returns what a listing names: `name`, `name/` for a directory, `0=name` for a key's directory.
fn children<'l>(listing: &'l [u8], path: &str) -> impl Iterator<Item = Child<'l>> {
    let is_keys = path.ends_with("/meta-data/public-keys");
    let lines = std::str::from_utf8(listing).unwrap_or_default().split('\n').filter(|line| !line.is_empty());
    lines.map(move |line| {
        let key = if is_keys { line.split_once('=').map(|(number, _)| number) } else { None };
        match key.or_else(|| line.strip_suffix('/')) {
            Some(name) => Child { name, is_directory: true },
            None => Child { name: line, is_directory: false },
        }
    })
}
