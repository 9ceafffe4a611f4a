//! A run as a page: tables and plots that a person can read without explanation.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::plot;
use crate::result::{Case, Run};

/// Says a case's ratios in one line.
pub(crate) fn ratios(case: &Case) -> String {
    let said = case.ratios.iter().map(|ratio| format!("{} {:.3}", ratio.metric, ratio.spread().median));
    said.collect::<Vec<_>>().join(", ")
}

/// Returns the tables of some cases, in Markdown.
pub(crate) fn table(cases: &[Case]) -> String {
    let mut text = String::new();
    if cases.iter().any(|case| !case.ratios.is_empty()) {
        text += "| case | ratio | median (quartiles) | wanted | |\n|---|---|---|---|---|\n";
    }
    for case in cases {
        for ratio in &case.ratios {
            let spread = ratio.spread();
            let (goal, reached) = ratio.goal.map_or_else(Default::default, |goal| {
                (goal.to_string(), if goal.is_reached(spread.median) { "reached" } else { "**not reached**" })
            });
            let _ = writeln!(
                text,
                "| {} | {}: {} / {} | {:.3} ({:.3} to {:.3}) | {goal} | {reached} |",
                case.name, ratio.metric, ratio.of, ratio.to, spread.median, spread.low, spread.high
            );
        }
    }
    text.push('\n');
    for case in cases {
        let _ = writeln!(text, "- {}: {}", case.name, figures(case));
    }
    text
}

fn figures(case: &Case) -> String {
    let said = case.figures.iter().map(|(name, value)| format!("{name} {}", number(*value)));
    said.collect::<Vec<_>>().join("; ")
}

/// Three digits, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes the page beside the folder of its plots: `<stem>.md` and `<stem>/*.svg`.
pub(crate) fn write(run: &Run, stem: &Path) -> Result<()> {
    let folder = stem.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut text = format!(
        "# Measured {}\n\n{}\nEach ratio is the median of pairs that were measured in turns, with its quartiles. \
         Absolute figures are those of this machine under these conditions.\n",
        run.name, run.machine
    );
    let mut scenarios: Vec<&str> = run.cases.iter().map(|case| case.scenario.as_str()).collect();
    scenarios.dedup();
    let plots = plot::all(run);
    if !plots.is_empty() {
        std::fs::create_dir_all(stem).with_context(|| format!("making {}", stem.display()))?;
    }
    for scenario in scenarios {
        let cases: Vec<Case> = run.cases.iter().filter(|case| case.scenario == scenario).cloned().collect();
        let _ = write!(text, "\n## {scenario}\n\n{}", table(&cases));
        for plot in plots.iter().filter(|plot| plot.scenario == scenario) {
            let file = stem.join(&plot.file);
            std::fs::write(&file, &plot.svg).with_context(|| format!("writing {}", file.display()))?;
            let _ = write!(text, "\n![{}]({folder}/{})\n", plot.title, plot.file);
        }
    }
    let page = stem.with_extension("md");
    std::fs::write(&page, text).with_context(|| format!("writing {}", page.display()))
}
