//! Which plots a run gives: latencies of each case, what grows with something, and curves in time.

use std::collections::BTreeMap;

use crate::result::{Case, Run};
pub(crate) use lab::plot::escaped;
use lab::plot::{Axis, Chart, Line, Scale};

/// A plot of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) scenario: String,
    pub(crate) title: String,
    pub(crate) file: String,
    pub(crate) svg: String,
}

/// Figures of cases whose names are a number and a word, as they grow with that number: scenario, word, file, title, what
/// goes up, and the figures with their names in the legend.
type Growth =
    (&'static str, &'static str, &'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);
const GROWTHS: &[Growth] = &[
    (
        "boot-storm",
        "guests",
        "boot-storm-latency",
        "Time of a request while this many guests boot",
        "ms per request",
        &[("p50, ms per request", "median"), ("p99, ms per request", "99 %"), ("slowest, ms per request", "slowest")],
    ),
    (
        "scale",
        "ports",
        "scale-start",
        "From the daemon's start until ports are served",
        "seconds",
        &[("seconds until ready", "ready"), ("seconds until all ports are bound", "all ports bound")],
    ),
    (
        "scale",
        "ports",
        "scale-memory-ports",
        "Memory of the daemon with ports that nobody asks through",
        "MB resident",
        &[("daemon, MB resident before any request", "daemon")],
    ),
    (
        "scale",
        "instances",
        "scale-memory-instances",
        "Memory of the daemon with instances of 2 KB user data",
        "MB resident",
        &[("daemon, MB resident before any request", "daemon")],
    ),
    (
        "scale",
        "instances",
        "scale-start-instances",
        "From the daemon's start until it is ready",
        "seconds",
        &[("seconds until ready", "ready")],
    ),
];

/// Returns every plot that the run's cases give.
pub(crate) fn all(run: &Run) -> Vec<Plot> {
    let mut plots: Vec<Plot> = run.cases.iter().filter_map(latency).collect();
    plots.extend(throughput(run));
    plots.extend(curves(run));
    plots.extend(GROWTHS.iter().filter_map(|growth| grown(run, growth)));
    plots
}

fn latency(case: &Case) -> Option<Plot> {
    let lines = case.latencies.iter().map(|(name, quantiles)| {
        // The fastest of all says little. Beyond the share that one request makes, every quantile is the slowest.
        let slowest = quantiles.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let shown = quantiles.iter().position(|(_, value)| *value >= slowest).unwrap_or(0);
        let points = quantiles.iter().take(shown + 1).filter(|(at, _)| *at > 0.0 && *at < 1.0);
        Line { name: name.clone(), points: points.copied().collect() }
    });
    let lines: Vec<Line> = lines.collect();
    let most = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    if lines.is_empty() || most <= 0.0 {
        return None;
    }
    // Thousands of microseconds are read as milliseconds.
    let (unit, factor) = if most > 50_000.0 { ("ms", 1000.0) } else { ("µs", 1.0) };
    let lines = lines
        .into_iter()
        .map(|line| Line { points: line.points.into_iter().map(|(at, value)| (at, value / factor)).collect(), ..line });
    let what = if ["controller", "sync"].contains(&case.scenario.as_str()) {
        "time until the change is seen"
    } else {
        "time of a request"
    };
    let chart = Chart {
        title: format!("{}: {}", case.scenario, case.name),
        x: Axis { label: "this share was at least as fast".to_owned(), scale: Scale::Percentile },
        y: Axis { label: format!("{what}, {unit}"), scale: Scale::Log },
        lines: lines.collect(),
    };
    Some(made(&case.scenario, &format!("{}-{}", case.scenario, file_name(&case.name)), &chart))
}

/// Points of each side.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// Requests per second with more and more connections, of cases that are called `…, N connections`.
fn throughput(run: &Run) -> Vec<Plot> {
    let mut groups: BTreeMap<(String, String), Lines> = BTreeMap::new();
    for case in &run.cases {
        let Some((group, connections)) = case.name.rsplit_once(", ") else { continue };
        let count = connections.strip_suffix(" connections").or_else(|| connections.strip_suffix(" connection"));
        let Some(count) = count.and_then(|count| count.parse().ok()) else { continue };
        for side in case.latencies.keys() {
            let Some(rate) = case.figures.get(&format!("{side}, requests/s")) else { continue };
            let lines = groups.entry((case.scenario.clone(), group.to_owned())).or_default();
            lines.entry(side.clone()).or_default().push((count, *rate));
        }
    }
    let several = groups.into_iter().filter(|(_, lines)| lines.values().any(|points| points.len() > 1));
    several
        .map(|((scenario, group), lines)| {
            let chart = Chart {
                title: format!("{scenario}: {group}"),
                x: Axis { label: "connections at a time".to_owned(), scale: Scale::Log },
                y: Axis { label: "requests/s".to_owned(), scale: fitting(lines.values().flatten()) },
                lines: lines.into_iter().map(|(name, points)| Line { name, points }).collect(),
            };
            made(&scenario, &format!("{scenario}-rate-{}", file_name(&group)), &chart)
        })
        .collect()
}

/// The curves of each scenario's cases, those with the same axes in one plot.
fn curves(run: &Run) -> Vec<Plot> {
    let mut groups: Vec<(&str, &str, &str, Vec<Line>)> = Vec::new();
    for case in &run.cases {
        let Some(curve) = &case.curve else { continue };
        let line = Line { name: case.name.clone(), points: curve.points.clone() };
        let alike =
            groups.iter_mut().find(|(scenario, x, y, _)| *scenario == case.scenario && *x == curve.x && *y == curve.y);
        match alike {
            Some((_, _, _, lines)) => lines.push(line),
            None => groups.push((&case.scenario, &curve.x, &curve.y, vec![line])),
        }
    }
    let drawn = groups.into_iter().map(|(scenario, x, y, lines)| {
        let chart = Chart {
            title: format!("{scenario}: {y} over {x}"),
            x: Axis { label: x.to_owned(), scale: Scale::Linear },
            y: Axis { label: y.to_owned(), scale: Scale::Linear },
            lines,
        };
        made(scenario, &format!("{scenario}-{}", file_name(y)), &chart)
    });
    drawn.collect()
}

fn grown(run: &Run, (scenario, word, file, title, label, figures): &Growth) -> Option<Plot> {
    let points = |figure: &str| -> Vec<(f64, f64)> {
        let cases = run.cases.iter().filter(|case| case.scenario == *scenario);
        let found = cases.filter_map(|case| {
            let (count, rest) = case.name.split_once(' ')?;
            rest.starts_with(word).then_some((count.parse().ok()?, *case.figures.get(figure)?))
        });
        found.collect()
    };
    let lines: Vec<Line> = figures
        .iter()
        .map(|(figure, name)| Line { name: (*name).to_owned(), points: points(figure) })
        .filter(|line| line.points.len() > 1)
        .collect();
    let chart = Chart {
        title: format!("{scenario}: {title}"),
        x: Axis { label: (*word).to_owned(), scale: Scale::Log },
        y: Axis { label: (*label).to_owned(), scale: fitting(lines.iter().flat_map(|line| &line.points)) },
        lines,
    };
    (!chart.lines.is_empty()).then(|| made(scenario, file, &chart))
}

/// Where everything can be told apart from zero up, that is easier to read.
fn fitting<'p>(points: impl Iterator<Item = &'p (f64, f64)> + Clone) -> Scale {
    let (least, most) = (
        points.clone().map(|point| point.1).fold(f64::INFINITY, f64::min),
        points.map(|point| point.1).fold(0.0, f64::max),
    );
    if most > 20.0 * least { Scale::Log } else { Scale::Linear }
}

