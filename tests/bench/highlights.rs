//! The few figures that README shows: which they are, and how they are said.
//!
//! Everything else, with what is wanted of it and whether that was reached, is on the results page.

use crate::page;
use crate::result::{Goal, Run};
use crate::table::{Table, number, ratio};

/// Longest line of README that is made here.
const WIDTH: usize = 130;

/// A figure of a case: the metric of a ratio, or the name of an absolute figure.
struct Highlight {
    says: &'static str,
    scenario: &'static str,
    case: &'static str,
    figure: &'static str,
}

const fn highlight(says: &'static str, scenario: &'static str, case: &'static str, figure: &'static str) -> Highlight {
    Highlight { says, scenario, case, figure }
}

/// At most eight: gains and costs alike, whether what is wanted was reached or not.
const HIGHLIGHTS: [Highlight; 8] = [
    highlight(
        "answers per CPU second, kept connections: metadatad / OpenStack's chain",
        "peers",
        "OpenStack's chain, keep-alive, 64 connections",
        "requests per CPU second, its processes",
    ),
    highlight(
        "answers per CPU second, new connections: metadatad / all of the same chain",
        "peers",
        "OpenStack's chain, new connection each, 64 connections",
        "requests per CPU second, its processes",
    ),
    highlight(
        "median latency, 16 connections: metadatad / nginx behind DNAT",
        "peers",
        "nginx behind DNAT, small, keep-alive, 16 connections",
        "median",
    ),
    highlight(
        "small answers per CPU second, new connections: metadatad / nginx behind DNAT",
        "peers",
        "nginx behind DNAT, small, new connection each, 16 connections",
        "requests per CPU second, its processes",
    ),
    highlight(
        "requests/s: through tap and programs / the same daemon over plain veth",
        "intercept",
        "IPv4, small, keep-alive, 16 connections",
        "requests/s",
    ),
    highlight(
        "nanoseconds that from_guest adds to a TCP packet that passes",
        "bystander",
        "from_guest on other packets",
        "IPv4 TCP, ns more",
    ),
    highlight(
        "seconds until 1,000 guests that boot at once have everything",
        "boot-storm",
        "1000 guests",
        "seconds until the last is done",
    ),
    highlight(
        "KB of memory for an idle port with its instance",
        "scale",
        "an idle port with its instance",
        "daemon, KB resident per port",
    ),
];

/// Returns README's block: when and where, and the figures that the run has. Results are in `directory`, named `name`.
pub(crate) fn block(run: &Run, directory: &str, name: &str) -> String {
    let date = run.name.split('T').next().unwrap_or_default();
    let machine = run.machine.to_string();
    let mut about = format!(
        "Measured on {date} by `cargo xtask bench`: {}; {}. What is compared ran in turns on the same machine; 1 means equal. \
         [All figures, goals and plots]({directory}/{name}.md).",
        machine.trim_end(),
        page::conditions(run)
    );
    if !run.skipped.is_empty() {
        about += &format!(" Parts not measured in this run: {}.", run.skipped.len());
    }
    format!("{}\n{}", wrapped(&about), table(run))
}

fn table(run: &Run) -> Table {
    let mut table = Table::new(["what", "median", "quartiles", "wanted"]);
    let wanted = |goal: Option<Goal>, value: f64| match goal {
        None => String::new(),
        Some(goal) if goal.is_reached(value) => goal.to_string(),
        Some(goal) => format!("{goal}, missed"),
    };
    for Highlight { says, scenario, case, figure } in HIGHLIGHTS {
        let Some(case) = run.cases.iter().find(|found| found.scenario == scenario && found.name == case) else {
            continue;
        };
        if let Some(found) = case.ratios.iter().find(|ratio| ratio.metric == figure) {
            let spread = found.spread();
            let quartiles = format!("{} to {}", ratio(spread.low), ratio(spread.high));
            let wanted = wanted(found.goal, spread.median);
            table.row(vec![says.to_owned(), ratio(spread.median), quartiles, wanted]);
        } else if let Some(value) = case.figures.get(figure) {
            let wanted = wanted(case.goals.get(figure).copied(), *value);
            table.row(vec![says.to_owned(), number(*value), String::new(), wanted]);
        }
    }
    table
}

/// Breaks a text into lines of at most [`WIDTH`] letters; a longer word has a line of its own.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{line}\n");
            line.clear();
        }
        line += if line.is_empty() { "" } else { " " };
        line += word;
    }
    format!("{lines}{line}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::result::tests::run;

    #[test]
    fn a_block_names_date_machine_and_whether_a_goal_was_missed() {
        let mut run = run();
        run.skip("peers", "OpenStack's chain", "it was not asked for");
        run.cases[0].ratios[0].pairs = vec![0.5];
        let text = block(&run, "results", "measured");
        for part in
            ["2026-01-31", "Linux 6.18", "≥ 0.92, missed", "not measured in this run: 1", "](results/measured.md)"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn the_committed_run_has_every_highlight_and_the_block_is_short() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let run = Run::read(&root.join("bench/results/measured.json")).unwrap();
        let text = block(&run, "tests/bench/results", "measured");
        assert_eq!(table(&run).to_string().lines().count(), HIGHLIGHTS.len() + 2, "{text}");
        assert!(text.lines().count() <= 15, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn lines_break_between_words() {
        let word = "x".repeat(60);
        assert_eq!(wrapped(&format!("{word} {word} {word}")), format!("{word} {word}\n{word}\n"));
    }
}
