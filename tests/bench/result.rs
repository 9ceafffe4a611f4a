//! What was measured, as it is kept: one JSON file per run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::Effort;
use crate::machine::Machine;
use crate::stats::Spread;

/// Version of what is written here. A file of another one is refused, not guessed at.
const FORMAT: u32 = 2;

/// One start of the benchmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Date and time, UTC: the name of its files.
    pub(crate) name: String,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Seconds of each slice of a pair.
    pub(crate) slice: f64,
    /// Pairs of slices of each comparison.
    pub(crate) pairs: u32,
    /// Seconds that it took in all.
    pub(crate) took: f64,
    /// What was measured, in order.
    pub(crate) cases: Vec<Case>,
    /// What was not measured, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) skipped: Vec<Skipped>,
}

/// A part that was not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Skipped {
    /// The scenario.
    pub(crate) scenario: String,
    /// What of it; empty: all of it.
    pub(crate) part: String,
    /// Why, with what to do about it.
    pub(crate) why: String,
}

/// One thing that was measured, or two that were compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    /// The scenario.
    pub(crate) scenario: String,
    /// What it is within the scenario.
    pub(crate) name: String,
    /// What was compared; none where there is nothing to compare with.
    pub(crate) ratios: Vec<Ratio>,
    /// Absolute figures, by name with their unit.
    pub(crate) figures: BTreeMap<String, f64>,
    /// Latency distributions by name: pairs of quantile and microseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) latencies: BTreeMap<String, Vec<(f64, f64)>>,
    /// What this project wants some of the figures to be, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) goals: BTreeMap<String, Goal>,
    /// How something went on in time, or with something else that grew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) curve: Option<Curve>,
}

/// A line that a plot shows; the lines of a scenario's cases with the same axes are in one plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// What goes to the right, with its unit.
    pub(crate) x: String,
    /// What goes up, with its unit.
    pub(crate) y: String,
    /// The points, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Two things, measured in turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// What was measured of both, with its unit.
    pub(crate) metric: String,
    /// What is on top of the fraction, and what below.
    pub(crate) of: String,
    /// See `of`.
    pub(crate) to: String,
    /// One ratio for each pair, in order.
    pub(crate) pairs: Vec<f64>,
    /// What this project wants it to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<Goal>,
}

/// What is wanted of a ratio's median, or of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// It or more.
    AtLeast(f64),
    /// It or less.
    AtMost(f64),
}

impl Goal {
    /// Tells whether a value reaches it.
    pub(crate) fn is_reached(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

impl Case {
    /// Begins a case without anything in it.
    pub(crate) fn new(scenario: &str, name: impl Into<String>) -> Self {
        Self {
            scenario: scenario.to_owned(),
            name: name.into(),
            ratios: Vec::new(),
            figures: BTreeMap::new(),
            latencies: BTreeMap::new(),
            goals: BTreeMap::new(),
            curve: None,
        }
    }

    /// Adds an absolute figure.
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.insert(name.into(), value);
    }

    /// Adds an absolute figure, and what is wanted of it, if anything is.
    pub(crate) fn judged(&mut self, name: impl Into<String>, value: f64, goal: Option<Goal>) {
        let name = name.into();
        self.goals.extend(goal.map(|goal| (name.clone(), goal)));
        self.figure(name, value);
    }
}

impl Ratio {
    /// Returns the median and the quartiles of the pairs.
    pub(crate) fn spread(&self) -> Spread {
        Spread::of(&self.pairs)
    }
}

impl Run {
    /// Begins a run now, here.
    pub(crate) fn begin(effort: Effort) -> Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        Ok(Self {
            format: FORMAT,
            name: date_and_time(since.as_secs()),
            machine: Machine::look()?,
            slice: effort.slice.as_secs_f64(),
            pairs: effort.pairs,
            took: 0.0,
            cases: Vec::new(),
            skipped: Vec::new(),
        })
    }

