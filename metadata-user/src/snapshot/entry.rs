//! An instance in the sealed text: lines that begin with a keyword.
//!
//! - `document` and the document, then `beside` and what came to the instance beside it: a password that the guest posted,
//!   answers of dynamic vendor data, when the user data was first read, what the guest wrote as its attributes;
//! - `copied` and the answers of an unchanged OpenStack, each body once, and what came beside, as far as Nova does not keep it.
//!
//! An instance that this version cannot read is left out with a warning; the others are read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use tracing::warn;

use crate::api::{Content, NovaPages, Page, Password, RenderedInstance};
use crate::base64::{self, Encoded};
use crate::record::{AttributeTexts, Attributes, InstanceId, InstanceRecord};
use crate::secret;
use crate::source::wire;
use crate::store::{Kept, Store};

const DOCUMENT: &[u8] = b"document ";
const BESIDE: &[u8] = b"beside ";
const COPIED: &[u8] = b"copied ";

/// An instance of a snapshot. `Debug` names the instance only.
pub(super) enum Entry {
    Record {
        record: Box<InstanceRecord>,
        posted: Option<Password>,
        vendor_data: HashMap<String, Value>,
        user_data_read: Option<u64>,
        attributes: AttributeTexts,
    },
    NovaPages {
        pages: NovaPages,
        user_data_read: Option<u64>,
        attributes: AttributeTexts,
    },
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({}, ..)", self.id())
    }
}

impl Entry {
    pub(super) fn id(&self) -> InstanceId {
        match self {
            Self::Record { record, .. } => record.uuid,
            Self::NovaPages { pages, .. } => pages.uuid(),
        }
    }

    pub(super) fn put_into(self, store: &Store) {
        let id = self.id();
        let (Self::Record { user_data_read, attributes, .. } | Self::NovaPages { user_data_read, attributes, .. }) =
            &self;
        let (user_data_read, attributes) = (*user_data_read, Attributes::of_texts(attributes));
        match self {
            Self::Record { record, posted, vendor_data, .. } => {
                store.put(*record);
                if let Some(posted) = posted {
                    store.restore_password(id, posted);
                }
                for (target, answer) in vendor_data {
                    store.set_dynamic(id, &target, answer);
                }
            }
            Self::NovaPages { pages, .. } => {
                store.put_nova_pages(pages);
            }
        }
        if let Some(at) = user_data_read {
            store.note_user_data_read(id, at);
        }
        if !attributes.is_empty() {
            // The instance was put there above.
            let _ = store.change_attributes(id, |kept| {
                *kept = attributes;
                Ok(true)
            });
        }
    }
}

/// What came to an instance beside its document.
#[derive(Default, Deserialize)]
struct Beside<'a> {
    #[serde(borrow, default)]
    posted: Option<Cow<'a, str>>,
    /// As versions up to 0.1 wrote it: posted, or the document's.
    #[serde(borrow, default)]
    password: Option<Cow<'a, str>>,
    #[serde(default)]
    vendor_data: HashMap<String, Value>,
    /// In seconds of Unix time.
    #[serde(default)]
    user_data_read: Option<u64>,
    #[serde(default)]
    attributes: AttributeTexts,
}

/// The same, borrowed from an instance.
#[derive(Serialize)]
struct BesideOf<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    posted: Option<&'a str>,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    vendor_data: &'a HashMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data_read: Option<u64>,
    #[serde(skip_serializing_if = "AttributeTexts::is_empty")]
    attributes: AttributeTexts,
}

/// NovaPages answers.
#[derive(Deserialize)]
struct Pages<'a> {
    uuid: uuid::Uuid,
    #[serde(borrow)]
    bodies: Vec<Body<'a>>,
    /// By path.
    #[serde(borrow)]
    pages: BTreeMap<Cow<'a, str>, PageAt<'a>>,
    /// In seconds of Unix time.
    #[serde(default)]
    user_data_read: Option<u64>,
    #[serde(default)]
    attributes: AttributeTexts,
}

/// The same, borrowed from an instance.
#[derive(Serialize)]
struct PagesOf<'a> {
    uuid: uuid::Uuid,
    bodies: Vec<BodyOf<'a>>,
    pages: BTreeMap<&'a str, PageAt<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data_read: Option<u64>,
    #[serde(skip_serializing_if = "AttributeTexts::is_empty")]
    attributes: AttributeTexts,
}

