//! The durable append: one at a time in each style of embedding, and many in flight.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thalweg::{Engine, OwnedShard, Partition, PartitionConfig, Retention};

use crate::bench::{Bench, Counted, Place, counted, quiet, run_at, settle};
use crate::floor::{Floor, FloorKind};
use crate::load::{self, RECORD_BYTES, Waiting};
use crate::meter::{Device, Syscalls, shard_cpu_ns};
use crate::result::{Line, Loop, Sweep, Target, Unit};
use thalweg_io::allocations;

use crate::Result;

/// Bytes of a group of one record, before padding: header, batch, record.
const LONE_GROUP_BYTES: usize = RECORD_BYTES + 256;
/// Appends in flight that are measured, for the chart.
const IN_FLIGHT: [usize; 6] = [1, 4, 16, 64, 256, 512];
/// What a log keeps that is not to grow: its dead segments become WAL files again.
const KEPT_BYTES: u64 = 256 << 20;

/// Runs it all.
///
/// # Errors
/// The engine's or the host's.
pub fn run(bench: &Bench<'_>) -> Result<()> {
    one_in_flight(bench)?;
    many_in_flight(bench)?;
    open_loop(bench)?;
    costs(bench)?;
    idle(bench)
}

/// The three ways to embed the log, and the two floors.
struct Styles {
    floor: Floor,
    shard: OwnedShard,
    turned: Partition,
    engine: Engine,
    waited: Partition,
}

impl Styles {
    fn open(bench: &Bench<'_>) -> Result<Styles> {
        let mut config = bench.config("turn");
        config.shards = None;
        let mut shard = OwnedShard::open(config)?;
        let creating = shard.log().start_create("turn", kept());
        let turned = shard.block_on(creating)?;
        let engine = bench.engine("engine", |_| {})?;
        let waited = engine.create("engine", kept())?;
        Ok(Styles { floor: Floor::open(&bench.dir)?, shard, turned, engine, waited })
    }
}

/// A partition that keeps little, so that the device's blocks are used again.
pub(crate) fn kept() -> PartitionConfig {
    let retention = Retention { bytes_max: Some(KEPT_BYTES), ..Retention::default() };
    PartitionConfig { retention, ..PartitionConfig::default() }
}

fn us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

/// Latency of one append at a time, as ratios to the floor of the round.
fn one_in_flight(bench: &Bench<'_>) -> Result<()> {
    let mut styles = Styles::open(bench)?;
    let names = [
        "floor: pwritev2(RWF_DSYNC)",
        "floor: pwrite + fdatasync",
        "turn()",
        "Engine, spinning",
        "Engine, parked",
    ];
    let ids = ["append.dsync_floor", "append.sync_floor", "append.turn", "append.spin", "append.park"];
    let mut all: Vec<Histogram<u64>> = ids.iter().map(|_| load::histogram()).collect();
    let mut ratios: [Vec<f64>; 5] = Default::default();
    let mut wakeups = Vec::new();
    for _ in bench.rounds("one append in flight") {
        let time = bench.time();
        quiet(&styles.engine)?; // the floor is the device alone
        run_at(Place::Shard);
        let dsync = styles.floor.measure(FloorKind::Dsync, LONE_GROUP_BYTES, time)?;
        let sync = styles.floor.measure(FloorKind::WriteThenSync, LONE_GROUP_BYTES, time)?;
        let turn = load::turned(&mut styles.shard, &styles.turned, 1, time)?.latency;
        run_at(Place::Caller);
        let spin = load::one_by_one(&styles.waited, Waiting::Spin, time)?.latency;
        let park = load::one_by_one(&styles.waited, Waiting::Park, time)?.latency;
        let wakeup = wakeup_us(time.min(Duration::from_millis(300)));
        wakeups.push(wakeup);
        let (p50, p99) = (us(&dsync, 0.5).min(us(&sync, 0.5)), us(&dsync, 0.99).min(us(&sync, 0.99)));
        let of = [us(&turn, 0.5) / p50, us(&turn, 0.99) / p99, us(&spin, 0.5) / p50, us(&park, 0.5) / p50];
        ratios.iter_mut().zip(of).for_each(|(ratios, ratio)| ratios.push(ratio));
        ratios[4].push(us(&park, 0.5) - p50 - 2.0 * wakeup);
        for (sum, one) in all.iter_mut().zip([dsync, sync, turn, spin, park]) {
            sum.add(one)?;
        }
    }
    for ((id, name), histogram) in ids.iter().zip(names).zip(all) {
        bench.curve(id, name, "one append in flight", Loop::Closed, histogram);
    }
    let mut report = bench.report.borrow_mut();
    let [turn_p50, turn_p99, spin, park, over] = ratios;
    let at_most = Target::AtMost;
    report.row("append.turn.p50", "turn(), 1 in flight, p50 / floor", Unit::Ratio, at_most(1.05), &turn_p50);
    report.row("append.turn.p99", "turn(), 1 in flight, p99 / floor", Unit::Ratio, at_most(1.2), &turn_p99);
    report.row("append.spin.p50", "Engine, spinning caller, p50 / floor", Unit::Ratio, at_most(1.10), &spin);
    report.row(
        "append.park.over",
        "Engine, parked caller, p50 - floor - 2 wake-ups",
        Unit::Us,
        at_most(3.0),
        &over,
    );
    report.figure("append.park.p50", "Engine, parked caller, p50 / floor", Unit::Ratio, &park);
    report.figure("wakeup", "waking a thread on another core that slept 100 µs, p50", Unit::Us, &wakeups);
    drop(report);
    styles.shard.close()?;
    styles.engine.close()?;
    bench.clear("turn")?;
    bench.clear("engine")
}

