//! What changed between two runs, beyond their noise.

use crate::result::{Case, Ratio, Run};

/// Returns a line for each ratio that both runs have: changed if the quartiles of the two lie apart.
pub(crate) fn table(before: &Run, after: &Run) -> String {
    let mut text = format!("before: {} on {}after:  {} on {}", before.name, before.machine, after.name, after.machine);
    let (mut same, mut missing) = (0, 0);
    for case in &before.cases {
        for ratio in &case.ratios {
            let Some(later) = find(after, case, ratio) else {
                missing += 1;
                continue;
            };
            let (old, new) = (ratio.spread(), later.spread());
            if new.low <= old.high && old.low <= new.high {
                same += 1;
                continue;
            }
            text += &format!(
                "{}, {}: {}: {:.3} ({:.3} to {:.3}) became {:.3} ({:.3} to {:.3})\n",
                case.scenario, case.name, ratio.metric, old.median, old.low, old.high, new.median, new.low, new.high
            );
        }
    }
    text + &format!("{same} ratios are the same within their quartiles; {missing} are not in the later run\n")
}

fn find<'r>(run: &'r Run, case: &Case, ratio: &Ratio) -> Option<&'r Ratio> {
    let case = run.cases.iter().find(|other| other.scenario == case.scenario && other.name == case.name)?;
    case.ratios.iter().find(|other| other.metric == ratio.metric && other.of == ratio.of && other.to == ratio.to)
}
