//! What operators read about the configuration, made from the declarations of its keys: the example, the reference and the
//! JSON Schema. `cargo xtask schema` writes all three anew; a test compares them key by key.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::key::{Described, Table};
use super::{TABLES, controller};

/// Width of the example's lines.
const WIDTH: usize = 110;

/// A configuration file that is described: the daemon's, or the controller's.
struct Book {
    title: &'static str,
    /// What the example begins with.
    example: &'static str,
    /// What the reference begins with.
    markdown: &'static str,
    tables: &'static [&'static Table],
}

static DAEMON: Book = Book {
    title: "Configuration of metadatad",
    example: "# Configuration of metadatad. Every key is shown with its default; a line may be left out.\n\
              # `metadatad check-config` validates a changed file. docs/configuration.md has the types, ranges and reasons.\n",
    markdown: "# Configuration\n\n\
         <!-- Written by `cargo xtask schema` from metadata-user/src/config/. -->\n\n\
         metadatad reads one TOML file when it starts: `/etc/metadatad/metadatad.toml`, or what `--config` names. Every key may \
         be left\nout; an empty file is valid. An unknown key, a wrong type or an impossible value is refused with line, \
         column and remedy, and\n`metadatad check-config` says so before a restart does. `metadatad schema example` prints a \
         file with every key, and\n`metadatad schema configuration` its JSON Schema, for editors.\n\n\
         The file is UTF-8, of at most 1 MiB. Durations are strings: a whole number with `ms`, `s` or `m`. Paths are \
         absolute.\n\n\
         SIGHUP (`systemctl reload metadatad`) makes a running daemon read the file again. A file that is not accepted changes \
         nothing, and\n`metadatad status` says why. A key with the line \"Applied by a reload\" is in force at once, for new \
         connections or for the next\nrequest; any other that was changed is named in the log and in `metadatad status`, and \
         needs a restart.\n",
    tables: TABLES,
};

static CONTROLLER: Book = Book {
    title: "Configuration of the controller of metadatad",
    example: "# Configuration of `metadatad controller run`. Every key is shown with its default, or an example where it has none.\n\
              # `metadatad controller check-config` validates a changed file. docs/controller-configuration.md has types, ranges, reasons.\n",
    markdown: "# Configuration of the controller\n\n\
         <!-- Written by `cargo xtask schema` from metadata-user/src/config/. -->\n\n\
         `metadatad controller run` reads one TOML file when it starts: `/etc/metadatad/controller.toml`, or what `--config` names. \
         An\nunknown key, a wrong type or an impossible value is refused with line, column and remedy, and\n`metadatad controller \
         check-config` says so before a restart does. `metadatad schema controller-example` prints a file with\nevery key, and \
         `metadatad schema controller` its JSON Schema, for editors.\n\n\
         The file is UTF-8, of at most 1 MiB. Durations are strings: a whole number with `ms`, `s` or `m`. Paths are absolute. A \
         changed file\nneeds a restart, which costs nothing: another controller leads meanwhile.\n",
    tables: controller::TABLES,
};

/// Returns the example: every key with its default.
#[must_use]
pub fn example() -> String {
    DAEMON.example()
}

/// Returns the controller's example: every key with its default.
#[must_use]
pub fn controller_example() -> String {
    CONTROLLER.example()
}

/// Returns the reference, in Markdown.
#[must_use]
pub fn markdown() -> String {
    DAEMON.markdown()
}

/// Returns the controller's reference, in Markdown.
#[must_use]
pub fn controller_markdown() -> String {
    CONTROLLER.markdown()
}

/// Returns the JSON Schema of the configuration.
#[must_use]
pub fn schema() -> Value {
    DAEMON.schema()
}

/// Returns the JSON Schema of the controller's configuration.
#[must_use]
pub fn controller_schema() -> Value {
    CONTROLLER.schema()
}

