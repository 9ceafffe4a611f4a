//! What is wrong with a document, where, and what to do.
//!
//! Promises: a message is one line of bounded length, whatever the document holds.

use std::fmt::Display;

use serde_json::error::Category;

use super::excerpt::shown;
use super::place::{Shown, Step, line_and_column, path_at, position_of};

/// The longest problem, in characters: room for serde's list of the fields that exist.
const LONGEST_PROBLEM: usize = 1000;

/// Separates problem and remedy in a message that goes through serde. `quoted` text never holds it.
const REMEDY: char = '\u{1e}';

/// A document that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}, at {path}: {problem}; {remedy}")]
pub struct DocumentError {
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
    /// The field, like `ports[0].mac_address`; `document` for the whole.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl DocumentError {
    /// Refuses a document as a whole.
    pub(super) fn of_document(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        let path = Shown(&[]).to_string();
        Self { line: 1, column: 1, path, problem: problem.into(), remedy: remedy.into() }
    }

    /// Refuses a text that begins with a list.
    pub(super) fn of_list(text: &[u8]) -> Self {
        let (line, column) = position_of(text, &[]);
        let refused =
            Self::of_document("this is a list", "write one object {…} in a file of its own for each instance");
        Self { line, column, ..refused }
    }

    /// Refuses what is at a byte of the text.
    pub(super) fn at(text: &[u8], offset: usize, problem: String, remedy: impl Into<String>) -> Self {
        let (line, column) = line_and_column(text, offset);
        let path = Shown(&path_at(text, line, column)).to_string();
        Self { line, column, path, problem, remedy: remedy.into() }
    }

    /// Puts serde's message, the field and a remedy together.
    pub(super) fn of_json(text: &[u8], error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let mut message = error.to_string();
        if let Some(end) = message.rfind(" at line ") {
            message.truncate(end);
        }
        let path = path_at(text, line, column);
        let (problem, remedy) = match message.rsplit_once(REMEDY) {
            Some((problem, remedy)) => (problem, remedy),
            None => {
                message = in_terms_of_json(message);
                (&*message, remedy(error.classify(), &message, &path))
            }
        };
        Self {
            line: line.max(1),
            column: column.max(1),
            path: Shown(&path).to_string(),
            problem: shown(problem, LONGEST_PROBLEM).into_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

/// Returns the message of a value that is refused while serde reads it.
pub(super) fn refusal(problem: impl Display, remedy: &'static str) -> String {
    format!("{problem}{REMEDY}{remedy}")
}

/// Puts JSON's names for Rust's in one of serde's messages about types.
fn in_terms_of_json(message: String) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ").filter(|_| message.starts_with("invalid ")) else {
        return message;
    };
    let found = match found {
        "invalid type: map" => "invalid type: object",
        "invalid type: sequence" => "invalid type: array",
        other => other,
    };
    let expected = match expected {
        "i64" => "an integer",
        "u32" => "an integer from 0 to 4294967295",
        "a nonzero u32" => "an integer from 1 to 4294967295",
        "a sequence" => "an array",
        "a map" => "an object",
        name if name.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{found}, expected {expected}")
}

fn remedy(category: Category, message: &str, path: &[Step]) -> &'static str {
    match category {
        Category::Io | Category::Eof => {
            "the text ends too early: write the whole file, best by renaming a complete one"
        }
        Category::Syntax => not_json(message),
        Category::Data if message.starts_with("invalid type: null") => match path {
            [.., Step::Element(_)] => "write a value, or remove the element",
            [Step::Field(parent), Step::Field(_)] if parent == "metadata" => "write a text, or remove the key",
            _ => "the field is required: write a value",
        },
        Category::Data if message.starts_with("missing field") => "add the field",
        Category::Data if message.starts_with("unknown field") => "correct its spelling or remove it",
        Category::Data if message.starts_with("duplicate field") => "keep one of them",
        Category::Data if message.starts_with("unknown variant") => "write one of those",
        Category::Data => "write what is expected, or leave the field out if it is optional",
    }
}

/// Returns what to do about a text that is not JSON.
fn not_json(message: &str) -> &'static str {
    let known = [
        ("recursion limit", "a document has fewer than ten levels: look for brackets that are never closed"),
        ("trailing characters", "remove what follows the document's last brace"),
        ("trailing comma", "remove the comma"),
        ("key must be a string", "put the key in double quotes"),
        ("control character", "write it as an escape, like \\n"),
        ("invalid escape", "write a backslash as \\\\"),
        ("lone ", "write the character itself, or both halves of its \\u escape"),
        ("unexpected end of hex escape", "write the character itself, or both halves of its \\u escape"),
    ];
    let found = known.into_iter().find(|(start, _)| message.starts_with(start));
    found.map_or("this is not JSON: look for a missing comma, quote or bracket just before", |(_, remedy)| remedy)
}

/// Something wrong between fields, before its place is known.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) path: Vec<Step>,
    pub(super) problem: String,
    pub(super) remedy: &'static str,
}

impl Fault {
    /// Finds the place.
    pub(super) fn located(self, text: &[u8]) -> DocumentError {
        let (line, column) = position_of(text, &self.path);
        let path = Shown(&self.path).to_string();
        let problem = shown(&self.problem, LONGEST_PROBLEM).into_owned();
        DocumentError { line, column, path, problem, remedy: self.remedy.to_owned() }
    }
}
