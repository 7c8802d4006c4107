//! All ways to commit under all loads, taking turns, within a budget of time.

use std::io;
use std::time::Duration;

use thalweg_io::{CommitStrategy, Reactor};

use crate::probe::choose::{DECIDING, Figures, Load, Way, starved};
use crate::probe::slice::{Bench, Slice, Switch};

/// How much time a probe takes, about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// In all. A device so slow that it is not enough for a few commits of each way takes longer.
    pub total: Duration,
    /// Rounds in which the ways take turns. More make a passing disturbance count less.
    pub rounds: u32,
}

impl Budget {
    /// When a data directory is opened that has no profile: hardly noticed beside the making of its
    /// files.
    pub const OPENING: Budget = Budget { total: Duration::from_millis(450), rounds: 5 };
    /// When somebody asks to know, and a 99.9th percentile is to be one.
    pub const THOROUGH: Budget = Budget { total: Duration::from_secs(4), rounds: 7 };
}

/// Part of the budget for the load that decides, percent; the others share the rest.
const DECIDING_PERCENT: u64 = 50;
/// Loads beside the one that decides.
const OTHERS: [Load; 8] = [
    Load { bytes: 4096, in_flight: 2 },
    Load { bytes: 4096, in_flight: 4 },
    Load { bytes: 64 << 10, in_flight: 1 },
    Load { bytes: 64 << 10, in_flight: 2 },
    Load { bytes: 64 << 10, in_flight: 4 },
    Load { bytes: 256 << 10, in_flight: 1 },
    Load { bytes: 256 << 10, in_flight: 2 },
    Load { bytes: 256 << 10, in_flight: 4 },
];
/// A way with this many times the lowest median has no chance.
const HOPELESS_TIMES: u64 = 2;
/// Commits of a slice, however slow the device is.
const DECIDING_COMMITS_MIN: usize = 3;
const OTHER_COMMITS_MIN: usize = 2;
/// Rounds and time of a look at what is known already.
const RECHECK_ROUNDS: u32 = 4;
const RECHECK_SLICE_NS: u64 = 2_000_000;

/// What is measured of one way under one load.
struct Cell {
    way: Way,
    load: Load,
    slices: Vec<Slice>,
}

/// A probe under way.
pub(super) struct Rounds<'a, B: Switch> {
    bench: Bench<B>,
    reactor: Reactor<B>,
    cells: Vec<Cell>,
    budget_ns: u64,
    /// Gets the part that is done, 0 to 1.
    progress: &'a mut dyn FnMut(f64),
    started: thalweg_io::Nanos,
}

