//! The durable append against the device, in one run: `append [DIR] [ROUNDS]`.
//!
//! Each round measures the floor (a blocking O_DIRECT write with `RWF_DSYNC` into pre-written
//! blocks, the same bytes as a group of one record) and then the log, one append in flight. The
//! device's speed drifts, so only the ratio of the two within a round is a result; the medians
//! over the rounds are printed.

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hdrhistogram::Histogram;
use thalweg::{Config, Engine, OwnedShard, Partition, PartitionConfig, Record};
use thalweg_io::{AlignedBuf, BLOCK, BlockingBackend, CommitStrategy, Durability, OpenMode, Reactor};

const APPENDS: usize = 2000;
const RECORD_BYTES: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let parent = args.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let rounds: usize = match args.next() {
        Some(rounds) => rounds.to_string_lossy().parse()?,
        None => 5,
    };
    let dir = tempfile::tempdir_in(parent)?;
    let mut floor = Floor::open(dir.path())?;
    let mut shard = OwnedShard::open(Config::new(dir.path().join("turn")))?;
    let creating = shard.log().start_create("turn", PartitionConfig::default());
    let turned = shard.block_on(creating)?;
    let engine = Engine::open(Config::new(dir.path().join("engine")))?;
    let waited = engine.create("engine", PartitionConfig::default())?;
    println!(
        "backend {:?}, {APPENDS} appends of {RECORD_BYTES} B a round, one in flight",
        engine.backend().kind
    );
    let mut ratios = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        let base = floor.measure()?;
        let rows = [
            measure(|record| turn(&mut shard, &turned, record))?,
            measure(|record| waited.append(record).spin().map(drop).map_err(Into::into))?,
            measure(|record| waited.append(record).wait().map(drop).map_err(Into::into))?,
        ];
        print!("round {round}: floor p50 {:.1} µs p99 {:.1} µs", micros(&base, 0.5), micros(&base, 0.99));
        for ((name, row), ratios) in ["turn", "spin", "wait"].iter().zip(&rows).zip(&mut ratios) {
            let ratio = micros(row, 0.5) / micros(&base, 0.5);
            let tail = micros(row, 0.99) / micros(&base, 0.99);
            print!("; {name} {ratio:.2}/{tail:.2}");
            ratios.push((ratio, tail));
        }
        println!();
    }
    for (name, ratios) in ["turn", "spin", "wait"].iter().zip(&mut ratios) {
        let mut p50: Vec<_> = ratios.iter().map(|ratio| ratio.0).collect();
        let mut p99: Vec<_> = ratios.iter().map(|ratio| ratio.1).collect();
        p50.sort_by(f64::total_cmp);
        p99.sort_by(f64::total_cmp);
        println!("{name}: p50 {:.2} × floor, p99 {:.2} × floor", p50[rounds / 2], p99[rounds / 2]);
    }
    shard.close()?;
    engine.close()?;
    Ok(())
}

fn micros(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

fn measure(
    mut append: impl FnMut(Record) -> Result<(), Box<dyn Error>>,
) -> Result<Histogram<u64>, Box<dyn Error>> {
    let mut histogram = Histogram::new(3)?;
    let value = vec![b'x'; RECORD_BYTES];
    for _ in 0..APPENDS {
        let record = Record::new(value.clone());
        let start = Instant::now();
        append(record)?;
        histogram.record(start.elapsed().as_nanos() as u64)?;
    }
    Ok(histogram)
}

fn turn(shard: &mut OwnedShard, partition: &Partition, record: Record) -> Result<(), Box<dyn Error>> {
    let ticket = partition.append(record);
    while !ticket.is_ready() {
        if !shard.turn() {
            shard.park();
        }
    }
    ticket.wait()?;
    Ok(())
}

/// The device itself: one pre-written file, one blocking durable write at a time.
struct Floor {
    reactor: Reactor<BlockingBackend>,
    file: thalweg_io::FileId,
    position: u64,
}

const FLOOR_FILE_BYTES: u64 = 32 << 20;

impl Floor {
    fn open(dir: &Path) -> Result<Floor, Box<dyn Error>> {
        let reactor = Reactor::new(BlockingBackend::open(dir, CommitStrategy::Dsync)?);
        let (file, _) = reactor.block_on(reactor.open("floor", OpenMode::CreateNew))?;
        for at in (0..FLOOR_FILE_BYTES).step_by(1 << 20) {
            let zeros = AlignedBuf::zeroed(1 << 20);
            reactor.block_on(reactor.write(file, at, zeros, Durability::Volatile)).1?;
        }
        reactor.block_on(reactor.run(thalweg_io::Op::Sync { file }))?;
        Ok(Floor { reactor, file, position: 0 })
    }

    fn measure(&mut self) -> Result<Histogram<u64>, Box<dyn Error>> {
        let mut histogram = Histogram::new(3)?;
        let mut buf = AlignedBuf::padded(&[b'x'; RECORD_BYTES]);
        for _ in 0..APPENDS {
            self.position = (self.position + BLOCK as u64) % FLOOR_FILE_BYTES;
            let start = Instant::now();
            let write = self.reactor.write(self.file, self.position, buf, Durability::Durable);
            let (back, written) = self.reactor.block_on(write);
            written?;
            buf = back;
            histogram.record(start.elapsed().as_nanos() as u64)?;
        }
        Ok(histogram)
    }
}
