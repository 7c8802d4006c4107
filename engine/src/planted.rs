//! Bugs planted on purpose: what proves the log is itself proved by finding them (`tests/sim/planted.rs`).
//!
//! Each is one call at the place where the bug would be. Only a build with the feature `planted` can
//! have one; without it [`planted`] is a constant `false`, and nothing of this is left in the program.

#![cfg_attr(not(feature = "planted"), expect(unreachable_pub, reason = "tests alone choose a bug"))]

mod acts;

pub(crate) use acts::{group_durability, proven};

/// Names the bugs, and lists them.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $bug:ident,)+) => {
        /// The bugs of this crate; those of the memory and of the disk are in `io/src/planted.rs`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Planted {
            $($(#[doc = $what])+ $bug,)+
        }

        #[cfg(feature = "planted")]
        impl Planted {
            /// Every bug.
            pub const ALL: &[Planted] = &[$(Planted::$bug,)+];

            /// Whether it takes several shards to see it.
            #[must_use]
            pub const fn takes_shards(self) -> bool {
                use Planted::*;
                matches!(
                    self,
                    PartAnnouncedEarly
                        | PartsShareGroup
                        | JointPublishedUndecided
                        | CutNotRecorded
                        | BrokenJointKept
                )
            }
        }
    };
}

bugs! {
    // Appending.

    /// Callers hear of a group when its write begins.
    AckBeforeSync,
    /// Groups are written and never synced.
    NoSync,
    /// The sync begins together with the write, so that it covers nothing of it.
    SyncBeforeWriteEnds,
    /// A group whose write failed is acknowledged all the same.
    FailedWriteAcked,
    /// After a failed write the file is synced, and the group acknowledged if that works.
    FailedSyncRetried,
    /// After a failed write its callers are told, and the shard goes on.
    ShardGoesOnAfterFailure,
    /// A group is acknowledged before those in front of it are durable.
    GroupsAckedOutOfOrder,
    /// The answers of a group are given the wrong way round.
    AnswersSwapped,
    /// A ticket is answered a second time.
    TicketResolvedTwice,
    /// An append over several partitions becomes two groups.
    JointAppendTorn,
    /// A trim is acknowledged when it arrives.
    TrimNotDurable,
    /// An append goes where the partition ends, wherever its caller expected that.
    ExpectationIgnored,
    /// A group says that it is durable itself, not the one before it.
    ProofTooEarly,
    /// A shard is told of another's part before what lies in front of that is decided.
    PartAnnouncedEarly,
    /// A group takes parts of two appends over several shards.
    PartsShareGroup,
    /// A part is published before the others are durable.
    JointPublishedUndecided,

    // Reading.

    /// Readers see what is not durable yet.
    ReadPastFlushed,
    /// Readers that wait at the end are not told of more.
    WaitingReadersForgotten,
    /// Batches read from disk are not compared with their checksum.
    BatchUnchecked,
    /// What is read from disk may be other batches than those the index names.
    PlaceUnchecked,
    /// Index entries are compared neither with their checksum nor with what lies where they point.
    IndexUnchecked,
    /// A failed read counts as the end of the log.
    ReadErrorIsEnd,
    /// Readers may hold all chunks of the tail cache.
    ViewsUnbounded,
    /// Segments that were opened for a read stay open.
    SegmentsStayOpen,

    // The idle log, and its closing.

    /// The marker of an idle log is not written.
    IdleMarkerSkipped,
    /// Closing does not note in the manifest how far the log was durable.
    ClosedNoteSkipped,
    /// Closing does not wait for what is on its way.
    ClosedWhileWriting,

    // In the background.

    /// The name of a new WAL file is not made durable.
    NoDirectorySyncOfWal,
    /// The name of a new segment is not made durable.
    NoDirectorySyncOfSegment,
    /// The name of a new manifest is not made durable.
    NoDirectorySyncOfManifest,
    /// A failed sync of a directory is tried again, and counts if that works.
    DirectorySyncRetried,
    /// Several files come to their names at once.
    NamesTogether,
    /// The manifest names a segment that is not durable.
    SegmentNotSynced,
    /// A new segment is not read back before it takes the place of others.
    SegmentNotReadBack,
    /// Edits of the manifest are written and never synced.
    ManifestNotSynced,
    /// A failed sync of the manifest is tried again, and counts if that works.
    ManifestSyncRetried,
    /// A sealed WAL file is used again before the manifest says that it is sealed.
    WalRecycledEarly,
    /// Sealing one file declares all full ones sealed.
    FloorTooEarly,
    /// A dead segment is removed before the manifest forgets it.
    SegmentRemovedEarly,
    /// A trim does not get into the manifest.
    TrimNotInManifest,
    /// A deletion does not get into the manifest.
    DeletionNotInManifest,
    /// New settings do not get into the manifest.
    SettingsNotInManifest,
    /// Retention goes on when enough is gone.
    RetentionTakesAll,
    /// Compaction keeps the first record of a key.
    CompactionKeepsFirst,
    /// Compaction leaves tombstones out whatever their age.
    TombstonesDroppedAtOnce,
    /// Merging leaves a batch out.
    MergeLosesBatch,
    /// Merged segments are removed before the manifest has what replaces them.
    MergedRemovedEarly,

    // Opening.

    /// What is damaged is cut off although a later group proves that it was durable.
    CutInTheMiddle,
    /// What can't be read is cut off like a torn write.
    UnreadableIsTorn,
    /// Groups count whatever life of the file they are from.
    NoSalt,
    /// Groups count wherever they lie.
    NoPositionCheck,
    /// A group whose header is whole counts as whole.
    TornGroupKept,
    /// A WAL file whose header is damaged counts as unused.
    LostHeaderIsSpare,
    /// A WAL file that is not there is left out.
    MissingFileIgnored,
    /// A WAL file that was cut short counts as whole.
    ShortFileIgnored,
    /// Edits of the manifest are not compared with their checksum.
    ManifestUnchecked,
    /// Group numbers go on with the last one used.
    GroupNumberReused,
    /// Offsets go on behind the last segment.
    OffsetsReused,
    /// Partition ids go on with the last one used.
    PartitionIdReused,
    /// The last group of the log is left out.
    LastGroupForgotten,
    /// Where the log was cut is not recorded.
    CutNotRecorded,
    /// A part of an append over several shards stays though another is missing.
    BrokenJointKept,
}

#[cfg(feature = "planted")]
mod chosen {
    use super::Planted;

    thread_local! {
        static CHOSEN: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
    }

    /// Plants a bug for what runs on this thread from here on; none takes it out.
    pub fn plant(bug: Option<Planted>) {
        CHOSEN.set(bug);
    }

    /// Whether this bug is planted on this thread.
    pub(crate) fn planted(bug: Planted) -> bool {
        CHOSEN.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use chosen::plant;
#[cfg(feature = "planted")]
pub(crate) use chosen::planted;

/// No bug is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn planted(_bug: Planted) -> bool {
    false
}

// Decided while compiling: what a bug would do is not in the program.
#[cfg(not(feature = "planted"))]
const _: () = assert!(!planted(Planted::AckBeforeSync));
