//! What a run found: rows with targets, plain figures, latency curves and throughput sweeps.
//!
//! The same tree is printed as a table, written as JSON, drawn as HTML and compared with another.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::report::{line_points, number, numbers};

/// Version of the JSON. A reader refuses what it does not know.
pub const REPORT_VERSION: u32 = 1;

/// Everything one run found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Where and with what it was measured.
    pub machine: Machine,
    /// How long and how often.
    pub effort: Effort,
    /// Figures with a target.
    pub rows: Vec<Row>,
    /// Figures without one.
    pub figures: Vec<Figure>,
    /// Latency distributions.
    pub curves: Vec<Curve>,
    /// One figure against another, such as throughput against appends in flight.
    pub sweeps: Vec<Sweep>,
}

impl Report {
    /// A report without results yet.
    #[must_use]
    pub fn new(machine: Machine, effort: Effort) -> Report {
        Report {
            version: REPORT_VERSION,
            machine,
            effort,
            rows: Vec::new(),
            figures: Vec::new(),
            curves: Vec::new(),
            sweeps: Vec::new(),
        }
    }

    /// Adds a figure without a target.
    pub fn figure(&mut self, id: &str, what: &str, unit: Unit, rounds: &[f64]) {
        self.figures.push(Figure {
            id: id.into(),
            what: what.into(),
            unit,
            value: median(rounds),
            rounds: rounds.to_vec(),
        });
    }

    /// Adds a figure with a target.
    pub fn row(&mut self, id: &str, what: &str, unit: Unit, target: Target, rounds: &[f64]) {
        let value = median(rounds);
        self.rows.push(Row {
            id: id.into(),
            what: what.into(),
            unit,
            target,
            value,
            rounds: rounds.to_vec(),
            verdict: target.judge(value),
        });
    }
}

/// How much was measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Effort {
    /// Alternating rounds.
    pub rounds: usize,
    /// Seconds of one measurement within a round.
    pub seconds: f64,
    /// Less of everything: an overview rather than a figure to quote.
    pub quick: bool,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// One figure over another of the same round: where no target says otherwise, less is better.
    Ratio,
    /// One rate over another of the same round: more is better.
    RateRatio,
    /// Nanoseconds.
    Ns,
    /// Microseconds.
    Us,
    /// Seconds.
    S,
    /// Records a second.
    RecordsPerS,
    /// Bytes a second.
    BytesPerS,
    /// A number of things.
    Count,
    /// Part of one core, percent.
    CorePercent,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Target {
    /// Whether `value` reaches it; not a number never does.
    #[must_use]
    pub fn judge(self, value: f64) -> Verdict {
        let reached = match self {
            Target::AtMost(bound) => value <= bound,
            Target::AtLeast(bound) => value >= bound,
        };
        if reached { Verdict::Pass } else { Verdict::FallsShort }
    }
}

/// Whether a target was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was.
    Pass,
    /// It was not.
    FallsShort,
}

/// A figure with a target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Name across runs, such as `append.turn.p50`.
    pub id: String,
    /// The same for people.
    pub what: String,
    /// What it counts.
    pub unit: Unit,
    /// What it should be.
    pub target: Target,
    /// The median of `rounds`.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    /// One value a round, in order.
    #[serde(deserialize_with = "numbers")]
    pub rounds: Vec<f64>,
    /// Whether the target was reached.
    pub verdict: Verdict,
}

/// A figure without a target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Name across runs, such as `append.turn.cpu_ns`.
    pub id: String,
    /// The same for people.
    pub what: String,
    /// What it counts.
    pub unit: Unit,
    /// The median of `rounds`.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    /// One value a round, in order.
    #[serde(deserialize_with = "numbers")]
    pub rounds: Vec<f64>,
}

/// How a load decides when to send the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loop {
    /// By a schedule, whatever the answers do: latency counts from when a request was due.
    Open,
    /// When an earlier request is answered: a stall stops the load with it.
    Closed,
}

/// A latency distribution over all rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// Name across runs, such as `append.turn`; also the name of its `.hgrm` file.
    pub id: String,
    /// The same for people.
    pub what: String,
    /// Curves of one chart have the same group.
    pub group: String,
    /// How the load was made.
    pub load: Loop,
    /// Samples.
    pub count: u64,
    /// Half of the samples were no slower, ns.
    pub p50_ns: u64,
    /// 99 % were no slower, ns.
    pub p99_ns: u64,
    /// 99.9 % were no slower, ns.
    pub p999_ns: u64,
    /// The slowest, ns.
    pub max_ns: u64,
    /// Quantile and value in ns, ascending, dense towards 1: to be drawn.
    pub points: Vec<(f64, u64)>,
}

/// Lines of one figure against another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// Name across runs, such as `append.in_flight`.
    pub id: String,
    /// Title for people.
    pub what: String,
    /// What runs along the x axis, such as "appends in flight"; drawn in powers of two.
    pub x: String,
    /// What runs along the y axis, such as "records/s".
    pub y: String,
    /// One line for each thing compared.
    pub lines: Vec<Line>,
}

/// A line of a sweep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// What it is of.
    pub name: String,
    /// x and y, ascending in x.
    #[serde(deserialize_with = "line_points")]
    pub points: Vec<(f64, f64)>,
}

/// The middle of `values`; not a number if there are none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// Each round of `of` over the same round of `base`.
#[must_use]
pub fn over(of: &[f64], base: &[f64]) -> Vec<f64> {
    of.iter().zip(base).map(|(of, base)| of / base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_at_its_bound_and_never_without_a_figure() {
        assert_eq!(Target::AtMost(1.05).judge(1.05), Verdict::Pass);
        assert_eq!(Target::AtMost(1.05).judge(1.06), Verdict::FallsShort);
        assert_eq!(Target::AtLeast(0.9).judge(0.9), Verdict::Pass);
        assert_eq!(Target::AtLeast(0.9).judge(0.89), Verdict::FallsShort);
        assert_eq!(Target::AtMost(1.0).judge(median(&[])), Verdict::FallsShort);
    }

    #[test]
    fn the_median_is_of_the_values_in_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
