//! What a check found.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// In order.
    Passed,
    /// It may be intended.
    Note,
    /// Wrong.
    Problem,
}

/// A sentence about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// The check that found it: the name of its file.
    pub(super) check: &'static str,
    /// The tap; absent: it is the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tap: Option<String>,
    /// The instance that the tap belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    /// What was found.
    pub(super) what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>, remedy: Option<String>) -> Self {
        Self { level, check: "", tap: None, instance: None, what: what.into(), remedy }
    }

    /// Something is wrong.
    pub(super) fn problem(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Problem, what, Some(remedy.into()))
    }

    /// Something is wrong; the text, of another part of the daemon, names the remedy.
    pub(super) fn reported(what: impl Into<String>) -> Self {
        Self::new(Level::Problem, what, None)
    }

    /// Something may be wrong.
    pub(super) fn note(what: impl Into<String>) -> Self {
        Self::new(Level::Note, what, None)
    }

    /// Something is right.
    pub(super) fn passed(what: impl Into<String>) -> Self {
        Self::new(Level::Passed, what, None)
    }

    /// Returns the sentence.
    pub(super) fn sentence(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}: {remedy}", self.what),
            None => self.what.clone(),
        }
    }
}
