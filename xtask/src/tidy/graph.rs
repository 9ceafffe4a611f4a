//! Which module of the daemon uses which, and in what order they lie.
//!
//! The order is the table [`LEVELS`]: a module uses what lies below it, and nothing beside or above. Deeper down there is
//! no table, but neighbours may not use each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::paths::{self, Named};
use super::source::Source;
use super::{Level, Problem};

/// Where the daemon's modules are.
const CRATE: &str = "metadata-user/src";

/// A use of one module by another, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    user: String,
    used: String,
    place: String,
}

/// The modules of the daemon.
#[derive(Debug)]
pub(super) struct Graph {
    modules: BTreeSet<String>,
    /// The first sentence of each module's header.
    about: BTreeMap<String, String>,
    uses: Vec<Use>,
}

impl Graph {
    /// Finds who uses whom.
    pub(super) fn of(sources: &[Source]) -> Self {
        let own: Vec<(String, &Source)> =
            sources.iter().filter_map(|source| Some((source.module(CRATE)?, source))).collect();
        let is_program = |module: &str, source: &Source| !module.is_empty() && !source.tokens.is_empty();
        let own: Vec<_> = own.into_iter().filter(|(module, source)| is_program(module, source)).collect();
        let modules: BTreeSet<String> = own.iter().map(|(module, _)| module.clone()).collect();
        let about = own.iter().map(|(module, source)| (module.clone(), first_sentence(&source.header()))).collect();
        let mut uses = Vec::new();
        for (module, source) in &own {
            for named in paths::all(&source.tokens) {
                let Some(used) = resolve(module, &named, &modules) else { continue };
                if used != *module {
                    let place = format!("{}:{}", source.path, named.line);
                    uses.push(Use { user: module.clone(), used, place });
                }
            }
        }
        Self { modules, about, uses }
    }

    /// Returns, by top-level module, those that it uses.
    fn top(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut top: BTreeMap<&str, BTreeSet<&str>> =
            self.modules.iter().map(|module| (first(module), BTreeSet::new())).collect();
        for found in &self.uses {
            let (user, used) = (first(&found.user), first(&found.used));
            if user != used {
                top.entry(user).or_default().insert(used);
            }
        }
        top
    }

    /// Checks the order of the top-level modules, and that nothing goes round in a circle below.
    pub(super) fn problems(&self, levels: &[Level]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let level = |module: &str| levels.iter().position(|level| level.modules.contains(&module));
        let top = self.top();
        for module in top.keys().filter(|module| level(module).is_none()) {
            let place = format!("{CRATE}/{module}.rs");
            problems.push(Problem::new(place, format!("the module {module} has no level; give it one in {TABLE}")));
        }
        for module in levels.iter().flat_map(|level| level.modules).filter(|module| !top.contains_key(*module)) {
            problems.push(Problem::new(TABLE, format!("there is no module {module}; remove it")));
        }
        let mut seen = BTreeSet::new();
        for found in &self.uses {
            let (user, used) = (first(&found.user), first(&found.used));
            let (Some(above), Some(below)) = (level(user), level(used)) else { continue };
            if user != used && above >= below && seen.insert((user, used)) {
                let (above, below) = (levels[above].name, levels[below].name);
                let what = format!(
                    "{user} ({above}) uses {used} ({below}): arrows run downwards only; move what is used to a module \
                     below both, or change {TABLE}"
                );
                problems.push(Problem::new(&found.place, what));
            }
        }
        problems.extend(self.circles());
        problems
    }

