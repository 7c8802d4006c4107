//! A report for a terminal: plain text, at most [`WIDTH_MAX`] columns.

use super::conditions::{build, conditions, samples};
use super::grid::{Column, WIDTH_MAX, grid};
use super::text::{pack, wrap};
use super::units;
use crate::result::{Curve, Figure, Loop, Report, Row, Verdict};

/// Everything a run found, as text: conditions, targets, figures, latencies. Sweeps are left to the
/// page.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut parts = vec![head(report)];
    if !report.rows.is_empty() {
        parts.push(targets(&report.rows));
    }
    if !report.figures.is_empty() {
        parts.push(figures(&report.figures));
    }
    if !report.curves.is_empty() {
        parts.push(curves(&report.curves));
    }
    parts.join("\n")
}

/// How a load was made, in a word.
pub(crate) fn loop_word(load: Loop) -> &'static str {
    match load {
        Loop::Open => "open",
        Loop::Closed => "closed",
    }
}

/// Whether a target was reached, in words.
pub(crate) fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::FallsShort => "falls short",
    }
}

fn head(report: &Report) -> String {
    let all = conditions(report).into_iter();
    let all: Vec<String> = all.map(|condition| format!("{} {}", condition.name, condition.text)).collect();
    let mut lines = wrap(&build(&report.machine), WIDTH_MAX);
    lines.extend(pack(&all, " · ", WIDTH_MAX - 2).into_iter().map(|line| format!("  {line}")));
    if report.effort.quick {
        lines.push("  A quick run: an overview, not figures to quote.".into());
    }
    lines.join("\n") + "\n"
}

fn targets(rows: &[Row]) -> String {
    let columns = [
        Column("targets", false),
        Column("target", true),
        Column("measured", true),
        Column("spread over rounds", true),
        Column("", false),
    ];
    let cells = |row: &Row| {
        vec![
            row.what.clone(),
            units::target(row.unit, row.target),
            units::measured(row.unit, row.value, row.target),
            units::spread(row.unit, &row.rounds),
            verdict_words(row.verdict).to_owned(),
        ]
    };
    let passed = rows.iter().filter(|row| row.verdict == Verdict::Pass).count();
    let table = grid(&columns, &rows.iter().map(cells).collect::<Vec<_>>());
    format!("{table}{passed} of {} targets reached\n", rows.len())
}

fn figures(figures: &[Figure]) -> String {
    let columns = [Column("figures", false), Column("median", true), Column("spread over rounds", true)];
    let cells = |figure: &Figure| {
        let spread = units::spread(figure.unit, &figure.rounds);
        vec![figure.what.clone(), units::text(figure.unit, figure.value), spread]
    };
    grid(&columns, &figures.iter().map(cells).collect::<Vec<_>>())
}

fn curves(curves: &[Curve]) -> String {
    let columns = [
        Column("latencies", false),
        Column("loop", false),
        Column("samples", true),
        Column("p50", true),
        Column("p99", true),
        Column("p99.9", true),
        Column("max", true),
    ];
    let cells = |curve: &Curve| {
        let times = [curve.p50_ns, curve.p99_ns, curve.p999_ns, curve.max_ns];
        let times = times.map(|ns| units::time(ns as f64));
        let what = if curve.group.is_empty() {
            curve.what.clone()
        } else {
            format!("{}: {}", curve.group, curve.what)
        };
        let first = [what, loop_word(curve.load).into(), samples(curve.count)];
        first.into_iter().chain(times).collect()
    };
    grid(&columns, &curves.iter().map(cells).collect::<Vec<Vec<String>>>())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_table_says_conditions_targets_figures_and_latencies_in_lines_that_fit() {
        let report = sample::report();
        let text = table(&report);
        for want in ["kernel 6.", "file system ext4", "write cache write back", "fua no", "scheduler none"] {
            assert!(text.contains(want), "{want}\n{text}");
        }
        for want in ["≤ 1.05x", "falls short", "6 of 8 targets reached", "p99.9", "closed", "open"] {
            assert!(text.contains(want), "{want}\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH_MAX), "{text}");
    }

    #[test]
    fn an_awkward_report_is_a_table_too() {
        let text = table(&sample::awkward());
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH_MAX), "{text}");
        assert!(text.contains(units::NO_VALUE) && text.contains("one round"), "{text}");
    }
}
