//! A run as a page: tables and plots that a person can read without explanation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::arguments::Scenario;
use crate::plot::{self, Plot};
use crate::result::{Case, Goal, Run};
use crate::table::{Table, number, ratio};

/// Says a case's ratios in one line.
pub(crate) fn ratios(case: &Case) -> String {
    let mut sentence = String::new();
    for (place, found) in case.ratios.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let _ = write!(sentence, "{comma}{} {}", found.metric, ratio(found.spread().median));
        if case.ratios.get(place + 1).is_none_or(|next| (&next.of, &next.to) != (&found.of, &found.to)) {
            let _ = write!(sentence, " ({} / {})", found.of, found.to);
        }
    }
    sentence
}

/// Returns what the run says of each goal.
pub(crate) fn goals(run: &Run) -> Table {
    let mut table = Table::new(["what", "wanted", "measured", "quartiles", ""]);
    let verdict = |goal: Goal, value| if goal.is_reached(value) { "reached" } else { "**not reached**" }.to_owned();
    for case in &run.cases {
        for found in &case.ratios {
            let (Some(goal), spread) = (found.goal, found.spread()) else { continue };
            table.row(vec![
                format!("{}, {}: {}, {} / {}", case.scenario, case.name, found.metric, found.of, found.to),
                goal.to_string(),
                ratio(spread.median),
                format!("{} to {}", ratio(spread.low), ratio(spread.high)),
                verdict(goal, spread.median),
            ]);
        }
        for (name, goal) in &case.goals {
            let Some(value) = case.figures.get(name) else { continue };
            table.row(vec![
                format!("{}, {}: {name}", case.scenario, case.name),
                goal.to_string(),
                number(*value),
                String::new(),
                verdict(*goal, *value),
            ]);
        }
    }
    table
}

/// Returns the tables of a scenario's cases: ratios, then absolute figures.
pub(crate) fn tables(cases: &[Case]) -> String {
    let mut text = String::new();
    let mut table = Table::new(["case", "ratio", "median", "quartiles", "wanted", ""]);
    for case in cases {
        for found in &case.ratios {
            let spread = found.spread();
            let (goal, reached) = found.goal.map_or_else(Default::default, |goal| {
                (goal.to_string(), if goal.is_reached(spread.median) { "reached" } else { "**not reached**" })
            });
            table.row(vec![
                case.name.clone(),
                format!("{}: {} / {}", found.metric, found.of, found.to),
                ratio(spread.median),
                format!("{} to {}", ratio(spread.low), ratio(spread.high)),
                goal,
                reached.to_owned(),
            ]);
        }
    }
    if !table.is_empty() {
        let _ = writeln!(text, "{table}");
    }
    for table in figures(cases) {
        let _ = writeln!(text, "{table}");
    }
    text
}

/// A case, a side of it, and the side's figures.
type Sided<'c> = (&'c str, &'c str, Vec<(&'c str, f64)>);

/// Absolute figures: those of two sides under each other, all others with those cases that have the same ones.
fn figures(cases: &[Case]) -> Vec<Table> {
    let mut sided: Vec<Sided<'_>> = Vec::new();
    let mut plain: Vec<(Vec<&str>, Vec<&Case>)> = Vec::new();
    for case in cases {
        let side_of = |name: &str| {
            case.latencies
                .keys()
                .find(|side| name.strip_prefix(side.as_str()).is_some_and(|rest| rest.starts_with(", ")))
        };
        for side in case.latencies.keys() {
            let own = case.figures.iter().filter(|(name, _)| side_of(name) == Some(side));
            let own: Vec<_> = own.map(|(name, value)| (&name[side.len() + 2..], *value)).collect();
            sided.push((&case.name, side, own));
        }
        let rest: Vec<&str> = case.figures.keys().filter(|name| side_of(name).is_none()).map(String::as_str).collect();
        match plain.iter_mut().find(|(names, _)| *names == rest) {
            _ if rest.is_empty() => {}
            Some((_, alike)) => alike.push(case),
            None => plain.push((rest, vec![case])),
        }
    }
    let mut tables = Vec::new();
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in sided.iter().flat_map(|(_, _, figures)| figures) {
        if !columns.contains(name) {
            columns.push(name);
        }
    }
    columns.sort_by_key(|name| rank(name));
    if !columns.is_empty() {
        let mut table = Table::new(["case", "side"].into_iter().chain(columns.iter().copied()));
        for (case, side, figures) in sided {
            let figures: BTreeMap<&str, f64> = figures.into_iter().collect();
            let cells =
                columns.iter().map(|column| figures.get(column).map_or_else(String::new, |value| number(*value)));
            table.row([case.to_owned(), side.to_owned()].into_iter().chain(cells).collect());
        }
        tables.push(table);
    }
    for (mut names, cases) in plain {
        names.sort_by_key(|name| rank(name));
        let mut table = Table::new(std::iter::once("case").chain(names.iter().copied()));
        for case in cases {
            let cells = names.iter().map(|name| {
                let value = case.figures.get(*name).map_or_else(String::new, |value| number(*value));
                case.goals.get(*name).map_or(value.clone(), |goal| format!("{value} (wanted: {goal})"))
            });
            table.row(std::iter::once(case.name.clone()).chain(cells).collect());
        }
        tables.push(table);
    }
    tables
}

