//! The same load on one partition and on very many: what an append costs must not depend on it.

use std::time::{Duration, Instant};

use thalweg::{Engine, Partition, PartitionConfig};

use crate::Result;
use crate::bench::{Bench, Place, counted, quiet, run_at, settle};
use crate::load::{self, RECORD_BYTES, Waiting};
use crate::meter::Device;
use crate::result::{Line, Loop, Sweep, Target, Unit, median, over};

/// Partitions that are compared; the first is what the others are measured against.
const COUNTS: [usize; 3] = [1, 10_000, 100_000];
/// Appends in flight.
const IN_FLIGHT: usize = 64;
/// Partitions made at a time: their tickets are kept meanwhile.
const CREATED_AT_ONCE: usize = 4096;

/// Payload for which the bytes that reach the device are counted, unless that takes too long.
const WEIGHED_BYTES_MIN: u64 = 768 << 20;
const WEIGHED_MAX: Duration = Duration::from_secs(6);
/// A weighing during which the WAL grew all the same is done again, so often at most.
const WEIGHINGS_MAX: usize = 3;
/// The WAL has stopped growing when so many of its files were sealed since it last grew.
const STEADY_FILES: u64 = 12;
const GROWING_MAX: Duration = Duration::from_secs(6);

/// An engine with so many partitions.
struct Case {
    engine: Engine,
    partitions: Vec<Partition>,
}

/// What a round of one case came to.
#[derive(Default)]
struct Rounds {
    per_s: Vec<f64>,
    p99_us: Vec<f64>,
    syncs_per_record: Vec<f64>,
}

/// Runs it all.
///
/// # Errors
/// The engine's or the host's.
pub fn run(bench: &Bench<'_>) -> Result<()> {
    let mut cases = Vec::new();
    for count in COUNTS {
        (bench.progress)(&format!("making {count} partitions"));
        cases.push(open(bench, count)?);
    }
    run_at(Place::Caller);
    let mut rounds: Vec<Rounds> = COUNTS.iter().map(|_| Rounds::default()).collect();
    let mut latencies: Vec<_> = COUNTS.iter().map(|_| load::histogram()).collect();
    for _ in bench.rounds("partitions") {
        for ((case, rounds), latency) in cases.iter().zip(&mut rounds).zip(&mut latencies) {
            let before = counted(&case.engine)?.groups;
            let loaded = load::closed(&case.partitions, IN_FLIGHT, Waiting::Spin, bench.time())?;
            rounds.per_s.push(loaded.per_s());
            rounds.p99_us.push(loaded.latency.value_at_quantile(0.99) as f64 / 1000.0);
            let groups = counted(&case.engine)?.groups - before;
            rounds.syncs_per_record.push(groups as f64 / loaded.records as f64);
            latency.add(loaded.latency)?;
            quiet(&case.engine)?; // what it left to do is not to slow the next one
        }
    }
    for (count, latency) in COUNTS.iter().zip(latencies) {
        let what = format!("{count} partitions, {IN_FLIGHT} in flight");
        bench.curve(&format!("partitions.{count}"), &what, "number of partitions", Loop::Closed, latency);
    }
    report(bench, &rounds);
    let amplified = device_bytes(bench, &cases[1])?;
    let mut report = bench.report.borrow_mut();
    let what = "device bytes / payload, 10,000 partitions";
    report.row("partitions.10000.device", what, Unit::Ratio, Target::AtMost(2.3), &amplified);
    drop(report);
    for (case, count) in cases.into_iter().zip(COUNTS) {
        case.engine.close()?;
        bench.clear(&name(count))?;
    }
    Ok(())
}

fn name(count: usize) -> String {
    format!("partitions-{count}")
}

fn open(bench: &Bench<'_>, count: usize) -> Result<Case> {
    let engine = bench.engine(&name(count), |_| {})?;
    let mut partitions = Vec::with_capacity(count);
    let names: Vec<_> = (0..count).map(|n| format!("p{n}")).collect();
    for names in names.chunks(CREATED_AT_ONCE) {
        let tickets: Vec<_> =
            names.iter().map(|name| engine.start_create(name, PartitionConfig::default())).collect();
        for ticket in tickets {
            partitions.push(ticket.wait()?);
        }
    }
    Ok(Case { engine, partitions })
}

