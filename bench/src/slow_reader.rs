//! What a slow reader costs a producer at full speed, in one run:
//! `slow_reader [DIR] [ROUNDS] [SECONDS]`.
//!
//! The producer keeps a fixed number of appends in flight, and each is timed from the call to its
//! acknowledgement. Every round measures it alone, alone once more (how far apart two equal
//! measurements are here), and beside a reader that takes one record a second: at the end of the
//! log, or far behind it, where each record is fetched from disk by a new reader. The order turns
//! from round to round. The device's speed drifts, so only the ratios of the medians over the
//! rounds are a result. A measurement during which other programs used the processor is repeated.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thalweg::{Config, Engine, FetchError, Offset, Partition, PartitionConfig, ReadFrom, Record};

const RECORD_BYTES: usize = 1024;
const IN_FLIGHT: usize = 16;
/// What is kept between two measurements: twice the tail cache.
const KEPT_RECORDS: u64 = 256 << 10;
const PACE: Duration = Duration::from_secs(1);
/// For what the last measurement left to do in the background.
const SETTLE: Duration = Duration::from_millis(500);
/// Part of a core that others may use during a measurement; the kernel's work for us is in it.
const OTHERS_MAX: f64 = 0.2;
/// Times a disturbed measurement is repeated.
const REPEATS_MAX: usize = 20;
/// Unit of the kernel's processor times.
const TICKS_PER_S: f64 = 100.0;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Who reads while the producer is measured.
#[derive(Clone, Copy)]
enum Beside {
    Nobody,
    AtTheEnd,
    FarBehind,
}

const CASES: [(&str, Beside); 4] = [
    ("alone", Beside::Nobody),
    ("alone again", Beside::Nobody),
    ("slow reader at the end", Beside::AtTheEnd),
    ("slow reader far behind", Beside::FarBehind),
];

/// One measurement of the producer.
struct Row {
    p50_us: f64,
    p99_us: f64,
    per_s: f64,
    /// Cores that other programs used meanwhile.
    others: f64,
}

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let parent = args.first().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let number = |at: usize, default: usize| match args.get(at) {
        Some(text) => text.to_string_lossy().parse::<usize>(),
        None => Ok(default),
    };
    let (rounds, seconds) = (number(1, 5)?.max(1), number(2, 5)? as u64);
    let dir = tempfile::tempdir_in(parent)?;
    let engine = Engine::open(Config::new(dir.path().join("data")))?;
    let partition = engine.create("log", PartitionConfig::default())?;
    println!(
        "backend {}, {RECORD_BYTES} B a record, {IN_FLIGHT} appends in flight, {seconds} s a measurement",
        engine.backend().kind
    );
    produce(&partition, |count, _| count < KEPT_RECORDS)?;
    let mut rows: [Vec<Row>; CASES.len()] = Default::default();
    for round in 0..rounds {
        for turn in 0..CASES.len() {
            let case = (round + turn) % CASES.len();
            let (name, beside) = CASES[case];
            let row = measure_undisturbed(&partition, beside, Duration::from_secs(seconds))?;
            let Row { p50_us, p99_us, per_s, others } = row;
            println!(
                "round {round}: {name}: p50 {p50_us:.1} µs, p99 {p99_us:.1} µs, {per_s:.0} records/s; \
                 others used {others:.2} cores"
            );
            rows[case].push(row);
        }
    }
    print_ratios(&rows);
    engine.close()?;
    Ok(())
}

