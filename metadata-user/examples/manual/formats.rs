//! Pages of section 5, made of JSON Schemas.
//!
//! Promises: every property is there with its type, its default and what the schema says of it. Left out: patterns and
//! lengths, which the schemas in the package have.

use std::error::Error;

use clap_mangen::roff::{Inline, Roff, bold, roman};
use serde_json::{Map, Value};

/// A file format.
pub(super) struct Format {
    /// The page's name.
    pub(super) name: &'static str,
    /// Half a line for `apropos`.
    pub(super) about: &'static str,
    /// What it is for.
    pub(super) text: &'static str,
    /// What may be in it.
    pub(super) schema: Value,
    /// Whether its tables are named as TOML does; else its objects are, by their definitions.
    pub(super) is_configuration: bool,
}

impl Format {
    /// Returns the page.
    pub(super) fn page(&self, date: &str) -> Result<String, Box<dyn Error>> {
        let mut roff = Roff::new();
        roff.control("TH", [self.name, "5", date, &super::source_name(), "metadatad"]);
        roff.control("SH", ["NAME"]).text([roman(format!("{} - {}", self.name, self.about))]);
        roff.control("SH", ["DESCRIPTION"]).text(marked(self.text));
        if self.is_configuration {
            tables(&mut roff, "", &self.schema)?;
        } else {
            roff.control("SH", ["MEMBERS"]);
            members(&mut roff, &self.schema, |_| true)?;
            for (name, definition) in object(&self.schema, "$defs")? {
                if definition.get("properties").is_some() {
                    roff.control("SH", [short(name).to_uppercase().as_str()]);
                    description(&mut roff, definition);
                    members(&mut roff, definition, |_| true)?;
                }
            }
        }
        roff.control("SH", ["SEE ALSO"])
            .text([roman("metadatad(8), metadatad-check-config(8), metadatad-instance(8)")]);
        Ok(roff.render())
    }
}

/// Writes a section for each table, those inside others after them.
fn tables(roff: &mut Roff, above: &str, schema: &Value) -> Result<(), Box<dyn Error>> {
    for (name, table) in object(schema, "properties")?.iter().filter(|(_, value)| is_table(value)) {
        let name = format!("{above}{name}");
        roff.control("SH", [format!("[{name}]").as_str()]);
        description(roff, table);
        members(roff, table, |value| !is_table(value))?;
        tables(roff, &format!("{name}."), table)?;
    }
    Ok(())
}

fn is_table(value: &Value) -> bool {
    value.get("properties").is_some()
}

/// Writes a paragraph for each property of which `wanted` holds.
fn members(roff: &mut Roff, schema: &Value, wanted: impl Fn(&Value) -> bool) -> Result<(), Box<dyn Error>> {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, value) in object(schema, "properties")?.iter().filter(|(_, value)| wanted(value)) {
        let mut about = vec![type_of(value)];
        if required.iter().any(|required| required == name) {
            about.push("required".to_owned());
        }
        match value.get("default") {
            // Where it is a list without anything, the description says what that means.
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(Value::Object(map)) if map.is_empty() => {}
            Some(default) => about.push(format!("default {default}")),
            None => {}
        }
        roff.control("TP", []).text([bold(name.as_str()), roman(format!(" ({})", about.join(", ")))]);
        description(roff, value);
    }
    Ok(())
}

fn description(roff: &mut Roff, schema: &Value) {
    if let Some(text) = schema.get("description").and_then(Value::as_str) {
        roff.text(marked(text));
    }
}

/// Returns a type as people name it.
fn type_of(schema: &Value) -> String {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().filter(|value| !value.is_null()).map(Value::to_string).collect::<Vec<_>>().join(" or ");
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return format!("see {}", short(name.rsplit('/').next().unwrap_or(name)).to_uppercase());
    }
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        _ => Vec::new(),
    };
    if kinds == ["array"] {
        return schema.get("items").map_or_else(|| "array".to_owned(), |items| format!("array: {}", type_of(items)));
    }
    if !kinds.is_empty() {
        return kinds.join(" or ");
    }
    let choices = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array());
    let choices: Vec<String> = choices.into_iter().flatten().filter(|kind| !is_null(kind)).map(type_of).collect();
    if choices.is_empty() { "any".to_owned() } else { choices.join(" or ") }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// Returns a definition's name without what the code adds to it.
fn short(name: &str) -> &str {
    name.trim_end_matches("Document")
}

/// Returns a text whose parts in backticks are bold.
fn marked(text: &str) -> Vec<Inline> {
    let text = text.replace('\n', " ");
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(number, part)| if number % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

fn object<'a>(schema: &'a Value, name: &str) -> Result<&'a Map<String, Value>, Box<dyn Error>> {
    schema.get(name).and_then(Value::as_object).ok_or_else(|| format!("a schema without {name}").into())
}
