//! What a reader asks of a shard, and what it gets.

use std::sync::Arc;

use crate::append::AppendError;
use crate::ids::{FileNumber, Offset, PartitionId, ShardId};
use crate::read::ahead::Promise;
use crate::read::cut::{Bounds, Expected, Piece};
use crate::record::BatchView;
use crate::slot::Slot;

/// Where to start reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the log start offset, wherever it is by then.
    Earliest,
    /// At the end: only what is appended from now on.
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first record with this timestamp or a later one, ms since the Unix epoch.
    Timestamp(i64),
}

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadLevel {
    /// Records that survive a power cut.
    #[default]
    Flushed,
    /// Also records that are on their way to the disk: a crash may take back what was read.
    Accepted,
}

/// Why a fetch failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The partition does not exist, or was deleted.
    #[error("partition {0} does not exist")]
    NoSuchPartition(PartitionId),
    /// The offset was trimmed.
    #[error("partition {partition}: offset {wanted} is below the log start offset {log_start}")]
    BelowLogStart {
        /// The partition.
        partition: PartitionId,
        /// The offset asked for.
        wanted: Offset,
        /// The first one there is.
        log_start: Offset,
    },
    /// The offset has not been given out yet.
    #[error("partition {partition}: offset {wanted} is beyond the end of the log, {end}")]
    BeyondEnd {
        /// The partition.
        partition: PartitionId,
        /// The offset asked for.
        wanted: Offset,
        /// The end.
        end: Offset,
    },
    /// What is stored there can't be read or is damaged. Other offsets may be fine.
    #[error(
        "partition {partition}, offset {offset}: file {0:016x}.log, byte {position}: {reason}; \
         `thalweg verify` shows what else is damaged",
        .file.0
    )]
    Storage {
        /// The partition.
        partition: PartitionId,
        /// The offset that was wanted.
        offset: Offset,
        /// The file.
        file: FileNumber,
        /// Byte in the file.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// A batch whose checksum is right holds no records: whoever wrote it did so wrongly.
    #[error("partition {partition}, the batch at offset {offset}: {reason}")]
    Malformed {
        /// The partition.
        partition: PartitionId,
        /// The batch's base offset.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// As many fetches wait as `read.waiting_max` allows.
    #[error("shard {0}: too many readers wait (read.waiting_max)")]
    TooManyWaiting(ShardId),
    /// The shard has stopped, or the engine is closed.
    #[error(transparent)]
    Ended(#[from] AppendError),
}

/// Bytes read from disk for somebody who checks them himself.
#[derive(Debug)]
pub(crate) struct Unchecked {
    pub piece: Piece,
    pub expected: Expected,
    pub bounds: Bounds,
}

/// What a fetch found.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Batches, in offset order. The first may begin before the offset asked for.
    pub batches: Vec<BatchView>,
    /// In their place, for a fetch that left the checking to the reader: pieces of one batch and more.
    pub unchecked: Vec<Unchecked>,
    /// Where to go on.
    pub next: Offset,
    /// The first offset that is kept.
    pub log_start: Offset,
    /// The end of what the reader's level shows.
    pub end: Offset,
}

/// A fetch.
pub(crate) struct FetchRequest {
    pub partition: PartitionId,
    pub from: ReadFrom,
    pub bytes_max: u32,
    pub level: ReadLevel,
    /// Whether to wait at the end, rather than answer with nothing.
    pub wait: bool,
    /// Whether the shard checks what it reads from disk. It costs commits less if the reader does; if
    /// what he finds is wrong he asks again, and the shard finds out what it is.
    pub check: bool,
    /// To be told where the next fetch goes on, before this one has its bytes.
    pub promise: Option<Arc<Promise>>,
    pub slot: Arc<Slot<Result<Fetched, FetchError>>>,
}

impl FetchRequest {
    pub(crate) fn refuse(self, error: &AppendError) {
        self.slot.fill(Err(FetchError::Ended(error.clone())));
    }

    /// Says where the next fetch will go on.
    pub(crate) fn promise(&self, next: Offset) {
        if let Some(promise) = &self.promise {
            promise.set(next);
        }
    }

    /// Whether anybody still waits for the answer.
    pub(crate) fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }
}

impl Drop for FetchRequest {
    fn drop(&mut self) {
        // A task that reads for it goes with its shard, at any point.
        if !self.slot.is_ready() {
            self.slot.fill(Err(FetchError::Ended(AppendError::Closed)));
        }
    }
}
