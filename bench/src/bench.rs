//! What every benchmark is given, and the few things they all do.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use thalweg::{Config, Engine};
use thalweg_io::pin;

use crate::Result;
use crate::report::Recorded;
use crate::result::{Effort, Loop, Report};

/// Where and how much to measure, and where the results go.
pub struct Bench<'a> {
    /// A folder of its own on the device to be measured.
    pub dir: PathBuf,
    /// How long and how often.
    pub effort: Effort,
    /// The caller's settings; `data_dir` is not among them.
    pub config: Config,
    /// The results so far.
    pub report: RefCell<Report>,
    /// Distributions of the report's curves, over all rounds.
    pub recorded: RefCell<Vec<Recorded>>,
    /// Told what is being measured.
    pub progress: &'a dyn Fn(&str),
}

impl Bench<'_> {
    /// Time of one measurement within a round.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.effort.seconds)
    }

    /// The rounds, each announced.
    pub fn rounds<'a>(&'a self, what: &'a str) -> impl Iterator<Item = usize> + 'a {
        let rounds = self.effort.rounds;
        (0..rounds).inspect(move |round| (self.progress)(&format!("{what}: round {} of {rounds}", round + 1)))
    }

    /// The caller's settings on the folder `name`.
    #[must_use]
    pub fn config(&self, name: &str) -> Config {
        Config { data_dir: self.dir.join(name), ..self.config.clone() }
    }

    /// The same for one shard and a tail cache as small as may be, of `cache_bytes` at least: what is read
    /// is not in it.
    #[must_use]
    pub fn config_with_little_cache(&self, name: &str, cache_bytes: u64) -> Config {
        let mut config = Config { shards: None, ..self.config(name) };
        config.cache.bytes = config.cache_bytes_min().max(cache_bytes);
        config
    }

    /// An engine on the folder `name`, with what `change` changes.
    ///
    /// # Errors
    /// The engine's.
    pub fn engine(&self, name: &str, change: impl FnOnce(&mut Config)) -> Result<Engine> {
        let mut config = self.config(name);
        change(&mut config);
        run_at(Place::Anywhere); // the engine chooses from the cores of whoever opens it
        Ok(Engine::open(config)?)
    }

    /// Removes the folder of an engine that is closed.
    ///
    /// # Errors
    /// The host's.
    pub fn clear(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.dir.join(name))?)
    }

    /// Keeps a distribution, as a curve of the chart `group`.
    pub fn curve(&self, id: &str, what: &str, group: &str, load: Loop, histogram: Histogram<u64>) {
        let recorded = Recorded::new(id, what, group, load, histogram);
        self.report.borrow_mut().curves.push(recorded.curve.clone());
        self.recorded.borrow_mut().push(recorded);
    }
}

/// Where a thread of a measurement runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the core of the first shard: what takes its place, such as the floor.
    Shard,
    /// As far from it as the process may go: what asks it.
    Caller,
    /// Wherever the kernel likes: threads started from here on are not held to one core.
    Anywhere,
}

/// Moves the calling thread. Where the process has one core all places are the same.
pub fn run_at(place: Place) {
    let cores = CORES.get_or_init(|| pin::allowed_cores().unwrap_or_default());
    let some = match place {
        Place::Shard => cores.get(..1),
        Place::Caller => cores.len().checked_sub(1).and_then(|last| cores.get(last..)),
        Place::Anywhere => Some(&cores[..]),
    };
    // A figure of a thread that can't be moved is a figure all the same.
    let _ = some.map(pin::pin_to_any);
}

/// The cores of the process before any of its threads was moved.
static CORES: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();

/// What all shards of an engine have counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Groups written.
    pub groups: u64,
    /// Bytes of those, padding included.
    pub group_bytes: u64,
    /// Bytes read and written in the background.
    pub background_bytes: u64,
    /// WAL files sealed.
    pub files_sealed: u64,
    /// Dead segments that became WAL files again.
    pub files_recycled: u64,
    /// Segments rewritten.
    pub segments_merged: u64,
    /// Files in the WAL rings.
    pub wal_files: u64,
    /// Bytes of groups not yet in segments.
    pub unsealed_bytes: u64,
}

/// Asks every shard what it has counted.
///
/// # Errors
/// The engine is closed.
pub fn counted(engine: &Engine) -> Result<Counted> {
    let mut all = Counted::default();
    for shard in 0..engine.shards() {
        let stats = engine.stats(shard).wait().ok_or("the engine is closed")?;
        all.groups += stats.groups;
        all.group_bytes += stats.group_bytes;
        all.background_bytes += stats.background_bytes;
        all.files_sealed += stats.files_sealed;
        all.files_recycled += stats.files_recycled;
        all.segments_merged += stats.segments_merged;
        all.wal_files += stats.wal_files;
        all.unsealed_bytes += stats.unsealed_bytes;
    }
    Ok(all)
}

/// Waits until the background has had nothing to do for a while, however long that takes.
///
/// # Errors
/// The engine is closed.
pub fn settle(engine: &Engine) -> Result<()> {
    const WHILE: Duration = Duration::from_millis(1500);
    while !background_rests(engine, WHILE)? {}
    Ok(())
}

/// Waits until the background has caught up, so that it is not measured as a part of what comes next.
/// One that never does is measured as it is.
///
/// # Errors
/// The engine is closed.
pub fn quiet(engine: &Engine) -> Result<()> {
    const WHILE: Duration = Duration::from_millis(50);
    const WAITS_MAX: u32 = 40;
    for _ in 0..WAITS_MAX {
        if background_rests(engine, WHILE)? {
            break;
        }
    }
    Ok(())
}

/// Whether nothing is done in the background for so long.
fn background_rests(engine: &Engine, time: Duration) -> Result<bool> {
    let work = || counted(engine).map(|all| (all.background_bytes, all.files_sealed, all.segments_merged));
    let before = work()?;
    std::thread::sleep(time);
    Ok(work()? == before)
}