/// What people look for first stands first.
fn rank(name: &str) -> usize {
    let first = ["seconds until", "requests/s", "p50", "p99 ", "p99,", "p99.9", "slowest"];
    first.iter().position(|start| name.starts_with(start)).unwrap_or(first.len())
}

/// Returns the whole page; plots are in `directory`, as seen from the page.
pub(crate) fn text(run: &Run, plots: &[Plot], directory: &str) -> String {
    let mut text = format!("# Measured {}\n\n{}\n{}\n\n", run.name, run.machine, conditions(run));
    text += "How to read it: what is compared ran in turns, pair by pair, on the same machine. A ratio is the median of its \
             pairs, with the quartiles between which half of them lie: 1 means that both are the same. Absolute figures \
             are those of this machine under these conditions, and say little about another one. `cargo xtask bench` \
             measures on yours.\n";
    let goals = goals(run);
    if !goals.is_empty() {
        let _ = write!(text, "\n## What is wanted, and what was measured\n\n{goals}");
    }
    if !run.skipped.is_empty() {
        text += "\n## Not measured\n\n";
        for skipped in &run.skipped {
            let _ = writeln!(text, "- {}, {}: {}", skipped.scenario, skipped.part, skipped.why);
        }
    }
    let mut scenarios: Vec<&str> = run.cases.iter().map(|case| case.scenario.as_str()).collect();
    scenarios.dedup();
    for scenario in scenarios {
        let cases: Vec<Case> = run.cases.iter().filter(|case| case.scenario == scenario).cloned().collect();
        let about =
            Scenario::named(scenario).map(|found| format!("{}.\n\n", capital(found.about()))).unwrap_or_default();
        let _ = write!(text, "\n## {scenario}\n\n{about}{}", tables(&cases));
        for plot in plots.iter().filter(|plot| plot.scenario == scenario) {
            let _ = writeln!(
                text,
                "<img src=\"{directory}/{}\" alt=\"{}\" width=\"49%\">",
                plot.file,
                plot::escaped(&plot.title)
            );
        }
    }
    text
}

/// Says how it was measured.
pub(crate) fn conditions(run: &Run) -> String {
    format!(
        "{} pairs of slices of {} s for each comparison; release build; it took {} min",
        run.pairs,
        number(run.slice),
        number(run.took / 60.0)
    )
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Writes the page beside the directory of its plots: `<stem>.md` and `<stem>/*.svg`.
pub(crate) fn write(run: &Run, stem: &Path) -> Result<()> {
    let directory = stem.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let plots = plot::all(run);
    if !plots.is_empty() {
        std::fs::create_dir_all(stem).with_context(|| format!("making {}", stem.display()))?;
    }
    for plot in &plots {
        let file = stem.join(&plot.file);
        std::fs::write(&file, &plot.svg).with_context(|| format!("writing {}", file.display()))?;
    }
    let page = stem.with_extension("md");
    std::fs::write(&page, text(run, &plots, &directory)).with_context(|| format!("writing {}", page.display()))
}
