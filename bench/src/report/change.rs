//! What a figure did between two runs: the decision, without files.

use serde::Serialize;

use crate::result::{Target, Unit, median};

/// A change below this part of the lesser of two figures is not spoken of.
const CHANGE_MIN: f64 = 0.10;
/// Fewer rounds than this have no spread worth the name.
const SPREAD_ROUNDS_MIN: usize = 3;

/// Which way a figure should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// A time, a ratio to the floor, a cost.
    Lower,
    /// A rate.
    Higher,
}

impl Better {
    /// By what a target asks for.
    #[must_use]
    pub fn of_target(target: Target) -> Better {
        match target {
            Target::AtMost(_) => Better::Lower,
            Target::AtLeast(_) => Better::Higher,
        }
    }

    /// By what is counted, where no target says it.
    #[must_use]
    pub fn of_unit(unit: Unit) -> Better {
        match unit {
            Unit::RateRatio | Unit::RecordsPerS | Unit::BytesPerS => Better::Higher,
            Unit::Ratio | Unit::Ns | Unit::Us | Unit::S | Unit::Count | Unit::CorePercent => Better::Lower,
        }
    }
}

/// What a change comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// By more than 10 % better, and by more than rounds differ.
    Improved,
    /// By 10 % or less, or by no more than rounds differ.
    Within,
    /// By more than 10 %, but too few rounds tell how much is noise.
    Unproven,
    /// By more than 10 % worse, and by more than rounds differ.
    Regressed,
    /// One of the two is not a number.
    Unknown,
}

/// A figure's rounds in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounds {
    /// The middle of them.
    pub median: f64,
    /// From the first to the third quartile; `None` with fewer than three rounds.
    pub quartiles_apart: Option<f64>,
}

impl Rounds {
    /// Of a figure whose value is `median`.
    #[must_use]
    pub fn new(median: f64, rounds: &[f64]) -> Rounds {
        let mut sorted: Vec<f64> = rounds.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let spread = sorted.len() >= SPREAD_ROUNDS_MIN;
        Rounds { median, quartiles_apart: spread.then(|| quartile(&sorted, 0.75) - quartile(&sorted, 0.25)) }
    }

    /// Of a value measured over all rounds together.
    #[must_use]
    pub fn pooled(value: f64) -> Rounds {
        Rounds { median: value, quartiles_apart: None }
    }

    /// Of rounds alone.
    #[must_use]
    pub fn of(rounds: &[f64]) -> Rounds {
        Rounds::new(median(rounds), rounds)
    }
}

/// A figure in both runs.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Name across runs; of a latency with its percentile, such as `append.turn p99`.
    pub id: String,
    /// The same for people, as the later run says it.
    pub what: String,
    /// What it counts.
    pub unit: Unit,
    /// Which way it should go.
    pub better: Better,
    /// Median of the earlier run.
    pub before: f64,
    /// Median of the later run.
    pub after: f64,
    /// The later over the earlier.
    pub ratio: f64,
    /// What that comes to.
    pub outcome: Outcome,
}

/// Whether `after` regressed: worse by more than a tenth, and the medians further apart than the
/// quartiles of either run. Without a spread on both sides, noise cannot be told: then a change is
/// [`Outcome::Unproven`].
#[must_use]
pub fn judge(better: Better, before: Rounds, after: Rounds) -> Outcome {
    let (old, new) = (before.median, after.median);
    if !old.is_finite() || !new.is_finite() {
        return Outcome::Unknown;
    }
    let (low, high) = (old.min(new), old.max(new));
    // What is left of a time after another is taken off may be below 0.
    if high - low <= low.abs().min(high.abs()) * (CHANGE_MIN + f64::EPSILON) {
        return Outcome::Within;
    }
    let (Some(old_apart), Some(new_apart)) = (before.quartiles_apart, after.quartiles_apart) else {
        return Outcome::Unproven;
    };
    if high - low <= old_apart.max(new_apart) {
        return Outcome::Within;
    }
    if is_worse(better, old, new) { Outcome::Regressed } else { Outcome::Improved }
}

