//! The Rust files of the tree, as the checks read them.
//!
//! No compiler is asked: a file becomes tokens, without comments, strings and tests. That is enough to say which crate,
//! which module and which keyword a file names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A file.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path, from the top of the tree, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// What is compiled without tests.
    pub(super) tokens: Vec<Token>,
}

/// A word, or a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    /// From 1.
    pub(super) line: usize,
}

impl Source {
    /// Reads every Rust file below these directories, in order.
    pub(super) fn all(root: &Path, directories: &[&str]) -> Result<Vec<Self>> {
        let mut files = Vec::new();
        for directory in directories {
            collect(&root.join(directory), &mut files)?;
        }
        files.sort();
        let read = |file: PathBuf| {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
            Ok(Self::new(&path, text))
        };
        files.into_iter().map(read).collect()
    }

    pub(super) fn new(path: &str, text: String) -> Self {
        let mut tokens = tokens(&text);
        if is_test(path) {
            tokens.clear();
        } else {
            without_tests(&mut tokens);
        }
        Self { path: path.to_owned(), text, tokens }
    }

    /// Returns the lines of the file's own documentation.
    pub(super) fn header(&self) -> String {
        self.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
    }

    /// Returns the number of lines before the tests at the end.
    pub(super) fn lines(&self) -> usize {
        let end = self.text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text[..end].lines().count()
    }

    /// Returns the module that the file of a crate holds, as a path such as `source::etcd`; the crate's root is empty.
    pub(super) fn module(&self, directory: &str) -> Option<String> {
        let path = self.path.strip_prefix(directory)?.strip_prefix('/')?.strip_suffix(".rs")?;
        Some(if matches!(path, "lib" | "main") { String::new() } else { path.replace('/', "::") })
    }
}

/// Tells whether a file of the programs is there for tests alone.
fn is_test(path: &str) -> bool {
    path.contains("/src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Takes out what follows `#[cfg(test)]`: a module or another item, up to its `;` or closing brace.
fn without_tests(tokens: &mut Vec<Token>) {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut place = 0;
    while place < tokens.len() {
        let begins = tokens[place..].iter().map(|token| token.text.as_str()).take(TEST.len()).eq(TEST);
        if !begins {
            kept.push(tokens[place].clone());
            place += 1;
            continue;
        }
        let mut depth = 0_i32;
        place += TEST.len();
        while place < tokens.len() {
            let text = tokens[place].text.as_str();
            place += 1;
            match text {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(text, "}" | ";") {
                break;
            }
        }
    }
    *tokens = kept;
}

/// Returns words and signs; `::` is one sign. Comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<Token> {
    let letters: Vec<char> = text.chars().collect();
    let (mut tokens, mut place, mut line) = (Vec::new(), 0, 1);
    while place < letters.len() {
        let rest = &letters[place..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|letter| *letter == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => comment(rest),
            ['"', ..] | ['b' | 'c', '"', ..] => string(rest),
            ['r', '"' | '#', ..] | ['b' | 'c', 'r', '"' | '#', ..] => raw_string(rest).unwrap_or(1),
            ['\'', '\\', ..] | ['b', '\'', '\\', ..] => character(rest),
            ['\'', _, '\'', ..] => 3,
            ['b', '\'', _, '\'', ..] => 4,
            ['\'', ..] => 1 + word(&rest[1..]),
            [letter, ..] if letter.is_whitespace() => 1,
            [letter, ..] => {
                let length = match letter {
                    letter if letter.is_alphanumeric() || *letter == '_' => word(rest),
                    ':' if rest.get(1) == Some(&':') => 2,
                    _ => 1,
                };
                tokens.push(Token { text: rest[..length].iter().collect(), line });
                length
            }
            [] => break,
        };
        line += rest[..length].iter().filter(|letter| **letter == '\n').count();
        place += length;
    }
    tokens
}

fn word(letters: &[char]) -> usize {
    letters.iter().position(|letter| !letter.is_alphanumeric() && *letter != '_').unwrap_or(letters.len())
}

fn comment(letters: &[char]) -> usize {
    let (mut depth, mut place) = (0, 0);
    while place < letters.len() {
        match letters[place..] {
            ['/', '*', ..] => (depth, place) = (depth + 1, place + 2),
            ['*', '/', ..] => (depth, place) = (depth - 1, place + 2),
            _ => place += 1,
        }
        if depth == 0 {
            break;
        }
    }
    place
}

/// The length of a string, or of a byte string, from its first letter on.
fn string(letters: &[char]) -> usize {
    quoted(letters, '"')
}

fn character(letters: &[char]) -> usize {
    quoted(letters, '\'')
}

fn quoted(letters: &[char], quote: char) -> usize {
    let begin = letters.iter().position(|letter| *letter == quote).unwrap_or(0);
    let mut place = begin + 1;
    while let Some(letter) = letters.get(place) {
        match letter {
            '\\' => place += 2,
            letter if *letter == quote => return place + 1,
            _ => place += 1,
        }
    }
    letters.len()
}

/// The length of a raw string; nothing if it is a raw identifier or a plain word.
fn raw_string(letters: &[char]) -> Option<usize> {
    let hashes =
        letters.iter().skip_while(|letter| letter.is_alphabetic()).take_while(|letter| **letter == '#').count();
    let begin = letters.iter().position(|letter| !letter.is_alphabetic() && *letter != '#')?;
    if letters[begin] != '"' {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let length = letters[begin + 1..].windows(end.len()).position(|window| window == end)?;
    Some(begin + 1 + length + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Source::new("a/src/b.rs", text.to_owned()).tokens.into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_strings_and_characters_are_no_tokens() {
        let text = "use a::b; // c::d\n/* e /* f */ g */ let h: &'i str = \"j\\\"k\"; r#\"l\"m\"#; b'\\''; 'n'; b\"o\"; '\"'; q";
        assert_eq!(
            words(text),
            ["use", "a", "::", "b", ";", "let", "h", ":", "&", "str", "=", ";", ";", ";", ";", ";", ";", "q"]
        );
    }

    #[test]
    fn tests_are_no_part_of_a_program() {
        let text = "a; #[cfg(test)] mod tests { use b; fn c() { d(); } } #[cfg(test)] use e; f";
        assert_eq!(words(text), ["a", ";", "f"]);
        assert!(Source::new("metadata-user/src/a/tests.rs", "use b;".to_owned()).tokens.is_empty());
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let tokens = tokens("/*\n*/ a \"\n\" b\nc");
        let lines: Vec<_> = tokens.iter().map(|token| (token.text.as_str(), token.line)).collect();
        assert_eq!(lines, [("a", 2), ("b", 3), ("c", 4)]);
    }

    #[test]
    fn a_file_is_a_module_and_ends_before_its_tests() {
        let file =
            Source::new("metadata-user/src/a/b.rs", "//! B.\n//! More.\nx\n#[cfg(test)]\nmod tests {\n}\n".into());
        assert_eq!(file.module("metadata-user/src").as_deref(), Some("a::b"));
        assert_eq!((file.lines(), file.header().lines().count()), (3, 2));
    }
}
