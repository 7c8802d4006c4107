//! What a run of the tests has counted: one line of JSON for each method, at the end of the file that
//! `THALWEG_SCOREBOARD` names. `tests/scoreboard.py` makes a table of them.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

/// Names the file; without it nothing is written.
pub const SCOREBOARD: &str = "THALWEG_SCOREBOARD";

/// Notes what `method` has counted, by name, and how often it found the log wrong. Says it on standard
/// output too.
///
/// # Panics
/// If the file can't be written: a figure that is lost would be missed by nobody.
pub fn count(method: &str, counted: &[(&str, u64)], found: u64) {
    let line = line(method, counted, found);
    print!("{line}");
    if let Some(path) = std::env::var_os(SCOREBOARD) {
        append(Path::new(&path), &line).expect("a line for the scoreboard");
    }
}

/// In one write, so that the lines of tests that run side by side stay whole.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(line.as_bytes())
}

fn line(method: &str, counted: &[(&str, u64)], found: u64) -> String {
    let mut line = format!("{{\"method\": \"{method}\", \"counted\": {{");
    for (index, (name, count)) in counted.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // A string takes everything.
        let _ = write!(line, "{comma}\"{name}\": {count}");
    }
    line + &format!("}}, \"found\": {found}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_and_lines_are_kept() {
        let first = line("kills", &[("kills", 3), ("looks", 4)], 0);
        assert_eq!(
            first,
            "{\"method\": \"kills\", \"counted\": {\"kills\": 3, \"looks\": 4}, \"found\": 0}\n"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("board");
        append(&path, &first).unwrap();
        append(&path, "second\n").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), first + "second\n");
    }
}
