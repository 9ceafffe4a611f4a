//! `cargo xtask tidy`: what no compiler checks: who imports what, file headers, sizes, and docs/modules.md.
//!
//! Promises: it takes a second and builds nothing but itself; every problem is named with its place and what to do about it.

mod graph;
mod paths;
mod rules;
mod source;

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result, bail};

use self::graph::Graph;
use self::paths::Named;
use self::source::Source;
use crate::command::root;

/// Directories with Rust files of this project.
const DIRECTORIES: [&str; 4] = ["metadata-ebpf", "metadata-user", "tests", "xtask/src"];
/// A file of more lines than this, without its tests, says in its header why it is one.
const LINES: usize = 500;
/// How a header says so.
const ONE: &str = "One file because";
/// Names in the rules that are words of the language; all others are paths.
const KEYWORDS: [&str; 2] = ["async", "await"];
const PAGE: &str = "docs/modules.md";

/// Modules on one level, and what they are to the whole.
#[derive(Clone, Copy, Debug)]
struct Level {
    name: &'static str,
    modules: &'static [&'static str],
}

/// Something that is not as it is to be.
#[derive(Debug)]
struct Problem {
    place: String,
    what: String,
}

impl Problem {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Checks the tree.
pub(crate) fn run() -> Result<()> {
    let sources = Source::all(&root(), &DIRECTORIES)?;
    let graph = Graph::of(&sources);
    let mut problems: Vec<Problem> = sources.iter().flat_map(file).collect();
    problems.extend(sources.iter().flat_map(imports));
    problems.extend(graph.problems(rules::LEVELS));
    if fs::read_to_string(root().join(PAGE)).unwrap_or_default() != graph.page(rules::LEVELS) {
        problems.push(Problem::new(PAGE, "it is not what the code says: `cargo xtask graph` writes it anew"));
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} problems", problems.len());
    }
    eprintln!("tidy: {} files", sources.len());
    Ok(())
}

/// Writes docs/modules.md anew.
pub(crate) fn write_graph() -> Result<()> {
    let page = Graph::of(&Source::all(&root(), &DIRECTORIES)?).page(rules::LEVELS);
    let path = root().join(PAGE);
    fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("{} written", path.display());
    Ok(())
}

/// Checks a file's header and size.
fn file(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    let header = source.header();
    if header.is_empty() {
        problems
            .push(Problem::new(&source.path, "no header: begin the file with `//!`, what it is and what it promises"));
    }
    let lines = source.lines();
    if lines > LINES && !header.contains(ONE) {
        let what =
            format!("{lines} lines without its tests: split it, or say in the header why it is one thing (`{ONE} …`)");
        problems.push(Problem::new(&source.path, what));
    }
    problems
}

/// Checks what a file of the daemon names.
fn imports(source: &Source) -> Vec<Problem> {
    let Some(path) = source.path.strip_prefix("metadata-user/src/") else { return Vec::new() };
    let lies_in = |place: &str| path.strip_suffix(".rs") == Some(place) || path.starts_with(&format!("{place}/"));
    let named = paths::all(&source.tokens);
    let of = |name: &str| {
        if KEYWORDS.contains(&name) {
            return source.tokens.iter().find(|token| token.text == name).map(|token| token.line);
        }
        let wanted: Vec<&str> = name.split("::").collect();
        let is =
            |found: &&Named| found.segments.iter().map(String::as_str).take(wanted.len()).eq(wanted.iter().copied());
        named.iter().find(is).map(|found| found.line)
    };
    let mut problems = Vec::new();
    let mut report = |name: &str, line: usize, why: &str| {
        problems.push(Problem::new(format!("{}:{line}", source.path), format!("{name} is named here, but {why}")));
    };
    for rule in rules::ONLY.iter().filter(|rule| !rule.places.iter().any(|place| lies_in(place))) {
        for name in rule.names {
            if let Some(line) = of(name) {
                report(name, line, rule.why);
            }
        }
    }
    for rule in rules::NEVER.iter().filter(|rule| lies_in(rule.place)) {
        for name in rule.names {
            if let Some(line) = of(name) {
                report(name, line, rule.why);
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let source = Source::new(path, text.to_owned());
        imports(&source).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_only_some_may_name_is_found_elsewhere() {
        let text = "//! X.\nuse aya::maps::Map;\nfn f() { aws_lc_rs::digest::f() }";
        let found = problems("metadata-user/src/store.rs", text);
        assert!(found[0].starts_with("metadata-user/src/store.rs:2: aya is named here"), "{found:?}");
        assert!(found[1].starts_with("metadata-user/src/store.rs:3: aws_lc_rs is named here"), "{found:?}");
        assert_eq!(problems("metadata-user/src/dataplane/maps.rs", "use aya::maps::Map;"), [""; 0]);
        assert_eq!(problems("tests/src/node.rs", text), [""; 0], "the lab may");
    }

    #[test]
    fn what_a_place_does_not_know_is_found_there() {
        let async_code = "async fn f() {}";
        assert!(problems("metadata-user/src/api/route.rs", async_code)[0].contains("api does no I/O"));
        assert_eq!(problems("metadata-user/src/apis/route.rs", async_code), [""; 0]);
        assert!(
            problems("metadata-user/src/http.rs", "use crate::{port::X};")[0].contains("crate::port is named here")
        );
    }

    #[test]
    fn a_file_has_a_header_and_a_long_one_says_why() {
        let check = |text: &str| file(&Source::new("tests/src/a.rs", text.to_owned())).len();
        let long = "x\n".repeat(LINES);
        assert_eq!(check("//! A.\n"), 0);
        assert_eq!(check("use a;\n"), 1);
        assert_eq!(check(&format!("//! A.\n{long}")), 1);
        assert_eq!(check(&format!("//! A.\n//!\n//! One file because it is a table.\n{long}")), 0);
        assert_eq!(check(&format!("//! A.\n#[cfg(test)]\nmod tests {{\n{long}}}\n")), 0, "tests do not count");
    }
}
