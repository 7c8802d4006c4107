//! What the engine is made to do while its disk is watched.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use thalweg::{
    AppendResult, Batch, Config, ControlError, Creating, JointResult, Offset, Partition, PartitionConfig,
    PartitionId, ShardStats, Ticket,
};
use thalweg_tests::small;

use crate::history::{Asked, History, Known, Moment};
use crate::opened::Opened;

/// Longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Files and groups so small that some hundred requests roll, seal, promote, merge and trim.
pub(crate) fn config() -> Config {
    let mut config = small();
    // A file keeps 64 KiB for changes of the catalog, and is promoted only if half of it are batches.
    config.wal.file_bytes = 288 << 10;
    config.wal.witness_after_us = 2_000;
    config.group.bytes_max = 16 << 10;
    config.limits.batch_bytes_max = 16 << 10;
    config.cache.bytes = 384 << 10;
    config.segment.own_bytes_min = 32 << 10;
    config.segment.promote_partitions_max = 3;
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

/// What the background did in a life, over all shards.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) sealed: u64,
    pub(crate) promoted: u64,
    pub(crate) merged: u64,
    pub(crate) removed: u64,
    pub(crate) recycled: u64,
}

impl Done {
    fn of(stats: &ShardStats) -> Done {
        Done {
            sealed: stats.files_sealed,
            promoted: stats.files_promoted,
            merged: stats.segments_merged,
            removed: stats.segments_removed,
            recycled: stats.files_recycled,
        }
    }

    pub(crate) fn add(&mut self, other: Done) {
        self.sealed += other.sealed;
        self.promoted += other.promoted;
        self.merged += other.merged;
        self.removed += other.removed;
        self.recycled += other.recycled;
    }
}

/// One life of an engine, and the history it adds to.
pub(crate) struct Life<'a> {
    log: Opened,
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
    pub(crate) fn new(log: Opened, history: &'a mut History, moment: &'a dyn Fn() -> Moment) -> Life<'a> {
        Life { log, history, moment, waiting: Vec::new(), halted: None }
    }

    fn asked(&self) -> Asked {
        Asked { asked: (self.moment)(), acked: None }
    }

    fn partition(&self, name: &str) -> Option<Partition> {
        self.log.log().partition(name).ok()
    }

    pub(crate) fn create(&mut self, name: &str) {
        self.create_with(name, PartitionConfig::default());
    }

    pub(crate) fn create_with(&mut self, name: &str, config: PartitionConfig) {
        if self.history.partitions.contains_key(name) {
            return;
        }
        self.history.partitions.insert(name.to_owned(), Known::new(config, (self.moment)()));
        let creating = self.log.log().start_create(name, config);
        self.waiting.push(Waiting::Create(name.to_owned(), creating));
    }

    fn batch(&self, sent: usize, part: usize) -> Batch {
        Batch::Many(self.history.sent[sent].parts[part].records.clone())
    }

    pub(crate) fn append(&mut self, name: &str, count: u64, len: usize) {
        let Some(partition) = self.partition(name) else { return };
        let sent = self.history.send(&[name], count, len, (self.moment)());
        self.waiting.push(Waiting::Append(sent, partition.append(self.batch(sent, 0))));
    }

    pub(crate) fn joint(&mut self, names: [&str; 2], count: u64, len: usize) {
        let [Some(left), Some(right)] = names.map(|name| self.partition(name)) else { return };
        let sent = self.history.send(&names, count, len, (self.moment)());
        let batches = vec![(left, self.batch(sent, 0)), (right, self.batch(sent, 1))];
        let ticket = self.log.log().append_atomic(batches);
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
        // Before it is asked for: the shard may be quicker than this thread.
        let asked = self.asked();
        let Ok(ticket) = self.log.log().start_delete(name) else { return };
        let Some(known) = self.history.partitions.get_mut(name) else { return };
        known.deleted = Some(asked);
        self.waiting.push(Waiting::Delete(name.to_owned(), ticket));
    }

    /// Takes the answers that are there.
    fn collect(&mut self) {
        let Life { log, history, moment, waiting, halted, .. } = self;
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
                        log.log().forget(name);
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
            self.log.work();
        }
    }

    /// Lets the background work for so long.
    pub(crate) fn settle(&mut self, ms: u64) {
        let end = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < end && self.log.log().ended().is_none() {
            self.log.work_or_nap();
        }
        self.collect();
    }

    /// What the background has done in this life.
    pub(crate) fn done(&mut self) -> Done {
        let mut done = Done::default();
        self.log.stats().iter().for_each(|stats| done.add(Done::of(stats)));
        done
    }

    /// Finishes in good order.
    ///
    /// # Errors
    /// As [`pump`](Self::pump).
    pub(crate) fn close(mut self) -> Result<(), Stopped> {
        self.pump()?;
        self.log.close().map_err(|error| Stopped::Halted(error.to_string()))
    }
}

fn known<'a>(history: &'a mut History, name: &str) -> &'a mut Known {
    history.partitions.get_mut(name).expect("a partition that was asked for")
}
