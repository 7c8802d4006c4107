//! The whole of a soak: life after life on one data directory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thalweg::Config;

use super::check::Found;
use super::drift::{Sample, SoakReport};
use super::life::live;
use crate::Result;
use crate::machine::Machine;

/// Partitions of the log.
pub(super) const PARTITIONS: u32 = 24;
/// The last of them are compacted.
const COMPACTED: u32 = 4;
/// Lives, unless they would be shorter or longer than these.
const LIVES: u32 = 12;
const LIFE_LEAST: Duration = Duration::from_secs(2);
const LIFE_MOST: Duration = Duration::from_secs(300);
/// Samples, unless they would be closer together.
const SAMPLES: u32 = 30;
const SAMPLE_LEAST: Duration = Duration::from_millis(500);

/// Whether the records of a partition have keys.
pub(super) fn keyed(partition: u32) -> bool {
    partition >= PARTITIONS - COMPACTED
}

/// A folder of a run; removed when it is dropped.
pub struct Folder(TempDir);

impl Folder {
    /// Makes one below `dir`.
    ///
    /// # Errors
    /// The host's.
    pub fn below(dir: &Path) -> Result<Folder> {
        Ok(Folder(tempfile::Builder::new().prefix("thalweg-soak-").tempdir_in(std::path::absolute(dir)?)?))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves it there.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        self.0.keep()
    }
}

/// What is done, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long.
    pub time: Duration,
    /// Appends a second, by the clock.
    pub per_s: f64,
    /// Records that a partition keeps.
    pub kept_records: u64,
}

impl Plan {
    fn life(&self) -> Duration {
        (self.time / LIVES).clamp(LIFE_LEAST, LIFE_MOST)
    }

    fn sample(&self) -> Duration {
        (self.time / SAMPLES).max(SAMPLE_LEAST)
    }
}

/// What has been done so far.
pub(super) struct Tally {
    pub(super) began: Instant,
    /// Ends of the partitions, as acknowledged.
    pub(super) ends: Vec<u64>,
    pub(super) appended: u64,
    pub(super) checked: u64,
    pub(super) trims: u64,
    pub(super) restarts: u64,
    pub(super) segments_rewritten: u64,
    pub(super) samples: Vec<Sample>,
}

impl Tally {
    /// Whether it is time for another sample.
    pub(super) fn is_due(&self, plan: &Plan) -> bool {
        let last = self.samples.last().map_or(0.0, |sample| sample.at_s);
        self.began.elapsed().as_secs_f64() - last >= plan.sample().as_secs_f64()
    }
}

/// Runs `plan` in the empty directory `dir`, with the settings of `config`, until it is over or `stop`
/// says so. `progress` is told how many seconds have passed and what was done. What the checker finds ends
/// the run and is in the report.
///
/// # Errors
/// The host's, before anything was appended.
pub fn run(
    dir: &Path,
    config: &Config,
    plan: &Plan,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(f64, &str),
) -> Result<SoakReport> {
    let config = Config { data_dir: dir.join("log"), ..config.clone() };
    let machine = Machine::below(dir);
    let mut tally = Tally {
        began: Instant::now(),
        ends: vec![0; PARTITIONS as usize],
        appended: 0,
        checked: 0,
        trims: 0,
        restarts: 0,
        segments_rewritten: 0,
        samples: Vec::new(),
    };
    let mut show = |tally: &Tally| {
        let words =
            format!("{} appended, {} checked, {} restarts", tally.appended, tally.checked, tally.restarts);
        progress(tally.began.elapsed().as_secs_f64(), &words);
    };
    let ends = tally.began + plan.time;
    let mut found = None;
    loop {
        // The last life appends nothing: it only looks once more at everything.
        let last = Instant::now() >= ends || stop();
        let until = if last { Instant::now() } else { ends.min(Instant::now() + plan.life()) };
        if let Err(what) = live(&config, plan, &mut tally, until, stop, &mut show) {
            if tally.appended == 0
                && let Found::Failed(error) = what
            {
                return Err(error);
            }
            found = Some(what.to_string());
            break;
        }
        if last {
            break;
        }
        tally.restarts += 1;
    }
    Ok(report(machine, tally, found))
}

fn report(machine: Machine, tally: Tally, found: Option<String>) -> SoakReport {
    let mut report = SoakReport {
        machine,
        seconds: tally.began.elapsed().as_secs_f64(),
        appended: tally.appended,
        checked: tally.checked,
        trims: tally.trims,
        restarts: tally.restarts,
        segments_rewritten: tally.segments_rewritten,
        resident_bytes: Default::default(),
        descriptors: Default::default(),
        p999_us: Default::default(),
        samples: tally.samples,
        found,
    };
    report.judge();
    report
}
