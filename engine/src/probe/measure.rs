//! Measuring on a thread like a shard's, and what becomes of it: a profile.

use std::io;
use std::path::Path;

use thalweg_io::boot::BackendKind;
use thalweg_io::{BlockingBackend, CommitStrategy, Device, Reactor, UringBackend, pin};

use crate::probe::choose::{Choice, DECIDING, Figures, Way, starved};
use crate::probe::profile::{DeviceProfile, Profiled};
use crate::probe::rounds::{Budget, Rounds};
use crate::probe::slice::{Bench, Switch};

/// Large enough that groups in flight never touch the same blocks.
const FILE_BYTES: u64 = 4 << 20;
const RECHECK_FILE_BYTES: u64 = 256 << 10;

/// Where and how a shard would run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions<'a> {
    pub root: &'a Path,
    pub kind: BackendKind,
    /// The core that the first shard is pinned to, if it is.
    pub core: Option<usize>,
    pub poll_us: u32,
}

/// What is to be measured.
pub(super) enum Job<'a> {
    /// Everything.
    All(Budget),
    /// These, shortly.
    Again(&'a [Way]),
}

/// Measures on a pinned thread if shards are pinned, else on this one.
///
/// # Errors
/// The host's. No file is left.
pub(super) fn measure(
    conditions: Conditions<'_>,
    job: &Job<'_>,
    progress: &mut (dyn FnMut(f64) + Send),
) -> io::Result<Vec<Figures>> {
    let Some(core) = conditions.core else { return measure_here(conditions, &[], job, progress) };
    // Of this thread: the pinned one may run on its core only.
    let mut others = pin::allowed_cores().unwrap_or_default();
    others.retain(|other| *other != core);
    let budget = match job {
        Job::All(budget) => Job::All(*budget),
        Job::Again(ways) => Job::Again(ways),
    };
    let measured = std::thread::scope(|scope| {
        let pinned = scope.spawn(move || {
            if let Err(error) = pin::pin_to(core) {
                tracing::debug!(core, %error, "the probe is not pinned");
            }
            measure_here(conditions, &others, &budget, progress)
        });
        pinned.join()
    });
    measured.unwrap_or_else(|_| Err(io::Error::other("the measuring thread ended in a panic")))
}

fn measure_here(
    conditions: Conditions<'_>,
    worker_cores: &[usize],
    job: &Job<'_>,
    progress: &mut dyn FnMut(f64),
) -> io::Result<Vec<Figures>> {
    match conditions.kind {
        BackendKind::Uring => {
            let mut backend = UringBackend::open(conditions.root, CommitStrategy::Dsync)?;
            keep_workers_off(&mut backend, worker_cores);
            measure_on(backend, conditions.poll_us, job, progress)
        }
        BackendKind::Blocking => {
            let backend = BlockingBackend::open(conditions.root, CommitStrategy::Dsync)?;
            measure_on(backend, conditions.poll_us, job, progress)
        }
    }
}

/// Keeps the ring's workers on other cores than its own thread, which they would have to wait for.
pub(crate) fn keep_workers_off(backend: &mut UringBackend, others: &[usize]) {
    if !others.is_empty()
        && let Err(error) = backend.set_worker_cores(others)
    {
        tracing::debug!(%error, "the ring's workers may run on the shard's core");
    }
}

fn measure_on<B: Switch>(
    backend: B,
    poll_us: u32,
    job: &Job<'_>,
    progress: &mut dyn FnMut(f64),
) -> io::Result<Vec<Figures>> {
    let reactor = Reactor::new(backend);
    let (file_bytes, budget) = match job {
        Job::All(budget) => (FILE_BYTES, *budget),
        Job::Again(_) => (RECHECK_FILE_BYTES, Budget::OPENING),
    };
    let bench = Bench::make(&reactor, file_bytes)?;
    let mut rounds = Rounds::new(&reactor, bench, budget, progress);
    let figures = match job {
        Job::All(budget) => rounds.measure(*budget, poll_us > 0),
        Job::Again(ways) => rounds.recheck(ways),
    };
    rounds.end();
    figures
}

/// What is kept of figures and the choice among them.
pub(super) fn profile(
    device: Device,
    conditions: Conditions<'_>,
    measured_ms: i64,
    figures: &[Figures],
    choice: &Choice,
) -> DeviceProfile {
    let starved = starved(figures);
    let kept = CommitStrategy::ALL.into_iter().filter_map(|strategy| {
        let of = |polls| {
            let way = Way { strategy, polls };
            figures.iter().find(|each| each.way == way && each.load == DECIDING)
        };
        let is_starved = starved.contains(&Way { strategy, polls: true });
        let asleep = of(false).filter(|_| is_starved);
        let best = asleep.or(of(true)).or(of(false))?;
        let narrow = |ns: u64| u32::try_from(ns).unwrap_or(u32::MAX);
        Some(Profiled {
            way: best.way,
            starved: is_starved,
            p50_ns: narrow(best.p50_ns),
            p99_ns: narrow(best.p99_ns),
            p999_ns: narrow(best.p999_ns),
        })
    });
    DeviceProfile {
        device,
        backend: conditions.kind,
        way: choice.way,
        in_flight: choice.in_flight,
        poll_us: conditions.poll_us,
        measured_ms,
        commits: kept.collect(),
    }
}
