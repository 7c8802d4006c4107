//! What the engine is made to do while its disk is watched.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use thalweg::{
    AppendResult, Batch, Config, ControlError, Creating, JointResult, Offset, OwnedShard, Partition,
    PartitionConfig, PartitionId, Record, Ticket,
};
use thalweg_io::sim::SimRandom;
use thalweg_tests::small;

use crate::history::{Asked, History, Known, Moment, value};

/// Longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Files and groups so small that some hundred requests roll, seal, promote, merge and trim.
pub(crate) fn config() -> Config {
    let mut config = small();
    config.wal.file_bytes = 192 << 10;
    config.wal.witness_after_us = 2_000;
    config.group.bytes_max = 16 << 10;
    config.limits.batch_bytes_max = 16 << 10;
    config.cache.bytes = 256 << 10;
    config.segment.own_bytes_min = 32 << 10;
    config.segment.promote_partitions_max = 1;
    config.segment.merge_fan_in = 2;
    config.segment.check_interval_ms = 2;
    config
}

/// Why a life ended before its work was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The shard refuses work, and says why.
    Halted(String),
    /// An answer never came.
    Hangs(String),
}

enum Waiting {
    Append(usize, Ticket<AppendResult>),
    Joint(usize, Ticket<JointResult>),
    Create(String, Creating),
    Trim(String, usize, Ticket<Result<PartitionId, ControlError>>),
    Delete(String, Ticket<Result<PartitionId, ControlError>>),
}

/// One life of an engine's shard, and the history it adds to.
pub(crate) struct Life<'a> {
    shard: OwnedShard,
    history: &'a mut History,
    moment: &'a dyn Fn() -> Moment,
    waiting: Vec<Waiting>,
    halted: Option<String>,
}

