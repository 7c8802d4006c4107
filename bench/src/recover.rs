//! Opening after a crash with a long WAL, against the device's sequential read of the same files, and
//! opening a log whose records are in segments.
//!
//! The crash is real: a child process appends, [`load()`] in it, and is killed. It ends by itself when
//! the one that started it is gone. Its WAL file is so long that nothing of it is sealed. Opening changes
//! nothing about that, so every round reads the same.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thalweg::{Config, Engine, PartitionConfig};

use crate::bench::Bench;
use crate::read::read_device;
use crate::result::{Target, Unit};
use crate::{Result, bound, load};

/// Tail cache, bytes: opening does not depend on it.
const CACHE_BYTES: u64 = 8 << 20;
/// What the child says when the WAL is as full as it shall be.
const FULL: &str = "full";

/// What the child is told, as a line of JSON on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    config: Config,
    until: Until,
}

/// When the WAL is as full as it shall be.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Until {
    /// Nine tenths of its first file.
    File,
    /// So many bytes of it are in no segment, or so many times that have been appended in vain.
    Unsealed(u64),
}

/// Bytes in segments that a clean reopening finds; a quick run has fewer.
const CLEAN_BYTES: u64 = 10 << 30;
const CLEAN_BYTES_QUICK: u64 = 1 << 30;
/// Length of the WAL that is read back, and of a quick run's.
const WAL_BYTES: u64 = 1 << 30;
const WAL_BYTES_QUICK: u64 = 256 << 20;

/// Runs it all. The program itself is run again as `bench fill-wal DIR`, which calls [`load()`].
///
/// # Errors
/// The engine's and the host's.
pub fn run(bench: &Bench<'_>) -> Result<()> {
    (bench.progress)("opening after a crash");
    let quick = bench.effort.quick;
    let wal_bytes = if quick { WAL_BYTES_QUICK } else { WAL_BYTES };
    let options = Options { rounds: bench.effort.rounds, ..Options::default() };
    let mut config = bench.config_with_little_cache("crashed", CACHE_BYTES);
    config.wal.file_bytes = wal_bytes;
    let rounds = measure(&config, filler(&config)?, &options)?;
    bench.clear("crashed")?;
    let bounds = bound::measure(bench)?;
    (bench.progress)("opening after a clean end");
    let bytes = if quick { CLEAN_BYTES_QUICK } else { CLEAN_BYTES };
    let config = Config { shards: None, ..bench.config("clean") };
    let clean = measure_clean(&config, bytes, bench.effort.rounds)?;
    let clean: Vec<f64> = clean.iter().map(Duration::as_secs_f64).collect();
    bench.clear("clean")?;
    let mut report = bench.report.borrow_mut();
    let what = format!("reopen after a crash, {} MiB of WAL / device's sequential read", wal_bytes >> 20);
    let ratios: Vec<f64> = rounds.iter().map(Round::ratio).collect();
    report.row("recover.crash", &what, Unit::Ratio, Target::AtLeast(0.7), &ratios);
    let what = format!("reopen after a clean end, {} GiB in segments", bytes >> 30);
    report.row("recover.clean", &what, Unit::S, Target::AtMost(1.0), &clean);
    let took: Vec<f64> = rounds.iter().map(|round| round.open.as_secs_f64()).collect();
    report.figure("recover.crash.time", "reopen after a crash", Unit::S, &took);
    bound::tell(&mut report, &bounds);
    Ok(())
}

/// What is recovered, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds; at least 1.
    pub rounds: usize,
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Records an append carries.
    pub batch_records: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { rounds: 5, record_bytes: 1024, batch_records: 16 }
    }
}

/// One opening.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Time that [`Engine::open`] took.
    pub open: Duration,
    /// Bytes it read from the WAL, the spare file not counted.
    pub wal_bytes: u64,
    /// Bytes of all files, which opening looks through.
    pub file_bytes: u64,
    /// The device with one request of 1 MiB in flight, bytes/s.
    pub device_one: f64,
    /// The device with four, bytes/s.
    pub device_four: f64,
}

