//! Properties of a document: what `--property` names, and how a document is changed by it. No I/O.
//!
//! Promises:
//! - a path is one that the document's schema knows, so a misspelt one is refused and never written;
//! - a value is a text where the schema says text, and JSON elsewhere; no quotes are needed around a host name, and no doubt arises whether
//!   `5` is a number;
//! - two names of one thing (`tap` and `devname`; `user_data` and `user_data_b64`) take each other's place;
//! - a change of nothing gives back the very bytes; otherwise the order of the fields, the indentation, the digits of
//!   numbers and the last line break stay. Other blanks do not;
//! - a key that occurs twice is refused, since one of the two would be lost.
//!
//! Left out: whether the document can be used afterwards (`wire::parse` decides that).

use std::collections::HashSet;
use std::fmt;

use serde::Serialize as _;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::base64;
use crate::cli::error::instance::PropertyError;
use crate::source::wire;

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Element(usize),
    Field(String),
}

/// A place in a document that the schema knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path {
    steps: Vec<Step>,
    /// Whether the schema has a text there.
    is_text: bool,
    shown: String,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Path {
    /// Reads a path like `hostname`, `ports.0.tap`, `ports[0].tap` or `metadata.any key.at all`.
    pub(super) fn parse(text: &str) -> Result<Self, PropertyError> {
        let root = wire::schema();
        let mut here = resolve(&root, &root);
        let mut steps = Vec::new();
        let mut rest = Some(text);
        while let Some(now) = rest {
            let (part, after) = next_part(now);
            rest = after;
            let (step, next) = if let Some(values) = here.get("additionalProperties").filter(|one| one.is_object()) {
                // A map with keys of the owner's: dots and brackets belong to the key.
                rest = None;
                (Step::Field(now.to_owned()), Some(values).filter(|_| !now.is_empty()))
            } else if let Some(fields) = here.get("properties") {
                (Step::Field(part.to_owned()), fields.get(part))
            } else if let Some(items) = here.get("items") {
                let number = part.parse().map_err(|_| PropertyError::NoNumber(text.to_owned()))?;
                (Step::Element(number), Some(items))
            } else {
                let whole = text[..text.len() - now.len()].trim_end_matches(['.', '[']);
                return Err(PropertyError::NoParts(whole.to_owned()));
            };
            here = resolve(&root, next.ok_or_else(|| PropertyError::Unknown(text.to_owned()))?);
            steps.push(step);
        }
        Ok(Self { steps, is_text: is_text(&root, here), shown: text.to_owned() })
    }

    /// Returns the value at the place, under either name of a tap.
    pub(super) fn look<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        let at = |steps: &[Step]| {
            steps.iter().try_fold(document, |value, step| match step {
                Step::Field(name) => value.get(name),
                Step::Element(number) => value.get(number),
            })
        };
        at(&self.steps).or_else(|| at(&self.synonym()?))
    }

    /// Returns the place under the other name of a tap, if it is one.
    fn synonym(&self) -> Option<Vec<Step>> {
        let [ports @ Step::Field(list), port @ Step::Element(_), Step::Field(name)] = self.steps.as_slice() else {
            return None;
        };
        let other = match name.as_str() {
            "tap" => "devname",
            "devname" => "tap",
            _ => return None,
        };
        (list == "ports").then(|| vec![ports.clone(), port.clone(), Step::Field(other.to_owned())])
    }

    /// Returns the place that a value here takes the place of.
    fn twin(&self) -> Option<Vec<Step>> {
        match self.shown.as_str() {
            "user_data" => Some(vec![Step::Field("user_data_b64".to_owned())]),
            "user_data_b64" => Some(vec![Step::Field("user_data".to_owned())]),
            _ => self.synonym(),
        }
    }

    fn is_uuid(&self) -> bool {
        self.shown == "uuid"
    }
}

