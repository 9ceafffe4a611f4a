//! An instance whose answers are Nova's own, kept byte for byte by path.
//!
//! Promises:
//! - what is kept is what Nova said: status, content type, body; a path that Nova said is not there is kept as that;
//! - spellings of a path, methods and errors are those of [`super::RenderedInstance`], which are Nova's;
//! - `random_seed` is fresh in every answer: a copy would hand out one seed for ever. All other bytes are Nova's;
//! - equal bodies of one instance are one piece of memory;
//! - a path that is not kept is asked for only if Nova could have it: nothing is looked up that a kept listing does not
//!   name, below a leaf (Nova crashes there), in an unknown version, or by a name that is overlong or has other characters
//!   than Nova's names, which proxies before Nova may refuse. Once all listings are kept, nothing is looked up.
//!
//! Ours, not Nova's: a second POST of a password is 409 as soon as the first is kept, and an empty one is not sent to Nova.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::error::Refusal;
use super::found::{self, Found};
use super::password::{self, Exchange, Password, Write};
use super::{HTML, JSON, PLAIN, Reply, Request, Status, route};
use crate::base64;
use crate::percent;
use crate::record::{InstanceId, ProjectId};

/// What Nova says without an `Accept` header where there is no such path, or no such instance.
pub const NOT_FOUND_TEXT: &str = "404 Not Found\n\nThe resource could not be found.\n\n   ";

/// Longest path that is asked for: every name in Nova's trees is far shorter.
const LONGEST_PATH: usize = 255;

/// What every version of the OpenStack tree has without listing it.
const UNLISTED: [&str; 2] = ["version", "network_data.json"];

/// What comes before the seed in `meta_data.json`, as Python writes it.
const SEED_KEY: &[u8] = b"\"random_seed\": \"";
/// Length of 512 bytes in base64. Metadata, the only other values of that key, has at most 255 characters.
const SEED_LENGTH: usize = 684;

/// Nova's answer for one path. `Debug` leaves the body out.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    status: Status,
    content_type: Option<Cow<'static, str>>,
    body: Bytes,
    /// Where in the body the seed is.
    seed: Option<usize>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl Page {
    /// Keeps an answer with status 200. The seed in it is forgotten, so that answers that differ in nothing else are
    /// equal.
    #[must_use]
    pub fn found(content_type: Option<&str>, body: Bytes) -> Self {
        let content_type = content_type.map(|text| {
            let known = [PLAIN, HTML, JSON].into_iter().find(|known| *known == text);
            known.map_or_else(|| Cow::Owned(text.to_owned()), Cow::Borrowed)
        });
        // User data may hold anything, and is the user's.
        let is_json = content_type.as_deref().is_some_and(|text| text.starts_with(JSON));
        let seed = if is_json { seed_in(&body) } else { None };
        let body = match seed {
            None => body,
            // Masked already.
            Some(at) if body[at..at + SEED_LENGTH - 1].iter().all(|byte| *byte == b'A') => body,
            Some(at) => {
                let mut masked = body.to_vec();
                masked[at..at + SEED_LENGTH - 1].fill(b'A');
                masked.into()
            }
        };
        Self { status: Status::Ok, content_type, body, seed }
    }

    /// Keeps that there is no such path.
    #[must_use]
    pub fn not_found() -> Self {
        Self { status: Status::NotFound, content_type: None, body: Bytes::new(), seed: None }
    }

    /// Returns the status: [`Status::Ok`] or [`Status::NotFound`].
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns the body, if it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }

    /// Returns the `Content-Type` header; none with status 404, whose answer is made anew for each request.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Returns the body, with a seed that is none.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Tells whether there is such a path.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.status == Status::Ok
    }

    pub(super) fn lists(&self, name: &str) -> bool {
        self.body.split(|byte| *byte == b'\n').any(|line| line == name.as_bytes())
    }

    pub(super) fn answer(&self, request: &Request<'_>) -> Found {
        let body = match self.seed {
            None => self.body.clone(),
            Some(at) => {
                let mut seed = [0; 512];
                (request.seed)(&mut seed);
                let mut body = Vec::with_capacity(self.body.len());
                body.extend_from_slice(&self.body[..at]);
                base64::encode_into(&seed, &mut body);
                body.extend_from_slice(&self.body[at + SEED_LENGTH..]);
                body.into()
            }
        };
        Found { content_type: self.content_type.clone(), body }
    }
}

