//! What the rounds come to: curves, and figures as ratios to the floor and to Thalweg.

use super::load::{RECORD_BYTES, Workload};
use super::run::{Measured, Row};
use super::{About, thalweg};
use crate::bench::Bench;
use crate::result::{Loop, Unit, over};

/// For the versions the peers were built with.
const LOCKED: &str = include_str!("../../../Cargo.lock");

impl About {
    fn is_floor(self) -> bool {
        self.package.is_none()
    }

    /// Name of a figure, or of the curve, across runs.
    fn id(self, workload: Workload) -> String {
        format!("peers.{}.{}", workload.id(), self.name.replace(' ', "_"))
    }

    /// With the version it was built with.
    fn versioned(self) -> String {
        let version = self.package.filter(|package| *package != "thalweg").and_then(locked_version);
        version.map_or_else(|| self.name.to_owned(), |version| format!("{} {version}", self.name))
    }
}

impl Row {
    fn each(&self, figure: impl Fn(&Measured) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }

    fn total(&self, figure: impl Fn(&Measured) -> u64) -> f64 {
        self.rounds.iter().map(figure).sum::<u64>() as f64
    }
}

/// Adds the rows of one workload. Less is better in every ratio: of rates it is the time a record.
///
/// What is written, flushed and used is of all rounds together, because work in the background comes
/// in lumps. The kernel makes one flush of those that come together.
pub(super) fn report(bench: &Bench<'_>, workload: Workload, rows: &[Row]) {
    let group = format!("peers, {}", workload.what());
    for row in rows {
        let latency = row.latency.clone();
        bench.curve(&row.about.id(workload), &row.about.versioned(), &group, Loop::Closed, latency);
    }
    let time_us = |of: &Measured| match workload {
        Workload::One => of.p50_us,
        Workload::Many | Workload::Batch => 1e6 / of.records_per_s,
    };
    let time = if workload == Workload::One { "p50" } else { "time a record" };
    let floor = best_floor(rows, time_us);
    let own = rows.iter().find(|row| row.about == thalweg::WAIT);
    let of_own = |row: &Row, figure: &dyn Fn(&Measured) -> f64| {
        own.filter(|own| own.about != row.about).map(|own| over(&row.each(figure), &own.each(figure)))
    };
    let mut report = bench.report.borrow_mut();
    let mut add = |id: &str, what: &str, unit: Unit, of: &dyn Fn(&Row) -> Option<Vec<f64>>| {
        for row in rows {
            if let Some(rounds) = of(row) {
                let what = format!("{}, {}: {what}", row.about.name, workload.what());
                report.figure(&format!("{}.{id}", row.about.id(workload)), &what, unit, &rounds);
            }
        }
    };
    if workload != Workload::One {
        add("rate", "records/s", Unit::RecordsPerS, &|row| Some(row.each(|of| of.records_per_s)));
    }
    add("of_floor", &format!("{time} / floor"), Unit::Ratio, &|row| {
        (!row.about.is_floor()).then(|| over(&row.each(time_us), &floor))
    });
    add("of_thalweg", &format!("{time} / thalweg"), Unit::Ratio, &|row| of_own(row, &time_us));
    add("p99_of_thalweg", "p99 / thalweg", Unit::Ratio, &|row| of_own(row, &|of| of.p99_us));
    add("device", "device bytes / payload", Unit::Ratio, &|row| {
        Some(vec![
            device_total(row, |(bytes, _)| bytes)? / (row.total(|of| of.records) * RECORD_BYTES as f64),
        ])
    });
    add("flushes", "device flushes an append", Unit::Count, &|row| {
        Some(vec![device_total(row, |(_, flushes)| flushes)? / row.total(|of| of.appends)])
    });
    add("cpu", "processor time a record, all threads", Unit::Ns, &|row| {
        Some(vec![row.total(|of| of.cpu_ns) / row.total(|of| of.records)])
    });
}

/// The better of the two floors, round by round.
fn best_floor(rows: &[Row], time_us: impl Fn(&Measured) -> f64) -> Vec<f64> {
    let floors = rows.iter().filter(|row| row.about.is_floor()).map(|row| row.each(&time_us));
    let least = |least: Vec<f64>, floor: Vec<f64>| {
        least.iter().zip(floor).map(|(least, floor)| least.min(floor)).collect()
    };
    floors.reduce(least).unwrap_or_default()
}

/// `None` where the device does not count.
fn device_total(row: &Row, figure: impl Fn((u64, u64)) -> u64) -> Option<f64> {
    let all: Option<Vec<u64>> = row.rounds.iter().map(|of| of.device.map(&figure)).collect();
    all.map(|all| all.iter().sum::<u64>() as f64)
}

/// The version of `package` in the lock file.
fn locked_version(package: &str) -> Option<&'static str> {
    let entry =
        LOCKED.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{package}\"\n")))?;
    entry.lines().find_map(|line| line.strip_prefix("version = "))?.split('"').nth(1)
}
