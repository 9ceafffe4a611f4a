//! Nova's answers, as far as facts are read from them.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::DeriveError;
use crate::api::{NovaPages, Page};
use crate::record::{InstanceId, ProjectId};

/// An instance's answers.
pub(super) struct Answers<'a> {
    pages: &'a NovaPages,
    pub(super) uuid: InstanceId,
    pub(super) project: ProjectId,
    /// The newest `meta_data.json` that makes sense.
    pub(super) meta_data: Map<String, Value>,
    /// The newest `network_data.json` that makes sense.
    pub(super) network_data: Option<Map<String, Value>>,
    /// The version of the EC2 tree to read: the newest that Nova lists.
    ec2: &'a str,
}

impl<'a> Answers<'a> {
    /// Reads what JSON there is.
    pub(super) fn of(pages: &'a NovaPages) -> Result<Self, DeriveError> {
        let uuid = pages.uuid();
        let mut project: Option<ProjectId> = None;
        let mut newest: Option<Map<String, Value>> = None;
        for (path, page) in newest_first(pages, "meta_data.json") {
            let Some(meta_data) = object(page) else { continue };
            let is_ours = meta_data.get("uuid").and_then(Value::as_str).is_none_or(|said| said == uuid.to_string());
            let said = meta_data.get("project_id").and_then(Value::as_str).filter(|id| !id.is_empty());
            let is_same = said.zip(project.as_ref()).is_none_or(|(said, project)| said == project.as_str());
            if !is_ours || !is_same {
                return Err(DeriveError::Contradiction { id: uuid, path: path.to_owned() });
            }
            project = project.or_else(|| said.map(ProjectId::from));
            newest.get_or_insert(meta_data);
        }
        let (Some(project), Some(meta_data)) = (project, newest) else { return Err(DeriveError::NoProject(uuid)) };
        let network_data = newest_first(pages, "network_data.json").find_map(|(_, page)| object(page));
        let has_meta_data = |path: &&str| path.strip_suffix("/meta-data").is_some_and(|version| !version.contains('/'));
        let listings = pages.pages().filter(|(_, page)| page.is_found()).map(|(path, _)| path).filter(has_meta_data);
        let ec2 = listings.max().and_then(|path| path.strip_suffix("/meta-data")).unwrap_or("latest");
        Ok(Self { pages, uuid, project, meta_data, network_data, ec2 })
    }

    /// Returns a value of the EC2 tree, below `meta-data`, if Nova has it as text.
    pub(super) fn leaf(&self, name: &str) -> Option<&'a str> {
        self.page(&format!("{}/meta-data/{name}", self.ec2))?.text()
    }

    /// Returns the file that `meta_data.json` names for an injected network.
    pub(super) fn injected(&self) -> Option<&'a str> {
        self.page("openstack/content/0000")?.text()
    }

    /// Returns the user data; none is not the same as empty.
    pub(super) fn user_data(&self) -> Option<Bytes> {
        let ec2 = self.page(&format!("{}/user-data", self.ec2));
        let page = ec2.or_else(|| newest_first(self.pages, "user_data").map(|(_, page)| page).next());
        page.map(|page| page.body().clone())
    }

    /// Returns the password that the guest posted.
    pub(super) fn password(&self) -> Option<Box<str>> {
        let password = self.pages.password();
        std::str::from_utf8(&password).ok().filter(|text| !text.is_empty()).map(Into::into)
    }

    fn page(&self, path: &str) -> Option<&'a Page> {
        self.pages.page(path).filter(|page| page.is_found())
    }
}

/// Returns the pages of a document of the OpenStack tree that are there, `latest` first.
fn newest_first<'a>(pages: &'a NovaPages, name: &'static str) -> impl Iterator<Item = (&'a str, &'a Page)> {
    let is_it = move |path: &str| {
        let version = path.strip_prefix("openstack/").and_then(|rest| rest.strip_suffix(name)?.strip_suffix('/'));
        version.is_some_and(|version| !version.contains('/'))
    };
    // Dates ascend, and `latest` comes after them.
    let mut found: Vec<_> = pages.pages().filter(|(path, page)| page.is_found() && is_it(path)).collect();
    found.reverse();
    found.into_iter()
}

/// Returns a value of the EC2 tree, which Nova prints as `None` where it is null. The same text as a value gives the same
/// answer.
pub(super) fn or_null(text: &str) -> Option<&str> {
    (text != "None").then_some(text)
}

fn object(page: &Page) -> Option<Map<String, Value>> {
    match serde_json::from_slice(page.body()) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}
