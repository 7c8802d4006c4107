//! One opening of the log: appends by the clock, a follower that checks, trims.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thalweg::{AppendResult, Config, Engine, Offset, Partition, PartitionConfig, Ticket};

use super::check::{Follower, Found, check_all, check_running, record};
use super::drift::Sample;
use super::run::{PARTITIONS, Plan, Tally, keyed};
use crate::load::{histogram, note};

/// Appends in flight at most: past that they are late, and their latency says so.
const IN_FLIGHT_MAX: usize = 1024;
/// Pause of whoever has nothing to do.
const PAUSE: Duration = Duration::from_micros(200);
/// Pause of the follower at the end of all partitions.
const FOLLOW_PAUSE: Duration = Duration::from_millis(5);
/// How often partitions are trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(1);

/// What goes on while the log is open.
pub(super) struct Life<'a> {
    plan: &'a Plan,
    partitions: Vec<Partition>,
    /// Records below are checked by the follower.
    followed: Vec<AtomicU64>,
    flying: VecDeque<(Instant, usize, Ticket<AppendResult>)>,
    latency: Histogram<u64>,
    trimmed_at: Instant,
}

/// Opens the log, checks everything in it, appends until `until`, and closes it. `show` gets a sample now
/// and then; `stop` ends it early.
pub(super) fn live(
    config: &Config,
    plan: &Plan,
    tally: &mut Tally,
    until: Instant,
    stop: &dyn Fn() -> bool,
    show: &mut dyn FnMut(&Tally),
) -> Result<(), Found> {
    let engine = Engine::open(config.clone())?;
    let mut partitions = Vec::new();
    for id in 0..PARTITIONS {
        let settings = PartitionConfig { compact: keyed(id), ..PartitionConfig::default() };
        let name = id.to_string();
        let partition = engine.partition(&name).or_else(|_| engine.create(&name, settings))?;
        tally.checked += check_all(&partition, id, keyed(id), tally.ends[id as usize])?;
        partitions.push(partition);
    }
    let mut life = Life {
        plan,
        followed: tally.ends.iter().map(|end| AtomicU64::new(*end)).collect(),
        partitions,
        flying: VecDeque::new(),
        latency: histogram(),
        trimmed_at: Instant::now(),
    };
    life.go_on(&engine, tally, until, stop, show)?;
    for shard in 0..engine.shards() {
        let stats = engine.stats(shard).wait();
        tally.segments_rewritten += stats.map_or(0, |stats| stats.segments_merged);
    }
    drop(life);
    engine.close()?;
    Ok(())
}

impl Life<'_> {
    fn go_on(
        &mut self,
        engine: &Engine,
        tally: &mut Tally,
        until: Instant,
        stop: &dyn Fn() -> bool,
        show: &mut dyn FnMut(&Tally),
    ) -> Result<(), Found> {
        let mut follower = Follower::new(&self.partitions, &tally.ends, keyed);
        let (over, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let (over, failed, followed) = (&over, &failed, &self.followed);
            let following = scope.spawn(move || {
                let mut checked = 0;
                loop {
                    // Before the step, so that the last one sees everything.
                    let last = over.load(Ordering::Acquire);
                    let seen = |index: usize, end| followed[index].store(end, Ordering::Release);
                    match follower.step(seen) {
                        Ok(read) => checked += read,
                        Err(found) => {
                            failed.store(true, Ordering::Release);
                            return Err(found);
                        }
                    }
                    if last {
                        return Ok(checked);
                    }
                    thread::sleep(FOLLOW_PAUSE);
                }
            });
            let stopped = || stop() || failed.load(Ordering::Acquire);
            let mut appending = Appending {
                plan: self.plan,
                partitions: &self.partitions,
                followed,
                flying: &mut self.flying,
                latency: &mut self.latency,
                trimmed_at: &mut self.trimmed_at,
            };
            let appended = appending.until(engine, tally, until, &stopped, show);
            over.store(true, Ordering::Release);
            let followed = following.join().map_err(|_| Found::Wrong("the follower panicked".into()))?;
            tally.checked += followed?;
            appended
        })
    }
}

/// The appending thread's part of a life.
struct Appending<'a> {
    plan: &'a Plan,
    partitions: &'a [Partition],
    followed: &'a [AtomicU64],
    flying: &'a mut VecDeque<(Instant, usize, Ticket<AppendResult>)>,
    latency: &'a mut Histogram<u64>,
    trimmed_at: &'a mut Instant,
}

impl Appending<'_> {
    fn until(
        &mut self,
        engine: &Engine,
        tally: &mut Tally,
        until: Instant,
        stop: &dyn Fn() -> bool,
        show: &mut dyn FnMut(&Tally),
    ) -> Result<(), Found> {
        let (begin, mut sent) = (Instant::now(), 0u64);
        let mut next = tally.ends.clone();
        while Instant::now() < until && !stop() {
            let due = |sent: u64| begin + Duration::from_secs_f64(sent as f64 / self.plan.per_s);
            let before = sent;
            while self.flying.len() < IN_FLIGHT_MAX && due(sent) <= Instant::now() {
                let index = sent as usize % self.partitions.len();
                let append = record(index as u32, next[index], keyed(index as u32));
                next[index] += 1;
                self.flying.push_back((due(sent), index, self.partitions[index].append(append)));
                sent += 1;
            }
            let landed = self.land(tally, false)?;
            self.trim(tally)?;
            if tally.is_due(self.plan) {
                tally.samples.push(Sample::take(tally.began.elapsed().as_secs_f64(), self.latency));
                self.latency.reset();
                show(tally);
            }
            if sent == before && landed == 0 {
                check_running(engine)?;
                thread::sleep(PAUSE);
            }
        }
        self.land(tally, true).map(drop)
    }

    /// Takes the answers that are there, or all of them.
    fn land(&mut self, tally: &mut Tally, all: bool) -> Result<u64, Found> {
        let mut landed = 0;
        while self.flying.front().is_some_and(|(.., ticket)| all || ticket.is_ready()) {
            let Some((due, index, ticket)) = self.flying.pop_front() else { break };
            let at = ticket.wait()?;
            note(self.latency, due.elapsed());
            if at.base_offset.0 != tally.ends[index] {
                let (at, wanted) = (at.base_offset, tally.ends[index]);
                return Err(Found::Wrong(format!(
                    "partition {index}: acknowledged at {at}, not at {wanted}"
                )));
            }
            tally.ends[index] += 1;
            tally.appended += 1;
            landed += 1;
        }
        Ok(landed)
    }

    /// Trims what is longer than it should be, as far as it was checked.
    fn trim(&mut self, tally: &mut Tally) -> Result<(), Found> {
        if self.trimmed_at.elapsed() < TRIM_EVERY {
            return Ok(());
        }
        *self.trimmed_at = Instant::now();
        for (index, partition) in self.partitions.iter().enumerate() {
            let checked = self.followed[index].load(Ordering::Acquire);
            let to = tally.ends[index].min(checked).saturating_sub(self.plan.kept_records);
            if to > 0 {
                partition.trim(Offset(to)).wait()?;
                tally.trims += 1;
            }
        }
        Ok(())
    }
}
