//! Every power cut between two requests of the real engine, opened and compared with what was
//! acknowledged before it.

use std::path::{Path, PathBuf};

use thalweg::Config;
use thalweg::config::{BackendSetting, CommitSetting};
use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_tests::scoreboard;

use crate::fuse::Mount;
use crate::history::{History, Moment};
use crate::journal::{Change, Entry, lines};
use crate::opened::Opened;
use crate::plays::{keeping, large, mixed};
use crate::replay::Replay;
use crate::state::{State, put_files, scratch};
use crate::work::{Done, Life, Stopped, config};
use crate::{not_run, setting};

/// Runs that many states are spread over, at least: one of each number of shards.
const RUNS_MIN: u64 = 3;
const MANY: u64 = 1000;

/// Of the cuts of a run with several shards, every so many are looked at: on real files that takes longer.
const STRIDE: u64 = 16;

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
    done: Done,
    shards: u16,
}

/// Three lives of an engine on the file system: format, small and large appends, rolls, seals, joint
/// appends, trims, retention, compaction, merges, closing and opening again. The last is not closed.
fn run(mount: &Mount, seed: u64) -> Result<Seen, Stopped> {
    mount.store().begin(None);
    let (mut history, mut done) = (History::default(), Done::default());
    let moment = || mount.store().moment();
    for nth in 0..3u64 {
        let mut config = on(mount, seed);
        // Reopening is a part of the work, and so is another way to commit.
        config.commit.strategy = match (seed + nth) % 3 {
            0 => CommitSetting::Dsync,
            1 => CommitSetting::WriteThenSync,
            _ => CommitSetting::Hybrid,
        };
        let opened = Opened::open(config).map_err(|error| Stopped::Halted(error.to_string()))?;
        let mut life = Life::new(opened, &mut history, &moment);
        match nth {
            0 => {
                mixed(&mut life, seed * 10, 14)?;
                keeping(&mut life, 18)?;
                large(&mut life, 40)?;
                life.settle(40);
            }
            1 => {
                large(&mut life, 14)?;
                keeping(&mut life, 18)?;
                mixed(&mut life, seed * 10 + 1, 14)?;
                large(&mut life, 14)?;
                life.settle(25);
            }
            _ => mixed(&mut life, seed * 10 + 2, 12)?,
        }
        done.add(life.done());
        if nth < 2 {
            life.close()?;
        }
    }
    let journal = mount.store().journal().to_vec();
    Ok(Seen { journal, history, done, shards: shards(seed) })
}

fn shards(seed: u64) -> u16 {
    1 + (seed % 3) as u16
}

