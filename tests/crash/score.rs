//! What a method counted, for the scoreboard.

use std::io::Write;
use std::time::Duration;

/// Prints what was counted, and appends it as a line of JSON to the file `THALWEG_SCOREBOARD`.
///
/// # Panics
/// If that file can't be written.
pub(crate) fn count(method: &str, counted: &[(&str, u64)], found: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    let all: Vec<String> = counted.iter().map(|(name, count)| format!("\"{name}\": {count}")).collect();
    let line = format!(
        "{{\"method\": \"{method}\", \"counted\": {{{}}}, \"found\": {found}, \"seconds\": {seconds:.1}}}\n",
        all.join(", ")
    );
    print!("{line}");
    let Some(path) = std::env::var_os("THALWEG_SCOREBOARD") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a line on the scoreboard");
}