    /// Says that a part of a scenario is not measured, and why.
    pub(crate) fn skip(&mut self, scenario: &str, part: &str, why: &str) {
        crate::progress::say(&format!("skipped: {part}: {why}"));
        self.skipped.push(Skipped { scenario: scenario.to_owned(), part: part.to_owned(), why: why.to_owned() });
    }

    /// Reads a run.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading the result {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let json: serde_json::Value = serde_json::from_slice(text).context("it is no JSON")?;
        match json["format"].as_u64() {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => bail!(
                "it has format {format}, and this benchmark reads format {FORMAT}: use the bench of the commit that \
                 wrote it, or measure again"
            ),
            None => bail!("it is no result of `cargo xtask bench`: those are target/bench/<date>.json"),
        }
        serde_json::from_value(json).context("it is no complete result of `cargo xtask bench`")
    }

    /// Writes it, with a line for each case.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = self.text().context("writing the result as JSON")?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    fn text(&self) -> serde_json::Result<String> {
        let cases = self.cases.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
        let rest = serde_json::to_string_pretty(&Self { cases: Vec::new(), ..self.clone() })?;
        Ok(rest.replacen("\"cases\": []", &format!("\"cases\": [\n{}\n  ]", cases.join(",\n")), 1) + "\n")
    }
}

/// Says a Unix time as `2026-01-31T235959`, UTC.
fn date_and_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1970 to a date of the civil calendar: eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + next;
    format!("{year:04}-{month:02}-{day:02}T{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run with a case that has everything.
    pub(crate) fn run() -> Run {
        let mut case = Case::new("intercept", "IPv4, small, keep-alive, 16 connections");
        case.judged("seconds", 2.0, Some(Goal::AtMost(10.0)));
        case.figure("tap, requests/s", 1000.0);
        case.latencies.insert("tap".to_owned(), vec![(0.0, 10.0), (0.5, 20.0), (0.99, 100.0), (1.0, 1000.0)]);
        case.curve =
            Some(Curve { x: "seconds".to_owned(), y: "guests".to_owned(), points: vec![(0.5, 1.0), (1.5, 9.0)] });
        case.ratios.push(Ratio {
            metric: "requests/s".to_owned(),
            of: "tap".to_owned(),
            to: "plain".to_owned(),
            pairs: vec![0.9, 0.95, 0.99],
            goal: Some(Goal::AtLeast(0.92)),
        });
        let machine = Machine {
            processor: "A & B".to_owned(),
            processors: 2,
            memory: 4.0,
            kernel: "6.18".to_owned(),
            commit: "0123456789ab".to_owned(),
            load: 0.1,
        };
        Run {
            format: FORMAT,
            name: "2026-01-31T235959".to_owned(),
            machine,
            slice: 1.0,
            pairs: 9,
            took: 90.0,
            cases: vec![case],
            skipped: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = run().text().unwrap();
        assert_eq!(
            serde_json::to_value(Run::parse(text.as_bytes()).unwrap()).unwrap(),
            serde_json::to_value(run()).unwrap()
        );
    }

    #[test]
    fn what_is_no_result_is_refused_with_the_reason() {
        for (text, reason) in [
            ("{", "it is no JSON"),
            ("[1]", "no result of `cargo xtask bench`"),
            ("{\"cases\": []}", "no result of `cargo xtask bench`"),
            ("{\"format\": 99}", "it has format 99, and this benchmark reads format 2"),
            ("{\"format\": 2}", "no complete result"),
        ] {
            let error = format!("{:#}", Run::parse(text.as_bytes()).unwrap_err());
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = format!("{:#}", Run::read(Path::new("/nonexistent/run.json")).unwrap_err());
        assert!(error.contains("reading the result /nonexistent/run.json"), "{error}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T000000"),
            (951_782_399, "2000-02-28T235959"),
            (951_868_800, "2000-03-01T000000"),
            (1_798_761_599, "2026-12-31T235959"),
        ] {
            assert_eq!(date_and_time(seconds), expected);
        }
    }
}
