//! The journey of an append, one file per step:
//! [`admit`] → [`assign`] → [`group`] → [`persist`] → [`publish`].

pub(crate) mod admit;
pub(crate) mod assign;
pub(crate) mod group;
pub(crate) mod joint;
pub(crate) mod persist;
pub(crate) mod publish;
pub(crate) mod request;

use std::sync::Arc;

use crate::ids::{Offset, PartitionId, ShardId};

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// When a completed sync covers every byte of it: it survives a power cut.
    #[default]
    Flushed,
    /// When it has its offset and is in the tail cache. A crash may lose it.
    Accepted,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Records.
    pub count: u32,
}

impl Appended {
    /// The offset after the last record.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.count))
    }
}

/// Why an append was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The partition does not exist, or was deleted.
    #[error("partition {0} does not exist")]
    NoSuchPartition(PartitionId),
    /// The batch is larger than `limits.batch_bytes_max`.
    #[error("{partition}: a batch of up to {size} B is over the limit of {limit} B (limits.batch_bytes_max)")]
    BatchTooLarge {
        /// The partition.
        partition: PartitionId,
        /// Bytes it may take as encoded.
        size: u64,
        /// The limit.
        limit: u32,
    },
    /// The batch has no records.
    #[error("partition {0}: the batch is empty")]
    EmptyBatch(PartitionId),
    /// `append_if` expected another offset.
    #[error("partition {partition}: expected to append at offset {expected}, the log ends at {actual}")]
    UnexpectedOffset {
        /// The partition.
        partition: PartitionId,
        /// What the caller expected.
        expected: Offset,
        /// Where the log ends.
        actual: Offset,
    },
    /// A compacted partition takes only records with keys.
    #[error("partition {0} is compacted: every record needs a key")]
    KeyRequired(PartitionId),
    /// The disk is full. Nothing was written; reads go on, and appends resume when there is room.
    #[error("shard {shard}: no space left for the log; free some or extend the file system")]
    OutOfSpace {
        /// The shard.
        shard: ShardId,
    },
    /// The WAL is full and what is in it can't be moved to segments. Nothing was written; reads go on,
    /// and appends resume when it can.
    #[error("shard {shard}: the WAL is full, and its oldest file can't be sealed: {reason}")]
    WalFull {
        /// The shard.
        shard: ShardId,
        /// What sealing fails with.
        reason: Arc<str>,
    },
    /// A write or sync failed. The shard has stopped; whether this append survives is not known.
    #[error("shard {shard} has stopped: {reason}")]
    Halted {
        /// The shard.
        shard: ShardId,
        /// The first reason.
        reason: Arc<str>,
    },
    /// The engine was closed before the append was durable.
    #[error("the engine is closed")]
    Closed,
}

impl AppendError {
    /// Whether the same append may succeed later without anybody's doing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, AppendError::OutOfSpace { .. } | AppendError::WalFull { .. })
    }

    /// Whether the engine has to be reopened first. The append may or may not have survived.
    #[must_use]
    pub fn needs_reopen(&self) -> bool {
        matches!(self, AppendError::Halted { .. } | AppendError::Closed)
    }
}
