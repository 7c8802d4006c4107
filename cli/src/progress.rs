//! How far a long command has come: a bar on a terminal, lines for programs, or nothing.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

/// Pause between two lines of `--progress plain`.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressKind {
    /// A bar if stderr is a terminal, else nothing
    #[default]
    Auto,
    /// A line on stderr every second
    Plain,
    /// Nothing
    None,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Records,
    Percent,
    Seconds,
}

/// Progress as it is shown.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { next: Instant },
    Nothing,
}

impl Progress {
    /// Starts to show progress towards `total`, if that is known.
    pub(crate) fn start(kind: ProgressKind, unit: Unit, total: Option<u64>) -> Progress {
        match kind {
            ProgressKind::None => Progress::Nothing,
            ProgressKind::Plain => Progress::Lines { next: Instant::now() + LINE_EVERY },
            ProgressKind::Auto => Progress::Bar(bar(unit, total)),
        }
    }

    /// Shows how far it is. `line` makes the text, which is only asked for when it is shown.
    pub(crate) fn show(&mut self, done: u64, line: impl FnOnce() -> String) {
        match self {
            // Hidden when stderr is no terminal, and drawn a few times per second at most.
            Progress::Bar(bar) if bar.is_hidden() => {}
            Progress::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(line());
            }
            Progress::Lines { next } => {
                let now = Instant::now();
                if now >= *next {
                    *next = now + LINE_EVERY;
                    print(&line());
                }
            }
            Progress::Nothing => {}
        }
    }

    /// Changes what it goes towards.
    pub(crate) fn set_total(&self, total: u64) {
        if let Progress::Bar(bar) = self {
            bar.set_length(total);
        }
    }

    /// Ends it: the bar goes, the last line is printed.
    pub(crate) fn finish(self, line: impl FnOnce() -> String) {
        match self {
            Progress::Bar(bar) => bar.finish_and_clear(),
            Progress::Lines { .. } => print(&line()),
            Progress::Nothing => {}
        }
    }
}

fn print(line: &str) {
    // Progress that nobody can see is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn bar(unit: Unit, total: Option<u64>) -> ProgressBar {
    let template = match (unit, total) {
        (Unit::Bytes, Some(_)) => {
            "{bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} {wide_msg}"
        }
        (Unit::Bytes, None) => "{spinner} {binary_bytes} {binary_bytes_per_sec} {wide_msg}",
        (Unit::Records, Some(_)) => "{bar:24} {human_pos}/{human_len} records {eta} {wide_msg}",
        (Unit::Seconds, _) => "{bar:24} {eta} {wide_msg}",
        (Unit::Percent, _) => "{bar:24} {pos}% {wide_msg}",
        (Unit::Records, None) => "{spinner} {human_pos} records {wide_msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the templates above are well-formed");
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(style)
}
