//! What operators read about the metrics: the page docs/metrics.md, made from what is exported.
//!
//! Promises: a metric that is exported is on the page, with its type, labels and number of series; `cargo xtask schema` writes the
//! page anew, and a test compares it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Format, Metrics, Packets, State};

/// What the page says before the table.
const HEAD: &str = include_str!("reference.md");

/// What the page says before the controller's table.
const CONTROLLER_HEAD: &str = "\n## Of the controller\n\n`metadatad controller run` exports these at its admin socket, and at \
                               `metrics.listen` of its own configuration.\n";

/// A metric as it is exported.
#[derive(Debug, Default)]
struct Row {
    name: String,
    kind: String,
    help: String,
    labels: BTreeMap<String, BTreeSet<String>>,
    series: usize,
}

/// Returns the page. `packets`: all verdicts and drop reasons that packets are counted by.
#[must_use]
pub fn markdown(packets: impl Packets) -> String {
    let mut metrics = Metrics::new();
    metrics.read_packets(packets);
    let rows = rows(&metrics.text(Format::Text, State::complete()));
    let series: usize = rows.iter().map(|row| row.series).sum();
    let mut out = HEAD.replace("{SERIES}", &series.to_string());
    table(&rows, &mut out);
    out.push_str(CONTROLLER_HEAD);
    table(&self::rows(&Metrics::state_text(Format::Text, State::complete_of_controller())), &mut out);
    out
}

fn table(rows: &[Row], out: &mut String) {
    out.push_str("\n| metric | type | labels | series | what |\n|---|---|---|---|---|\n");
    for Row { name, kind, help, labels, series } in rows {
        let labels: Vec<_> = labels.iter().map(|(label, values)| described(label, values)).collect();
        let _ = writeln!(out, "| `{name}` | {kind} | {} | {series} | {help} |", labels.join("; "));
    }
}

/// Says what a label is. Long lists are in the documentation of what they are about.
fn described(label: &str, values: &BTreeSet<String>) -> String {
    let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
    match values.as_slice() {
        [one] if one == "`x`" => format!("`{label}`"),
        _ => format!("`{label}`: {}", values.join(", ")),
    }
}

/// Reads back what is exported where everything applies.
fn rows(text: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            rows.push(Row { name: name.to_owned(), help: help.trim_end_matches('.').to_owned(), ..Row::default() });
            continue;
        }
        let Some(row) = rows.last_mut() else { continue };
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            row.kind = rest.rsplit(' ').next().unwrap_or_default().to_owned();
            continue;
        }
        row.series += 1;
        let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
        for (label, value) in labels.split(',').filter_map(|pair| pair.split_once('=')) {
            if label != "le" {
                row.labels.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Two;

    impl Packets for Two {
        fn totals(&self) -> Vec<(&'static str, u64)> {
            vec![("to_guest", 0), ("spoofed_ip", 0)]
        }
    }

    #[test]
    fn a_row_has_type_labels_and_number_of_series() {
        let page = markdown(Two);
        for row in [
            "| `metadatad_packets_total` | counter | `result`: `spoofed_ip`, `to_guest` | 2 | Packets of guests",
            "| `metadatad_ready` | gauge |  | 1 | Whether",
            "| `metadatad_build_info` | gauge | `version` | 1 | Version of the daemon |",
            "| `metadatad_http_request_duration_seconds` | histogram |  | 18 | Time",
        ] {
            assert!(page.contains(row), "{row}: {page}");
        }
    }

    #[test]
    fn no_metric_has_many_series_and_none_is_told_apart_by_what_a_guest_chooses() {
        let mut metrics = Metrics::new();
        metrics.read_packets(Two);
        let daemon = metrics.text(Format::Text, State::complete());
        let controller = Metrics::state_text(Format::Text, State::complete_of_controller());
        for row in rows(&daemon).into_iter().chain(rows(&controller)) {
            assert!(row.series <= 40, "{row:?}");
            for label in row.labels.keys() {
                let fixed = [
                    "code", "family", "fidelity", "kind", "observer", "outcome", "profile", "reason", "result",
                    "service", "state", "table", "token", "version", "what",
                ];
                assert!(
                    fixed.contains(&label.as_str()),
                    "{row:?}: a new label has a fixed set of values: list it here"
                );
            }
            assert!(!row.help.is_empty() && !row.kind.is_empty(), "{row:?}");
        }
    }
}
