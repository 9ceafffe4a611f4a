//! Tables that are Markdown, and stand straight on a terminal as well.

pub(crate) use lab::plot::number;

/// Rows below a heading.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins a table with its heading.
    pub(crate) fn new<T: Into<String>>(heading: impl IntoIterator<Item = T>) -> Self {
        Self { rows: vec![heading.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Tells whether there is nothing but the heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = widths.iter().enumerate().map(|(column, width)| format!(" {:width$} |", cell(row, column)));
            writeln!(f, "|{}", cells.collect::<String>())?;
            if number == 0 {
                let lines = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2)));
                writeln!(f, "|{}", lines.collect::<String>())?;
            }
        }
        Ok(())
    }
}

/// Says a ratio: three digits after the point where it is near 1.
pub(crate) fn ratio(value: f64) -> String {
    match value.abs() {
        value if value >= 10.0 => number(value),
        value if value >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_straight_and_short_rows_are_filled() {
        let mut table = Table::new(["case", "µs"]);
        table.row(vec!["a long name".to_owned(), "1".to_owned()]);
        table.row(vec!["b".to_owned()]);
        let expected = "| case        | µs  |\n|-------------|-----|\n| a long name | 1   |\n| b           |     |\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn ratios_have_three_digits_after_the_point_near_1() {
        assert_eq!(ratio(0.9), "0.900");
        assert_eq!(ratio(0.00512), "0.0051");
        assert_eq!(ratio(120.4), "120");
    }
}
