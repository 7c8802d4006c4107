//! Two runs side by side: what became better, what worse, and whether they may be compared at all.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::change::{Better, Change, Outcome, Rounds, is_worse, judge, ratio};
use super::conditions::{build, conditions};
use super::grid::{Column, WIDTH_MAX, grid};
use super::json::read;
use super::text::wrap;
use super::units;
use crate::Result;
use crate::result::{Report, Target, Unit};

/// How the later of two runs differs from the earlier.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What was run the first time, for people.
    pub before: String,
    /// What was run the second time, for people.
    pub after: String,
    /// Every figure that both have, in the later one's order. Sweeps are not compared.
    pub changes: Vec<Change>,
    /// Ids of the changes that are [`Outcome::Regressed`].
    pub regressions: Vec<String>,
    /// Why the two may not be comparable.
    pub warnings: Vec<String>,
    /// Ids of figures that only the earlier run has.
    pub only_before: Vec<String>,
    /// Ids of figures that only the later run has.
    pub only_after: Vec<String>,
}

/// What is compared of a row, a figure, or a percentile of a curve.
struct Entry {
    id: String,
    what: String,
    unit: Unit,
    target: Option<Target>,
    rounds: Rounds,
}

/// Compares the reports in two files, or in two folders of saved reports.
///
/// # Errors
/// Those of reading either: the file and what is wrong with it.
pub fn compare(before: &Path, after: &Path) -> Result<Comparison> {
    Ok(Comparison::of(&read(before)?, &read(after)?))
}

impl Comparison {
    /// Compares two reports.
    #[must_use]
    pub fn of(before: &Report, after: &Report) -> Comparison {
        let (old, new) = (entries(before), entries(after));
        let mut warnings = differing_conditions(before, after);
        let mut changes = Vec::new();
        for entry in &new {
            let Some(earlier) = old.iter().find(|earlier| earlier.id == entry.id) else { continue };
            if earlier.unit != entry.unit {
                warnings.push(format!("{}: its unit is another one, it is not compared", entry.id));
                continue;
            }
            if earlier.target != entry.target {
                warnings.push(format!("{}: its target is another one", entry.id));
            }
            changes.push(change(earlier, entry));
        }
        let regressed = changes.iter().filter(|change| change.outcome == Outcome::Regressed);
        Comparison {
            before: build(&before.machine),
            after: build(&after.machine),
            regressions: regressed.map(|change| change.id.clone()).collect(),
            changes,
            warnings,
            only_before: only(&old, &new),
            only_after: only(&new, &old),
        }
    }

    /// Whether anything regressed: what the exit code of a comparison says.
    #[must_use]
    pub fn regressed(&self) -> bool {
        !self.regressions.is_empty()
    }

    /// Everything as text for a terminal, warnings first.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!("before: {}\nafter:  {}\n", self.before, self.after);
        for warning in &self.warnings {
            let text = format!("WARNING: {warning}");
            out += &(wrap(&text, WIDTH_MAX).join("\n") + "\n");
        }
        if self.conditions_differ() {
            out += "WARNING: conditions differ, so a change may be theirs and not the code's\n";
        }
        out.push('\n');
        let columns = [
            Column("figure", false),
            Column("before", true),
            Column("after", true),
            Column("after/before", true),
            Column("", false),
            Column("", false),
        ];
        out += &grid(&columns, &self.changes.iter().map(cells).collect::<Vec<_>>());
        for (name, ids) in [("before", &self.only_before), ("after", &self.only_after)] {
            if !ids.is_empty() {
                let text = format!("only {name}: {}", ids.join(", "));
                out += &(wrap(&text, WIDTH_MAX).join("\n") + "\n");
            }
        }
        out + &self.last_line()
    }

    fn conditions_differ(&self) -> bool {
        self.warnings.iter().any(|warning| warning.contains(CONDITION_DIFFERS))
    }

    fn last_line(&self) -> String {
        let compared = self.changes.len();
        match self.regressions.len() {
            0 => format!("no regression among {compared} figures\n"),
            1 => format!("1 REGRESSION among {compared} figures\n"),
            count => format!("{count} REGRESSIONS among {compared} figures\n"),
        }
    }
}

/// Between a condition's name and its two values.
const CONDITION_DIFFERS: &str = " differs: ";

fn differing_conditions(before: &Report, after: &Report) -> Vec<String> {
    let both = conditions(before).into_iter().zip(conditions(after));
    let differing = both.filter(|(old, new)| old.text != new.text);
    differing
        .map(|(old, new)| format!("{}{CONDITION_DIFFERS}{}, then {}", old.name, old.text, new.text))
        .collect()
}

