//! Any single bit of a small data directory, flipped: opened and read, it is whole, or refused, or a
//! read fails and says so. Wrong bytes are never served, and nothing is missing unsaid but the very last
//! group of a log that ended without a marker. `thalweg verify` says the same.
//!
//! One bit in so many; `THALWEG_EXHAUSTIVE=1` flips every one, those of the batches in segments too, and
//! verifies after each flip.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thalweg::inspect::verify_on;
use thalweg::probe::DeviceProfile;
use thalweg::{OwnedShard, PartitionConfig, ReadFrom};
use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_io::{BLOCK, Reactor};
use thalweg_tests::{scoreboard, specimen};

use crate::damage::Image;
use crate::world::{Life, Model, config, open};

/// Bytes of WAL of which every bit is flipped.
const WAL_BYTES: u64 = 64 << 10;
/// One flip in so many is also shown to `verify`.
const VERIFIED: u64 = 16;
/// One bit in so many is flipped, unless all are: prime to 8.
const STRIDE: u64 = 61;
/// The same, in the last groups of the WAL.
const LAST: u64 = 7;
/// The same, of a segment's batches.
const BATCHES: u64 = 509;
/// A flip that takes longer hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Offsets and values by partition.
type Rows = BTreeMap<String, Vec<(u64, Vec<u8>)>>;

/// What came of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Nothing is missing.
    Whole,
    /// It did not open, and said why.
    Refused,
    /// A read failed, and said why.
    Unreadable,
    /// The records of the last group are missing.
    LastGroupGone,
}

/// How often each of them came.
type Counts = BTreeMap<Outcome, u64>;

/// A WAL file whose groups fill [`WAL_BYTES`], behind segments of both kinds.
fn small_image(marked: bool) -> Image {
    let mut config = config();
    config.wal.file_bytes = 148 << 10;
    config.group.bytes_max = 4 << 10;
    config.limits.batch_bytes_max = 4 << 10;
    if !marked {
        config.wal.witness_after_us = u32::MAX;
    }
    let disk = SimDisk::with_options(3, SimOptions::kind());
    let (mut model, mut next_id) = (Model::new(), 1);
    let mut life = Life::open(&disk, &config, &mut model, &mut next_id).unwrap();
    ["a", "b", "c"].iter().for_each(|name| life.create(name, PartitionConfig::default()));
    assert!(life.pump());
    // Of several partitions first, then of one: a file of that is promoted.
    for round in 0..52 {
        life.append("a", 3, if round < 20 { 700 } else { 1200 });
        if round < 20 {
            life.append("b", 2, 300);
            life.append("c", 1, 400);
        }
        assert!(life.pump());
        if round == 30 {
            life.trim("a", 7);
        }
    }
    assert!(life.settle(20_000));
    let writing = Image { disk: disk.clone(), model: Model::new(), config: config.clone() };
    while active(&writing).1 < WAL_BYTES {
        life.append("a", 3, 1200);
        assert!(life.pump());
    }
    if marked {
        assert!(life.settle(20_000));
    }
    disk.kill();
    drop(life);
    Image { disk, model, config }
}

/// Reads all of a log.
fn rows(shard: &mut OwnedShard) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for partition in shard.log().partitions() {
        let found = rows.entry(partition.name().to_owned()).or_default();
        let mut reader = partition.read(ReadFrom::Earliest).to_end();
        while let Some(batch) = shard.block_on(reader.next_batch()) {
            let batch = batch.map_err(|error| error.to_string())?;
            for record in batch.records() {
                let record = record.map_err(|error| error.to_string())?;
                found.push((record.offset.0, record.value().unwrap_or_default().to_vec()));
            }
        }
    }
    Ok(rows)
}

/// A thread's own copy of the image, what is in it, and what its last group holds.
struct Flipped {
    image: Image,
    want: Rows,
    without_last_group: Rows,
    last_group: (PathBuf, Range<u64>),
}

impl Flipped {
    fn new(marked: bool) -> Flipped {
        let image = small_image(marked);
        let want = rows(&mut open(&image.disk.snapshot(), &image.config).unwrap()).unwrap();
        let (path, groups) = image.wal().pop().unwrap();
        let last = groups.last().unwrap();
        let disk = image.disk.snapshot();
        disk.patch(&path, last.position, &vec![0; (last.len as usize).next_multiple_of(BLOCK)]);
        let without_last_group = match open(&disk, &image.config) {
            Ok(mut shard) => rows(&mut shard).unwrap(),
            Err(_) => want.clone(),
        };
        let last_group = (path, last.position..last.position + u64::from(last.len));
        Flipped { image, want, without_last_group, last_group }
    }

