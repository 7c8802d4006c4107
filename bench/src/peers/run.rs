//! The rounds: in each, a workload on every subject, so that what drifts hits all alike.

use std::fs::File;

use hdrhistogram::Histogram;

use super::load::{Load, Workload};
use super::{About, Result, Subject, figures, open};
use crate::bench::Bench;
use crate::load;
use crate::meter::{Cpu, Device};

/// The part of a measurement's time that each is run before the first round, unmeasured.
const WARM_UP: f64 = 0.2;

/// One measurement.
pub(super) struct Measured {
    /// Of one record, or of one batch. Of the device with 64 in flight a write is 64 of them.
    pub appends: u64,
    pub records: u64,
    pub records_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Until the device was quiet, as is the next: bytes written and flushes, where they are counted.
    pub device: Option<(u64, u64)>,
    pub cpu_ns: u64,
}

/// One subject under one workload, round by round.
pub(super) struct Row {
    pub about: About,
    pub rounds: Vec<Measured>,
    /// Of all rounds, ns.
    pub latency: Histogram<u64>,
}

/// Measures every workload on everything that is compared.
///
/// # Errors
/// An engine's or the host's; or the process is not the one that [`run_again`](super::run_again) made.
pub fn run(bench: &Bench<'_>) -> Result<()> {
    (bench.progress)("opening everything that is compared");
    let mut subjects = open(bench)?;
    for workload in Workload::ALL {
        let rows = workload_on_all(bench, &mut subjects, workload)?;
        figures::report(bench, workload, &rows);
    }
    Ok(())
}

fn workload_on_all(
    bench: &Bench<'_>,
    subjects: &mut [Box<dyn Subject>],
    workload: Workload,
) -> Result<Vec<Row>> {
    let mut takers: Vec<_> = subjects.iter_mut().filter(|subject| subject.takes(workload)).collect();
    let (warm_up, load) = (Load::new(bench.time().mul_f64(WARM_UP)), Load::new(bench.time()));
    let mut rows = Vec::new();
    for subject in &mut takers {
        subject.run(workload, &warm_up)?;
        rows.push(Row { about: subject.about(), rounds: Vec::new(), latency: load::histogram() });
    }
    // What was zero-filled ahead of time is not to be written back during a measurement.
    rustix::fs::syncfs(File::open(&bench.dir)?)?;
    let count = takers.len();
    for round in bench.rounds(workload.what()) {
        // Each round begins elsewhere, so that no subject always follows the same one.
        for at in 0..count {
            let at = (at + round * count / bench.effort.rounds) % count;
            measure(bench, takers[at].as_mut(), workload, &load, &mut rows[at])?;
        }
    }
    Ok(rows)
}

fn measure(
    bench: &Bench<'_>,
    subject: &mut dyn Subject,
    workload: Workload,
    load: &Load,
    row: &mut Row,
) -> Result<()> {
    if let Some(device) = Device::start(&bench.dir) {
        device.wait_until_quiet();
    }
    let (device, cpu) = (Device::start(&bench.dir), Cpu::start());
    let loaded = subject.run(workload, load)?;
    let device = device.and_then(|device| {
        // A subject may have work left when its last append is answered.
        device.wait_until_quiet();
        Some((device.written_bytes()?, device.flushes()?))
    });
    let quantile_us = |quantile| loaded.latency.value_at_quantile(quantile) as f64 / 1000.0;
    row.rounds.push(Measured {
        appends: loaded.records / workload.records_an_append() as u64,
        records: loaded.records,
        records_per_s: loaded.per_s(),
        p50_us: quantile_us(0.5),
        p99_us: quantile_us(0.99),
        device,
        cpu_ns: cpu.own_ns(),
    });
    row.latency.add(&loaded.latency)?;
    Ok(())
}
