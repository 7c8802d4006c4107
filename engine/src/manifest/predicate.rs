//! The rules between one state of the manifest and the next.

use crate::ids::{FileNumber, Offset, PartitionId};
use crate::manifest::edit::Change;
use crate::manifest::state::Manifest;

/// An edit that must not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Somebody else changed the manifest first.
    #[error("the edit leads to revision {found}, the next one is {expected}")]
    Revision {
        /// What the edit should have led to.
        expected: u64,
        /// What it leads to.
        found: u64,
    },
    /// A file is added twice, or removed without being there.
    #[error("file {0:?} is not in the state the edit needs")]
    File(FileNumber),
    /// A partition is added twice, or changed without being there.
    #[error("partition {0} is not in the state the edit needs")]
    Partition(PartitionId),
    /// A log start offset would move back.
    #[error("partition {partition}: log start {log_start} would move back from {current}")]
    LogStart {
        /// The partition.
        partition: PartitionId,
        /// What the edit asks for.
        log_start: Offset,
        /// What it is.
        current: Offset,
    },
    /// A number that only grows would shrink.
    #[error("{0} would go back")]
    Backwards(&'static str),
}

/// Whether `change` may follow `state`.
///
/// # Errors
/// [`Conflict`] naming the rule it breaks.
pub(super) fn check(state: &Manifest, change: &Change) -> Result<(), Conflict> {
    let known = |file: &FileNumber| state.wal_files.contains(file) || state.segments.contains_key(file);
    let require = |holds: bool, conflict| if holds { Ok(()) } else { Err(conflict) };
    match change {
        Change::WalFileAdded(file) => require(!known(file) && *file < state.next_file, Conflict::File(*file)),
        Change::WalFileRemoved(file) => require(state.wal_files.contains(file), Conflict::File(*file)),
        Change::SegmentAdded(meta) => {
            require(!known(&meta.file) && meta.file < state.next_file, Conflict::File(meta.file))
        }
        Change::SegmentRemoved(file) => require(state.segments.contains_key(file), Conflict::File(*file)),
        Change::Floor { sequence, group } => require(
            *sequence >= state.floor && *group >= state.floor_group,
            Conflict::Backwards("the WAL floor"),
        ),
        Change::PartitionCreated { partition, .. } => require(
            !state.partitions.contains_key(partition) && *partition < state.next_partition,
            Conflict::Partition(*partition),
        ),
        Change::PartitionDeleted(partition) | Change::Configured { partition, .. } => {
            require(state.partitions.contains_key(partition), Conflict::Partition(*partition))
        }
        Change::Trimmed { partition, log_start } => {
            let Some(meta) = state.partitions.get(partition) else {
                return Err(Conflict::Partition(*partition));
            };
            let (partition, log_start, current) = (*partition, *log_start, meta.log_start);
            require(log_start >= current, Conflict::LogStart { partition, log_start, current })
        }
        Change::NextPartition(next) => {
            require(*next >= state.next_partition, Conflict::Backwards("the next partition id"))
        }
        Change::NextFile(next) => {
            require(*next >= state.next_file, Conflict::Backwards("the next file number"))
        }
        Change::Durable(group) => require(*group >= state.durable, Conflict::Backwards("the durable mark")),
        Change::JointResolved(last) => {
            require(*last >= state.joint_resolved, Conflict::Backwards("the last joint append"))
        }
    }
}
