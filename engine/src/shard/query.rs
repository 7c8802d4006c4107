//! Questions about a shard that change nothing.

use std::sync::Arc;

use serde::Serialize;
use thalweg_io::Backend;

use crate::config::PartitionConfig;
use crate::ids::{Offset, PartitionId};
use crate::metrics::ShardStats;
use crate::shard::Core;
use crate::slot::Slot;

/// A question, and where the answer goes. No answer comes from a shard that has ended.
pub(crate) enum QueryRequest {
    Describe(PartitionId, Arc<Slot<Option<PartitionInfo>>>),
    Stats(Arc<Slot<Option<ShardStats>>>),
}

impl QueryRequest {
    pub(crate) fn refuse(self) {
        match self {
            QueryRequest::Describe(_, slot) => slot.fill(None),
            QueryRequest::Stats(slot) => slot.fill(None),
        }
    }
}

/// A partition as it is at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionInfo {
    /// Its id.
    pub id: PartitionId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: PartitionConfig,
    /// First offset kept.
    pub log_start: Offset,
    /// Offset after the last record that survives a power cut.
    pub flushed: Offset,
    /// The next offset to be given out.
    pub log_end: Offset,
    /// Bytes of its batches, in the WAL and in segments.
    pub bytes: u64,
    /// Segments that hold a part of it.
    pub segments: u64,
}

impl<B: Backend> Core<B> {
    /// Answers a question.
    pub(crate) fn answer(&self, request: QueryRequest) {
        match request {
            QueryRequest::Describe(id, slot) => slot.fill(self.describe(id)),
            QueryRequest::Stats(slot) => slot.fill(Some(self.stats())),
        }
    }

    fn describe(&self, id: PartitionId) -> Option<PartitionInfo> {
        let state = self.state();
        let partition = state.partitions.get(id)?;
        Some(PartitionInfo {
            id,
            name: partition.name.to_string(),
            config: *partition.config,
            log_start: partition.log_start,
            flushed: partition.flushed,
            log_end: partition.log_end,
            bytes: partition.bytes(),
            segments: partition.runs.len() as u64,
        })
    }

    pub(crate) fn stats(&self) -> ShardStats {
        let state = self.state();
        ShardStats {
            shard: self.shard.0,
            partitions: state.partitions.len() as u64,
            segments: state.segments.len() as u64,
            open_segment_files: self.files.len() as u64,
            wal_files: state.wal.files() as u64,
            unsealed_bytes: state.wal.unsealed_bytes(),
            waiting_fetches: state.waiting_count as u64,
            background_bytes: self.governor.bytes(),
            ..self.metrics.borrow().snapshot()
        }
    }
}
