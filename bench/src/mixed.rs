//! Producers beside a cold scan, against the same producers alone, alternating in one run.
//!
//! The scan reads another partition of the same engine from disk, from its start, over and over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use thalweg::{Engine, FetchError, Partition, PartitionConfig, ReadFrom};

use crate::Result;
use crate::append::{kept, warm_up};
use crate::bench::{Bench, Place, run_at, settle};
use crate::load::{self, Loaded, Waiting};
use crate::result::{Loop, Target, Unit};

/// Bytes that the scan reads before it begins anew: far more than the tail cache.
const COLD_BYTES: u64 = 512 << 20;
/// Tail cache, bytes.
const CACHE_BYTES: u64 = 16 << 20;
/// Records of an append that fills it.
const FILL_RECORDS: usize = 64;
/// A latency measurement lasts so many times longer than others: it is about one in a hundred.
const LONGER: u32 = 4;

/// How the producers send.
#[derive(Clone, Copy)]
enum Load {
    /// So many appends a second, by the clock.
    Open(f64),
    /// So many in flight.
    Closed(usize),
}

/// The loads: id and words.
const LOADS: [(&str, &str, Load); 2] = [
    ("mixed.open", "10,000 appends/s by the clock", Load::Open(10_000.0)),
    ("mixed.closed", "16 in flight", Load::Closed(16)),
];

/// Runs it all.
///
/// # Errors
/// The engine's or the host's.
pub fn run(bench: &Bench<'_>) -> Result<()> {
    let little = bench.config_with_little_cache("mixed", CACHE_BYTES);
    let engine = bench.engine("mixed", |config| *config = little)?;
    let cold = engine.create("cold", PartitionConfig::default())?;
    let hot = engine.create("hot", kept())?;
    (bench.progress)("filling what the scan reads");
    load::fill(&cold, COLD_BYTES, load::RECORD_BYTES, FILL_RECORDS)?;
    warm_up(&hot)?;
    settle(&engine)?;
    run_at(Place::Caller);
    let time = bench.time();
    let scan_alone = beside_scan(&cold, || {
        thread::sleep(time);
        Ok(())
    })?;
    let speed = scan_alone.1 as f64 / time.as_secs_f64();
    bench.report.borrow_mut().figure("mixed.scan.alone", "cold scan alone", Unit::BytesPerS, &[speed]);
    for (id, words, load) in LOADS {
        one_load(bench, (id, words), &engine, (&hot, &cold), load)?;
    }
    engine.close()?;
    bench.clear("mixed")
}

fn one_load(
    bench: &Bench<'_>,
    (id, words): (&str, &str),
    engine: &Engine,
    (hot, cold): (&Partition, &Partition),
    load: Load,
) -> Result<()> {
    let time = bench.time() * LONGER;
    let p99 = |loaded: &Loaded| loaded.latency.value_at_quantile(0.99) as f64;
    let (mut ratios, mut speeds) = (Vec::new(), Vec::new());
    let [mut alone_all, mut beside_all] = [load::histogram(), load::histogram()];
    for _ in bench.rounds(&format!("beside a cold scan, {words}")) {
        settle(engine)?;
        let alone = send(hot, load, time)?;
        settle(engine)?;
        let (beside, scanned) = beside_scan(cold, || send(hot, load, time))?;
        ratios.push(p99(&beside) / p99(&alone));
        speeds.push(scanned as f64 / beside.time.as_secs_f64());
        alone_all.add(alone.latency)?;
        beside_all.add(beside.latency)?;
    }
    let group = format!("beside a cold scan, {words}");
    let kind = if matches!(load, Load::Open(_)) { Loop::Open } else { Loop::Closed };
    let curve = |name: &str, what: &str, histogram: Histogram<u64>| {
        bench.curve(&format!("{id}.{name}"), &format!("{words}, {what}"), &group, kind, histogram);
    };
    curve("alone", "alone", alone_all);
    curve("beside", "beside a cold scan", beside_all);
    let mut report = bench.report.borrow_mut();
    let what = format!("{words}: p99 beside a cold scan / alone");
    report.row(&format!("{id}.p99"), &what, Unit::Ratio, Target::AtMost(1.2), &ratios);
    let what = format!("cold scan beside {words}");
    report.figure(&format!("{id}.scan"), &what, Unit::BytesPerS, &speeds);
    Ok(())
}

fn send(hot: &Partition, load: Load, time: Duration) -> Result<Loaded> {
    match load {
        Load::Open(per_s) => load::open(std::slice::from_ref(hot), per_s, time),
        Load::Closed(in_flight) => load::closed(std::slice::from_ref(hot), in_flight, Waiting::Park, time),
    }
}

/// Does `work` beside a scan of `cold`; returns the bytes that were scanned meanwhile.
fn beside_scan<T>(cold: &Partition, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let (ended, scanned) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let scanning = scope.spawn(|| {
            run_at(Place::Anywhere);
            scan(cold, &ended, &scanned)
        });
        let done = work();
        let bytes = scanned.load(Ordering::Relaxed);
        ended.store(true, Ordering::Relaxed);
        scanning.join().map_err(|_| "the scan panicked")??;
        Ok((done?, bytes))
    })
}

/// Reads the partition to its end, again and again.
fn scan(
    partition: &Partition,
    ended: &AtomicBool,
    scanned: &AtomicU64,
) -> std::result::Result<(), FetchError> {
    loop {
        for batch in partition.read(ReadFrom::Earliest).to_end() {
            scanned.fetch_add(batch?.bytes().len() as u64, Ordering::Relaxed);
            if ended.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }
}