/// Returns where Nova's seed is: the last value of that key with its length, since an instance's own metadata comes
/// before it.
fn seed_in(body: &[u8]) -> Option<usize> {
    let keys = body.windows(SEED_KEY.len()).enumerate().filter(|(_, window)| *window == SEED_KEY);
    let mut values = keys.map(|(at, _)| at + SEED_KEY.len());
    values.rfind(|at| {
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let value = body.get(*at..*at + SEED_LENGTH);
        value.is_some_and(|value| value.iter().all(is_base64)) && body.get(*at + SEED_LENGTH) == Some(&b'"')
    })
}

/// The page that says which project the instance is of.
const META_DATA: &str = "openstack/latest/meta_data.json";

/// Returns the project that a `meta_data.json` says.
fn project_in(body: &[u8]) -> Option<ProjectId> {
    let parsed: Value = serde_json::from_slice(body).ok()?;
    Some(parsed.get("project_id")?.as_str()?.into())
}

/// An instance's answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NovaPages {
    uuid: InstanceId,
    /// As its `meta_data.json` says.
    project: Option<ProjectId>,
    pages: Arc<BTreeMap<Box<str>, Page>>,
}

impl NovaPages {
    /// Returns the answers of these pages, by path: segments joined by single slashes, without a leading or trailing one.
    #[must_use]
    pub fn new(uuid: InstanceId, pages: impl IntoIterator<Item = (String, Page)>) -> Self {
        let pages = shared(pages.into_iter().map(|(path, page)| (path.into_boxed_str(), page)));
        let project =
            pages.get(META_DATA).filter(|page: &&Page| page.is_found()).and_then(|page| project_in(&page.body));
        Self { uuid, project, pages: Arc::new(pages) }
    }

    /// Returns the instance's project, if its latest `meta_data.json` is there and says it.
    #[must_use]
    pub fn project(&self) -> Option<&ProjectId> {
        self.project.as_ref()
    }

    /// Returns the instance's id.
    #[must_use]
    pub fn uuid(&self) -> InstanceId {
        self.uuid
    }

    /// Returns the pages by path, ascending.
    pub fn pages(&self) -> impl Iterator<Item = (&str, &Page)> {
        self.pages.iter().map(|(path, page)| (&**path, page))
    }

    /// Returns the page of a path.
    #[must_use]
    pub fn page(&self, path: &str) -> Option<&Page> {
        self.pages.get(path)
    }

    /// Returns the password that the guest posted; empty if it has not.
    #[must_use]
    pub fn password(&self) -> Bytes {
        let mut pages = self.pages.iter().filter(|(path, page)| is_password(path) && page.is_found());
        pages.next_back().map(|(_, page)| page.body.clone()).unwrap_or_default()
    }

    /// Returns the same instance with this password in every version that has one.
    #[must_use]
    pub fn with_password(&self, password: &Password) -> Self {
        let pages = self.pages().map(|(path, page)| {
            let mut page = page.clone();
            if is_password(path) && page.is_found() {
                page.body = password.bytes().clone();
            }
            (path.to_owned(), page)
        });
        Self::new(self.uuid, pages)
    }

    /// Returns what becomes of a request.
    #[must_use]
    pub fn reply(&self, request: &Request<'_>) -> Reply {
        let found = match route::path(request.target) {
            None => Err(Refusal::NotFound),
            Some(path) => {
                let path = without_alias(&path);
                match self.pages.get(path) {
                    None if self.may_exist(path) => return Reply::Fetch(path.to_owned()),
                    None => Err(Refusal::NotFound),
                    Some(page) if !page.is_found() => Err(Refusal::NotFound),
                    Some(page) if is_password(path) => match password::exchange(!page.body.is_empty(), request) {
                        Ok(Exchange::Keep(password)) => {
                            return Reply::Keep(Write::Controller { path: path.to_owned(), password });
                        }
                        Ok(Exchange::Read) => Ok(page.answer(request)),
                        Ok(Exchange::Nothing) => Ok(Found::new(HTML, Bytes::new())),
                        Err(refusal) => Err(refusal),
                    },
                    Some(page) => Ok(page.answer(request)),
                }
            }
        };
        Reply::Answer(found::answer(found, request))
    }