/// What it takes to wake a thread on another core, µs, p50: half of a round trip of two threads, one
/// of which has slept for about a commit before it is asked.
fn wakeup_us(time: Duration) -> f64 {
    let [asked, answered, over] = [const { AtomicBool::new(false) }; 3];
    let mut trips = load::histogram();
    thread::scope(|scope| {
        let asker = thread::current();
        let (asked, answered, over) = (&asked, &answered, &over);
        let answerer = scope.spawn(move || {
            run_at(Place::Shard);
            while !over.load(Ordering::Acquire) {
                if asked.swap(false, Ordering::AcqRel) {
                    answered.store(true, Ordering::Release);
                    asker.unpark();
                } else {
                    thread::park();
                }
            }
        });
        let begin = Instant::now();
        while begin.elapsed() < time {
            thread::sleep(Duration::from_micros(100));
            let start = Instant::now();
            asked.store(true, Ordering::Release);
            answerer.thread().unpark();
            while !answered.swap(false, Ordering::AcqRel) {
                thread::park();
            }
            load::note(&mut trips, start.elapsed() / 2);
        }
        over.store(true, Ordering::Release);
        answerer.thread().unpark();
    });
    us(&trips, 0.5)
}

/// What one closed loop and its floor came to.
struct Throughput {
    per_s: f64,
    /// Against the better floor's bytes a second at the same bytes a group.
    of_floor: f64,
}

fn throughput(
    bench: &Bench<'_>,
    floor: &mut Floor,
    engine: &Engine,
    partition: &Partition,
    in_flight: usize,
) -> Result<Throughput> {
    run_at(Place::Caller);
    let before = counted(engine)?;
    let loaded = load::closed(std::slice::from_ref(partition), in_flight, Waiting::Spin, bench.time())?;
    let after = counted(engine)?;
    let groups = (after.groups - before.groups).max(1);
    let group_bytes = (after.group_bytes - before.group_bytes) / groups;
    quiet(engine)?; // the floor is the device alone
    run_at(Place::Shard);
    let mut alone_ns = f64::INFINITY;
    for kind in [FloorKind::Dsync, FloorKind::WriteThenSync] {
        let alone = floor.measure(kind, group_bytes as usize, bench.time() / 2)?;
        alone_ns = alone_ns.min(alone.mean());
    }
    let records_per_group = loaded.records as f64 / groups as f64;
    let floor_per_s = records_per_group * 1e9 / alone_ns;
    Ok(Throughput { per_s: loaded.per_s(), of_floor: loaded.per_s() / floor_per_s })
}