/// Takes the first part off: up to a dot or a bracket. `None`: nothing follows it.
fn next_part(text: &str) -> (&str, Option<&str>) {
    let Some(end) = text.find(['.', '[', ']']) else { return (text, None) };
    let after = text[end..].strip_prefix(']').unwrap_or(&text[end..]);
    let after = if after.is_empty() { None } else { Some(after.strip_prefix(['.', '[']).unwrap_or(after)) };
    (&text[..end], after)
}

/// Follows references, and goes to the alternative that is not null.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let found = name.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or(schema, |found| resolve(root, found));
    }
    if schema.get("type").is_none()
        && let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array)
        && let Some(first) = alternatives.iter().find(|one| one.get("type").is_none_or(|name| name != "null"))
    {
        return resolve(root, first);
    }
    schema
}

fn is_text(root: &Value, schema: &Value) -> bool {
    let named = |name: &Value| name == "string";
    match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(named),
        Some(name) => named(name),
        None => {
            let alternatives = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
            alternatives.map(|one| resolve(root, one)).any(|one| one.get("type").is_some_and(named))
        }
    }
}

/// A place and the value that it gets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assignment {
    path: Path,
    value: Value,
}

impl Assignment {
    /// Reads `key=text`, `key=@file` and `key:=JSON`. `read` reads a file.
    pub(super) fn parse<E: From<PropertyError>>(
        text: &str,
        read: impl FnOnce(&str) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let (name, value) = text.split_once('=').ok_or_else(|| PropertyError::NoValue(text.to_owned()))?;
        let (name, is_json) = name.strip_suffix(':').map_or((name, false), |name| (name, true));
        let path = Path::parse(name)?;
        if path.is_uuid() {
            return Err(PropertyError::Uuid.into());
        }
        let value = match value.strip_prefix('@').filter(|_| !is_json) {
            Some(file) => {
                let bytes = read(file)?;
                if path.shown == "user_data_b64" {
                    let mut coded = Vec::new();
                    base64::encode_into(&bytes, &mut coded);
                    return Ok(Self { path, value: String::from_utf8_lossy(&coded).into() });
                }
                String::from_utf8(bytes).map_err(|_| PropertyError::NotText(name.to_owned()))?
            }
            None => value.to_owned(),
        };
        let value = if path.is_text && !is_json {
            Value::String(value)
        } else {
            serde_json::from_str(&value)
                .map_err(|error| PropertyError::NotJson { path: name.to_owned(), problem: error.to_string() })?
        };
        Ok(Self { path, value })
    }
}

/// A document's text with these values. Two names of one thing take each other's place.
pub(super) fn set(text: &[u8], assignments: &[Assignment]) -> Result<Vec<u8>, PropertyError> {
    edit(text, |document| {
        for Assignment { path, value } in assignments {
            if let Some(twin) = path.twin()
                && !assignments.iter().any(|other| other.path.steps == twin)
            {
                remove(document, &twin);
            }
            assign(document, path, value.clone())?;
        }
        Ok(())
    })
}

/// A document's text without these properties; of a tap, under both names. Numbers of elements are those of the document as it is stored.
pub(super) fn unset(text: &[u8], paths: &[Path]) -> Result<Vec<u8>, PropertyError> {
    if paths.iter().any(Path::is_uuid) {
        return Err(PropertyError::Uuid);
    }
    let mut paths: Vec<&Path> = paths.iter().collect();
    // From the end, so that no number changes before its turn.
    paths.sort_by(|a, b| b.cmp(a));
    paths.dedup_by(|a, b| a.steps == b.steps);
    edit(text, |document| {
        for path in paths {
            remove(document, &path.steps);
            if let Some(synonym) = path.synonym() {
                remove(document, &synonym);
            }
        }
        Ok(())
    })
}

