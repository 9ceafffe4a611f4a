//! What is wrong with a document, where, and what to do.

use serde_json::error::Category;

use super::place::{Shown, Step, path_at, position_of};

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
    /// Refuses a text that begins with a list.
    pub(super) fn of_list(text: &[u8]) -> Self {
        let (line, column) = position_of(text, &[]);
        Self {
            line,
            column,
            path: Shown(&[]).to_string(),
            problem: "this is a list".to_owned(),
            remedy: "write one object {…} in a file of its own for each instance".to_owned(),
        }
    }

    /// Puts serde's message, the field and a remedy together.
    pub(super) fn of_json(text: &[u8], error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let mut message = error.to_string();
        if let Some(end) = message.rfind(" at line ") {
            message.truncate(end);
        }
        // Checks of single values say the remedy themselves; serde's own messages have no semicolon of this kind.
        let (problem, remedy) = match message.split_once("; ") {
            Some((problem, remedy)) => (problem.to_owned(), remedy.to_owned()),
            None => {
                let remedy = remedy(error.classify(), &message);
                (message, remedy.to_owned())
            }
        };
        Self {
            line: line.max(1),
            column: column.max(1),
            path: Shown(&path_at(text, line, column)).to_string(),
            problem,
            remedy,
        }
    }
}

fn remedy(category: Category, message: &str) -> &'static str {
    match category {
        Category::Io | Category::Eof => {
            "the text ends too early: write the whole file, best by renaming a complete one"
        }
        Category::Syntax => "this is not JSON: look for a missing comma, quote or bracket just before",
        Category::Data if message.starts_with("missing field") => "add the field",
        Category::Data if message.starts_with("unknown field") => "correct its spelling or remove it",
        Category::Data if message.starts_with("duplicate field") => "keep one of them",
        Category::Data if message.starts_with("unknown variant") => "write one of those",
        Category::Data => "write what is expected, or leave the field out if it is optional",
    }
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
        DocumentError { line, column, path, problem: self.problem, remedy: self.remedy.to_owned() }
    }
}
