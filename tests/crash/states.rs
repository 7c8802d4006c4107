//! Every power cut between two requests of the real engine, opened and compared with what was
//! acknowledged before it.

use std::path::{Path, PathBuf};

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg::inspect::verify_on;
use thalweg::superblock::SUPERBLOCK_NAME;
use thalweg::{Config, OwnedShard};
use thalweg_io::Reactor;
use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_tests::scoreboard;

use crate::fuse::Mount;
use crate::history::{History, Moment};
use crate::journal::{Change, Entry, lines};
use crate::oracle;
use crate::replay::Replay;
use crate::work::{Life, Stopped, config, large, mixed};
use crate::{not_run, setting};

/// Seeds by which what is unsynced is kept, lost or torn, for each cut: at most so many.
const SEEDS_MAX: u64 = 6;

/// Threads that look at states.
const THREADS: u64 = 2;

/// What an engine might forget to ask of its disk: a broken one, which must be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    NoSync,
    NoSyncDir,
    NothingDurable,
}

impl Broken {
    /// What is left of a request.
    fn left(self, entry: &Entry) -> Option<Entry> {
        let mut entry = entry.clone();
        match (&mut entry.change, self) {
            (Change::Sync { .. }, Broken::NoSync) | (Change::SyncDir { .. }, Broken::NoSyncDir) => {
                return None;
            }
            (Change::Write { durable, .. }, Broken::NothingDurable) => *durable = false,
            _ => {}
        }
        Some(entry)
    }
}

/// What was seen of a run, and what it was asked.
struct Seen {
    journal: Vec<Entry>,
    history: History,
}

/// Three lives of an engine on the file system: format, small and large appends, rolls, seals, joint
/// appends, trims, merges, closing and opening again. The last is not closed.
fn run(mount: &Mount, seed: u64) -> Result<Seen, Stopped> {
    mount.store().begin(None);
    let mut history = History::default();
    let moment = || mount.store().moment();
    for nth in 0..3u64 {
        let mut config = on(mount, seed);
        // Reopening is a part of the work, and so is another way to commit.
        config.commit.strategy = match (seed + nth) % 3 {
            0 => CommitSetting::Dsync,
            1 => CommitSetting::WriteThenSync,
            _ => CommitSetting::Hybrid,
        };
        let shard = OwnedShard::open(config).map_err(|error| Stopped::Halted(error.to_string()))?;
        let mut life = Life::new(shard, &mut history, &moment);
        match nth {
            0 => {
                mixed(&mut life, seed * 10, 14)?;
                large(&mut life, 26)?;
                life.settle(15);
            }
            1 => {
                large(&mut life, 14)?;
                mixed(&mut life, seed * 10 + 1, 14)?;
                life.settle(25);
            }
            _ => mixed(&mut life, seed * 10 + 2, 12)?,
        }
        if nth < 2 {
            life.close()?;
        }
    }
    let journal = mount.store().journal().to_vec();
    Ok(Seen { journal, history })
}

fn on(mount: &Mount, seed: u64) -> Config {
    let mut config = config();
    config.data_dir = mount.path().join(format!("data-{seed}"));
    config.threads.backend = BackendSetting::Uring;
    config
}

/// What a power cut does to what is not synced: everything lost, everything kept, or by a seed.
fn survival(variant: u64) -> SimOptions {
    match variant {
        0 => SimOptions::strict(),
        1 => SimOptions::kind(),
        _ => SimOptions::random(),
    }
}

/// Opens what a power cut at `cut` left, checks it, and sometimes opens it once more.
fn check(disk: &SimDisk, history: &History, cut: Moment, variant: u64) -> Result<(), String> {
    let verified = verify(disk)?;
    let mut shard = match OwnedShard::open_on(disk.backend(), config(), None) {
        Ok(shard) => shard,
        Err(error) => return Err(format!("does not open: {error}; verify: {verified:?}")),
    };
    let records = oracle::check(&mut shard, history, cut).map_err(|wrong| wrong.to_string())?;
    if let Some(damage) = verified {
        return Err(format!("verify finds {damage}, and it opens"));
    }
    disk.kill();
    drop(shard);
    if (cut + variant).is_multiple_of(5) {
        let shard = OwnedShard::open_on(disk.backend(), config(), None);
        let mut shard = shard.map_err(|error| format!("does not open again: {error}"))?;
        let again = oracle::check(&mut shard, history, cut).map_err(|wrong| format!("again: {wrong}"))?;
        if again != records {
            return Err(format!("{records} records, and {again} when opened again"));
        }
    }
    Ok(())
}

/// The first damage that `inspect` finds in a directory that was made.
fn verify(disk: &SimDisk) -> Result<Option<String>, String> {
    if disk.contents(SUPERBLOCK_NAME).is_none() {
        return Ok(None);
    }
    let reactor = Reactor::new(disk.backend());
    let report = reactor.block_on(verify_on(&reactor, &mut |_| {})).map_err(|error| error.to_string())?;
    Ok(report
        .damage
        .first()
        .map(|damage| format!("{} at byte {}: {}", damage.path.display(), damage.position, damage.reason)))
}

