//! What changed between two runs, beyond their noise.
//!
//! A ratio has changed when the quartiles of its pairs before and after lie apart: where half of the pairs overlap, it is
//! noise. Figures without pairs have no spread; those with a goal are shown when they moved by more than a tenth, and said
//! to be single measurements.

use crate::result::{Case, Ratio, Run};
use crate::table::{Table, number, ratio};

/// Moves of a figure without pairs that are not worth a line.
const TENTH: f64 = 0.1;

/// Returns what changed, for people.
pub(crate) fn text(before: &Run, after: &Run) -> String {
    let mut text = format!("before: {}, {}after:  {}, {}", before.name, before.machine, after.name, after.machine);
    if before.machine.processor != after.machine.processor || before.machine.kernel != after.machine.kernel {
        text += "These are different machines or kernels: even ratios may differ for that alone.\n";
    }
    if (before.slice, before.pairs) != (after.slice, after.pairs) {
        text += "They were measured with different slices or pairs: the shorter one has more noise.\n";
    }
    text.push('\n');
    let (mut changed, mut same, mut missing) = (Table::new(HEADING), 0, 0);
    for case in &before.cases {
        for old in &case.ratios {
            match find(after, case).and_then(|case| alike(case, old)) {
                None => missing += 1,
                Some(new) if overlap(old, new) => same += 1,
                Some(new) => changed.row(row(case, old, new)),
            }
        }
    }
    if changed.is_empty() {
        text += "no change beyond noise\n";
    } else {
        text += &changed.to_string();
    }
    text += &format!("\n{same} ratios are the same within their quartiles");
    let new =
        ratios(after).filter(|(case, new)| find(before, case).and_then(|case| alike(case, new)).is_none()).count();
    for (count, what) in [(missing, "only in the earlier run"), (new, "only in the later run")] {
        if count > 0 {
            text += &format!("; {count} are {what}");
        }
    }
    text.push('\n');
    let moved = moved(before, after);
    if !moved.is_empty() {
        text +=
            &format!("\nfigures with a goal that moved by more than a tenth, each measured once per run:\n\n{moved}");
    }
    text
}

const HEADING: [&str; 5] = ["case", "ratio", "before", "after", "change"];

fn ratios(run: &Run) -> impl Iterator<Item = (&Case, &Ratio)> {
    run.cases.iter().flat_map(|case| case.ratios.iter().map(move |ratio| (case, ratio)))
}

fn find<'r>(run: &'r Run, case: &Case) -> Option<&'r Case> {
    run.cases.iter().find(|other| other.scenario == case.scenario && other.name == case.name)
}

fn alike<'c>(case: &'c Case, ratio: &Ratio) -> Option<&'c Ratio> {
    case.ratios.iter().find(|other| other.metric == ratio.metric && other.of == ratio.of && other.to == ratio.to)
}

fn overlap(old: &Ratio, new: &Ratio) -> bool {
    let (old, new) = (old.spread(), new.spread());
    new.low <= old.high && old.low <= new.high
}

fn row(case: &Case, old: &Ratio, new: &Ratio) -> Vec<String> {
    let (before, after) = (old.spread(), new.spread());
    let shown = |spread: crate::stats::Spread| {
        format!("{} ({} to {})", ratio(spread.median), ratio(spread.low), ratio(spread.high))
    };
    vec![
        format!("{}, {}", case.scenario, case.name),
        format!("{}: {} / {}", old.metric, old.of, old.to),
        shown(before),
        shown(after),
        percent(before.median, after.median),
    ]
}

fn moved(before: &Run, after: &Run) -> Table {
    let mut table = Table::new(["case", "figure", "before", "after", "change"]);
    for case in &before.cases {
        let Some(later) = find(after, case) else { continue };
        for name in case.goals.keys() {
            let (Some(old), Some(new)) = (case.figures.get(name), later.figures.get(name)) else { continue };
            if (new - old).abs() > TENTH * old.abs() {
                let place = format!("{}, {}", case.scenario, case.name);
                table.row(vec![place, name.clone(), number(*old), number(*new), percent(*old, *new)]);
            }
        }
    }
    table
}

fn percent(old: f64, new: f64) -> String {
    if old == 0.0 { String::new() } else { format!("{:+.1} %", (new / old - 1.0) * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::run;

    fn with(pairs: &[f64]) -> Run {
        let mut run = run();
        run.cases[0].ratios[0].pairs = pairs.to_vec();
        run
    }

    #[test]
    fn overlapping_quartiles_are_noise() {
        let shown = text(&with(&[0.90, 0.95, 1.00]), &with(&[0.95, 1.00, 1.05]));
        assert!(shown.contains("no change beyond noise"), "{shown}");
        assert!(shown.contains("1 ratios are the same within their quartiles"), "{shown}");
        assert!(!shown.contains('%') && !shown.contains("only in"), "{shown}");
    }

    #[test]
    fn quartiles_that_lie_apart_are_a_change() {
        let shown = text(&with(&[0.90, 0.91, 0.92]), &with(&[0.99, 1.001, 1.01]));
        assert!(!shown.contains("no change"), "{shown}");
        assert!(shown.contains("| 0.910 (0.905 to 0.915) | 1.001 (0.995 to 1.006) | +10.0 %"), "{shown}");
    }

    #[test]
    fn what_only_one_run_has_is_counted_and_not_compared() {
        let mut other = run();
        other.cases[0].name = "another case".to_owned();
        let shown = text(&run(), &other);
        assert!(shown.contains("no change beyond noise"), "{shown}");
        assert!(shown.contains("1 are only in the earlier run; 1 are only in the later run"), "{shown}");
    }

    #[test]
    fn another_machine_and_another_effort_are_said() {
        let mut other = run();
        other.machine.kernel = "7.0".to_owned();
        other.pairs = 3;
        let shown = text(&run(), &other);
        assert!(shown.contains("different machines") && shown.contains("different slices or pairs"), "{shown}");
        assert!(!text(&run(), &run()).contains("different"));
    }

    #[test]
    fn a_figure_with_a_goal_that_moved_is_shown_as_a_single_measurement() {
        let mut other = run();
        other.cases[0].figures.insert("seconds".to_owned(), 3.0);
        let shown = text(&run(), &other);
        assert!(shown.contains("each measured once per run") && shown.contains("+50.0 %"), "{shown}");
        other.cases[0].figures.insert("seconds".to_owned(), 2.1);
        assert!(!text(&run(), &other).contains("measured once"));
    }
}
