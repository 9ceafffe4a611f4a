//! Plots, as SVG: lines over two axes, each logarithmic.

use std::fmt::Write as _;

use crate::result::{Case, Run};

/// A plot of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) scenario: &'static str,
    pub(crate) title: String,
    pub(crate) file: String,
    pub(crate) svg: String,
}

/// A line of a plot.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Room for the axes' labels: left, right, above and below the lines.
const MARGINS: [f64; 4] = [70.0, 150.0, 40.0, 50.0];
/// Colours that people who see few of them can tell apart (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000"];

/// Returns every plot that the run's cases give.
pub(crate) fn all(run: &Run) -> Vec<Plot> {
    let mut plots = Vec::new();
    for case in run.cases.iter().filter(|case| !case.latencies.is_empty()) {
        let lines = case.latencies.iter().map(|(name, quantiles)| Line {
            name: name.clone(),
            // 0.999 is as far from 0.99 as that from 0.9: the axis shows one out of how many is slower.
            points: quantiles
                .iter()
                .filter(|(at, _)| *at < 1.0)
                .map(|(at, value)| (1.0 / (1.0 - at), *value))
                .collect(),
        });
        let axes = ("one request of … is slower", "µs");
        plots.push(plot("intercept", &case.name, &file_name(case), axes, &lines.collect::<Vec<_>>()));
    }
    for (scenario, unit, figures) in [
        ("boot-storm", " guests", ["p50, ms per request", "p99, ms per request", "seconds until the last is done"]),
        ("scale", " ports", ["seconds until ready", "seconds until all ports are bound", "daemon, MB resident"]),
    ] {
        let lines = figures.map(|figure| Line { name: figure.to_owned(), points: growth(run, scenario, unit, figure) });
        if lines.iter().any(|line| line.points.len() > 1) {
            let title = format!("{scenario}: growth with{unit}");
            plots.push(plot(scenario, &title, &format!("{scenario}.svg"), (unit.trim(), ""), &lines));
        }
    }
    plots
}

fn growth(run: &Run, scenario: &str, unit: &str, figure: &str) -> Vec<(f64, f64)> {
    let cases = run.cases.iter().filter(|case| case.scenario == scenario);
    cases
        .filter_map(|case| {
            let count: f64 = case.name.strip_suffix(unit)?.parse().ok()?;
            Some((count, *case.figures.get(figure)?))
        })
        .collect()
}

fn file_name(case: &Case) -> String {
    let letters = case.name.to_lowercase();
    let words: Vec<&str> =
        letters.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("{}-{}.svg", case.scenario, words.join("-"))
}

fn plot(scenario: &'static str, title: &str, file: &str, axes: (&str, &str), lines: &[Line]) -> Plot {
    let [left, right, above, below] = MARGINS;
    let values = |of: fn(&(f64, f64)) -> f64| lines.iter().flat_map(|line| &line.points).map(of).filter(|v| *v > 0.0);
    let (x_range, y_range) = (decades(values(|point| point.0)), decades(values(|point| point.1)));
    let place = |value: f64, (low, high): (i32, i32)| {
        (value.max(1e-9).log10() - f64::from(low)) / f64::from((high - low).max(1))
    };
    let x = |value: f64| left + place(value, x_range) * (WIDTH - left - right);
    let y = |value: f64| HEIGHT - below - place(value, y_range) * (HEIGHT - above - below);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"22\" font-size=\"14\">{title}</text>\n"
    );
    for power in x_range.0..=x_range.1 {
        let (at, bottom) = (x(10f64.powi(power)), HEIGHT - below);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {above}V{bottom}\" stroke=\"#ddd\"/>");
        let _ =
            writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 16.0, label(power));
    }
    for power in y_range.0..=y_range.1 {
        let (at, end) = (y(10f64.powi(power)), WIDTH - right);
        let _ = writeln!(svg, "<path d=\"M{left} {at:.1}H{end}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            label(power)
        );
    }
    let middle = (left + WIDTH - right) / 2.0;
    let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 12.0, axes.0);
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\" text-anchor=\"end\">{}</text>", above - 4.0, axes.1);
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<_> = line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
        let points = points.join(" ");
        let _ = writeln!(svg, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        let row = above + 16.0 * (number as f64 + 1.0);
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{row}\" fill=\"{colour}\">{}</text>", WIDTH - right + 8.0, line.name);
    }
    svg += "</svg>\n";
    Plot { scenario, title: title.to_owned(), file: file.to_owned(), svg }
}

fn label(power: i32) -> String {
    match power {
        0.. => format!("{}", 10f64.powi(power)),
        _ => format!("1e{power}"),
    }
}

/// Returns the powers of ten between which all values lie.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        low = low.min(value.log10().floor());
        high = high.max(value.log10().ceil());
    }
    if !low.is_finite() {
        return (0, 1);
    }
    #[expect(clippy::cast_possible_truncation, reason = "powers of ten of what can be measured")]
    let range = (low as i32, high as i32);
    (range.0, range.1.max(range.0 + 1))
}

#[cfg(test)]
mod tests {
    use super::decades;

    #[test]
    fn axes_reach_from_power_to_power() {
        assert_eq!(decades([20.0, 3000.0].into_iter()), (1, 4));
        assert_eq!(decades([1.0].into_iter()), (0, 1));
        assert_eq!(decades(std::iter::empty()), (0, 1));
    }
}