fn assign(document: &mut Value, path: &Path, new: Value) -> Result<(), PropertyError> {
    let mut here = document;
    for step in &path.steps {
        if here.is_null() {
            *here = match step {
                Step::Field(_) => Value::Object(Map::new()),
                Step::Element(_) => Value::Array(Vec::new()),
            };
        }
        here = match (step, here) {
            (Step::Field(name), Value::Object(fields)) => fields.entry(name.clone()).or_insert(Value::Null),
            (Step::Element(number), Value::Array(elements)) => {
                let length = elements.len();
                if *number > length {
                    return Err(PropertyError::BeyondEnd { path: path.shown.clone(), length });
                }
                if *number == length {
                    elements.push(Value::Null);
                }
                &mut elements[*number]
            }
            _ => return Err(PropertyError::NotEditable(format!("{path} leads through a value without parts"))),
        };
    }
    *here = new;
    Ok(())
}

fn remove(document: &mut Value, steps: &[Step]) {
    let Some((last, before)) = steps.split_last() else { return };
    let parent = before.iter().try_fold(document, |value, step| match step {
        Step::Field(name) => value.get_mut(name),
        Step::Element(number) => value.get_mut(number),
    });
    match (last, parent) {
        (Step::Field(name), Some(Value::Object(fields))) => {
            fields.shift_remove(name);
        }
        (Step::Element(number), Some(Value::Array(elements))) if *number < elements.len() => {
            elements.remove(*number);
        }
        _ => {}
    }
}

/// Reads, changes and writes a text. A byte order mark goes with the first change.
fn edit(text: &[u8], change: impl FnOnce(&mut Value) -> Result<(), PropertyError>) -> Result<Vec<u8>, PropertyError> {
    let before = read(text)?;
    let mut after = before.clone();
    change(&mut after)?;
    if after == before {
        return Ok(text.to_vec());
    }
    let mut written = Vec::with_capacity(text.len());
    let done = match indentation(text) {
        None => after.serialize(&mut serde_json::Serializer::new(&mut written)),
        Some(indentation) => {
            let form = serde_json::ser::PrettyFormatter::with_indent(&indentation);
            after.serialize(&mut serde_json::Serializer::with_formatter(&mut written, form))
        }
    };
    done.map_err(|error| PropertyError::NotEditable(error.to_string()))?;
    if text.ends_with(b"\n") {
        written.push(b'\n');
    }
    Ok(written)
}

/// Reads a stored document: an object, with no key twice.
pub(super) fn read(bytes: &[u8]) -> Result<Value, PropertyError> {
    let text = wire::text(bytes).map_err(|error| PropertyError::NotEditable(error.to_string()))?;
    let refuse = |error: serde_json::Error| PropertyError::NotEditable(error.to_string());
    let _: NoKeyTwice = serde_json::from_str(text).map_err(refuse)?;
    let value: Value = serde_json::from_str(text).map_err(refuse)?;
    if value.is_object() { Ok(value) } else { Err(PropertyError::NotEditable("it is not a JSON object".to_owned())) }
}

/// Returns the blanks before the first line that has some; `None` if the text is one line.
fn indentation(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.trim_ascii().split(|byte| *byte == b'\n').skip(1).peekable();
    lines.peek()?;
    let blanks = |line: &[u8]| line.iter().copied().take_while(|byte| matches!(byte, b' ' | b'\t')).collect::<Vec<_>>();
    Some(lines.map(blanks).find(|blanks| !blanks.is_empty()).unwrap_or_default())
}

/// Says in a line each what differs between two documents.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    differ(String::new(), Some(before), Some(after), &mut lines);
    lines
}

fn differ(path: String, before: Option<&Value>, after: Option<&Value>, lines: &mut Vec<String>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                differ(path, old.get(name), new.get(name), lines);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for number in 0..old.len().max(new.len()) {
                differ(format!("{path}.{number}"), old.get(number), new.get(number), lines);
            }
        }
        (before, after) => {
            let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), brief);
            lines.push(format!("{path}: {} -> {}", shown(before), shown(after)));
        }
    }
}

/// A value, cut where it gets long: user data may be 64 KiB.
fn brief(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}… ({} bytes)", text.len())
}

/// Any JSON in which no object has a key twice.
struct NoKeyTwice;

impl<'de> Deserialize<'de> for NoKeyTwice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for NoKeyTwice {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} occurs twice")));
            }
            seen.insert(key);
            fields.next_value::<Self>()?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