fn ready<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl<'a> Life<'a> {
    pub(crate) fn new(
        shard: OwnedShard,
        history: &'a mut History,
        moment: &'a dyn Fn() -> Moment,
    ) -> Life<'a> {
        Life { shard, history, moment, waiting: Vec::new(), halted: None }
    }

    fn asked(&self) -> Asked {
        Asked { asked: (self.moment)(), acked: None }
    }

    fn partition(&self, name: &str) -> Option<Partition> {
        self.shard.log().partition(name).ok()
    }

    pub(crate) fn create(&mut self, name: &str) {
        if self.history.partitions.contains_key(name) {
            return;
        }
        let known = Known { created: self.asked(), deleted: None, trims: Vec::new() };
        self.history.partitions.insert(name.to_owned(), known);
        let creating = self.shard.log().start_create(name, PartitionConfig::default());
        self.waiting.push(Waiting::Create(name.to_owned(), creating));
    }

    fn batch(&self, sent: usize, part: usize, len: usize) -> Batch {
        let part = &self.history.sent[sent].parts[part];
        let ids = part.first_id..part.first_id + part.count;
        Batch::from(ids.map(|id| Record::new(value(id, len))).collect::<Vec<_>>())
    }

    pub(crate) fn append(&mut self, name: &str, count: u64, len: usize) {
        let Some(partition) = self.partition(name) else { return };
        let sent = self.history.send(&[(name, count)], (self.moment)());
        let batch = self.batch(sent, 0, len);
        self.waiting.push(Waiting::Append(sent, partition.append(batch)));
    }

    pub(crate) fn joint(&mut self, names: [&str; 2], count: u64, len: usize) {
        let [Some(left), Some(right)] = names.map(|name| self.partition(name)) else { return };
        let sent = self.history.send(&names.map(|name| (name, count)), (self.moment)());
        let batches = vec![(left, self.batch(sent, 0, len)), (right, self.batch(sent, 1, len))];
        let ticket = self.shard.log().append_atomic(batches);
        self.waiting.push(Waiting::Joint(sent, ticket));
    }

    /// Trims everything acknowledged but the last `keep` records.
    pub(crate) fn trim(&mut self, name: &str, keep: u64) {
        let Some(partition) = self.partition(name) else { return };
        let to = self.history.acked_end(name).saturating_sub(keep);
        let asked = self.asked();
        let Some(known) = self.history.partitions.get_mut(name) else { return };
        if known.trims.iter().any(|(before, _)| *before >= to) || to == 0 {
            return;
        }
        known.trims.push((to, asked));
        let ticket = partition.trim(Offset(to));
        self.waiting.push(Waiting::Trim(name.to_owned(), known.trims.len() - 1, ticket));
    }

    pub(crate) fn delete(&mut self, name: &str) {
        if self.history.partitions.get(name).is_none_or(|known| known.deleted.is_some()) {
            return;
        }
        let Ok(ticket) = self.shard.log().start_delete(name) else { return };
        let asked = self.asked();
        let Some(known) = self.history.partitions.get_mut(name) else { return };
        known.deleted = Some(asked);
        self.waiting.push(Waiting::Delete(name.to_owned(), ticket));
    }

    /// Takes the answers that are there.
    fn collect(&mut self) {
        let Life { shard, history, moment, waiting, halted, .. } = self;
        let mut refused = |error: String| {
            halted.get_or_insert(error);
        };
        waiting.retain_mut(|waiting| match waiting {
            Waiting::Append(sent, ticket) => {
                let Some(answer) = ready(ticket) else { return true };
                match answer {
                    Ok(at) => history.sent[*sent].acked = Some((moment(), vec![at.base_offset.0])),
                    Err(error) => refused(error.to_string()),
                }
                false
            }
            Waiting::Joint(sent, ticket) => {
                let Some(answer) = ready(ticket) else { return true };
                match answer {
                    Ok(at) => {
                        let bases = at.iter().map(|at| at.base_offset.0).collect();
                        history.sent[*sent].acked = Some((moment(), bases));
                    }
                    Err(error) => refused(error.to_string()),
                }
                false
            }
            Waiting::Create(name, creating) => {
                let Some(answer) = ready(creating) else { return true };
                match answer {
                    Ok(_) => known(history, name).created.acked = Some(moment()),
                    Err(error) => refused(error.to_string()),
                }
                false
            }
            Waiting::Trim(name, nth, ticket) => {
                let Some(answer) = ready(ticket) else { return true };
                match answer {
                    Ok(_) => known(history, name).trims[*nth].1.acked = Some(moment()),
                    Err(error) => refused(error.to_string()),
                }
                false
            }
            Waiting::Delete(name, ticket) => {
                let Some(answer) = ready(ticket) else { return true };
                match answer {
                    Ok(_) => {
                        let deleted = known(history, name).deleted.as_mut();
                        deleted.expect("it was asked for").acked = Some(moment());
                        shard.log().forget(name);
                    }
                    Err(error) => refused(error.to_string()),
                }
                false
            }
        });
    }

    /// Turns until every answer is there.
    ///
    /// # Errors
    /// [`Stopped`], when an answer was an error or never came.
    pub(crate) fn pump(&mut self) -> Result<(), Stopped> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.collect();
            if self.waiting.is_empty() {
                return self.halted.clone().map_or(Ok(()), |why| Err(Stopped::Halted(why)));
            }
            if Instant::now() > end {
                return Err(Stopped::Hangs(format!("{} answers", self.waiting.len())));
            }
            if !self.shard.turn() {
                self.shard.park();
            }
        }
    }

    /// Lets the background work for so long.
    pub(crate) fn settle(&mut self, ms: u64) {
        let end = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < end && self.shard.log().ended().is_none() {
            if !self.shard.turn() {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        self.collect();
    }

    /// Finishes in good order.
    ///
    /// # Errors
    /// As [`pump`](Self::pump).
    pub(crate) fn close(mut self) -> Result<(), Stopped> {
        self.pump()?;
        self.shard.close().map_err(|error| Stopped::Halted(error.to_string()))
    }
}

fn known<'a>(history: &'a mut History, name: &str) -> &'a mut Known {
    history.partitions.get_mut(name).expect("a partition that was asked for")
}

/// Small appends to several partitions, joint ones, and changes of the catalog.
pub(crate) fn mixed(life: &mut Life<'_>, seed: u64, rounds: u64) -> Result<(), Stopped> {
    let mut random = SimRandom::new(seed, "mixed");
    let short = format!("short-{seed}");
    ["a", "b", "c", &short].iter().for_each(|name| life.create(name));
    life.pump()?;
    for round in 0..rounds {
        let mut len = || 20 + random.below(1400) as usize;
        life.append("a", 1 + round % 4, len());
        life.append("b", 1, len() / 8);
        if round % 3 == 1 {
            life.joint(["a", "c"], 2, len());
        }
        if round < rounds / 2 {
            life.append(&short, 2, len());
        }
        match (round * 12) / rounds.max(1) {
            4 => life.trim("a", 5),
            6 => life.delete(&short),
            9 => life.trim("b", 2),
            _ => {}
        }
        // Two groups in flight, now and then.
        if random.chance(0.7) {
            life.pump()?;
        }
        if random.chance(0.15) {
            life.pump()?;
            life.settle(4);
        }
    }
    life.pump()
}

/// Large batches of one partition: full files that are then promoted to segments.
pub(crate) fn large(life: &mut Life<'_>, batches: u64) -> Result<(), Stopped> {
    life.create("a");
    life.pump()?;
    for batch in 0..batches {
        life.append("a", 2, 7000);
        if batch % 3 == 0 {
            life.pump()?;
        }
    }
    life.pump()
}
