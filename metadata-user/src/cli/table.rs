//! Aligned columns for people.

use std::io::{self, Write};

/// Prints rows under a head; every column is as wide as its widest cell. Control characters are not printed as such:
/// a name comes from a document or an interface, and must not move a terminal's cursor.
pub(super) fn print<const N: usize>(head: [&str; N], rows: &[[String; N]], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned))
        .chain(rows.iter().cloned())
        .map(|row| row.map(|cell| plain(if cell.is_empty() { "-" } else { &cell })))
        .collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line += &format!("{cell:width$}  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Replaces control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_moves_the_cursor() {
        let mut out = Vec::new();
        let rows = [["a".to_owned(), String::new()], ["long\u{1b}[2J".to_owned(), "x".to_owned()]];
        print(["NAME", "STATE"], &rows, &mut out).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "NAME      STATE\na         -\nlong\u{fffd}[2J  x\n");
    }
}