    /// Flips a bit and looks at what is left.
    fn flip(&self, path: &Path, bit: u64, verified: bool) -> Result<Outcome, String> {
        let disk = self.image.disk.snapshot();
        disk.flip_bit(path, bit);
        let outcome = self.open(&disk, path, bit)?;
        if verified {
            let disk = self.image.disk.snapshot();
            disk.flip_bit(path, bit);
            let reactor = Reactor::new(disk.backend());
            let report =
                reactor.block_on(verify_on(&reactor, &mut |_| ())).map_err(|error| error.to_string())?;
            let damaged = matches!(outcome, Outcome::Refused | Outcome::Unreadable);
            if damaged == report.is_clean() {
                return Err(format!("{outcome:?}, and verify finds {:?}", report.damage));
            }
        }
        Ok(outcome)
    }

    fn open(&self, disk: &SimDisk, path: &Path, bit: u64) -> Result<Outcome, String> {
        let Ok(mut shard) = open(disk, &self.image.config) else { return Ok(Outcome::Refused) };
        let Ok(found) = rows(&mut shard) else { return Ok(Outcome::Unreadable) };
        if found == self.want {
            return Ok(Outcome::Whole);
        }
        let in_last = *path == *self.last_group.0 && self.last_group.1.contains(&(bit / 8));
        if found == self.without_last_group && in_last {
            return Ok(Outcome::LastGroupGone);
        }
        for (name, rows) in &self.want {
            let there = found.get(name).map_or(0, Vec::len);
            if found.get(name).is_none_or(|found| !rows.starts_with(found)) {
                return Err(format!("{name} holds something else: {there} records of {}", rows.len()));
            }
        }
        Err("records are missing, and nobody says so".to_owned())
    }
}

/// Flips every `stride`-th bit of `bytes` in `path`, or every one, on all cores.
#[track_caller]
fn flip_all(what: &str, marked: bool, path: &Path, bytes: Range<u64>, stride: u64) -> Counts {
    let exhaustive = std::env::var_os("THALWEG_EXHAUSTIVE").is_some();
    let stride = if exhaustive { 1 } else { stride };
    let threads = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let (bits, began) = (bytes.start * 8..bytes.end * 8, Instant::now());
    let places: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(bits.start)).collect();
    let work = |index: u64| -> Result<Counts, String> {
        let flipped = Flipped::new(marked);
        let mut counts = Counts::new();
        let mut bit = bits.start + index * stride;
        while bit < bits.end {
            places[index as usize].store(bit, Ordering::Relaxed);
            let verified = exhaustive || (bit / stride).is_multiple_of(VERIFIED);
            let outcome = catch_unwind(AssertUnwindSafe(|| flipped.flip(path, bit, verified)));
            let outcome = outcome.unwrap_or_else(|_| Err("a panic".to_owned()));
            *counts.entry(outcome.map_err(|why| format!("bit {bit}: {why}"))?).or_default() += 1;
            bit += threads * stride;
        }
        places[index as usize].store(u64::MAX, Ordering::Relaxed);
        Ok(counts)
    };
    let found: Vec<Result<Counts, String>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|index| scope.spawn(move || work(index))).collect();
        watch(what, &places);
        workers.into_iter().map(|worker| worker.join().expect("a caught panic")).collect()
    });
    let mut counts = Counts::new();
    for result in found {
        let of_worker = result.unwrap_or_else(|why| panic!("{what}, {}, {why}", path.display()));
        of_worker.into_iter().for_each(|(outcome, count)| *counts.entry(outcome).or_default() += count);
    }
    let flips: u64 = counts.values().sum();
    println!("{what}: {flips} flips, {:.0}/s, {counts:?}", flips as f64 / began.elapsed().as_secs_f64());
    counts
}