/// Throughput against appends in flight, with one group in flight and with several.
fn many_in_flight(bench: &Bench<'_>) -> Result<()> {
    let mut floor = Floor::open(&bench.dir)?;
    let depths = [1u32, bench.config.group.in_flight_max.max(2)];
    let mut lines = Vec::new();
    let mut ratios: Vec<Vec<Vec<f64>>> = Vec::new();
    let mut rates: Vec<Vec<Vec<f64>>> = Vec::new();
    for (at, depth) in depths.iter().enumerate() {
        ratios.push(vec![Vec::new(); IN_FLIGHT.len()]);
        rates.push(vec![Vec::new(); IN_FLIGHT.len()]);
        let name = format!("depth-{depth}");
        let engine = bench.engine(&name, |config| config.group.in_flight_max = *depth)?;
        let partition = engine.create("log", kept())?;
        warm_up(&partition)?;
        for _ in bench.rounds(&format!("many appends in flight, {depth} groups")) {
            for (index, in_flight) in IN_FLIGHT.iter().enumerate() {
                let found = throughput(bench, &mut floor, &engine, &partition, *in_flight)?;
                ratios[at][index].push(found.of_floor);
                rates[at][index].push(found.per_s);
            }
        }
        engine.close()?;
        bench.clear(&name)?;
        let point = |(n, rates): (&usize, &Vec<f64>)| (*n as f64, crate::result::median(rates));
        let points = IN_FLIGHT.iter().zip(&rates[at]).map(point).collect();
        let plural = if *depth == 1 { "group" } else { "groups" };
        lines.push(Line { name: format!("{depth} {plural} in flight"), points });
    }
    let mut report = bench.report.borrow_mut();
    let best = ratios.pop().unwrap_or_default();
    let of = |n: usize| {
        IN_FLIGHT.iter().position(|each| *each == n).map(|at| best[at].clone()).unwrap_or_default()
    };
    report.row(
        "append.64",
        "64 in flight, records/s / floor at the same group size",
        Unit::Ratio,
        Target::AtLeast(0.90),
        &of(64),
    );
    report.row(
        "append.512",
        "512 in flight, records/s / floor at the same group size",
        Unit::Ratio,
        Target::AtLeast(0.95),
        &of(512),
    );
    for (index, in_flight) in IN_FLIGHT.iter().enumerate() {
        let (id, what) = (
            format!("append.{in_flight}.one_group"),
            format!("{in_flight} in flight, one group at a time, of the floor"),
        );
        report.figure(&id, &what, Unit::RateRatio, &ratios[0][index]);
        let (id, what) = (format!("append.{in_flight}.rate"), format!("{in_flight} in flight, records/s"));
        report.figure(&id, &what, Unit::RecordsPerS, &rates[1][index]);
    }
    report.sweeps.push(Sweep {
        id: "append.in_flight".into(),
        what: "Durable records a second, 1 KiB each, closed loop".into(),
        x: "appends in flight".into(),
        y: "records/s".into(),
        lines,
    });
    Ok(())
}

/// Appends until the log has come around: from here on its blocks are used again.
pub(crate) fn warm_up(partition: &Partition) -> Result<()> {
    let bytes = 2 * KEPT_BYTES;
    let (mut sent, step) = (0, Duration::from_millis(100));
    while sent < bytes {
        sent += load::closed(std::slice::from_ref(partition), 256, Waiting::Park, step)?.records
            * RECORD_BYTES as u64;
    }
    Ok(())
}

/// Latency by a schedule, at parts of what the machine can take.
fn open_loop(bench: &Bench<'_>) -> Result<()> {
    let engine = bench.engine("open", |_| {})?;
    let partition = engine.create("log", kept())?;
    warm_up(&partition)?;
    settle(&engine)?;
    run_at(Place::Caller);
    for per_s in [1_000u32, 10_000, 50_000] {
        let mut all = load::histogram();
        let what = format!("{per_s} appends/s by the clock");
        for _ in bench.rounds(&what) {
            all.add(load::open(std::slice::from_ref(&partition), f64::from(per_s), bench.time())?.latency)?;
        }
        bench.curve(&format!("append.open.{per_s}"), &what, "appends by the clock", Loop::Open, all);
    }
    engine.close()?;
    bench.clear("open")
}