fn on(mount: &Mount, seed: u64) -> Config {
    let mut config = config();
    config.data_dir = mount.path().join(format!("data-{seed}"));
    config.threads.backend = BackendSetting::Uring;
    config.shards = Some(shards(seed));
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

/// What some states came to.
#[derive(Default)]
struct Looked {
    states: u64,
    /// Of those, how many had something taken by retention, and by compaction.
    retained: u64,
    compacted: u64,
    wrong: Vec<String>,
}

impl Looked {
    fn add(&mut self, other: Looked) {
        self.states += other.states;
        self.retained += other.retained;
        self.compacted += other.compacted;
        self.wrong.extend(other.wrong);
    }
}

/// Which states of a run to look at.
#[derive(Clone, Copy, Debug)]
struct Choice {
    seed: u64,
    variants: u64,
    /// Every so many cuts.
    stride: u64,
    broken: Option<Broken>,
}

/// Looks at the chosen states of every cut whose number leaves `rest` when divided by the number of threads.
fn states(seen: &Seen, choice: Choice, rest: u64) -> Looked {
    let Choice { seed, variants, stride, broken } = choice;
    let (mut replay, mut looked) = (Replay::new(), Looked::default());
    let scratch = scratch().expect("a directory for files");
    let mut look = |disk: &SimDisk, cut: u64| {
        let due = cut.is_multiple_of(stride) && (cut / stride) % THREADS == rest;
        for variant in (0..variants).filter(|_| due) {
            let left = || {
                let disk = disk.snapshot();
                disk.set_options(survival(variant));
                disk.reseed(seed.wrapping_mul(1_000_003) ^ (cut << 8) ^ variant);
                disk.crash();
                disk
            };
            looked.states += 1;
            let state = State { history: &seen.history, cut, variant };
            let checked = match seen.shards {
                1 => state.check(&left()),
                shards => state.check_shards(&left(), shards, scratch.path()),
            };
            match checked {
                Ok(sight) => {
                    looked.retained += u64::from(sight.retained);
                    looked.compacted += u64::from(sight.compacted);
                }
                Err(why) if broken.is_some() => looked.wrong.push(why),
                Err(why) => {
                    let name = format!("fuse-{seed}-{cut}-{variant}");
                    let at = keep(&left(), &seen.journal[..cut as usize], &name);
                    let at = at.display();
                    looked.wrong.push(format!("seed {seed}, cut {cut}, variant {variant} ({at}): {why}"));
                }
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
    looked
}

/// Looks at the chosen states of a run, on all threads.
fn look(seen: &Seen, choice: Choice) -> Looked {
    let mut all = Looked::default();
    std::thread::scope(|scope| {
        let look = |rest| scope.spawn(move || states(seen, choice, rest));
        let threads: Vec<_> = (0..THREADS).map(look).collect();
        threads
            .into_iter()
            .for_each(|thread| all.add(thread.join().expect("a thread that looked at states")));
    });
    all
}

/// Writes the files of a disk, and the journal that led to them, where they can be looked at.
pub(crate) fn keep(disk: &SimDisk, journal: &[Entry], name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let put = put_files(disk, &root).and_then(|()| std::fs::write(root.join("journal.txt"), lines(journal)));
    if let Err(error) = put {
        eprintln!("{}: {error}", root.display());
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
    let (mut seed, mut requests, mut acked) = (first, 0, 0);
    let (mut all, mut done, mut cross) = (Looked::default(), Done::default(), 0);
    let enough = |states, runs| states >= wanted && (wanted < MANY || runs >= RUNS_MIN);
    while !enough(all.states, seed - first) && all.wrong.is_empty() {
        let seen = run(&mount, seed).unwrap_or_else(|why| panic!("seed {seed}: {why:?}"));
        let cuts = seen.journal.len() as u64 + 1;
        let stride = if seen.shards > 1 { STRIDE } else { 1 };
        let variants = ((wanted * 9 / 10).div_ceil(cuts)).clamp(3, SEEDS_MAX + 2);
        requests += cuts - 1;
        acked += seen.history.acked(Moment::MAX).count() as u64;
        cross += u64::from(seen.shards > 1);
        done.add(seen.done);
        all.add(look(&seen, Choice { seed, variants, stride, broken: None }));
        seed += 1;
    }
    let counts = [
        ("states", all.states),
        ("requests", requests),
        ("appends", acked),
        ("runs", seed - first),
        ("runs_of_several_shards", cross),
        ("sealed", done.sealed),
        ("promoted", done.promoted),
        ("merged", done.merged),
        ("removed", done.removed),
        ("recycled", done.recycled),
        ("retained", all.retained),
        ("compacted", all.compacted),
    ];
    scoreboard::count("FUSE states", &counts, all.wrong.len() as u64);
    let again = format!("THALWEG_FUSE_SEED={} THALWEG_FUSE_STATES=1", seed - 1);
    let shown = &all.wrong[..all.wrong.len().min(20)];
    assert!(all.wrong.is_empty(), "{} states are wrong; {again}\n{}", all.wrong.len(), shown.join("\n"));
    let rare = [done.sealed, done.promoted, done.merged, done.removed, all.retained, all.compacted];
    assert!(wanted < MANY || rare.iter().all(|count| *count > 0), "something never happens: {counts:?}");
}

#[test]
fn an_engine_that_asks_its_disk_for_less_is_found_out() {
    let Ok(mount) = Mount::new(true) else { return }; // said once
    let all = [Broken::NoSync, Broken::NoSyncDir, Broken::NothingDurable];
    // The second has two shards.
    for (seed, engines) in [(0, &all[..]), (1, &all[..1])] {
        let seen = run(&mount, seed).unwrap_or_else(|why| panic!("{why:?}"));
        for broken in engines.iter().copied() {
            // With everything unsynced lost.
            let choice = Choice { seed, variants: 1, stride: STRIDE, broken: Some(broken) };
            let Looked { states, wrong, .. } = look(&seen, choice);
            let shards = seen.shards;
            println!("{broken:?}, shards {shards}: {} of {states} states are wrong", wrong.len());
            assert!(!wrong.is_empty(), "{broken:?} is not noticed in {states} states");
        }
    }
}
