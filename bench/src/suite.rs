//! The benchmarks by name, and running some of them.

use std::cell::RefCell;
use std::path::Path;

use tempfile::TempDir;
use thalweg::{Config, Engine};

use crate::bench::{Bench, Place, run_at};
use crate::machine::Machine;
use crate::report::Recorded;
use crate::result::{Effort, Report};
use crate::{Result, append, mixed, partitions, read, recover, strategies, tail};

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Benchmark {
    /// The durable append, one at a time and many in flight.
    Append,
    /// Reading one big partition from its start.
    Read,
    /// Reading at the end.
    Tail,
    /// Opening, after a crash and after a clean end.
    Recover,
    /// One partition and 100,000.
    Partitions,
    /// Appends beside a cold scan.
    Mixed,
    /// What the probe chose against every strategy that can be asked for.
    Strategies,
    /// Other embedded engines under the same load; not among [`Benchmark::ALL`], and by itself only.
    #[cfg(feature = "peers")]
    Peers,
}

/// A folder of a run, on the device that is measured; removed when it is dropped.
pub struct Folder(TempDir);

impl Folder {
    /// Makes one below `dir`.
    ///
    /// # Errors
    /// The host's.
    pub fn below(dir: &Path) -> Result<Folder> {
        Ok(Folder(tempfile::Builder::new().prefix("thalweg-bench-").tempdir_in(std::path::absolute(dir)?)?))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Benchmark {
    /// All that can be asked for by name.
    pub fn known() -> impl Iterator<Item = Benchmark> {
        #[cfg(feature = "peers")]
        return Benchmark::ALL.into_iter().chain([Benchmark::Peers]);
        #[cfg(not(feature = "peers"))]
        return Benchmark::ALL.into_iter();
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// What it measures, for people.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Benchmark::Append => (
                "append",
                "The durable append: one at a time in each style of embedding, many in flight, by the clock",
            ),
            Benchmark::Read => ("read", "Reading one big partition from its start"),
            Benchmark::Tail => ("tail", "Reading at the end of a partition"),
            Benchmark::Recover => ("recover", "Opening, after a crash and after a clean end"),
            Benchmark::Partitions => ("partitions", "The same load on 1, 10,000 and 100,000 partitions"),
            Benchmark::Mixed => ("mixed", "Appends beside a cold scan"),
            Benchmark::Strategies => (
                "strategies",
                "What the probe of the device chose, against every strategy that can be asked for",
            ),
            #[cfg(feature = "peers")]
            Benchmark::Peers => {
                ("peers", "Other embedded engines under the same load, each append synced; by itself only")
            }
        }
    }

    /// All of them, in the order in which they run.
    pub const ALL: [Benchmark; 7] = [
        Benchmark::Append,
        Benchmark::Read,
        Benchmark::Tail,
        Benchmark::Recover,
        Benchmark::Partitions,
        Benchmark::Mixed,
        Benchmark::Strategies,
    ];

    fn run(self, bench: &Bench<'_>) -> Result<()> {
        match self {
            Benchmark::Append => append::run(bench),
            Benchmark::Read => read::run(bench),
            Benchmark::Tail => tail::run(bench),
            Benchmark::Recover => recover::run(bench),
            Benchmark::Partitions => partitions::run(bench),
            Benchmark::Mixed => mixed::run(bench),
            Benchmark::Strategies => strategies::run(bench),
            #[cfg(feature = "peers")]
            Benchmark::Peers => crate::peers::run(bench),
        }
    }
}

impl Effort {
    /// An overview of everything in a few minutes.
    pub const QUICK: Effort = Effort { rounds: 5, seconds: 0.2, quick: true };
    /// Figures to quote.
    pub const FULL: Effort = Effort { rounds: 9, seconds: 1.0, quick: false };
}

/// What a run came to.
pub struct Ran {
    /// What was found, until it ended.
    pub report: Report,
    /// The distributions of its curves.
    pub recorded: Vec<Recorded>,
    /// The benchmark that failed, and why, if one did: those behind it did not run.
    pub ended: Result<()>,
}

/// Runs `benchmarks` in `folder`, with the settings of `config`. `progress` is told what is being
/// measured.
///
/// # Errors
/// The engine's or the host's, before anything is measured. Later ones are in [`Ran::ended`].
pub fn run(
    folder: &Folder,
    config: &Config,
    effort: Effort,
    benchmarks: &[Benchmark],
    progress: &dyn Fn(&str),
) -> Result<Ran> {
    let mut machine = Machine::below(folder.path());
    let engine = Engine::open(Config { data_dir: folder.path().join("conditions"), ..config.clone() })?;
    machine.backend = engine.backend().kind.to_string();
    let commit = engine.commit();
    let polls = if commit.polls && config.threads.poll_us > 0 { "polling" } else { "sleeping" };
    machine.strategy = format!("{} ({polls})", commit.strategy);
    engine.close()?;
    let bench = Bench {
        dir: folder.path().to_owned(),
        effort,
        config: config.clone(),
        report: RefCell::new(Report::new(machine, effort)),
        recorded: RefCell::default(),
        progress,
    };
    let ended = benchmarks.iter().try_for_each(|benchmark| {
        run_at(Place::Anywhere);
        benchmark.run(&bench).map_err(|error| format!("{}: {error}", benchmark.name()).into())
    });
    Ok(Ran { report: bench.report.into_inner(), recorded: bench.recorded.into_inner(), ended })
}
