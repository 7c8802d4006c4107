//! One seed's world: a disk, the engine's one shard on it over many lives, and what it was asked.

use std::collections::BTreeMap;
use std::rc::Rc;

use thalweg::{Config, Log};
use thalweg_io::Nanos;
use thalweg_io::sim::SimRandom;
use thalweg_tests::{Host, Sim, block_on};

use crate::copy::{Contents, Trouble, contents};
use crate::counted::Counted;
use crate::events::Events;
use crate::oracle::Oracle;
use crate::promises::{self, answered};
use crate::reading::Watcher;
use crate::swarm::{Kind, Swarm};
use crate::waiting::Asked;

/// Power cuts in a row while recovering.
const NESTED_MAX: u32 = 3;
/// Openings that may fail in a row: the faults behind that are forgotten.
const OPENINGS_MAX: u32 = 12;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    Kill,
    Cut,
}

pub(crate) struct World<'a> {
    pub(crate) swarm: Rc<Swarm>,
    pub(crate) host: Sim,
    pub(crate) random: SimRandom,
    pub(crate) oracle: Oracle,
    pub(crate) events: &'a mut Events,
    pub(crate) waiting: Vec<(Nanos, Asked)>,
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) seen: promises::counters::Seen,
    pub(crate) counted: Counted,
    /// Syncs that had lost something when this life began.
    pub(crate) lost_before: u64,
    /// Whether the disk has little room at present.
    pub(crate) full: bool,
    /// Numbers given out: values, names, joint appends.
    pub(crate) values: u64,
    pub(crate) names: u64,
    pub(crate) joints: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(swarm: &Swarm, events: &'a mut Events) -> World<'a> {
        let host = Sim::new(swarm.config(), swarm.seed);
        host.disk.set_options(swarm.disk());
        World {
            swarm: Rc::new(swarm.clone()),
            host,
            random: SimRandom::new(swarm.seed, "world"),
            oracle: Oracle { clock_jumps: swarm.has(Kind::Clock), ..Oracle::default() },
            events,
            waiting: Vec::new(),
            watchers: Vec::new(),
            seen: promises::counters::Seen::default(),
            counted: Counted { seeds: 1, ..Counted::default() },
            lost_before: 0,
            full: false,
            values: 0,
            names: 0,
            joints: 0,
        }
    }

    /// The whole story: safety under faults, then liveness without.
    pub(crate) fn live(mut self) -> Counted {
        self.open_again();
        (0..3).for_each(|_| self.create());
        self.answer_all();
        for _ in 0..self.swarm.steps {
            self.step();
            self.observe();
            if self.ended() || self.host.disk.is_off() {
                let end = self.pick_end();
                self.restart(end);
            }
        }
        let end = self.pick_end();
        self.restart(end);
        promises::lively::all_goes_on(&mut self);
        let hash = self.host.disk.trace_hash();
        self.events.word(hash);
        self.counted.faults = self.host.disk.faults_fired();
        self.counted.acked = self.oracle.acked;
        self.counted.unknown = self.oracle.unknown;
        self.counted.refused = self.oracle.refused;
        self.counted
    }

    pub(crate) fn config(&mut self) -> Config {
        self.host.config().clone()
    }

    pub(crate) fn log(&self) -> Log {
        self.host.log()
    }

    /// Whether the shard has stopped by itself.
    pub(crate) fn ended(&self) -> bool {
        self.host.is_open() && self.log().ended().is_some()
    }

    /// Runs the shard for some virtual time.
    pub(crate) fn pause(&mut self, ms: u64) {
        block_on(self.host.pause(ms));
    }

    /// Lets the shard go on until everything is answered, or it ends.
    pub(crate) fn answer_all(&mut self) {
        for _ in 0..100_000 {
            self.take_answers();
            if self.waiting.is_empty() || self.ended() || self.host.disk.is_off() {
                return;
            }
            self.pause(1);
        }
        panic!("I17: {} calls are never answered", self.waiting.len());
    }

    /// What holds at any time.
    fn observe(&mut self) {
        self.take_answers();
        self.poll_watchers();
        if self.ended() || self.host.disk.is_off() || !self.random.chance(0.3) {
            return;
        }
        let ticket = self.log().stats(0);
        if let Some(Some(stats)) = self.drive(ticket) {
            let config = self.config();
            promises::bounds::check(&self.host.disk, &config, &stats);
            self.seen.shard(stats);
        }
        let Some(name) = self.pick_partition() else { return };
        let Ok(partition) = self.log().partition(&name) else { return };
        if let Some(Some(info)) = self.drive(partition.describe()) {
            self.take_answers();
            self.seen.partition(&info);
            self.oracle.flushed(&name, info.flushed.0);
        }
    }

    /// How far each partition is flushed, as the log says.
    pub(crate) fn flushed_ends(&mut self) -> BTreeMap<String, u64> {
        let mut ends = BTreeMap::new();
        for name in self.oracle.there.keys().cloned().collect::<Vec<_>>() {
            let Ok(partition) = self.log().partition(&name) else { continue };
            if let Some(Some(info)) = self.drive(partition.describe()) {
                ends.insert(name, info.flushed.0);
            }
        }
        ends
    }

    pub(crate) fn pick_end(&mut self) -> End {
        let mut ends = vec![End::Close];
        ends.extend([End::Kill].into_iter().filter(|_| self.swarm.has(Kind::Kills)));
        ends.extend([End::Cut; 3].into_iter().filter(|_| self.swarm.has(Kind::Cuts)));
        ends[self.random.below(ends.len() as u64) as usize]
    }

    /// Ends this life and begins another one, and compares what is left with what was promised.
    pub(crate) fn restart(&mut self, end: End) {
        self.events.note(format!("{end:?} at {} ns", self.host.disk.now().0));
        self.end(end);
        self.take_answers();
        answered::none_left(self);
        self.drop_watchers();
        self.seen = promises::counters::Seen::default();
        self.counted.lives += 1;
        if self.random.chance(0.25) {
            promises::idempotent::opens_alike(self);
        }
        self.open_again();
    }

    /// Whether a failed sync has lost something in this life. It is still read until the power goes off,
    /// and the next sync of it succeeds, as in a page cache. Opening syncs each file and then takes what
    /// it reads for stored, which holds for files opened for direct I/O on a device that stores on a sync
    /// all that it shows. Anything else is out of contract: such a life ends in a power cut, and the next
    /// one begins on what is stored.
    pub(crate) fn may_be_doomed(&self) -> bool {
        self.host.disk.syncs_lost() > self.lost_before
    }

    fn end(&mut self, end: End) {
        let end = if self.may_be_doomed() { End::Cut } else { end };
        if end == End::Cut && self.random.chance(0.7) {
            let ops = self.random.below(60);
            self.host.disk.crash_after(ops);
            let ms = self.random.below(20);
            self.pause(ms);
        }
        let off = self.host.disk.is_off();
        match end {
            End::Close if !off => {
                let (unknown, faults) = (self.oracle.unknown, self.host.disk.faults_fired());
                let closed = self.host.take().map(|shard| answered::closes(self, shard));
                self.take_answers();
                // The power may go off meanwhile, of what was planned before.
                if closed == Some(Ok(())) && !self.host.disk.is_off() {
                    assert_eq!(self.oracle.unknown, unknown, "I20: a close leaves appends behind");
                    self.oracle.closed();
                    // The manifest's note of where the log ends is one that may fail.
                    let noted = !self.full && self.host.disk.faults_fired() == faults;
                    if noted && self.swarm.has(Kind::Damage) && self.random.chance(0.3) {
                        promises::detected::told_when_closed(self);
                    }
                }
            }
            End::Kill if !off => {
                self.host.disk.kill();
                self.counted.kills += 1;
            }
            _ => {
                self.host.disk.crash();
                self.counted.crash_points += 1;
            }
        }
        drop(self.host.take());
        // A close may have been what lost something.
        let doomed = end == End::Close && self.may_be_doomed();
        if doomed || self.host.disk.is_off() {
            self.host.disk.crash();
            self.counted.crash_points += 1;
        }
    }

    /// Opens, whatever goes wrong meanwhile, and looks at everything.
    pub(crate) fn open_again(&mut self) {
        let mut nested = 0;
        for opening in 0..OPENINGS_MAX {
            if self.swarm.has(Kind::Nested) && nested < NESTED_MAX && self.random.chance(0.4) {
                nested += 1;
                let ops = self.random.below(80);
                self.host.disk.crash_after(ops);
            }
            let opened = block_on(self.host.try_open());
            self.events.note(format!("opened: {:?}", opened.as_ref().map_err(ToString::to_string)));
            if self.host.disk.is_off() {
                self.counted.nested += 1;
                self.counted.crash_points += 1;
                self.host.disk.crash();
                drop(self.host.take());
                continue;
            }
            // What was planned for the life before may have hit the opening; the next one is spared.
            let faults = self.host.disk.faults_fired() > 0 || self.full;
            self.calm();
            match opened {
                Err(error) if opening + 1 == OPENINGS_MAX || !faults => panic!("I16: does not open: {error}"),
                Err(_) if self.may_be_doomed() => {
                    self.host.disk.crash();
                    self.counted.crash_points += 1;
                    self.lost_before = self.host.disk.syncs_lost();
                }
                Err(_) if opening > 2 => {
                    self.host.disk.set_capacity(crate::faults::ROOMY);
                    self.full = false;
                }
                Err(_) => {}
                Ok(()) => match contents(self.host.shard()) {
                    Ok(contents) => return self.restarted(&contents),
                    Err(Trouble::Unreadable(why)) => panic!("I1: {why}"),
                    // A fault that was on its way.
                    Err(Trouble::Ended(why)) => {
                        assert!(faults, "I16: the shard ends by itself: {why}");
                        drop(self.host.take());
                        self.host.disk.crash();
                        self.counted.crash_points += 1;
                    }
                },
            }
        }
        panic!("I16: the log does not open");
    }

    fn restarted(&mut self, contents: &Contents) {
        self.lost_before = self.host.disk.syncs_lost();
        self.oracle.restarted(contents);
        for (name, look) in contents {
            self.seen.partition(&look.info);
            self.events.note(format!("{name}: {}..{}", look.info.log_start, look.info.log_end));
        }
        if self.swarm.has(Kind::Damage) && self.random.chance(0.5) {
            promises::detected::told(self, contents);
        }
        self.plan_faults();
    }
}
