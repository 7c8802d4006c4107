//! Producers beside a cold scan, against the same producers alone, alternating in one run.
//!
//! The producers are one thread that keeps appends in flight, or sends them at their due times; every
//! append is timed from when it was due. The scan reads another partition of the same engine from
//! disk, from its start, over and over.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thalweg::{AppendResult, Batch, Config, Engine, Partition, PartitionConfig, ReadFrom, Record, Ticket};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Bytes that the scan reads before it begins anew: far more than the tail cache.
const COLD_BYTES: u64 = 512 << 20;
/// Tail cache, bytes.
const CACHE_BYTES: u64 = 16 << 20;
/// For what the last measurement left to do in the background.
const SETTLE: Duration = Duration::from_millis(500);

/// How the producers send.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// So many appends in flight, the next when one is acknowledged.
    Closed {
        /// Appends in flight.
        in_flight: usize,
    },
    /// So many appends a second, each at its time.
    Open {
        /// Appends per second.
        per_s: u64,
    },
}

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds; at least 1.
    pub rounds: usize,
    /// Length of one measurement.
    pub time: Duration,
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// How the producers send.
    pub load: Load,
}

impl Default for Options {
    fn default() -> Options {
        let time = Duration::from_secs(4);
        Options { rounds: 5, time, record_bytes: 1024, load: Load::Closed { in_flight: 16 } }
    }
}

/// One measurement of the producers.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Half of the appends took no longer, µs.
    pub p50_us: f64,
    /// 99 % took no longer, µs.
    pub p99_us: f64,
    /// 99.9 % took no longer, µs.
    pub p999_us: f64,
    /// Appends acknowledged per second.
    pub per_s: f64,
    /// Bytes per second that the scan read meanwhile.
    pub scanned_per_s: f64,
}

/// What was measured: the producers alone and beside the scan, round by round.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// Alone.
    pub alone: Vec<Row>,
    /// Beside the scan.
    pub beside: Vec<Row>,
    /// The scan without producers, bytes per second.
    pub scan_alone_per_s: f64,
}

impl Mixed {
    /// Median over the rounds of a quantile beside the scan, by the same alone.
    #[must_use]
    pub fn ratio(&self, value: fn(&Row) -> f64) -> f64 {
        let pairs = self.beside.iter().zip(&self.alone);
        let mut ratios: Vec<f64> = pairs.map(|(beside, alone)| value(beside) / value(alone)).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}

/// Makes a log in `dir`, which should be empty, and measures.
///
/// # Errors
/// The engine's and the host's.
pub fn measure(dir: &Path, options: &Options) -> Result<Mixed> {
    let mut config = Config::new(dir);
    config.cache.bytes = CACHE_BYTES;
    let engine = Engine::open(config)?;
    let cold = engine.create("cold", PartitionConfig::default())?;
    let hot = engine.create("hot", PartitionConfig::default())?;
    fill(&cold)?;
    let scan_alone_per_s = measure_one(&hot, Some(&cold), None, options)?.scanned_per_s;
    measure_one(&hot, None, Some(options.load), options)?; // once for nothing
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(1) {
        alone.push(measure_one(&hot, None, Some(options.load), options)?);
        beside.push(measure_one(&hot, Some(&cold), Some(options.load), options)?);
    }
    engine.close()?;
    Ok(Mixed { alone, beside, scan_alone_per_s })
}

fn fill(partition: &Partition) -> Result<()> {
    let mut flying: VecDeque<Ticket<AppendResult>> = VecDeque::new();
    for _ in 0..COLD_BYTES / (64 << 10) {
        if flying.len() == 16
            && let Some(ticket) = flying.pop_front()
        {
            ticket.wait()?;
        }
        let records: Vec<_> = (0..64).map(|_| Record::new(vec![b'c'; 1000])).collect();
        flying.push_back(partition.append(Batch::from(records)));
    }
    flying.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
    Ok(())
}

fn measure_one(
    hot: &Partition,
    cold: Option<&Partition>,
    load: Option<Load>,
    options: &Options,
) -> Result<Row> {
    let end = hot.describe().wait().ok_or("the partition is gone")?.log_end;
    hot.trim(end).wait()?;
    thread::sleep(SETTLE);
    let (ended, scanned) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let scan = cold.map(|cold| scope.spawn(|| scan(cold, &ended, &scanned)));
        let (histogram, took) = match load {
            Some(Load::Closed { in_flight }) => closed(hot, in_flight, options)?,
            Some(Load::Open { per_s }) => open(hot, per_s, options)?,
            None => {
                thread::sleep(options.time);
                (Histogram::new(3)?, options.time)
            }
        };
        let bytes = scanned.load(Ordering::Relaxed);
        ended.store(true, Ordering::Relaxed);
        if let Some(scan) = scan {
            scan.join().map_err(|_| "the scan panicked")??;
        }
        let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(Row {
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
            per_s: histogram.len() as f64 / took.as_secs_f64(),
            scanned_per_s: bytes as f64 / took.as_secs_f64(),
        })
    })
}

/// Reads the partition to its end, again and again.
fn scan(
    partition: &Partition,
    ended: &AtomicBool,
    scanned: &AtomicU64,
) -> std::result::Result<(), thalweg::FetchError> {
    loop {
        for batch in partition.read(ReadFrom::Earliest).to_end() {
            scanned.fetch_add(batch?.bytes().len() as u64, Ordering::Relaxed);
            if ended.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }
}

fn closed(partition: &Partition, in_flight: usize, options: &Options) -> Result<(Histogram<u64>, Duration)> {
    let mut histogram = Histogram::new(3)?;
    let mut flying = VecDeque::with_capacity(in_flight);
    let value = vec![b'x'; options.record_bytes];
    let start = Instant::now();
    while start.elapsed() < options.time {
        while flying.len() < in_flight {
            flying.push_back((Instant::now(), partition.append(Record::new(value.clone()))));
        }
        let Some((sent, ticket)) = flying.pop_front() else { break };
        ticket.wait()?;
        histogram.record(sent.elapsed().as_nanos() as u64)?;
    }
    let took = start.elapsed();
    flying.into_iter().try_for_each(|(_, ticket)| ticket.wait().map(drop))?;
    Ok((histogram, took))
}

/// Sends at fixed times; what is not sent in time counts as waiting.
fn open(partition: &Partition, per_s: u64, options: &Options) -> Result<(Histogram<u64>, Duration)> {
    let mut histogram = Histogram::new(3)?;
    let mut flying: VecDeque<(Duration, Ticket<AppendResult>)> = VecDeque::new();
    let value = vec![b'x'; options.record_bytes];
    let due_at = |index: u64| Duration::from_nanos(index * 1_000_000_000 / per_s);
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < options.time {
        let now = start.elapsed();
        while due_at(sent) <= now {
            flying.push_back((due_at(sent), partition.append(Record::new(value.clone()))));
            sent += 1;
        }
        while flying.front().is_some_and(|(_, ticket)| ticket.is_ready()) {
            let Some((due, ticket)) = flying.pop_front() else { break };
            histogram.record((start.elapsed() - due).as_nanos() as u64)?;
            ticket.wait()?;
        }
        thread::yield_now();
    }
    let took = start.elapsed();
    flying.into_iter().try_for_each(|(_, ticket)| ticket.wait().map(drop))?;
    Ok((histogram, took))
}
