//! Opening after a crash with as much WAL as `wal.recovery_target_ms` allows, against that target.
//!
//! When a directory is made, the speed at which its WAL reads back is measured, and the ring gets as many
//! files as that reads in the target. A child fills the ring faster than it is sealed, and is killed.

use std::time::{Duration, Instant};

use thalweg::superblock::{SUPERBLOCK_NAME, Superblock};
use thalweg::{Config, Engine, PartitionConfig};

use crate::bench::Bench;
use crate::recover::{Until, crash, filler};
use crate::result::{Report, Target, Unit};
use crate::{Result, load};

/// So many partitions share the files, so that none of those becomes a segment where it lies.
const PARTITIONS: usize = 8;
/// Bytes of a record's value, and records an append carries.
const RECORD_BYTES: usize = 1024;
const BATCH_RECORDS: usize = 64;
/// Bytes between two looks at how full the WAL is.
const STEP_BYTES: u64 = 4 << 20;
/// So many times the wanted bytes are appended, at most.
const TRIES_MAX: u64 = 4;

/// Files of the ring that are not full when it can't grow any more: the active one, and a spare.
const NOT_FULL: u64 = 2;

/// Bytes per second for sealing while commits are in flight: the least there is.
const BACKGROUND_BYTES_PER_S: u64 = 1 << 20;
const CACHE_BYTES: u64 = 8 << 20;
/// The files a ring has at least and at most.
const FILES_MIN: u64 = 3;
const FILES_MAX: u64 = 64;

/// How much longer than its target an opening may take.
const OVER_MAX: f64 = 1.2;

/// One opening.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Time that [`Engine::open`] took.
    pub open: Duration,
    /// Time it should have taken at most: the setting.
    pub target: Duration,
    /// Bytes it read from the WAL.
    pub wal_bytes: u64,
    /// Bytes that the measured speed reads in the target.
    pub allowed_bytes: u64,
}

/// Appends to several partitions until `bytes` of the WAL are in no segment.
///
/// # Errors
/// The engine's.
pub(crate) fn fill(engine: &Engine, bytes: u64) -> Result<()> {
    let name = |nth| format!("filled-{nth}");
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|nth| engine.create(&name(nth), PartitionConfig::default()))
        .collect::<std::result::Result<_, _>>()?;
    for step in 0..TRIES_MAX * bytes.div_ceil(STEP_BYTES) {
        let partition = &partitions[step as usize % PARTITIONS];
        load::fill(partition, STEP_BYTES, RECORD_BYTES, BATCH_RECORDS)?;
        let stats = engine.stats(0).wait().ok_or("the shard ended")?;
        if stats.unsealed_bytes >= bytes {
            return Ok(());
        }
    }
    Ok(())
}

/// Fills a ring, kills whoever did, and opens: once each round, in a new directory.
///
/// # Errors
/// The engine's and the host's.
pub fn measure(bench: &Bench<'_>) -> Result<Vec<Bound>> {
    let mut config = bench.config_with_little_cache("bound", CACHE_BYTES);
    config.segment.background_bytes_per_s = BACKGROUND_BYTES_PER_S;
    let mut bounds = Vec::new();
    for _ in bench.rounds("opening with as much WAL as its target allows") {
        Engine::open(config.clone())?.close()?;
        let allowed_bytes = allowed(&config)?;
        let files = (allowed_bytes / config.wal.file_bytes).clamp(FILES_MIN, FILES_MAX);
        let full = (files - NOT_FULL) * config.wal.file_bytes;
        crash(&config, &mut filler(&config)?, Until::Unsealed(full))?;
        let start = Instant::now();
        let engine = Engine::open(config.clone())?;
        let open = start.elapsed();
        let wal_bytes = engine.recovery().iter().map(|report| report.wal_bytes).sum();
        engine.close()?;
        let target = Duration::from_millis(config.wal.recovery_target_ms.into());
        bounds.push(Bound { open, target, wal_bytes, allowed_bytes });
        bench.clear("bound")?;
    }
    Ok(bounds)
}

/// Bytes that the speed measured when the directory was made reads in the target.
fn allowed(config: &Config) -> Result<u64> {
    let bytes = std::fs::read(config.data_dir.join(SUPERBLOCK_NAME))?;
    let made = Superblock::decode(bytes.get(..SUPERBLOCK_BYTES).ok_or("a short superblock")?)?;
    Ok((made.replay_speed as f64 * f64::from(config.wal.recovery_target_ms) / 1000.0) as u64)
}

/// Bytes of an encoded superblock.
const SUPERBLOCK_BYTES: usize = 64;

/// Adds what was measured.
pub(crate) fn tell(report: &mut Report, bounds: &[Bound]) {
    let of = |figure: fn(&Bound) -> f64| bounds.iter().map(figure).collect::<Vec<_>>();
    let target_ms = bounds.first().map_or(0, |bound| bound.target.as_millis());
    let what = format!("reopen after a crash with as much WAL as allowed / its target of {target_ms} ms");
    let over = of(|bound| bound.open.as_secs_f64() / bound.target.as_secs_f64());
    report.row("recover.target", &what, Unit::Ratio, Target::AtMost(OVER_MAX), &over);
    let what =
        "WAL read then / bytes that the speed measured when the directory was made reads in its target";
    let filled = of(|bound| bound.wal_bytes as f64 / bound.allowed_bytes as f64);
    report.figure("recover.target.wal", what, Unit::RateRatio, &filled);
}