impl<'a, B: Switch> Rounds<'a, B> {
    pub(super) fn new(
        reactor: &Reactor<B>,
        bench: Bench<B>,
        budget: Budget,
        progress: &'a mut dyn FnMut(f64),
    ) -> Rounds<'a, B> {
        let budget_ns = u64::try_from(budget.total.as_nanos()).unwrap_or(u64::MAX).max(1);
        let started = reactor.now();
        Rounds { bench, reactor: reactor.clone(), cells: Vec::new(), budget_ns, progress, started }
    }

    /// Measures; the figures of every way that the kernel did not refuse.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn measure(&mut self, budget: Budget, polls: bool) -> io::Result<Vec<Figures>> {
        let mut ways: Vec<Way> =
            B::STRATEGIES.iter().map(|strategy| Way { strategy: *strategy, polls }).collect();
        self.rounds(&mut ways, budget.rounds, true)?;
        let mut asleep: Vec<Way> =
            starved(&self.figures()).iter().map(|way| Way { polls: false, ..*way }).collect();
        if !asleep.is_empty() {
            // Whether they are good if only the thread sleeps. A part of the time is enough.
            self.started = self.reactor.now();
            self.budget_ns /= 2;
            self.rounds(&mut asleep, budget.rounds, true)?;
        }
        Ok(self.figures())
    }

    /// Measures `ways` under the load that decides, shortly.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn recheck(&mut self, ways: &[Way]) -> io::Result<Vec<Figures>> {
        self.budget_ns = RECHECK_SLICE_NS * u64::from(RECHECK_ROUNDS) * ways.len() as u64;
        self.rounds(&mut ways.to_vec(), RECHECK_ROUNDS, false)?;
        Ok(self.figures())
    }

    /// Ends it and leaves no file.
    pub(super) fn end(self) {
        self.bench.remove();
    }

    fn rounds(&mut self, ways: &mut Vec<Way>, rounds: u32, all_loads: bool) -> io::Result<()> {
        let deciding_percent = if all_loads { DECIDING_PERCENT } else { 100 };
        let turns = u64::from(rounds) * ways.len() as u64;
        let deciding_ns = self.budget_ns * deciding_percent / 100 / turns;
        let other_ns = self.budget_ns * (100 - deciding_percent) / 100 / turns / OTHERS.len() as u64;
        for round in 0..rounds {
            self.turn(ways, round, DECIDING, deciding_ns, DECIDING_COMMITS_MIN)?;
            if round == 0 {
                self.drop_hopeless(ways);
            }
            for load in OTHERS.iter().filter(|_| all_loads) {
                if self.is_late() {
                    break;
                }
                self.turn(ways, round, *load, other_ns, OTHER_COMMITS_MIN)?;
            }
            if self.is_late() {
                break;
            }
        }
        Ok(())
    }

    /// One slice of each way; another one begins each round.
    fn turn(
        &mut self,
        ways: &mut Vec<Way>,
        round: u32,
        load: Load,
        nanos: u64,
        min: usize,
    ) -> io::Result<()> {
        let mut order = ways.clone();
        order.rotate_left(round as usize % ways.len().max(1));
        for way in order {
            match self.bench.run(way, load, nanos, min)? {
                Some(slice) => self.keep(way, load, slice),
                None => {
                    ways.retain(|each| *each != way);
                    self.cells.retain(|cell| cell.way != way);
                }
            }
            let part = self.elapsed_ns() as f64 / self.budget_ns as f64;
            (self.progress)(part.min(1.0));
        }
        Ok(())
    }

    fn keep(&mut self, way: Way, load: Load, slice: Slice) {
        match self.cells.iter_mut().find(|cell| cell.way == way && cell.load == load) {
            Some(cell) => cell.slices.push(slice),
            None => self.cells.push(Cell { way, load, slices: vec![slice] }),
        }
    }

    /// Spends no more time on ways that can't win. The floor stays: others are measured against it.
    fn drop_hopeless(&self, ways: &mut Vec<Way>) {
        let figures = self.figures();
        let p50 =
            |way: &Way| figures.iter().find(|each| each.way == *way).map_or(u64::MAX, |each| each.p50_ns);
        let Some(best) = ways.iter().map(p50).min() else { return };
        ways.retain(|way| {
            way.strategy == CommitStrategy::Blocking || p50(way) <= best.saturating_mul(HOPELESS_TIMES)
        });
    }

    fn elapsed_ns(&self) -> u64 {
        self.reactor.now().since(self.started)
    }

    /// Whether the device is too slow for all of it. A little over the budget is no reason to stop.
    fn is_late(&self) -> bool {
        self.elapsed_ns() >= self.budget_ns + self.budget_ns / 4
    }

    fn figures(&self) -> Vec<Figures> {
        self.cells.iter().map(figures_of).collect()
    }
}

fn figures_of(cell: &Cell) -> Figures {
    let median = |of: fn(&Slice) -> u64| {
        let mut all: Vec<u64> = cell.slices.iter().map(of).collect();
        all.sort_unstable();
        all[(all.len() - 1) / 2]
    };
    let mut rates: Vec<f64> = cell.slices.iter().map(|slice| slice.commits_per_s).collect();
    rates.sort_unstable_by(f64::total_cmp);
    Figures {
        way: cell.way,
        load: cell.load,
        commits: cell.slices.iter().map(|slice| slice.commits).sum(),
        p50_ns: median(|slice| slice.p50_ns),
        p99_ns: median(|slice| slice.p99_ns),
        p999_ns: median(|slice| slice.p999_ns),
        commits_per_s: rates[(rates.len() - 1) / 2],
    }
}
