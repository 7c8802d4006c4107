//! What an edit of the manifest may say.

use std::sync::Arc;

use crate::config::PartitionConfig;
use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, WalSequence};

/// How a segment came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// A WAL file that became a segment where it lay.
    Promoted,
    /// Written from a WAL file, with the partitions too small for segments of their own.
    Shared,
    /// Written from a WAL file or a merge, for one partition.
    Own,
    /// Merged from other segments.
    Merged,
}

/// A segment, as the manifest knows it. The rest is in the segment's own footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Its file.
    pub file: FileNumber,
    /// Length of the file, a multiple of 4,096.
    pub file_bytes: u64,
    /// Checksum of the footer, which says the same in its trailer.
    pub footer_crc: u32,
    /// Partitions in it.
    pub runs: u32,
    /// How it came about.
    pub kind: SegmentKind,
    /// Bytes of batches in it, of all partitions.
    pub batch_bytes: u64,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A pre-written file joins the WAL ring.
    WalFileAdded(FileNumber),
    /// A file leaves the WAL ring: promoted to a segment, or no longer needed.
    WalFileRemoved(FileNumber),
    /// Everything before this WAL file is in segments.
    Floor {
        /// The first WAL file that is still needed.
        sequence: WalSequence,
        /// The first group of that file, known durable up to here.
        group: GroupNumber,
    },
    /// A segment joins.
    SegmentAdded(SegmentMeta),
    /// A segment leaves: replaced, or below every log start.
    SegmentRemoved(FileNumber),
    /// A partition comes into being.
    PartitionCreated {
        /// Its id.
        partition: PartitionId,
        /// Its settings.
        config: PartitionConfig,
        /// First offset kept.
        log_start: Offset,
        /// Its name.
        name: Arc<str>,
    },
    /// A partition goes.
    PartitionDeleted(PartitionId),
    /// A log start offset moves forward.
    Trimmed {
        /// The partition.
        partition: PartitionId,
        /// First offset kept.
        log_start: Offset,
    },
    /// A partition's settings change.
    Configured {
        /// The partition.
        partition: PartitionId,
        /// The new settings.
        config: PartitionConfig,
    },
    /// Ids below this one were given out once; those without a partition are deleted.
    NextPartition(PartitionId),
    /// File numbers below this one were given out once.
    NextFile(FileNumber),
    /// Joint appends up to this one that have a part here are decided.
    JointResolved(u64),
    /// Groups up to this one were durable when the log was last closed.
    Durable(GroupNumber),
}

/// A step from one revision of the manifest to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The revision the edit leads to; it applies to the one before only. A snapshot starts anew.
    pub revision: u64,
    /// Whether the edit starts from an empty manifest.
    pub snapshot: bool,
    /// The changes, in order.
    pub changes: Vec<Change>,
}
