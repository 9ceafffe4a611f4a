//! Charts as SVG: lines over two axes. The benchmark's plots and the picture of the dashboard are drawn by it.

mod axis;
mod draw;

pub use axis::Scale;
pub use draw::{Axis, Chart, Line, escaped};

/// Says a number with three digits, or all before the point, in groups.
#[must_use]
pub fn number(value: f64) -> String {
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        value if !value.is_finite() => "?".to_owned(),
        value if value >= 100.0 => grouped(&format!("{value:.0}")),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value if value >= 0.001 => format!("{value:.3}"),
        value => format!("{value:.1e}"),
    };
    let text = if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    if value < 0.0 { format!("-{text}") } else { text.to_owned() }
}

fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_or_all_before_the_point() {
        for (value, text) in [
            (0.0, "0"),
            (0.0123456, "0.012"),
            (0.00001, "1.0e-5"),
            (1.5, "1.5"),
            (12.34, "12.3"),
            (999.9, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-20.0, "-20"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(number(value), text, "{value}");
        }
    }
}
