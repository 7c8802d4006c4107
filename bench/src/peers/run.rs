//! The rounds: in each, every workload on every subject, so that what drifts hits all alike.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::conditions::Conditions;
use super::load::{Load, Workload};
use super::meters::Meters;
use super::{About, Result, Subject, floor, open, report, thalweg};

/// The part of a measurement's time that each is run before the first round, unmeasured.
const WARM_UP: f64 = 0.2;

/// What the command line says.
pub(crate) struct Options {
    /// An empty folder for everything that is written.
    pub dir: PathBuf,
    pub rounds: usize,
    /// Length of one measurement.
    pub seconds: f64,
    /// Names of the subjects besides the device and Thalweg's first row; all if empty.
    pub only: Vec<String>,
    pub workloads: Vec<Workload>,
    /// Where every figure goes, as JSON.
    pub json: Option<PathBuf>,
}

/// One measurement.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Measured {
    /// Acknowledgements: appends of one record, or of one batch.
    pub appends: u64,
    pub records: u64,
    pub records_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// Until the device was quiet, as are the next two.
    pub device_bytes: u64,
    pub device_flushes: u64,
    pub cpu_us: f64,
}

/// One subject under one workload, round by round.
pub(super) struct Row {
    pub about: About,
    pub workload: Workload,
    /// Acknowledgements before the first round: who counts system calls from outside needs them.
    pub warm_up_appends: u64,
    pub rounds: Vec<Measured>,
    /// Of all rounds, ns.
    pub latency: Histogram<u64>,
}

/// Measures, prints the tables, and writes the JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let conditions = Conditions::of(&options.dir, options.rounds, options.seconds)?;
    let always = [floor::ABOUT.name, thalweg::WAIT.name];
    let wanted = |name: &str| {
        options.only.is_empty() || always.contains(&name) || options.only.iter().any(|only| only == name)
    };
    let mut subjects = open(&options.dir, wanted)?;
    let known = |name: &str| subjects.iter().any(|subject| subject.about().name == name);
    if let Some(name) = options.only.iter().find(|name| !known(name)) {
        return Err(format!("--only {name}: no such row").into());
    }
    // What was zero-filled ahead of time is not to be written back during a measurement.
    rustix::fs::syncfs(File::open(&options.dir)?)?;
    let meters = Meters::of(&options.dir)?;
    let mut rows = Vec::new();
    for &workload in &options.workloads {
        for (at, subject) in subjects.iter().enumerate().filter(|(_, subject)| subject.takes(workload)) {
            let (about, rounds, latency) = (subject.about(), Vec::new(), Histogram::new(3)?);
            rows.push((at, Row { about, workload, warm_up_appends: 0, rounds, latency }));
        }
    }
    let warm_up = Load::new(Duration::from_secs_f64(options.seconds * WARM_UP));
    for (at, row) in &mut rows {
        row.warm_up_appends = subjects[*at].run(row.workload, &warm_up)?.latency.len();
    }
    let load = Load::new(Duration::from_secs_f64(options.seconds));
    let count = rows.len();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        // Each round begins elsewhere, so that no subject always follows the same one.
        for at in 0..count {
            let (subject, row) = &mut rows[(at + round * count / options.rounds) % count];
            measure(subjects[*subject].as_mut(), row, &load, &meters)?;
        }
    }
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    report::print(&conditions, &rows);
    match &options.json {
        Some(path) => report::write_json(path, &conditions, &rows),
        None => Ok(()),
    }
}

fn measure(subject: &mut dyn Subject, row: &mut Row, load: &Load, meters: &Meters) -> Result<()> {
    let before = meters.read_settled()?;
    let sample = subject.run(row.workload, load)?;
    let after = meters.read_settled()?;
    let quantile_us = |quantile| sample.latency.value_at_quantile(quantile) as f64 / 1000.0;
    row.rounds.push(Measured {
        appends: sample.latency.len(),
        records: sample.records,
        records_per_s: sample.records as f64 / sample.took.as_secs_f64(),
        p50_us: quantile_us(0.5),
        p99_us: quantile_us(0.99),
        p999_us: quantile_us(0.999),
        device_bytes: after.device_bytes - before.device_bytes,
        device_flushes: after.device_flushes - before.device_flushes,
        cpu_us: (after.cpu - before.cpu).as_secs_f64() * 1e6,
    });
    row.latency.add(&sample.latency)?;
    Ok(())
}
