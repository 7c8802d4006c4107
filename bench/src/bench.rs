//! What every benchmark is given, and the few things they all do.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use thalweg::{Config, Engine};

use crate::Result;
use crate::result::{Effort, Report};

/// Where and how much to measure, and where the results go.
pub struct Bench<'a> {
    /// A folder of its own on the device to be measured.
    pub dir: PathBuf,
    /// How long and how often.
    pub effort: Effort,
    /// Settings that the caller forces; `data_dir` is not among them.
    pub config: Config,
    /// The results so far.
    pub report: RefCell<Report>,
    /// Distributions of the curves in the report, by id, over all rounds.
    pub histograms: RefCell<Vec<(String, Histogram<u64>)>>,
    /// Told what is being measured.
    pub progress: &'a dyn Fn(&str),
}

impl Bench<'_> {
    /// Time of one measurement within a round.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.effort.seconds)
    }

    /// The caller's settings on a fresh folder `name`.
    #[must_use]
    pub fn config(&self, name: &str) -> Config {
        Config { data_dir: self.dir.join(name), ..self.config.clone() }
    }

    /// An engine on a fresh folder, with what `change` changes.
    ///
    /// # Errors
    /// The engine's.
    pub fn engine(&self, name: &str, change: impl FnOnce(&mut Config)) -> Result<Engine> {
        let mut config = self.config(name);
        change(&mut config);
        Ok(Engine::open(config)?)
    }

    /// Says what is measured now.
    pub fn say(&self, what: &str) {
        (self.progress)(what);
    }

    /// Removes a folder of an engine that is closed.
    ///
    /// # Errors
    /// The host's.
    pub fn clear(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.dir.join(name))?)
    }

    /// The folder measured in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Puts the calling thread where a shard would run, or away from there: the first core the process
/// may use, or the last. With one core both are the same.
pub fn run_beside_shard(beside: bool) {
    let cores = thalweg_io::pin::allowed_cores().unwrap_or_default();
    let _ = (cores, beside);
}
