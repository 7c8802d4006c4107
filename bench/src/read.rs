//! Reading one big partition from its start, far out of the tail cache, against the device's own
//! sequential read of the same files, alternating in one run.
//!
//! The device is read with direct I/O through our own ring, in requests of 1 MiB, one and four in
//! flight; the better of the two is what the log is compared with.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thalweg::{Config, Engine, PartitionConfig, ReadFrom};
use thalweg_io::{AlignedBuf, BLOCK, CommitStrategy, FileId, OpenMode, Reactor, UringBackend};

use crate::Result;
use crate::bench::Bench;
use crate::load;
use crate::result::{Target, Unit};

/// Bytes of one request to the device.
const REQUEST_BYTES: usize = 1 << 20;
/// Tail cache while reading, bytes: nothing that is read is in it.
const CACHE_BYTES: u64 = 8 << 20;
const NAME: &str = "cold";

/// Runs it all.
///
/// # Errors
/// The engine's and the host's.
pub fn run(bench: &Bench<'_>) -> Result<()> {
    (bench.progress)("reading one partition from its start");
    let bytes = if bench.effort.quick { 256 << 20 } else { 1 << 30 };
    let options = Options { rounds: bench.effort.rounds, bytes, ..Options::default() };
    let config = Config { shards: None, ..bench.config(NAME) };
    let measured = measure(&config, &bench.config_with_little_cache(NAME, CACHE_BYTES), &options)?;
    bench.clear(NAME)?;
    let of = |value: fn(&Round) -> f64| measured.iter().map(value).collect::<Vec<f64>>();
    let mut report = bench.report.borrow_mut();
    let what = "cold sequential read of one partition / device";
    report.row("read.cold", what, Unit::Ratio, Target::AtLeast(0.9), &of(Round::ratio));
    report.figure("read.cold.speed", "cold sequential read", Unit::BytesPerS, &of(|round| round.log));
    let what = "device, sequential read of the same files, 1 request of 1 MiB in flight";
    report.figure("read.device.1", what, Unit::BytesPerS, &of(|round| round.device_one));
    let what = "device, sequential read of the same files, 4 requests of 1 MiB in flight";
    report.figure("read.device.4", what, Unit::BytesPerS, &of(|round| round.device_four));
    Ok(())
}

/// What is read, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds; at least 1.
    pub rounds: usize,
    /// Bytes of records in the partition.
    pub bytes: u64,
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Records an append carries.
    pub batch_records: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { rounds: 5, bytes: 1 << 30, record_bytes: 1024, batch_records: 64 }
    }
}

/// Speeds of one round, bytes of files per second.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// The device with one request in flight.
    pub device_one: f64,
    /// The device with four.
    pub device_four: f64,
    /// One reader of the log, every batch checked.
    pub log: f64,
}

impl Round {
    /// The log against the better of the two device speeds.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.log / self.device_one.max(self.device_four)
    }
}

/// Fills a log, with `config`, whose directory should be empty, and reads it, with `reading`. Both are of
/// one shard and of one directory.
///
/// # Errors
/// The engine's and the host's.
pub fn measure(config: &Config, reading: &Config, options: &Options) -> Result<Vec<Round>> {
    fill(config, options)?;
    let (dir, mut rounds) = (&config.data_dir, Vec::new());
    for _ in 0..options.rounds.max(1) {
        let (one, bytes) = read_device(dir, 1)?;
        let (four, _) = read_device(dir, 4)?;
        let (log, batches) = read_log(reading, options)?;
        let speed = |bytes: u64, took: Duration| bytes as f64 / took.as_secs_f64();
        rounds.push(Round {
            device_one: speed(bytes, one),
            device_four: speed(bytes, four),
            log: speed(batches, log),
        });
    }
    Ok(rounds)
}

fn fill(config: &Config, options: &Options) -> Result<()> {
    let engine = Engine::open(config.clone())?;
    let partition = engine.create(NAME, PartitionConfig::default())?;
    load::fill(&partition, options.bytes, options.record_bytes, options.batch_records)?;
    engine.close()?;
    Ok(())
}

/// Reads the whole partition. Returns the time it took and the bytes of its batches.
fn read_log(config: &Config, options: &Options) -> Result<(Duration, u64)> {
    let engine = Engine::open(config.clone())?;
    let partition = engine.partition(NAME)?;
    let start = Instant::now();
    let (mut bytes, mut end) = (0, 0);
    for batch in partition.read(ReadFrom::Earliest).to_end() {
        let batch = batch?;
        bytes += batch.bytes().len() as u64;
        end = batch.end_offset().0;
    }
    let took = start.elapsed();
    engine.close()?;
    let wanted = options.bytes / options.record_bytes as u64;
    if end < wanted {
        return Err(format!("only {end} of {wanted} records were read").into());
    }
    Ok((took, bytes))
}

/// Reads every file of the first shard, in order of their names, with `depth` requests in flight.
/// Returns the time it took and the bytes read.
///
/// # Errors
/// The host's.
pub fn read_device(dir: &Path, depth: usize) -> Result<(Duration, u64)> {
    let reactor = Reactor::new(UringBackend::open(dir, CommitStrategy::Dsync)?);
    let mut pieces = VecDeque::new();
    let shard = PathBuf::from("shard-0");
    for entry in reactor.block_on(reactor.list(&shard))? {
        if !entry.name.ends_with(".log") {
            continue;
        }
        let opened = reactor.block_on(reactor.open(shard.join(&entry.name), OpenMode::Read))?;
        let (file, len): (FileId, u64) = opened;
        pieces.extend((0..len).step_by(REQUEST_BYTES).map(|at| (file, at, len - at)));
    }
    let mut buffers: Vec<_> = (0..depth).map(|_| touched()).collect();
    let mut flying = VecDeque::new();
    let mut bytes = 0;
    let start = Instant::now();
    loop {
        while let Some(buf) = buffers.pop() {
            let Some((file, at, left)) = pieces.pop_front() else { break };
            // The last piece of a file is read with a smaller buffer.
            let buf =
                if left < buf.len() as u64 { AlignedBuf::zeroed(left as usize / BLOCK * BLOCK) } else { buf };
            let mut read = Box::pin(reactor.read(file, at, buf));
            // Sent now, asked for later.
            reactor.block_on(std::future::poll_fn(|context| {
                let _ = read.as_mut().poll(context);
                std::task::Poll::Ready(())
            }));
            flying.push_back(read);
        }
        let Some(first) = flying.pop_front() else { break };
        let (buf, read) = reactor.block_on(first);
        bytes += read? as u64;
        buffers.push(if buf.len() == REQUEST_BYTES { buf } else { touched() });
    }
    Ok((start.elapsed(), bytes))
}

/// A buffer whose pages are there.
fn touched() -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(REQUEST_BYTES);
    buf.fill(1);
    buf
}