    /// Finds circles among modules that lie in the same module.
    fn circles(&self) -> Vec<Problem> {
        let mut by_parent: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
        for found in &self.uses {
            let (user, used) = (segments(&found.user), segments(&found.used));
            let shared = user.iter().zip(&used).take_while(|(a, b)| a == b).count();
            // One lies inside the other: a module and its parts may know each other.
            if shared == 0 || shared == user.len() || shared == used.len() {
                continue;
            }
            let uses = by_parent.entry(user[..shared].join("::")).or_default();
            let uses = uses.entry(user[shared].to_owned()).or_default();
            uses.entry(used[shared].to_owned()).or_insert_with(|| found.place.clone());
        }
        let mut problems = Vec::new();
        for (parent, uses) in &by_parent {
            let graph: BTreeMap<&str, BTreeSet<&str>> =
                uses.iter().map(|(user, used)| (user.as_str(), used.keys().map(String::as_str).collect())).collect();
            let reach = closure(&graph);
            let on_circle: Vec<&str> = graph.keys().copied().filter(|module| reach[module].contains(module)).collect();
            let Some(first) = on_circle.first() else { continue };
            let place =
                uses[*first].iter().find(|(used, _)| on_circle.contains(&used.as_str())).map(|(_, place)| place);
            let circle = on_circle.join(", ");
            let what = format!("the modules {circle} of {parent} use each other in a circle; move what they share");
            problems.push(Problem::new(place.cloned().unwrap_or_default(), what));
        }
        problems
    }

