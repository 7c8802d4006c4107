//! What a shard knows, apart from its operations in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::append::AppendError;
use crate::append::group::Placed;
use crate::append::request::Queued;
use crate::cache::TailCache;
use crate::ids::{FileNumber, PartitionId, ShardId};
use crate::manifest::{Change, SegmentKind, SegmentMeta};
use crate::partitions::{Partitions, TailEntry};
use crate::read::request::FetchRequest;
use crate::wal::ring::WalRing;

/// A segment and how much of it is still wanted.
#[derive(Clone, Debug)]
pub(crate) struct SegmentState {
    pub meta: SegmentMeta,
    /// Bytes of runs that partitions still refer to.
    pub live_bytes: u64,
    /// Runs that partitions still refer to.
    pub live_runs: u32,
    /// Partitions are still changing over to it.
    pub arriving: bool,
    /// A background task is rewriting, recycling or removing it: no other may.
    pub taken: bool,
}

impl SegmentState {
    /// Whether it is in use, and every partition that will refer to it does.
    pub(crate) fn is_settled(&self) -> bool {
        !self.taken && self.is_live()
    }

    /// Whether nobody needs it any more, and nobody is at it.
    pub(crate) fn is_dead(&self) -> bool {
        self.live_runs == 0 && !self.arriving && !self.taken
    }

    fn is_live(&self) -> bool {
        self.live_runs > 0 && !self.arriving
    }
}

/// What a shard knows.
pub(crate) struct State {
    pub shard: ShardId,
    pub partitions: Partitions,
    pub wal: WalRing,
    pub cache: TailCache,
    /// Waiting to go into a group, in order of arrival.
    pub arrivals: VecDeque<Queued>,
    /// The most bytes they can take.
    pub arrival_bytes: u64,
    /// Fetches waiting at the end of their partitions.
    pub waiting: FxHashMap<PartitionId, Vec<FetchRequest>>,
    pub waiting_count: usize,
    /// Fetches waiting for their turn at the disk.
    pub disk_queue: VecDeque<FetchRequest>,
    pub disk_fetches: u32,
    pub segments: FxHashMap<FileNumber, SegmentState>,
    /// Durable changes of the catalog that the manifest does not have yet.
    pub catalog: Vec<Change>,
    pub next_partition: PartitionId,
    pub next_file: FileNumber,
    /// Partitions whose tails hold entries that are sealed and were still cached when looked at.
    pub lingering: Vec<PartitionId>,
    /// Why the shard stopped: the first reason.
    pub halted: Option<Arc<str>>,
    /// The disk was full when the shard last needed room.
    pub out_of_space: bool,
    /// Why the oldest WAL file can't be sealed, if it can't.
    pub seal_failure: Option<Arc<str>>,
    /// The active WAL file has been open for long enough.
    pub roll_wanted: bool,
    /// The engine is closing: nothing new is started in the background.
    pub closing: bool,
}

impl State {
    /// The error that ends whatever needs a running shard.
    pub(crate) fn halt_error(&self) -> Option<AppendError> {
        let reason = self.halted.clone()?;
        Some(AppendError::Halted { shard: self.shard, reason })
    }

    /// Why no more can be appended for the time being.
    pub(crate) fn no_room(&self) -> Option<AppendError> {
        if self.out_of_space {
            return Some(AppendError::OutOfSpace { shard: self.shard });
        }
        let reason = self.seal_failure.clone()?;
        Some(AppendError::WalFull { shard: self.shard, reason })
    }

    /// The next partition id of this shard, if any is left; ids of one shard are `shards` apart.
    pub(crate) fn take_partition_id(&mut self, shards: u16) -> Option<PartitionId> {
        let id = self.next_partition;
        self.next_partition = PartitionId(id.0.checked_add(u32::from(shards))?);
        Some(id)
    }

    /// Takes a segment for a background task. False if another has it, or it is gone.
    pub(crate) fn take_segment(&mut self, file: FileNumber) -> bool {
        let Some(segment) = self.segments.get_mut(&file).filter(|segment| !segment.taken) else {
            return false;
        };
        segment.taken = true;
        true
    }

    /// Lets go of a segment that was taken and is still there.
    pub(crate) fn give_back_segment(&mut self, file: FileNumber) {
        if let Some(segment) = self.segments.get_mut(&file) {
            segment.taken = false;
        }
    }

    /// A promoted segment that nobody needs any more.
    pub(crate) fn recyclable(&self) -> Option<FileNumber> {
        let dead = |segment: &&SegmentState| segment.is_dead() && segment.meta.kind == SegmentKind::Promoted;
        self.segments.values().filter(dead).map(|segment| segment.meta.file).min()
    }

    /// A file number nobody has had.
    pub(crate) fn take_file_number(&mut self) -> FileNumber {
        let number = self.next_file;
        self.next_file = FileNumber(number.0.saturating_add(1));
        number
    }

    /// Notes where records of the next group are: in the active WAL file.
    pub(crate) fn note_placed(&mut self, all: &[Placed]) {
        let Some(active) = &mut self.wal.active else { return };
        for placed in all {
            active.batch_bytes += u64::from(placed.len);
            let Some(partition) = self.partitions.get_mut(placed.partition) else { continue };
            partition.tail.push_back(TailEntry::from(placed));
            if partition.touched != active.sequence {
                partition.touched = active.sequence;
                active.touched.push(placed.partition);
            }
        }
    }

    /// A partition no longer refers to a run of `file`.
    pub(crate) fn release_run(&mut self, file: FileNumber, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&file) {
            segment.live_bytes = segment.live_bytes.saturating_sub(bytes);
            segment.live_runs = segment.live_runs.saturating_sub(1);
        }
    }

    /// Drops the runs that lie below the log start.
    pub(crate) fn release_trimmed_runs(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(id) else { return };
        let log_start = partition.log_start;
        let keep = partition.runs.partition_point(|run| run.end_offset <= log_start);
        let gone: Vec<_> = partition.runs.drain(..keep).collect();
        while partition.tail.front().is_some_and(|entry| entry.end_offset() <= log_start) {
            partition.tail.pop_front();
        }
        gone.into_iter().for_each(|run| self.release_run(run.file, run.bytes));
    }
}
