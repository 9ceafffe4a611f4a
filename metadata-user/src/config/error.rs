//! What is wrong with a configuration, where, and what to do about it.

use std::path::{Path, PathBuf};

use super::refusal::Refusal;
use crate::error_text::visible;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration {}: give its path with --config, or start from `metadatad schema {example}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What `metadatad schema` calls the example of such a file.
        example: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("the configuration {} has more than {limit} bytes: give the path of a configuration with --config", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        limit: u64,
    },
    /// Something in the file is not possible.
    #[error("{}:{line}:{column}: {problem}; {remedy}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        problem: String,
        /// What to write instead.
        remedy: String,
    },
}

impl ConfigError {
    /// Says where in the text it is. `example`: what `metadatad schema` calls the example of such a file.
    pub(super) fn at(path: &Path, text: &str, refusal: Refusal, example: &str) -> Self {
        let (line, column) = place(text, refusal.span.start);
        let Refusal { problem, mut remedy, wants_example, .. } = refusal;
        if wants_example {
            remedy += &format!("; `metadatad schema {example}` prints every key with its default");
        }
        Self::Invalid { path: path.to_owned(), line, column, problem: visible(&problem), remedy: visible(&remedy) }
    }
}

/// Turns a byte offset into line and column, both from 1; the column counts characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::place;
    use crate::config::Config;

    #[test]
    fn control_characters_of_the_file_are_escaped() {
        let error =
            Config::parse(Path::new("m.toml"), "[facts]\nopenvswitch = \"a\\u001b[2J\tb\\nc\"").expect_err("unknown");
        assert!(error.to_string().contains(r"`a\u{1b}[2J\tb\nc` is not known here"), "{error}");
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        for (text, offset, expected) in [
            ("", 0, (1, 1)),
            ("ab", 1, (1, 2)),
            ("a\nb", 2, (2, 1)),
            ("é = 1", 3, (1, 3)),
            ("é", 1, (1, 1)),
            ("a\n\n", 99, (3, 1)),
        ] {
            assert_eq!(place(text, offset), expected, "{text:?} at {offset}");
        }
    }
}