impl Round {
    /// Bytes of all files by the time of opening, against the better speed of the device.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.file_bytes as f64 / self.open.as_secs_f64() / self.device_one.max(self.device_four)
    }
}

/// Fills the WAL in `dir` as the first line of `orders` says, and waits to be killed, or for the end of
/// `orders`: the child's part.
///
/// # Errors
/// The engine's and the host's.
pub fn load(dir: &Path, orders: impl BufRead) -> Result<()> {
    let mut orders = orders.lines();
    let told: Orders = serde_json::from_str(&orders.next().ok_or("there are no orders")??)?;
    let bytes = told.config.wal.file_bytes / 10 * 9;
    let engine = Engine::open(Config { data_dir: dir.to_owned(), ..told.config })?;
    match told.until {
        Until::File => append(&engine, bytes, &Options::default())?,
        Until::Unsealed(bytes) => bound::fill(&engine, bytes)?,
    }
    writeln!(io::stdout(), "{FULL}")?;
    orders.try_for_each(|line| line.map(drop))?;
    Ok(())
}

fn append(engine: &Engine, bytes_max: u64, options: &Options) -> Result<()> {
    let partition = engine.create("filled", PartitionConfig::default())?;
    load::fill(&partition, bytes_max, options.record_bytes, options.batch_records)
}

/// Measures with the settings of `config`, whose directory should be empty. `child` runs [`load()`] there,
/// on its standard input; it is killed when the WAL is full.
///
/// # Errors
/// The engine's and the host's.
pub fn measure(config: &Config, mut child: Command, options: &Options) -> Result<Vec<Round>> {
    crash(config, &mut child, Until::File)?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds.max(1) {
        let (one, file_bytes) = read_device(&config.data_dir, 1)?;
        let (four, _) = read_device(&config.data_dir, 4)?;
        let start = Instant::now();
        let engine = Engine::open(config.clone())?;
        let open = start.elapsed();
        let wal_bytes = engine.recovery().iter().map(|report| report.wal_bytes).sum();
        engine.close()?;
        let speed = |took: Duration| file_bytes as f64 / took.as_secs_f64();
        rounds.push(Round { open, wal_bytes, file_bytes, device_one: speed(one), device_four: speed(four) });
    }
    Ok(rounds)
}

/// Lets a child fill the WAL of `config`'s directory, and kills it.
pub(crate) fn crash(config: &Config, child: &mut Command, until: Until) -> Result<()> {
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let said = orders(config, &mut child, until);
    child.kill()?;
    child.wait()?;
    if said? != FULL {
        return Err("the child ended before the WAL was full".into());
    }
    Ok(())
}

/// The program itself, as the child that fills the WAL of `config`.
pub(crate) fn filler(config: &Config) -> Result<Command> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["bench", "fill-wal"]).arg(&config.data_dir);
    Ok(child)
}

/// Tells the child what to do; what it says then, nothing if it ended. The pipe stays open until it is
/// dead, with `child`: its end would end the child.
fn orders(config: &Config, child: &mut Child, until: Until) -> Result<String> {
    let config = Config { data_dir: Default::default(), ..config.clone() };
    let told = serde_json::to_string(&Orders { config, until })?;
    let to = child.stdin.as_mut().ok_or("the child has no input")?;
    // One that ended early is found by what it does not say.
    let _ = writeln!(to, "{told}");
    let from = child.stdout.take().ok_or("the child has no output")?;
    Ok(BufReader::new(from).lines().next().transpose()?.unwrap_or_default())
}

/// Fills the directory of `config`, which should be empty, with `bytes` of records, closes it, and says
/// how long it takes to open, `rounds` times.
///
/// # Errors
/// The engine's.
pub fn measure_clean(config: &Config, bytes: u64, rounds: usize) -> Result<Vec<Duration>> {
    let options = Options { batch_records: 64, ..Options::default() };
    let engine = Engine::open(config.clone())?;
    append(&engine, bytes, &options)?;
    engine.close()?;
    let mut took = Vec::new();
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        let engine = Engine::open(config.clone())?;
        took.push(start.elapsed());
        engine.close()?;
    }
    Ok(took)
}