/// Whether `new` lies on the bad side of `old`.
pub(crate) fn is_worse(better: Better, old: f64, new: f64) -> bool {
    match better {
        Better::Lower => new > old,
        Better::Higher => new < old,
    }
}

/// `later` over `earlier`; 1 if both are 0.
pub(crate) fn ratio(earlier: f64, later: f64) -> f64 {
    if earlier == later { 1.0 } else { later / earlier }
}

/// The value at `part` of the way through `sorted`, which is not empty, between neighbours in proportion.
fn quartile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(better: Better, before: &[f64], after: &[f64], want: Outcome) {
        assert_eq!(judge(better, Rounds::of(before), Rounds::of(after)), want, "{before:?} {after:?}");
    }

    #[test]
    fn worse_by_more_than_a_tenth_and_than_the_rounds_differ_is_a_regression() {
        check(Better::Lower, &[100.0, 101.0, 99.0], &[115.0, 116.0, 114.0], Outcome::Regressed);
        check(Better::Lower, &[115.0, 116.0, 114.0], &[100.0, 101.0, 99.0], Outcome::Improved);
        check(Better::Higher, &[115.0, 116.0, 114.0], &[100.0, 101.0, 99.0], Outcome::Regressed);
        check(Better::Higher, &[100.0, 101.0, 99.0], &[115.0, 116.0, 114.0], Outcome::Improved);
    }

    #[test]
    fn a_tenth_is_no_regression_however_steady_the_rounds() {
        check(Better::Lower, &[100.0; 5], &[110.0; 5], Outcome::Within);
        check(Better::Lower, &[100.0; 5], &[110.5; 5], Outcome::Regressed);
        check(Better::Higher, &[110.0; 5], &[100.0; 5], Outcome::Within);
        check(Better::Lower, &[0.0; 3], &[0.0; 3], Outcome::Within);
        check(Better::Lower, &[0.0; 3], &[1.0; 3], Outcome::Regressed);
        check(Better::Lower, &[-105.0; 3], &[-100.0; 3], Outcome::Within);
        check(Better::Lower, &[-120.0; 3], &[-100.0; 3], Outcome::Regressed);
        check(Better::Lower, &[1.0; 3], &[-1.0; 3], Outcome::Improved);
    }

    #[test]
    fn what_lies_within_the_noise_of_either_run_is_no_regression() {
        check(Better::Lower, &[60.0, 100.0, 140.0], &[130.0, 131.0, 132.0], Outcome::Within);
        check(Better::Lower, &[100.0, 101.0, 102.0], &[90.0, 130.0, 180.0], Outcome::Within);
        // One wild round of five does not hide a regression.
        check(
            Better::Lower,
            &[100.0, 101.0, 99.0, 100.0, 900.0],
            &[130.0, 131.0, 129.0, 130.0, 132.0],
            Outcome::Regressed,
        );
    }

    #[test]
    fn too_few_rounds_prove_nothing_but_that_nothing_changed() {
        check(Better::Lower, &[100.0], &[150.0], Outcome::Unproven);
        check(Better::Lower, &[100.0, 100.0], &[150.0, 150.0, 150.0], Outcome::Unproven);
        check(Better::Lower, &[100.0], &[105.0], Outcome::Within);
        assert_eq!(judge(Better::Lower, Rounds::pooled(1.0), Rounds::pooled(9.0)), Outcome::Unproven);
    }

    #[test]
    fn without_a_number_nothing_is_known() {
        check(Better::Lower, &[], &[1.0, 1.0, 1.0], Outcome::Unknown);
        check(Better::Higher, &[1.0, 1.0, 1.0], &[f64::NAN], Outcome::Unknown);
    }

    #[test]
    fn the_unit_says_which_way_is_better() {
        assert_eq!(Better::of_unit(Unit::RecordsPerS), Better::Higher);
        assert_eq!(Better::of_unit(Unit::Us), Better::Lower);
        assert_eq!(
            (Better::of_unit(Unit::Ratio), Better::of_unit(Unit::RateRatio)),
            (Better::Lower, Better::Higher)
        );
        assert_eq!(Better::of_target(Target::AtLeast(1.0)), Better::Higher);
    }
}