fn report(bench: &Bench<'_>, rounds: &[Rounds]) {
    let mut report = bench.report.borrow_mut();
    let (one, many) = (&rounds[0], &rounds[1..]);
    for ((count, each), least) in COUNTS[1..].iter().zip(many).zip([0.9, 0.8]) {
        let rate = over(&each.per_s, &one.per_s);
        let row = format!("{count} partitions / 1, records/s");
        report.row(&format!("partitions.{count}.rate"), &row, Unit::Ratio, Target::AtLeast(least), &rate);
        let p99 = over(&each.p99_us, &one.p99_us);
        let row = format!("{count} partitions / 1, p99");
        report.row(&format!("partitions.{count}.p99"), &row, Unit::Ratio, Target::AtMost(1.2), &p99);
        let syncs = over(&each.syncs_per_record, &one.syncs_per_record);
        let row = format!("{count} partitions / 1, syncs a record");
        report.row(&format!("partitions.{count}.syncs"), &row, Unit::Ratio, Target::AtMost(1.1), &syncs);
    }
    let points = COUNTS.iter().zip(rounds).map(|(count, each)| (*count as f64, median(&each.per_s)));
    report.sweeps.push(Sweep {
        id: "partitions".into(),
        what: format!("Durable records a second, 1 KiB each, {IN_FLIGHT} in flight"),
        x: "partitions".into(),
        y: "records/s".into(),
        lines: vec![Line { name: "Engine".into(), points: points.collect() }],
    });
}

/// Bytes the device was given for each byte of payload, until all of it is sealed and merged, in the
/// steady state. While the ring of WAL files grows each new one is filled with zeros, once: that is no
/// matter of how much is appended, so the ring is let grow before. What the WAL holds at the end and did
/// not before is counted as if it were sealed.
fn device_bytes(bench: &Bench<'_>, case: &Case) -> Result<Vec<f64>> {
    (bench.progress)("bytes written for 10,000 partitions: until the WAL has stopped growing");
    grow(bench, case)?;
    for weighing in 1..=WEIGHINGS_MAX {
        (bench.progress)("bytes written for 10,000 partitions, until all is sealed and merged");
        settle(&case.engine)?;
        let files = counted(&case.engine)?.wal_files;
        let Some(weighed) = weigh(bench, case)? else { break };
        if counted(&case.engine)?.wal_files == files || weighing == WEIGHINGS_MAX {
            return Ok(vec![weighed]);
        }
    }
    Ok(Vec::new())
}

/// Bytes the device was given for each byte of payload, on an engine that has settled; `None` where the
/// device does not count.
fn weigh(bench: &Bench<'_>, case: &Case) -> Result<Option<f64>> {
    let unsealed_before = counted(&case.engine)?.unsealed_bytes;
    let Some(device) = Device::start(&bench.dir) else { return Ok(None) };
    let begin = Instant::now();
    let mut payload = 0;
    while payload < WEIGHED_BYTES_MIN && begin.elapsed() < WEIGHED_MAX {
        payload += load::closed(&case.partitions, IN_FLIGHT, Waiting::Spin, bench.time())?.records
            * RECORD_BYTES as u64;
    }
    settle(&case.engine)?;
    let owed = counted(&case.engine)?.unsealed_bytes as f64 - unsealed_before as f64;
    Ok(device.written_bytes().map(|written| (written as f64 + owed) / payload as f64))
}

/// Appends until the WAL is sealed as fast as it is filled, or has the most files it may have.
fn grow(bench: &Bench<'_>, case: &Case) -> Result<()> {
    let begin = Instant::now();
    let mut grown = counted(&case.engine)?;
    while begin.elapsed() < GROWING_MAX {
        load::closed(&case.partitions, IN_FLIGHT, Waiting::Spin, bench.time())?;
        let now = counted(&case.engine)?;
        if now.wal_files > grown.wal_files {
            grown = now;
        } else if now.files_sealed >= grown.files_sealed + STEADY_FILES {
            break;
        }
    }
    Ok(())
}
