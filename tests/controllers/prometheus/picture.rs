//! The picture of the dashboard in docs/: its own queries, to the Prometheus of a real run, drawn as the benchmark's plots are, since
//! Grafana is in no archive that this project builds from.
//!
//!     METADATAD_DASHBOARD=docs/dashboard.svg cargo xtask test controllers --filter dashboard
//!
//! writes it anew, which takes a minute and a half.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::plot::{Axis, Chart, Line, Scale};
use lab::{Asker, Prometheus};
use serde_json::Value;

use super::{USER_DATA, World, dashboard, sent};

/// Panels that are drawn, with what goes upwards and the factor to it: two in a row.
const PANELS: &[(&str, &str, f64)] = &[
    ("Answers by status", "answers per second", 1.0),
    ("Time of a request", "ms", 1000.0),
    ("Packets by verdict", "packets per second", 1.0),
    ("Connections that were refused or closed early", "per second", 1.0),
    ("Session tokens", "per second", 1.0),
    ("Processor time", "seconds per second", 1.0),
];

/// Requests per second of a guest, one after the other, and for how many seconds each.
const LOAD: &[(u32, u64)] = &[(20, 20), (200, 25), (50, 20), (400, 15), (20, 10)];

/// Width of one chart, and the most that one is high.
const CHART: (u32, u32) = (720, 460);

/// Lets the guest ask more and less, and returns for how many seconds.
pub(super) fn load(world: &World) -> Result<u32> {
    let began = Instant::now();
    for (rate, seconds) in LOAD {
        let asker = Asker::start(&world.guest, USER_DATA, *rate, b"x")?;
        for _ in 0..*seconds {
            world.ask_otherwise()?;
            // Paces the load; nothing is waited for.
            std::thread::sleep(Duration::from_secs(1));
        }
        asker.finish()?.perfect()?;
    }
    Ok(u32::try_from(began.elapsed().as_secs())?)
}

/// Draws the panels, from what Prometheus has of the last seconds.
pub(super) fn draw(prometheus: &Prometheus, seconds: u32) -> Result<String> {
    let rows = u32::try_from(PANELS.len())?.div_ceil(2);
    let (width, height) = (2 * CHART.0, rows * CHART.1);
    let mut svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n");
    svg += "<title>The dashboard of metadatad, drawn from a run of its test</title>\n";
    let dashboard = dashboard("metadatad");
    for (place, (title, label, factor)) in (0..).zip(PANELS) {
        let panels = dashboard["panels"].as_array().into_iter().flatten();
        let panel = panels.clone().find(|panel| panel["title"] == *title);
        let targets = panel.and_then(|panel| panel["targets"].as_array()).into_iter().flatten();
        let mut lines = Vec::new();
        for target in targets {
            let query = sent(target["expr"].as_str().unwrap_or_default());
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let series = prometheus.query_range(&query, seconds)?;
            lines.extend(series.iter().map(|series| line(series, legend, *factor)));
        }
        // Reasons and verdicts that did not occur would only fill the legend.
        lines.retain(|line| line.points.iter().any(|(_, value)| *value > 0.0));
        let axis = |label: &str| Axis { label: label.to_owned(), scale: Scale::Linear };
        let chart = Chart { title: (*title).to_owned(), x: axis("seconds"), y: axis(label), lines };
        let at = format!("<svg x=\"{}\" y=\"{}\" ", place % 2 * CHART.0, place / 2 * CHART.1);
        let _ = writeln!(svg, "{}", chart.draw().replacen("<svg ", &at, 1).trim_end());
    }
    Ok(svg + "</svg>\n")
}

/// A series as a line, from its first moment on.
fn line(series: &Value, legend: &str, factor: f64) -> Line {
    let mut name = legend.to_owned();
    for (label, value) in series["metric"].as_object().into_iter().flatten() {
        name = name.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap_or_default());
    }
    let samples = series["values"].as_array().into_iter().flatten();
    let samples = samples.filter_map(|sample| Some((sample[0].as_f64()?, sample[1].as_str()?.parse::<f64>().ok()?)));
    let samples: Vec<_> = samples.filter(|(_, value)| value.is_finite()).collect();
    let first = samples.first().map_or(0.0, |(at, _)| *at);
    Line { name, points: samples.into_iter().map(|(at, value)| (at - first, value * factor)).collect() }
}
