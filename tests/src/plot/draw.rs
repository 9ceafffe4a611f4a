//! Charts as SVG, on white, so that they can be read on any page.
//!
//! Lines differ in colour (Okabe and Ito's, which people who see few colours can tell apart), in dashes and in the marks on
//! their points. The legend is between title and lines, so that it hides nothing, and has as many rows as it needs.

use std::fmt::Write as _;

use super::axis::{Range, Scale};

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it is, with its unit.
    pub label: String,
    /// How its values lie.
    pub scale: Scale,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Lines over two axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// Its lines.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
/// Height of the part that has lines.
const PLOT: f64 = 300.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 40.0;
const BELOW: f64 = 54.0;
/// Rows of the legend begin here, and are this far apart.
const LEGEND: f64 = 48.0;
const ROW: f64 = 20.0;
/// About the width of a letter of the legend. Too much is better than an overlap.
const LETTER: f64 = 7.2;
const SAMPLE: f64 = 34.0;
/// Marks on more points than this would hide the line.
const MARKED: usize = 20;
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#8a6d00"];
const DASHES: [&str; 6] = ["", "8 4", "2 3", "10 3 2 3", "5 5", "1 2"];

impl Chart {
    /// Draws it.
    #[must_use]
    pub fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x_range = Range::of(self.x.scale, points().map(|point| point.0));
        let y_range = Range::of(self.y.scale, points().map(|point| point.1));
        let (legend, rows) = self.legend();
        let above = LEGEND + ROW * rows + 8.0;
        let (bottom, end) = (above + PLOT, WIDTH - RIGHT);
        let x = |value: f64| LEFT + x_range.place(value) * (end - LEFT);
        let y = |value: f64| bottom - y_range.place(value) * PLOT;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#222\" role=\"img\">\n\
             <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n{legend}",
            height = bottom + BELOW,
            title = escaped(&self.title),
        );
        for (value, name) in x_range.ticks() {
            let at = x(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {above}V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{name}</text>",
                bottom + 18.0
            );
        }
        for (value, name) in y_range.ticks() {
            let at = y(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{name}</text>",
                LEFT - 8.0,
                at + 4.5
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {above}V{bottom}H{end}\" stroke=\"#222\" fill=\"none\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + end) / 2.0,
            bottom + 42.0,
            escaped(&self.x.label),
            above + PLOT / 2.0,
            escaped(&self.y.label)
        );
        for (number, line) in self.lines.iter().enumerate() {
            let points: Vec<_> = line.points.iter().map(|(px, py)| (x(*px), y(*py))).collect();
            let path: Vec<_> = points.iter().map(|(px, py)| format!("{px:.1},{py:.1}")).collect();
            let _ = writeln!(svg, "<polyline points=\"{}\" {}/>", path.join(" "), stroke(number));
            if points.len() <= MARKED {
                for (px, py) in points {
                    svg += &mark(number, px, py);
                }
            }
        }
        svg + "</svg>\n"
    }

    /// Returns the legend, and how many rows it has.
    fn legend(&self) -> (String, f64) {
        let (mut svg, mut at, mut row) = (String::new(), 16.0, 0.0);
        for (number, line) in self.lines.iter().enumerate() {
            let length = SAMPLE + 8.0 + LETTER * line.name.chars().count() as f64 + 18.0;
            if at > 16.0 && at + length > WIDTH {
                (at, row) = (16.0, row + 1.0);
            }
            let y = LEGEND + ROW * row;
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {y}h{SAMPLE}\" {}/>{}<text x=\"{:.1}\" y=\"{}\">{}</text>",
                stroke(number),
                mark(number, at + SAMPLE / 2.0, y).trim_end(),
                at + SAMPLE + 8.0,
                y + 4.5,
                escaped(&line.name)
            );
            at += length;
        }
        (svg, row + 1.0)
    }
}

fn stroke(number: usize) -> String {
    let (colour, dash) = (COLOURS[number % COLOURS.len()], DASHES[number % DASHES.len()]);
    let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
    format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\"{dash}")
}

/// A mark of the line's own shape around a point.
fn mark(number: usize, x: f64, y: f64) -> String {
    let colour = COLOURS[number % COLOURS.len()];
    let shape = match number % 3 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\""),
        1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"", x - 3.5, y - 3.5),
        _ => format!("<path d=\"M{:.1} {:.1}l4.5 8h-9z\"", x, y - 5.0),
    };
    format!("{shape} fill=\"{colour}\"/>\n")
}

/// Returns text as it stands in XML.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_legends_have_more_rows_and_text_is_escaped() {
        let line = |name: &str| Line { name: name.to_owned(), points: vec![(1.0, 1.0), (2.0, 4.0)] };
        let axis = Axis { label: "a < b".to_owned(), scale: Scale::Linear };
        let chart = |lines| Chart { title: "t & t".to_owned(), x: axis.clone(), y: axis.clone(), lines };
        let few = chart(vec![line("a"), line("b")]);
        assert!(few.legend().1 < 1.5);
        let many = chart((0..5).map(|_| line("a name that is rather long to read")).collect());
        assert!(many.legend().1 > 1.5);
        let svg = few.draw();
        assert!(svg.contains("t &amp; t") && svg.contains("a &lt; b") && !svg.contains("NaN"));
    }
}
