//! The document's member `pages`: answers that are given as they are.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::error::{Fault, refusal};
use super::excerpt::quoted;
use super::place::Step;
use super::value::{Base64Text, nullable};
use crate::api::check_path;
use crate::record::{PageAnswer, PageRecord};
use crate::secret;

/// The most pages of a document: several times what Nova has for an instance.
pub const MAX_PAGES: usize = 4096;

/// The most bytes of all bodies of a document's pages together.
pub const MAX_PAGE_BYTES: usize = 4 << 20;

/// The content type of most of Nova's answers.
const PLAIN: &str = "text/plain; charset=UTF-8";

/// An answer. One of `text`, `base64` and `same_as` is required.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PageDocument")]
struct Page {
    /// The header `Content-Type`. Default: `text/plain; charset=UTF-8`. Null: none.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    content_type: Option<Option<Box<str>>>,

    /// The body, if it is text.
    #[serde(default)]
    text: Option<Box<str>>,

    /// The body in base64, for what is not text.
    #[serde(default)]
    base64: Option<Base64Text>,

    /// The path of another page, which has this answer too, content type included.
    #[serde(default)]
    same_as: Option<Box<str>>,
}

impl Page {
    fn length(&self) -> usize {
        let text = self.text.as_ref().map_or(0, |text| text.len());
        text + self.base64.as_ref().map_or(0, |bytes| bytes.0.len())
    }
}

/// Pages in the order they are written, each path once.
#[derive(Default)]
pub(super) struct Pages(Vec<(Box<str>, Option<Page>)>);

impl<'de> Deserialize<'de> for Pages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByPath;
        impl<'de> Visitor<'de> for ByPath {
            type Value = Pages;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of pages by path")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pages, A::Error> {
                let mut pages: Vec<(Box<str>, Option<Page>)> = Vec::new();
                let mut seen = HashSet::new();
                let mut bytes = 0;
                while let Some(path) = map.next_key::<Box<str>>()? {
                    let refused = |problem: String, remedy| Err(A::Error::custom(refusal(problem, remedy)));
                    if let Err(error) = check_path(&path) {
                        return refused(format!("{}: {error}", quoted(&path)), error.remedy());
                    }
                    if !seen.insert(path.clone()) {
                        return refused(format!("the path {} occurs twice", quoted(&path)), "keep one of them");
                    }
                    if pages.len() == MAX_PAGES {
                        return refused(
                            format!("there are more than {MAX_PAGES} pages"),
                            "leave out what is rendered alike",
                        );
                    }
                    let page: Option<Page> = map.next_value()?;
                    bytes += page.as_ref().map_or(0, Page::length);
                    if bytes > MAX_PAGE_BYTES {
                        let problem = format!("the pages have more than {} MiB", MAX_PAGE_BYTES >> 20);
                        return refused(problem, "leave out what is rendered alike");
                    }
                    pages.push((path, page));
                }
                Ok(Pages(pages))
            }
        }
        deserializer.deserialize_map(ByPath)
    }
}

impl JsonSchema for Pages {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Pages".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let page = generator.subschema_for::<Option<Page>>();
        json_schema!({"type": "object", "maxProperties": MAX_PAGES, "additionalProperties": page})
    }
}

impl Pages {
    /// Returns the records, by path.
    pub(super) fn records(self) -> Result<Vec<PageRecord>, Fault> {
        let mut records = Vec::with_capacity(self.0.len());
        let (mut places, mut same) = (HashMap::new(), Vec::new());
        for (path, page) in self.0 {
            let answer = match page {
                None => None,
                Some(Page { same_as: Some(other), content_type, text, base64 }) => {
                    if content_type.is_some() || text.is_some() || base64.is_some() {
                        let remedy = "keep same_as, or content type and body";
                        return Err(fault(&path, Some("same_as"), "the answer is given twice".to_owned(), remedy));
                    }
                    same.push((records.len(), other));
                    None
                }
                Some(page) => {
                    places.insert(path.clone(), records.len());
                    Some(answer(page, &path)?)
                }
            };
            records.push(PageRecord { path, answer });
        }
        for (place, other) in same {
            let Some(answer) = places.get(&other).and_then(|place| records[*place].answer.clone()) else {
                let problem = format!("no page with a body has the path {}", quoted(&other));
                let remedy = "name a page of this document that has text or base64";
                return Err(fault(&records[place].path, Some("same_as"), problem, remedy));
            };
            records[place].answer = Some(answer);
        }
        records.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(records)
    }
}

fn fault(path: &str, field: Option<&str>, problem: String, remedy: &'static str) -> Fault {
    let path = [Some("pages"), Some(path), field].into_iter().flatten().map(Step::from).collect();
    Fault { path, problem, remedy }
}

fn answer(page: Page, path: &str) -> Result<PageAnswer, Fault> {
    let content_type = page.content_type.unwrap_or_else(|| Some(PLAIN.into()));
    if let Some(name) = &content_type
        && !name.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
    {
        let problem = format!("{} cannot be in a header", quoted(name));
        return Err(fault(path, Some("content_type"), problem, "write one like text/plain; charset=UTF-8, in ASCII"));
    }
    let body = match (page.text, page.base64) {
        (Some(_), Some(_)) => {
            return Err(fault(path, Some("base64"), "the body is given twice".to_owned(), "keep text or base64"));
        }
        (Some(text), None) => secret::shared(text.into_boxed_bytes().into_vec()),
        (None, Some(bytes)) => bytes.0,
        (None, None) => {
            let remedy = "write text, base64 or same_as, or null for a path that is not there";
            return Err(fault(path, None, "a page without a body".to_owned(), remedy));
        }
    };
    Ok(PageAnswer { content_type, body })
}
