//! What reaches a shard, and how it answers.

use std::sync::Arc;

use smallvec::SmallVec;
use thalweg_io::Nanos;

use crate::append::joint::JointPart;
use crate::append::{Ack, AppendError, Appended};
use crate::ids::{Offset, PartitionId};
use crate::record::Batch;
use crate::slot::Slot;
use crate::wal::control::Control;

/// One batch for one partition.
#[derive(Debug)]
pub(crate) struct Part {
    pub partition: PartitionId,
    pub batch: Batch,
    /// `append_if`: the offset it must get.
    pub expected: Option<Offset>,
    /// The most bytes it can take in a group.
    pub bytes_max: u64,
}

/// Where the answer to an append goes.
pub(crate) type AppendSlot = Arc<Slot<Result<Appended, AppendError>>>;

/// Who hears of an append's end.
pub(crate) enum AppendReply {
    /// A single append.
    One(AppendSlot),
    /// A part of a joint append; `first` is the index of this shard's first batch in it.
    Joint(JointPart),
}

/// Batches that are stored together or not at all.
pub(crate) struct AppendRequest {
    pub parts: SmallVec<[Part; 1]>,
    pub ack: Ack,
    pub reply: AppendReply,
    /// Bytes taken from the mailbox's budget, given back with the answer.
    pub budget: u64,
}

impl AppendRequest {
    /// Ends the append with an error.
    pub(crate) fn refuse(self, error: AppendError) {
        match self.reply {
            AppendReply::One(slot) => slot.fill(Err(error)),
            AppendReply::Joint(part) => part.fail(error),
        }
    }
}

/// Who hears that a change of the catalog is durable.
pub(crate) type ControlReply = Option<Arc<Slot<Result<PartitionId, ControlError>>>>;

/// A change of the catalog, asked for.
pub(crate) struct ControlRequest {
    pub control: Control,
    pub reply: ControlReply,
}

/// Why a change of the catalog was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is a partition of that name.
    #[error("a partition named {0:?} exists")]
    NameTaken(String),
    /// The name is empty, too long, or has characters that no name may have.
    #[error("{name:?} is no name for a partition: {rule}")]
    BadName {
        /// The name.
        name: String,
        /// What it breaks.
        rule: String,
    },
    /// There is no such partition.
    #[error("there is no partition {0}")]
    NoSuchPartition(String),
    /// A trim beyond the end of the log.
    #[error("partition {partition}: can't trim to {wanted}, the log ends at {end}")]
    BeyondEnd {
        /// The partition.
        partition: PartitionId,
        /// What was asked for.
        wanted: Offset,
        /// Where the log ends.
        end: Offset,
    },
    /// The shard has as many partitions as `limits.partitions_max` allows.
    #[error("the shard has {0} partitions, as many as limits.partitions_max allows")]
    TooMany(u32),
    /// Every id of the shard has been given out: ids are never used twice.
    #[error(
        "every partition id of the shard was given out, and none is used twice; use a new data directory"
    )]
    NoIdsLeft,
    /// The thread that turns the shard can't sleep until the shard has answered.
    #[error(
        "this thread turns the shard, and would wait for itself: use start_create or start_delete, and let \
         OwnedShard::block_on wait"
    )]
    WouldWaitForItself,
    /// As for an append.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What waits in a shard to go into a group.
pub(crate) enum Arrival {
    Append(AppendRequest),
    Control(ControlRequest),
}

/// An arrival and when it was taken from the mailbox.
pub(crate) struct Queued {
    pub arrival: Arrival,
    pub since: Nanos,
}

impl Arrival {
    /// The most bytes it can take in a group.
    pub(crate) fn bytes_max(&self) -> u64 {
        match self {
            Arrival::Append(request) => {
                let joint = matches!(request.reply, AppendReply::Joint(_));
                request.parts.iter().map(|part| part.bytes_max).sum::<u64>() + u64::from(joint) * 4096
            }
            Arrival::Control(_) => 8192,
        }
    }

    /// Ends it with an error; returns the budget it held.
    pub(crate) fn refuse(self, error: AppendError) -> u64 {
        match self {
            Arrival::Append(request) => {
                let budget = request.budget;
                request.refuse(error);
                budget
            }
            Arrival::Control(request) => {
                if let Some(slot) = request.reply {
                    slot.fill(Err(error.into()));
                }
                0
            }
        }
    }
}

impl Arrival {
    /// Whether it is a part of an append over several shards.
    pub(crate) fn is_joint(&self) -> bool {
        let Arrival::Append(AppendRequest { reply: AppendReply::Joint(part), .. }) = self else {
            return false;
        };
        part.joint.spans_shards()
    }
}