/// Processor, kernel, heap and device costs of a record at 64 in flight.
fn costs(bench: &Bench<'_>) -> Result<()> {
    let mut syscalls = Syscalls::start(); // first: it counts for the threads that start from here on
    // A shard that looks for its work uses a core whatever there is to do: here it sleeps.
    let engine = bench.engine("costs", |config| config.threads.poll_us = 0)?;
    let partition = engine.create("log", kept())?;
    warm_up(&partition)?;
    settle(&engine)?;
    run_at(Place::Caller);
    let (mut cpu, mut heap, mut device, mut calls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in bench.rounds("what a record costs") {
        quiet(&engine)?; // so that each round pays for its own work in the background
        let written = Device::start(&bench.dir);
        let (used, called) = (shard_cpu_ns(), syscalls.as_mut().ok().and_then(|count| count.count().ok()));
        let loaded = load::closed(std::slice::from_ref(&partition), 64, Waiting::Park, bench.time())?;
        let records = loaded.records as f64;
        if let (Some(before), Ok(Ok(now))) = (called, syscalls.as_mut().map(Syscalls::count)) {
            calls.push((now - before) as f64 / records);
        }
        quiet(&engine)?;
        cpu.push(shard_cpu_ns().saturating_sub(used) as f64 / records);
        if let Some(bytes) = written.and_then(|device| device.written_bytes()) {
            device.push(bytes as f64 / (records * RECORD_BYTES as f64));
        }
        heap.extend(heap_allocations(&engine, &partition)?);
    }
    engine.close()?;
    bench.clear("costs")?;
    let mut report = bench.report.borrow_mut();
    let what = "shard CPU per record, 64 in flight, kernel and background included";
    report.row("append.64.cpu", what, Unit::Ns, Target::AtMost(350.0), &cpu);
    let what = "heap allocations per record, 64 in flight";
    report.row("append.64.heap", what, Unit::Count, Target::AtMost(0.0), &heap);
    let what = "device bytes / payload, 1 partition that keeps 256 MiB";
    report.row("append.64.device", what, Unit::Ratio, Target::AtMost(1.2), &device);
    let what = "system calls per record of caller and shard, both sleeping, 64 in flight";
    report.figure("append.64.syscalls", what, Unit::Count, &calls);
    Ok(())
}

/// What an engine that nobody asks anything uses of a core, percent.
fn idle(bench: &Bench<'_>) -> Result<()> {
    let engine = bench.engine("idle", |_| {})?;
    let partition = engine.create("log", kept())?;
    partition.append(load::record()).wait()?;
    settle(&engine)?;
    let mut parts = Vec::new();
    for _ in bench.rounds("an idle engine") {
        let (used, time) = (shard_cpu_ns(), bench.time().max(Duration::from_millis(500)));
        thread::sleep(time);
        parts.push(shard_cpu_ns().saturating_sub(used) as f64 / time.as_nanos() as f64 * 100.0);
    }
    engine.close()?;
    bench.clear("idle")?;
    let what = "an idle engine's part of a core";
    bench.report.borrow_mut().row("idle", what, Unit::CorePercent, Target::AtMost(0.5), &parts);
    Ok(())
}

/// Windows in which heap allocations are counted, and the time of each: a fraction of what fills a
/// WAL file, so that most windows hold nothing but appends.
const WINDOWS: usize = 8;
const WINDOW: Duration = Duration::from_millis(25);

/// Heap allocations a record, over windows in which nothing was sealed: what the append path itself
/// makes, on all threads.
fn heap_allocations(engine: &Engine, partition: &Partition) -> Result<Option<f64>> {
    let mut rates = Vec::new();
    let background =
        || counted(engine).map(|Counted { files_sealed, files_recycled, .. }| (files_sealed, files_recycled));
    for _ in 0..WINDOWS {
        let before = background()?;
        let mut tickets = load::Flying::new(64);
        tickets.send(partition, WINDOW / 5)?;
        let Some(counting) = allocations::start() else { return Ok(None) };
        let records = tickets.send(partition, WINDOW)?;
        let count = counting.count();
        drop(counting);
        tickets.finish()?;
        if background()? == before {
            rates.push(count as f64 / records as f64);
        }
    }
    Ok((!rates.is_empty()).then(|| crate::result::median(&rates)))
}