fn entries(report: &Report) -> Vec<Entry> {
    let rows = report.rows.iter().map(|row| Entry {
        id: row.id.clone(),
        what: row.what.clone(),
        unit: row.unit,
        target: Some(row.target),
        rounds: Rounds::new(row.value, &row.rounds),
    });
    let figures = report.figures.iter().map(|figure| Entry {
        id: figure.id.clone(),
        what: figure.what.clone(),
        unit: figure.unit,
        target: None,
        rounds: Rounds::new(figure.value, &figure.rounds),
    });
    let curves = report.curves.iter().filter(|curve| curve.count > 0).flat_map(|curve| {
        let times =
            [("p50", curve.p50_ns), ("p99", curve.p99_ns), ("p99.9", curve.p999_ns), ("max", curve.max_ns)];
        times.map(|(name, ns)| Entry {
            id: format!("{} {name}", curve.id),
            what: format!("{}, {name}", curve.what),
            unit: Unit::Ns,
            target: None,
            rounds: Rounds::pooled(ns as f64),
        })
    });
    rows.chain(figures).chain(curves).collect()
}

fn change(before: &Entry, after: &Entry) -> Change {
    let better = after.target.map_or(Better::of_unit(after.unit), Better::of_target);
    Change {
        id: after.id.clone(),
        what: after.what.clone(),
        unit: after.unit,
        better,
        before: before.rounds.median,
        after: after.rounds.median,
        ratio: ratio(before.rounds.median, after.rounds.median),
        outcome: judge(better, before.rounds, after.rounds),
    }
}

fn only(of: &[Entry], other: &[Entry]) -> Vec<String> {
    let known: BTreeSet<&str> = other.iter().map(|entry| entry.id.as_str()).collect();
    of.iter().filter(|entry| !known.contains(entry.id.as_str())).map(|entry| entry.id.clone()).collect()
}

fn cells(change: &Change) -> Vec<String> {
    let way = match change.ratio {
        unknown if !unknown.is_finite() && change.outcome == Outcome::Unknown => "",
        1.0 => "same",
        _ if is_worse(change.better, change.before, change.after) => "worse",
        _ => "better",
    };
    let outcome = match change.outcome {
        Outcome::Improved => "improved",
        Outcome::Within => "",
        Outcome::Unproven => "no spread to judge by",
        Outcome::Regressed => "REGRESSION",
        Outcome::Unknown => "no value",
    };
    vec![
        change.what.clone(),
        units::text(change.unit, change.before),
        units::text(change.unit, change.after),
        units::text(Unit::Ratio, change.ratio),
        way.into(),
        outcome.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn slower() -> Report {
        let mut report = sample::report();
        report.figures[0].rounds.iter_mut().for_each(|value| *value *= 2.0);
        report.figures[0].value *= 2.0;
        report
    }

    #[test]
    fn a_run_does_not_differ_from_itself() {
        let same = Comparison::of(&sample::report(), &sample::report());
        assert!(!same.regressed() && same.warnings.is_empty(), "{same:?}");
        assert!(same.changes.iter().all(|change| change.outcome == Outcome::Within && change.ratio == 1.0));
        assert!(same.only_before.is_empty() && same.only_after.is_empty());
        let expected = sample::report();
        let figures = expected.rows.len() + expected.figures.len() + 4 * expected.curves.len();
        assert_eq!(same.changes.len(), figures);
        assert!(same.table().ends_with(&format!("no regression among {figures} figures\n")));
    }

    #[test]
    fn a_regression_is_named_and_the_other_way_it_is_an_improvement() {
        let worse = Comparison::of(&sample::report(), &slower());
        assert_eq!(worse.regressions, [sample::report().figures[0].id.as_str()]);
        assert!(worse.table().contains("REGRESSION") && worse.table().contains("2.00x"), "{}", worse.table());
        let better = Comparison::of(&slower(), &sample::report());
        assert!(!better.regressed() && better.table().contains("improved"));
    }

    #[test]
    fn what_only_one_run_has_is_listed_and_not_compared() {
        let (mut before, mut after) = (sample::report(), sample::report());
        let gone = after.rows.remove(0).id;
        let new = before.figures.remove(0).id;
        let comparison = Comparison::of(&before, &after);
        assert_eq!((comparison.only_before, comparison.only_after), (vec![gone], vec![new]));
        assert!(!comparison.regressions.iter().any(|id| id.is_empty()));
    }

    #[test]
    fn other_conditions_units_and_targets_are_warned_of() {
        let mut after = sample::report();
        after.machine.kernel = "7.0.0".into();
        after.machine.commit = "another".into();
        after.effort.quick = true;
        after.rows[0].target = Target::AtMost(9.0);
        after.figures[0].unit = Unit::Count;
        let comparison = Comparison::of(&sample::report(), &after);
        assert_eq!(comparison.warnings.len(), 4, "{:?}", comparison.warnings);
        let text = comparison.table();
        for want in ["kernel differs: 6.", "then 7.0.0", "effort differs", "another one", "may be theirs"] {
            assert!(text.contains(want), "{want}\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH_MAX), "{text}");
    }

    #[test]
    fn two_saved_reports_are_compared_and_a_bad_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (dir.path().join("a"), dir.path().join("b"));
        super::super::save(&sample::report(), &[], &before).unwrap();
        super::super::save(&slower(), &[], &after).unwrap();
        assert!(compare(&before, &after.join("report.json")).unwrap().regressed());
        let error = compare(&before, &dir.path().join("gone.json")).unwrap_err().to_string();
        assert!(error.contains("gone.json"), "{error}");
    }
}
