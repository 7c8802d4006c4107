//! All ways to commit under all loads, taking turns, within a budget of time.

use std::io;
use std::time::Duration;

use thalweg_io::{CommitStrategy, Reactor};

use crate::probe::choose::{DECIDING, Figures, Load, Way, starved};
use crate::probe::slice::{Bench, Slice, Switch, percentile};

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
    pub const OPENING: Budget = Budget { total: Duration::from_millis(550), rounds: 12 };
    /// When somebody asks to know, and a 99.9th percentile is to be one.
    pub const THOROUGH: Budget = Budget { total: Duration::from_secs(4), rounds: 12 };
}

/// Part of the budget for the load that decides, percent; the others share the rest.
const DECIDING_PERCENT: u64 = 60;
/// The others are measured in one of so many rounds: fewer and longer slices, as they decide less.
const OTHERS_EVERY: u32 = 4;
/// Parts whose commits are taken together for a tail, which a single slice has too few for.
const TAIL_PARTS: usize = 3;
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
        let rounds = rounds.max(1);
        let turns = u64::from(rounds) * ways.len() as u64;
        let deciding_ns = self.budget_ns / 100 * deciding_percent / turns;
        let other_turns = u64::from(rounds.div_ceil(OTHERS_EVERY)) * (ways.len() * OTHERS.len()) as u64;
        let other_ns = self.budget_ns / 100 * (100 - deciding_percent) / other_turns;
        for round in 0..rounds {
            self.turn(ways, round, DECIDING, deciding_ns, DECIDING_COMMITS_MIN)?;
            if round == 0 {
                self.drop_hopeless(ways);
            }
            let with_others = all_loads && round % OTHERS_EVERY == 0;
            for load in OTHERS.iter().filter(|_| with_others) {
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

    /// One slice of each way; another one begins each round, and each comes behind any other.
    fn turn(
        &mut self,
        ways: &mut Vec<Way>,
        round: u32,
        load: Load,
        nanos: u64,
        min: usize,
    ) -> io::Result<()> {
        let mut order = ways.clone();
        order.rotate_left(round as usize / 2 % ways.len().max(1));
        if round % 2 == 1 {
            order.reverse();
        }
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
        self.elapsed_ns() >= self.budget_ns.saturating_add(self.budget_ns / 4)
    }

    fn figures(&self) -> Vec<Figures> {
        self.cells.iter().map(figures_of).collect()
    }
}

fn figures_of(cell: &Cell) -> Figures {
    let mut medians: Vec<u64> = cell.slices.iter().map(|slice| percentile(&slice.taken_ns, 500)).collect();
    let mut rates: Vec<f64> = cell.slices.iter().map(|slice| slice.commits_per_s).collect();
    rates.sort_unstable_by(f64::total_cmp);
    let parts: Vec<Vec<u64>> =
        cell.slices.chunks(cell.slices.len().div_ceil(TAIL_PARTS).max(1)).map(together).collect();
    let tail =
        |per_mille| median(&mut parts.iter().map(|part| percentile(part, per_mille)).collect::<Vec<_>>());
    Figures {
        way: cell.way,
        load: cell.load,
        commits: cell.slices.iter().map(|slice| slice.taken_ns.len() as u64).sum(),
        p50_ns: median(&mut medians),
        p99_ns: tail(990),
        p999_ns: tail(999),
        commits_per_s: rates.get(rates.len().saturating_sub(1) / 2).copied().unwrap_or(0.0),
    }
}

/// The commits of some slices, ascending.
fn together(slices: &[Slice]) -> Vec<u64> {
    let mut all: Vec<u64> = slices.iter().flat_map(|slice| slice.taken_ns.iter().copied()).collect();
    all.sort_unstable();
    all
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    percentile(values, 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbed_round_changes_neither_median_nor_tail() {
        let slice =
            |taken_ns: u64| Slice { taken_ns: vec![taken_ns; 100], commits_per_s: 1e9 / taken_ns as f64 };
        let way = Way { strategy: CommitStrategy::Dsync, polls: true };
        let mut cell = Cell { way, load: DECIDING, slices: vec![slice(40); 12] };
        cell.slices[5] = slice(4_000_000);
        let figures = figures_of(&cell);
        assert_eq!((figures.p50_ns, figures.p99_ns, figures.p999_ns), (40, 40, 40));
        assert_eq!((figures.commits, figures.commits_per_s.round()), (1200, 25e6));
        // One in fifty, throughout, is its tail.
        cell.slices.iter_mut().for_each(|slice| slice.taken_ns[98..].fill(4_000_000));
        let figures = figures_of(&cell);
        assert_eq!((figures.p50_ns, figures.p99_ns), (40, 4_000_000));
    }
}