impl Book {
    fn example(&self) -> String {
        let mut out = String::from(self.example);
        for table in self.all_tables() {
            out.push('\n');
            comment(&mut out, table.about);
            let mark = if table.is_optional { "# " } else { "" };
            line(&mut out, &format!("{mark}[{}]", table.name));
            for key in table.keys {
                comment(&mut out, &with_unset(*key));
                let mark = if table.is_optional || key.default().is_err() { "# " } else { "" };
                line(&mut out, &format!("{mark}{} = {}", key.name(), key.example()));
            }
        }
        out
    }

    fn markdown(&self) -> String {
        let mut out = String::from(self.markdown);
        for table in self.all_tables() {
            line(&mut out, &format!("\n## `[{}]`\n\n{}", table.name, table.about));
            for key in table.keys {
                line(&mut out, &format!("\n### `{}.{}`\n\n{}\n", table.name, key.name(), key.about()));
                line(&mut out, &format!("- Type: {}", key.kind()));
                line(
                    &mut out,
                    &match key.default() {
                        Ok((value, reason)) => format!("- Default: `{value}`. {reason}"),
                        Err("required") => format!("- Required. Example: `{}`", key.example()),
                        Err(unset) => format!("- Default: {unset}. Example: `{}`", key.example()),
                    },
                );
                if table.live.contains(&key.name()) {
                    line(&mut out, "- Applied by a reload");
                }
            }
        }
        out
    }

    fn schema(&self) -> Value {
        let mut schema = object(self.tables.iter().map(|table| (table.short_name(), table_schema(table))));
        schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        schema["title"] = json!(self.title);
        schema
    }

    /// Returns all tables, those inside others after them.
    fn all_tables(&self) -> impl Iterator<Item = &'static Table> {
        self.tables.iter().flat_map(|table| std::iter::once(*table).chain(table.tables.iter().copied()))
    }
}

fn table_schema(table: &Table) -> Value {
    let keys = table.keys.iter().map(|key| (key.name(), key_schema(*key)));
    let mut schema = object(keys.chain(table.tables.iter().map(|table| (table.short_name(), table_schema(table)))));
    schema["description"] = json!(table.about);
    let required: Vec<_> =
        table.keys.iter().filter(|key| key.default() == Err("required")).map(|key| key.name()).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn key_schema(key: &dyn Described) -> Value {
    let mut schema = key.schema();
    schema["description"] = json!(with_unset(key));
    match key.default() {
        Ok((default, _)) => schema["default"] = as_json(default),
        Err(_) => schema["examples"] = json!([as_json(key.example())]),
    }
    schema
}

/// Says what a key means, and what holds without it if that is no value.
fn with_unset(key: &dyn Described) -> String {
    match key.default() {
        Ok(_) => key.about().to_owned(),
        Err("required") => format!("{} Required.", key.about()),
        Err(unset) => format!("{} Default: {unset}.", key.about()),
    }
}

fn object<'a>(properties: impl Iterator<Item = (&'a str, Value)>) -> Value {
    let properties: Map<String, Value> = properties.map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

/// Returns a value that is written in TOML.
fn as_json(toml: &str) -> Value {
    let table: Option<toml::Table> = toml::from_str(&format!("value = {toml}")).ok();
    table.and_then(|mut table| table.remove("value")).map_or(Value::Null, |value| json!(value))
}

/// Returns all tables of the daemon's configuration, those inside others after them.
pub(super) fn all_tables() -> impl Iterator<Item = &'static Table> {
    DAEMON.all_tables()
}

/// Returns all tables of the controller's configuration.
#[cfg(test)]
pub(super) fn controller_tables() -> impl Iterator<Item = &'static Table> {
    CONTROLLER.all_tables()
}

/// Writes a text as comments.
fn comment(out: &mut String, text: &str) {
    let mut current = String::from("#");
    for part in text.split_whitespace() {
        if current.len() + 1 + part.len() > WIDTH {
            line(out, &current);
            current.truncate(1);
        }
        current.push(' ');
        current.push_str(part);
    }
    line(out, &current);
}

fn line(out: &mut String, text: &str) {
    // A String takes whatever is written.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests;