fn made(scenario: &str, file: &str, chart: &Chart) -> Plot {
    Plot { scenario: scenario.to_owned(), title: chart.title.clone(), file: format!("{file}.svg"), svg: chart.draw() }
}

fn file_name(text: &str) -> String {
    let letters = text.to_lowercase();
    let words: Vec<&str> =
        letters.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::run;

    #[test]
    fn a_case_gives_a_plot_of_its_latencies_and_of_its_curve() {
        let plots = all(&run());
        let files: Vec<&str> = plots.iter().map(|plot| plot.file.as_str()).collect();
        assert_eq!(files, ["intercept-ipv4-small-keep-alive-16-connections.svg", "intercept-guests.svg"]);
        assert!(plots.iter().all(|plot| plot.svg.contains("<svg") && !plot.svg.contains("NaN")));
    }

    #[test]
    fn rates_of_several_connections_are_one_plot() {
        let mut run = run();
        let mut second = run.cases[0].clone();
        second.name = "IPv4, small, keep-alive, 64 connections".to_owned();
        run.cases.push(second);
        let plots = all(&run);
        assert!(plots.iter().any(|plot| plot.file == "intercept-rate-ipv4-small-keep-alive.svg"));
    }

    #[test]
    fn figures_of_numbered_cases_grow() {
        let mut run = run();
        run.cases.clear();
        for ports in [10.0, 1000.0] {
            let mut case = Case::new("scale", format!("{ports} ports"));
            case.figure("seconds until ready", ports / 100.0);
            run.cases.push(case);
        }
        let files: Vec<String> = all(&run).into_iter().map(|plot| plot.file).collect();
        assert_eq!(files, ["scale-start.svg"]);
    }
}