/// Opens the states of every cut whose number leaves `rest` when divided by the number of threads.
/// Returns how many, and what is wrong with each that is.
fn states(seen: &Seen, seed: u64, variants: u64, rest: u64, broken: Option<Broken>) -> (u64, Vec<String>) {
    let mut replay = Replay::new();
    let (mut count, mut wrong) = (0, Vec::new());
    let mut look = |disk: &SimDisk, cut: u64| {
        for variant in (0..variants).filter(|_| cut % THREADS == rest) {
            let disk = disk.snapshot();
            disk.set_options(survival(variant));
            disk.reseed(seed.wrapping_mul(1_000_003) ^ (cut << 8) ^ variant);
            disk.crash();
            let kept = disk.snapshot();
            count += 1;
            if let Err(why) = check(&disk, &seen.history, cut, variant) {
                if broken.is_some() {
                    wrong.push(why);
                    continue;
                }
                let at = keep(&kept, &seen.journal[..cut as usize], &format!("fuse-{seed}-{cut}-{variant}"));
                wrong.push(format!("seed {seed}, cut {cut}, variant {variant} ({}): {why}", at.display()));
            }
        }
    };
    for (cut, entry) in (0..).zip(&seen.journal) {
        match broken.map_or_else(|| Some(entry.clone()), |broken| broken.left(entry)) {
            Some(entry) => replay.step(&entry, |disk| look(disk, cut)),
            None => look(replay.disk(), cut),
        }
    }
    look(replay.disk(), seen.journal.len() as u64);
    (count, wrong)
}

/// Writes the files of a disk, and the journal that led to them, where they can be looked at.
pub(crate) fn keep(disk: &SimDisk, journal: &[Entry], name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let read = |(path, _): (PathBuf, u64)| (disk.contents(&path).unwrap_or_default(), path);
    let text = (lines(journal).into_bytes(), PathBuf::from("journal.txt"));
    for (bytes, path) in disk.files().into_iter().map(read).chain([text]) {
        let to = root.join(&path);
        let dir = to.parent().expect("a file is in a directory");
        if let Err(error) = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&to, bytes)) {
            eprintln!("{}: {error}", to.display());
        }
    }
    root
}

#[test]
fn a_power_cut_between_any_two_requests_loses_nothing_acknowledged() {
    let mount = match Mount::new(true) {
        Ok(mount) => mount,
        Err(error) => return not_run("power cuts on a FUSE file system", &error),
    };
    let wanted = setting("THALWEG_FUSE_STATES", 3000);
    let first = setting("THALWEG_FUSE_SEED", 0);
    let (mut seed, mut counted, mut requests, mut acked) = (first, 0, 0, 0);
    let mut wrong = Vec::new();
    while counted < wanted && wrong.is_empty() {
        let seen = run(&mount, seed).unwrap_or_else(|why| panic!("seed {seed}: {why:?}"));
        let cuts = seen.journal.len() as u64 + 1;
        let variants = ((wanted - counted).div_ceil(cuts)).clamp(3, SEEDS_MAX + 2);
        requests += cuts - 1;
        acked += seen.history.acked(Moment::MAX).count() as u64;
        std::thread::scope(|scope| {
            let look = |rest| {
                scope.spawn({
                    let seen = &seen;
                    move || states(seen, seed, variants, rest, None)
                })
            };
            let threads: Vec<_> = (0..THREADS).map(look).collect();
            for thread in threads {
                let (count, found) = thread.join().expect("a thread that looked at states");
                counted += count;
                wrong.extend(found);
            }
        });
        seed += 1;
    }
    let counts = [("states", counted), ("requests", requests), ("appends", acked), ("runs", seed - first)];
    scoreboard::count("FUSE states", &counts, wrong.len() as u64);
    let again = format!("THALWEG_FUSE_SEED={} THALWEG_FUSE_STATES=1", seed - 1);
    let shown = &wrong[..wrong.len().min(20)];
    assert!(wrong.is_empty(), "{} states are wrong; {again}\n{}", wrong.len(), shown.join("\n"));
}

#[test]
fn an_engine_that_asks_its_disk_for_less_is_found_out() {
    let Ok(mount) = Mount::new(true) else { return }; // said once
    let seen = run(&mount, 0).unwrap_or_else(|why| panic!("{why:?}"));
    for broken in [Broken::NoSync, Broken::NoSyncDir, Broken::NothingDurable] {
        // With everything unsynced lost.
        let (count, wrong) = states(&seen, 0, 1, 0, Some(broken));
        println!("{broken:?}: {} of {count} states are wrong", wrong.len());
        assert!(!wrong.is_empty(), "{broken:?} is not noticed in {count} states");
    }
}
