//! What is refused in a configuration: the place, the problem and the remedy.
//!
//! Promises: every refusal names a remedy. [`Fault`] is for checks that do not know where their value is written; whoever
//! knows makes it a [`Refusal`].

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

/// Something that is written and cannot be: where, what is wrong, and what to write instead.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    /// What is wrong.
    pub(super) problem: String,
    /// What to write instead.
    pub(super) remedy: String,
    /// Whether an example of the configuration helps.
    pub(super) wants_example: bool,
}

/// What is wrong with a value, wherever it is.
#[derive(Debug)]
pub(super) struct Fault {
    problem: String,
    remedy: String,
}

impl Fault {
    /// Says what is wrong, and what to write instead.
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }

    /// Refuses what is written at a place.
    pub(super) fn at(self, span: Range<usize>) -> Refusal {
        Refusal { span, problem: self.problem, remedy: self.remedy, wants_example: false }
    }
}

impl Refusal {
    /// Refuses a value of another type.
    pub(super) fn of_type(written: &Spanned<DeValue<'_>>, expected: &str) -> Self {
        let problem = format!("invalid type: {}, expected {expected}", written.get_ref().type_str());
        Fault::new(problem, "write a value of that type").at(written.span()).with_example()
    }

    /// Points to the example of the configuration, too.
    pub(super) fn with_example(self) -> Self {
        Self { wants_example: true, ..self }
    }

    /// Says what the reader of TOML refuses.
    pub(super) fn of_toml(error: &toml::de::Error) -> Self {
        let problem = error.message().replace('\n', ", ");
        let remedy = if problem.starts_with("duplicate key") {
            "keep one of them"
        } else if problem.contains("recurs") {
            "no value of the configuration is nested that deeply: look for brackets that are not closed"
        } else {
            "this is not TOML: look for a missing quote, bracket or `=` here or just before"
        };
        Fault::new(problem, remedy).at(error.span().unwrap_or(0..0))
    }
}