    /// Writes docs/modules.md.
    pub(super) fn page(&self, levels: &[Level]) -> String {
        let top = self.top();
        let mut text =
            "<!-- Written by `cargo xtask graph`; what is changed here by hand is lost. -->\n# Modules\n\n".to_owned();
        text += "The modules of the daemon, `metadata-user/src`, and which of them uses which. A module uses only what lies below it: \
                 no\narrow runs upwards. `cargo xtask test tidy` fails where one does, and where this page is not what the code says. The\n\
                 levels are a table in `xtask/src/tidy/rules.rs`.\n\n\
                 In the picture an arrow is left out where a longer way leads to the same module; the table has them all. What the\n\
                 modules promise is in [ARCHITECTURE.md](../ARCHITECTURE.md), and in the header of each file.\n\n";
        text += "```mermaid\nflowchart TD\n";
        for (number, level) in levels.iter().enumerate() {
            let _ = writeln!(text, "    subgraph L{number}[\"{}\"]", level.name);
            for module in level.modules.iter().filter(|module| top.contains_key(*module)) {
                let _ = writeln!(text, "        {module}");
            }
            text += "    end\n";
        }
        let reach = closure(&top);
        for (user, used) in &top {
            for one in used {
                // Another module that is used leads there too.
                let is_implied = used.iter().any(|other| other != one && reach[other].contains(one));
                if !is_implied {
                    let _ = writeln!(text, "    {user} --> {one}");
                }
            }
        }
        text += "```\n\n";
        for level in levels {
            let _ = write!(text, "## {}\n\n| module | what it is | uses |\n|---|---|---|\n", level.name);
            for module in level.modules.iter().filter(|module| top.contains_key(*module)) {
                let used: Vec<String> = top[module].iter().map(|used| format!("`{used}`")).collect();
                let about = self.about.get(*module).map_or("", String::as_str).replace('|', "\\|");
                let _ = writeln!(text, "| `{module}` | {about} | {} |", used.join(", "));
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

/// Where the levels are.
const TABLE: &str = "xtask/src/tidy/rules.rs";

fn first(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

fn segments(module: &str) -> Vec<&str> {
    module.split("::").collect()
}

/// Returns the module that a path leads to: the longest beginning of it that is one.
fn resolve(module: &str, named: &Named, modules: &BTreeSet<String>) -> Option<String> {
    let mut base = segments(module);
    let mut rest = named.segments.iter().map(String::as_str).peekable();
    match rest.next()? {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
            while rest.next_if_eq(&"super").is_some() {
                base.pop();
            }
        }
        // A part of this module, or another crate.
        part => base.push(part),
    }
    let mut path = base.join("::");
    let mut found = modules.get(&path).cloned();
    for part in rest {
        path = if path.is_empty() { part.to_owned() } else { format!("{path}::{part}") };
        match modules.get(&path) {
            Some(longer) => found = Some(longer.clone()),
            None => break,
        }
    }
    found
}

/// Returns what is reached from each module, over any number of uses.
fn closure<'m>(uses: &BTreeMap<&'m str, BTreeSet<&'m str>>) -> BTreeMap<&'m str, BTreeSet<&'m str>> {
    let reach = |from: &str| {
        let (mut reached, mut next) = (BTreeSet::new(), uses.get(from).cloned().unwrap_or_default());
        while let Some(module) = next.pop_first() {
            if reached.insert(module) {
                next.extend(uses.get(module).into_iter().flatten());
            }
        }
        reached
    };
    let all: BTreeSet<&str> = uses.iter().flat_map(|(user, used)| std::iter::once(user).chain(used)).copied().collect();
    all.into_iter().map(|module| (module, reach(module))).collect()
}

/// Returns the first sentence of a header.
fn first_sentence(header: &str) -> String {
    let lines = header.lines().map(|line| line.trim_start_matches("//!").trim());
    let text = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let end = text.find(". ").map_or(text.trim_end_matches('.').len(), |end| end);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: &[Level] =
        &[Level { name: "top", modules: &["app"] }, Level { name: "bottom", modules: &["leaf", "store"] }];

    fn graph(files: &[(&str, &str)]) -> Graph {
        let source = |(module, text): &(&str, &str)| Source::new(&format!("{CRATE}/{module}.rs"), (*text).to_owned());
        Graph::of(&files.iter().map(source).collect::<Vec<_>>())
    }

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        graph(files).problems(LEVELS).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_module_that_uses_what_lies_below_is_fine() {
        let files =
            [("app", "use crate::{leaf::X, store};"), ("leaf", "mod a;"), ("leaf/a", "use super::X;"), ("store", "")];
        assert_eq!(problems(&files[..3]), ["xtask/src/tidy/rules.rs: there is no module store; remove it"]);
    }

    #[test]
    fn an_arrow_upwards_or_beside_is_named_with_its_place() {
        let files = [("app", "x;"), ("leaf", "x;\nfn f() { crate::app::run(); }"), ("store", "use super::leaf::X;")];
        let found = problems(&files);
        assert!(found[0].starts_with("metadata-user/src/leaf.rs:2: leaf (bottom) uses app (top)"), "{found:?}");
        assert!(found[1].starts_with("metadata-user/src/store.rs:1: store (bottom) uses leaf (bottom)"), "{found:?}");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn neighbours_in_a_circle_are_found_and_a_module_may_know_its_parts() {
        let files = [
            ("app", "x;"),
            ("leaf", "use self::a::X;"),
            ("leaf/a", "use super::{b::Y, Z};"),
            ("leaf/b", "use super::c;"),
            ("leaf/c", "x;"),
            ("leaf/c/d", "use crate::leaf::a;"),
            ("store", "x;"),
        ];
        let found = problems(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("the modules a, b, c of leaf"), "{found:?}");
    }

    #[test]
    fn a_module_without_a_level_is_named() {
        let found = problems(&[("app", "x;"), ("leaf", "x;"), ("store", "x;"), ("new", "x;")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("the module new has no level"), "{found:?}");
    }

    #[test]
    fn the_picture_leaves_out_what_a_longer_way_says() {
        let levels =
            &[LEVELS[0], Level { name: "middle", modules: &["store"] }, Level { name: "bottom", modules: &["leaf"] }];
        let page = graph(&[
            ("app", "use crate::{leaf, store};"),
            ("store", "//! It keeps. More.\nuse crate::leaf;"),
            ("leaf", "x"),
        ])
        .page(levels);
        assert!(
            page.contains("app --> store") && page.contains("store --> leaf") && !page.contains("app --> leaf"),
            "{page}"
        );
        assert!(page.contains("| `store` | It keeps | `leaf` |"), "{page}");
        assert!(page.contains("| `app` |  | `leaf`, `store` |"), "{page}");
    }
}