    /// Tells whether Nova could have a path, as far as the pages show: what a kept listing does not name, it has not.
    fn may_exist(&self, path: &str) -> bool {
        if path.len() > LONGEST_PATH || !percent::is_plain(path) {
            return false;
        }
        let Some(rest) = path.strip_prefix("openstack") else {
            return path.is_empty() || self.may_exist_in_ec2(path);
        };
        let Some((version, name)) = rest.strip_prefix('/').map(|rest| rest.split_once('/').unwrap_or((rest, "")))
        else {
            return rest.is_empty();
        };
        match (version, name) {
            ("content", name) => !name.is_empty() && !name.contains('/') && self.may_be_file(name),
            // Nova crashes.
            (_, "content") => false,
            (version, name) => {
                !name.contains('/') && self.is_version("openstack", version) && self.may_be_document(version, name)
            }
        }
    }

    /// Tells whether a version of the OpenStack tree could have a document.
    fn may_be_document(&self, version: &str, name: &str) -> bool {
        match self.pages.get(&*format!("openstack/{version}")) {
            None => true,
            Some(listing) => UNLISTED.contains(&name) || listing.lists(name),
        }
    }

    /// Tells whether there could be a file for the guest's network configuration: `meta_data.json` names them.
    fn may_be_file(&self, name: &str) -> bool {
        let path = format!("\"/content/{name}\"");
        let names = |page: &Page| page.body.windows(path.len()).any(|bytes| bytes == path.as_bytes());
        self.pages.get("openstack/latest/meta_data.json").is_none_or(names)
    }

    fn may_exist_in_ec2(&self, path: &str) -> bool {
        let (version, rest) = path.split_once('/').unwrap_or((path, ""));
        if !self.is_version("", version) {
            return false;
        }
        let mut above = String::new();
        let mut names = rest.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            if !self.may_lead(version, &above, name, names.peek().is_some()) {
                return false;
            }
            above = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
        }
        true
    }

    /// Tells whether the listing `above` could name something, which is a listing itself if `is_listing`. `latest` has
    /// what any version has, and what is a leaf in one version is one in all.
    fn may_lead(&self, version: &str, above: &str, name: &str, is_listing: bool) -> bool {
        let page = |version: &str| match above {
            "" => self.pages.get(version),
            above => self.pages.get(&*format!("{version}/{above}")),
        };
        let Some(listing) = page(version).or_else(|| page("latest")) else { return true };
        let is_keys = above.ends_with("/public-keys");
        let is_key = above.rsplit_once('/').is_some_and(|(above, _)| above.ends_with("/public-keys"));
        listing.is_found() && listing.body.split(|byte| *byte == b'\n').any(|line| names(line, name, is_keys, is_listing))
            // Nova has the key's name there, and does not list it.
            || is_key && name == "_name" && !is_listing && listing.is_found()
    }

    fn is_version(&self, list: &str, version: &str) -> bool {
        self.pages.get(list).is_some_and(|list| list.lists(version))
    }
}

/// Tells whether a line of a listing names something: `name`, `name/` if it is a listing, or `0=name` among keys.
fn names(line: &[u8], name: &str, is_keys: bool, is_listing: bool) -> bool {
    match line.strip_prefix(name.as_bytes()) {
        Some([]) => !is_listing,
        Some(b"/") => true,
        Some([b'=', ..]) => is_keys,
        _ => false,
    }
}

/// Returns pages by path, of which equal bodies are one piece of memory.
pub(super) fn shared(pages: impl Iterator<Item = (Box<str>, Page)>) -> BTreeMap<Box<str>, Page> {
    let mut bodies: HashSet<Bytes> = HashSet::new();
    let shared = pages.map(|(path, mut page)| {
        match bodies.get(&page.body) {
            Some(body) => page.body = body.clone(),
            None => {
                bodies.insert(page.body.clone());
            }
        }
        (path, page)
    });
    shared.collect()
}

/// Takes off the first segment `ec2`, which Nova ignores.
pub(super) fn without_alias(path: &str) -> &str {
    match path.strip_prefix("ec2") {
        Some("") => "",
        Some(rest) => match rest.strip_prefix('/') {
            // In there, `openstack` would be a version.
            Some(rest) if rest != "openstack" && !rest.starts_with("openstack/") => rest,
            _ => path,
        },
        None => path,
    }
}

/// Tells whether a path is that of the password, in whichever version.
pub(super) fn is_password(path: &str) -> bool {
    let version = path.strip_prefix("openstack/").and_then(|rest| rest.strip_suffix("/password"));
    version.is_some_and(|version| !version.contains('/'))
}

#[cfg(test)]
mod tests;