/// Waits for the workers; a flip that hangs is named, and ends the process.
fn watch(what: &str, places: &[AtomicU64]) {
    let now = || places.iter().map(|place| place.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let (mut last, mut since) = (now(), Instant::now());
    while last.iter().any(|place| *place != u64::MAX) {
        thread::sleep(Duration::from_millis(20));
        let next = now();
        let stuck = last.iter().zip(&next).any(|(last, next)| last == next && *next != u64::MAX);
        if !stuck || since.elapsed() < HANGS {
            since = if stuck { since } else { Instant::now() };
            last = next;
            continue;
        }
        eprintln!("{what}: bits {next:?}: a flip hangs");
        std::process::exit(1);
    }
}

/// Notes what was counted, and asserts that only logs without a marker may lose their last group.
#[track_caller]
fn note(what: &str, counts: &Counts, marked: bool) {
    let of = |outcome| counts.get(&outcome).copied().unwrap_or(0);
    let counted = [
        ("flips", counts.values().sum()),
        ("whole", of(Outcome::Whole)),
        ("refused", of(Outcome::Refused)),
        ("unreadable", of(Outcome::Unreadable)),
        ("last group dropped", of(Outcome::LastGroupGone)),
    ];
    scoreboard::count(&format!("bit flips, {what}"), &counted, 0);
    assert!(!marked || of(Outcome::LastGroupGone) == 0, "{what}: {counts:?}");
    assert!(of(Outcome::Refused) + of(Outcome::Unreadable) > 0, "{what}: {counts:?}");
}

/// The file that is written to, and the end of its groups.
fn active(image: &Image) -> (PathBuf, u64) {
    let (path, groups) = image.wal().pop().unwrap();
    let last = groups.last().unwrap();
    (path, last.position + u64::from(last.len))
}

#[test]
fn a_flipped_bit_of_a_wal_is_noticed() {
    let (path, end) = active(&small_image(true));
    assert!(end >= WAL_BYTES, "{end} B of WAL");
    let counts = flip_all("WAL", true, &path, 0..WAL_BYTES, STRIDE);
    note("WAL", &counts, true);
    let (_, groups) = small_image(true).wal().pop().unwrap();
    let tail = groups[groups.len() - 2].position;
    // The marker and the group before it, wherever they lie.
    let counts = flip_all("end of the WAL", true, &path, tail..end, LAST);
    note("end of the WAL", &counts, true);
}

#[test]
fn a_flipped_bit_of_the_last_group_without_a_marker_is_noticed_or_drops_it() {
    let image = small_image(false);
    let (path, groups) = image.wal().pop().unwrap();
    let last = groups.last().unwrap();
    assert!(!last.is_marker());
    let end = last.position + u64::from(last.len);
    let before = groups[groups.len() - 2].position;
    let counts = flip_all("WAL without a marker", false, &path, before..end, LAST);
    assert!(counts[&Outcome::LastGroupGone] > u64::from(last.len) * 8 / LAST / 2, "{counts:?}");
    note("WAL without a marker", &counts, false);
}

#[test]
fn a_flipped_bit_of_a_segments_index_is_noticed() {
    let image = small_image(true);
    let (mut index, mut batches) = (Counts::new(), Counts::new());
    let mut kinds = Vec::new();
    for (path, trailer) in image.segments() {
        if kinds.contains(&trailer.kind) {
            continue;
        }
        kinds.push(trailer.kind);
        let footer = trailer.footer_position;
        let of = flip_all("index of a segment", true, &path, footer..trailer.file_bytes(), STRIDE);
        of.into_iter().for_each(|(outcome, count)| *index.entry(outcome).or_default() += count);
        let of = flip_all("batches of a segment", true, &path, 0..footer, BATCHES);
        of.into_iter().for_each(|(outcome, count)| *batches.entry(outcome).or_default() += count);
    }
    assert!(kinds.len() > 1, "{kinds:?}");
    note("indexes of segments", &index, true);
    note("batches of segments", &batches, true);
}

#[test]
fn a_flipped_bit_of_manifest_and_superblock_is_noticed() {
    let image = small_image(true);
    for (path, len) in image.disk.files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let what = name.split('-').next().unwrap().to_lowercase();
        if ["superblock", "manifest"].contains(&&*what) {
            note(&what, &flip_all(&what, true, &path, 0..len, STRIDE), true);
        }
    }
}

/// What was measured of the device is no part of the log: a profile that is not whole is not used.
#[test]
fn a_flipped_bit_of_the_device_profile_is_noticed() {
    let all = specimen::all();
    let whole = &all.iter().find(|(name, _)| *name == "device").unwrap().1;
    let profile = DeviceProfile::decode(whole).unwrap();
    let (mut refused, mut same) = (0, 0);
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match DeviceProfile::decode(&flipped) {
            Ok(found) => {
                assert_eq!(found, profile, "bit {bit}");
                same += 1;
            }
            Err(_) => refused += 1,
        }
    }
    // The padding of the block says nothing.
    assert!(refused >= 192 * 8, "{refused} refused, {same} not");
    scoreboard::count("bit flips, DEVICE", &[("flips", refused + same), ("refused", refused)], 0);
}