fn print_ratios(rows: &[Vec<Row>]) {
    let median = |rows: &[Row], value: fn(&Row) -> f64| {
        let mut values: Vec<_> = rows.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let of = |case: usize| (median(&rows[case], |row| row.p50_us), median(&rows[case], |row| row.p99_us));
    let alone = of(0);
    for (case, (name, _)) in CASES.iter().enumerate() {
        let (p50, p99) = of(case);
        let (p50_ratio, p99_ratio) = (p50 / alone.0, p99 / alone.1);
        println!("{name}: p50 {p50:.1} µs, {p50_ratio:.3} × alone; p99 {p99:.1} µs, {p99_ratio:.3} × alone");
    }
}

/// Measures until other programs leave the processor alone; the last time counts in any case.
fn measure_undisturbed(partition: &Partition, beside: Beside, time: Duration) -> Result<Row> {
    let mut row = measure(partition, beside, time)?;
    for _ in 0..REPEATS_MAX {
        if row.others <= OTHERS_MAX {
            break;
        }
        println!("others used {:.2} cores: once more", row.others);
        row = measure(partition, beside, time)?;
    }
    Ok(row)
}

/// Processor time that was used since the host started by all others, in ticks.
fn others_ticks() -> Result<f64> {
    let all = fs::read_to_string("/proc/stat")?;
    let all = all.lines().next().and_then(|line| line.strip_prefix("cpu ")).ok_or("no processor times")?;
    let times: Vec<f64> = all.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    // User, nice, system, idle, waiting, interrupts twice, stolen; guests are in the first two.
    let busy: f64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| times.get(*index)).sum();
    let own = fs::read_to_string("/proc/self/stat")?;
    let own = own.rsplit_once(')').ok_or("no processor times of this process")?.1;
    let own: Vec<f64> =
        own.split_whitespace().skip(11).take(2).map(str::parse).collect::<std::result::Result<_, _>>()?;
    Ok(busy - own.iter().sum::<f64>())
}

/// The producer for so long, beside a reader or not.
fn measure(partition: &Partition, beside: Beside, time: Duration) -> Result<Row> {
    let info = partition.describe().wait().ok_or("the partition is gone")?;
    let kept = Offset(info.log_end.0.saturating_sub(KEPT_RECORDS).max(info.log_start.0));
    partition.trim(kept).wait()?;
    thread::sleep(SETTLE);
    thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<()>();
        let reader = match beside {
            Beside::Nobody => None,
            Beside::AtTheEnd => Some(scope.spawn(move || read_at_the_end(partition, &ended))),
            Beside::FarBehind => Some(scope.spawn(move || read_far_behind(partition, kept, &ended))),
        };
        let others = others_ticks()?;
        let (histogram, took) = produce(partition, |_, took| took < time)?;
        let others = (others_ticks()? - others).max(0.0) / TICKS_PER_S / took.as_secs_f64();
        drop(end);
        if let Some(reader) = reader {
            let read = reader.join().map_err(|_| "the reader panicked")??;
            if read == 0 {
                return Err("the measurement was too short for the reader to take a record".into());
            }
        }
        Ok(Row {
            p50_us: histogram.value_at_quantile(0.5) as f64 / 1000.0,
            p99_us: histogram.value_at_quantile(0.99) as f64 / 1000.0,
            per_s: histogram.len() as f64 / took.as_secs_f64(),
            others,
        })
    })
}

/// Appends while `go_on`, which is told how many there were and how long it took.
fn produce(
    partition: &Partition,
    go_on: impl Fn(u64, Duration) -> bool,
) -> Result<(Histogram<u64>, Duration)> {
    let mut histogram = Histogram::new(3)?;
    let mut flying = VecDeque::with_capacity(IN_FLIGHT);
    let value = vec![b'x'; RECORD_BYTES];
    let start = Instant::now();
    while go_on(histogram.len(), start.elapsed()) {
        while flying.len() < IN_FLIGHT {
            let record = Record::new(value.clone());
            flying.push_back((Instant::now(), partition.append(record)));
        }
        let Some((sent, ticket)) = flying.pop_front() else { break };
        ticket.wait()?;
        histogram.record(sent.elapsed().as_nanos() as u64)?;
    }
    let took = start.elapsed();
    for (_, ticket) in flying {
        ticket.wait()?;
    }
    Ok((histogram, took))
}

/// Takes a record a second from one reader until told to end. Returns how many.
fn read_at_the_end(partition: &Partition, ended: &Receiver<()>) -> std::result::Result<usize, FetchError> {
    let mut records = partition.read(ReadFrom::Latest).records();
    let mut read = 0;
    while rest(ended) {
        records.next().transpose()?;
        read += 1;
    }
    Ok(read)
}

/// Takes a record a second, each with a reader of its own, from `first` on.
fn read_far_behind(
    partition: &Partition,
    first: Offset,
    ended: &Receiver<()>,
) -> std::result::Result<usize, FetchError> {
    let mut read = 0;
    while rest(ended) {
        let from = ReadFrom::Offset(Offset(first.0 + read as u64));
        partition.read(from).records().next().transpose()?;
        read += 1;
    }
    Ok(read)
}

/// Waits between two records. Returns whether to go on.
fn rest(ended: &Receiver<()>) -> bool {
    ended.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout)
}