/// An answer; absent where Nova has no such path.
#[derive(Serialize, Deserialize)]
struct PageAt<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Cow<'a, str>>,
    /// Its place among the bodies; `None` where there is no such path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Body<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    #[serde(borrow)]
    Base64(Cow<'a, str>),
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum BodyOf<'a> {
    Text(&'a str),
    #[serde(serialize_with = "as_text")]
    Base64(Encoded<'a>),
}

fn as_text<S: Serializer>(bytes: &Encoded<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(bytes)
}

/// Writes an instance.
pub(super) fn write(instance: &Kept, out: &mut impl Write) -> io::Result<()> {
    let attributes = instance.attributes.as_ref().map(|attributes| attributes.texts()).unwrap_or_default();
    match &instance.content {
        Content::Rendered(rendered) => write_record(rendered, instance.user_data_read, attributes, out),
        Content::NovaPages(copied) => write_copied(copied, instance.user_data_read, attributes, out),
    }
}

fn write_record(
    instance: &RenderedInstance,
    user_data_read: Option<u64>,
    attributes: AttributeTexts,
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(DOCUMENT)?;
    wire::write(instance.record(), out)?;
    out.write_all(b"\n")?;
    let posted = instance.posted().map(Password::as_str);
    out.write_all(BESIDE)?;
    let beside = BesideOf { posted, vendor_data: instance.dynamic(), user_data_read, attributes };
    serde_json::to_writer(&mut *out, &beside)?;
    out.write_all(b"\n")
}

fn write_copied(
    copied: &NovaPages,
    user_data_read: Option<u64>,
    attributes: AttributeTexts,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut places: HashMap<&Bytes, usize> = HashMap::new();
    let (bodies, pages) = (Vec::new(), BTreeMap::new());
    let mut text = PagesOf { uuid: copied.uuid().0, bodies, pages, user_data_read, attributes };
    for (path, page) in copied.pages() {
        let body = (page.is_found()).then(|| {
            *places.entry(page.body()).or_insert_with(|| {
                let body = std::str::from_utf8(page.body());
                text.bodies.push(body.map_or_else(|_| BodyOf::Base64(Encoded(page.body())), BodyOf::Text));
                text.bodies.len() - 1
            })
        });
        text.pages.insert(path, PageAt { content_type: page.content_type().map(Cow::Borrowed), body });
    }
    out.write_all(COPIED)?;
    serde_json::to_writer(&mut *out, &text)?;
    out.write_all(b"\n")
}

/// Reads all instances.
pub(super) fn read(text: &[u8]) -> Vec<Entry> {
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut entries = Vec::new();
    while let Some(line) = lines.next() {
        let entry = if let Some(document) = line.strip_prefix(DOCUMENT) {
            let beside = lines.next().and_then(|line| line.strip_prefix(BESIDE)).unwrap_or(b"{}");
            read_record(document, beside)
        } else if let Some(pages) = line.strip_prefix(COPIED) {
            read_copied(pages)
        } else {
            Err("its kind is unknown to this version".to_owned())
        };
        match entry {
            Ok(entry) => entries.push(entry),
            Err(problem) => warn!("an instance of the snapshot is left out until the source is read: {problem}"),
        }
    }
    entries
}

fn read_record(document: &[u8], beside: &[u8]) -> Result<Entry, String> {
    let record = wire::read_back(document).map_err(|error| error.to_string())?;
    let beside: Beside<'_> = serde_json::from_slice(beside).map_err(|error| error.to_string())?;
    let earlier = beside.password.filter(|password| record.password.as_deref() != Some(&**password));
    let posted = beside.posted.or(earlier).and_then(|password| Password::new(password.into_owned()));
    Ok(Entry::Record {
        record: Box::new(record),
        posted,
        vendor_data: beside.vendor_data,
        user_data_read: beside.user_data_read,
        attributes: beside.attributes,
    })
}

fn read_copied(pages: &[u8]) -> Result<Entry, String> {
    let text: Pages<'_> = serde_json::from_slice(pages).map_err(|error| error.to_string())?;
    let bodies = text.bodies.into_iter().map(|body| match body {
        Body::Text(text) => Ok(secret::shared(text.into_owned().into_bytes())),
        Body::Base64(text) => base64::decode(&text).map(secret::shared).map_err(|error| error.to_string()),
    });
    let bodies: Vec<Bytes> = bodies.collect::<Result<_, _>>()?;
    let pages = text.pages.into_iter().map(|(path, page)| {
        let page = match page.body {
            None => Page::not_found(),
            Some(place) => {
                let body = bodies.get(place).ok_or_else(|| format!("there is no body {place}"))?;
                Page::found(page.content_type.as_deref(), body.clone())
            }
        };
        Ok((path.into_owned(), page))
    });
    let pages: Vec<_> = pages.collect::<Result<_, String>>()?;
    let pages = NovaPages::new(InstanceId(text.uuid), pages);
    Ok(Entry::NovaPages { pages, user_data_read: text.user_data_read, attributes: text.attributes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Cloud;
    use crate::store::tests::{id, record};

    fn restored(text: &[u8]) -> Store {
        let store = Store::new(Cloud::default());
        read(text).into_iter().for_each(|entry| entry.put_into(&store));
        store
    }

    #[test]
    fn a_password_of_the_document_is_never_taken_for_a_posted_one() {
        let with =
            |password: Option<&str>| InstanceRecord { password: password.map(Into::into), ..record(1, "p", &["tap1"]) };
        let store = Store::new(Cloud::default());
        store.put(with(Some("documented")));
        let mut text = Vec::new();
        write(&store.served(id(1)).unwrap().into(), &mut text).unwrap();
        assert!(text.ends_with(b"\nbeside {}\n"), "{}", String::from_utf8_lossy(&text));
        // As an earlier version wrote it.
        let earlier = [text.strip_suffix(b"{}\n").unwrap(), b"{\"password\":\"documented\"}\n"].concat();
        for text in [&text, &earlier] {
            let store = restored(text);
            assert_eq!(store.served(id(1)).unwrap().password().as_deref(), Some("documented"));
            store.put(with(None));
            assert_eq!(store.served(id(1)).unwrap().password(), None);
        }
        let posted = [text.strip_suffix(b"{}\n").unwrap(), b"{\"password\":\"posted\"}\n"].concat();
        let store = restored(&posted);
        store.put(with(None));
        assert_eq!(store.served(id(1)).unwrap().password().as_deref(), Some("posted"), "a posted one stays");
    }
}
