//! Columns of text for a terminal.

use super::text::wrap;

/// Most characters in a line of a report.
pub(crate) const WIDTH_MAX: usize = 110;
/// Blanks between two columns.
const GAP: usize = 2;
/// The first column keeps at least this, even if a line then is longer than [`WIDTH_MAX`].
const FIRST_MIN: usize = 16;

/// A column: its head, and whether it is pushed to the right, as numbers are.
pub(crate) struct Column(pub(crate) &'static str, pub(crate) bool);

/// Rows below their heads. The first column wraps so that no line is over [`WIDTH_MAX`]; empty without
/// rows.
pub(crate) fn grid(columns: &[Column], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let width_of = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([columns[at].0.chars().count()]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns.len()).map(width_of).collect();
    let others: usize = widths[1..].iter().map(|width| width + GAP).sum();
    widths[0] = widths[0].min(WIDTH_MAX.saturating_sub(others).max(FIRST_MIN));
    let heads: Vec<String> = columns.iter().map(|column| column.0.to_owned()).collect();
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    let mut out = String::new();
    for row in [&heads, &rule].into_iter().chain(rows) {
        for (nth, first) in wrap(&row[0], widths[0]).iter().enumerate() {
            let cells = row.iter().enumerate().map(|(at, cell)| match (at, nth) {
                (0, _) => first.as_str(),
                (_, 0) => cell.as_str(),
                _ => "",
            });
            out += line(columns, &widths, cells).trim_end();
            out.push('\n');
        }
    }
    out
}

fn line<'a>(columns: &[Column], widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for ((cell, width), column) in cells.zip(widths).zip(columns) {
        let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
        out += &if column.1 { blanks + cell } else { cell.to_owned() + &blanks };
        out += &" ".repeat(GAP);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_column_wraps_and_the_others_line_up() {
        let row = |first: &str, second: &str| vec![first.to_owned(), second.to_owned()];
        let long = "word ".repeat(40);
        let text = grid(&[Column("what", false), Column("value", true)], &[row(&long, "1"), row("b", "100")]);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH_MAX), "{text}");
        let ends: Vec<_> = text.lines().filter(|line| line.ends_with(['1', '0', 'e'])).collect();
        assert_eq!(ends.len(), 3, "{text}");
        assert!(ends.iter().all(|line| line.chars().count() == ends[0].chars().count()), "{text}");
        assert_eq!(grid(&[Column("what", false)], &[]), "");
    }
}
