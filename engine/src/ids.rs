//! The numbers of a log, each its own type. Ends are exclusive everywhere.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A record's place in its partition: dense from 0, never reused once acknowledged.
    Offset(u64)
);
number!(
    /// A partition of one data directory. Never reused. Its shard is `id % shards`.
    PartitionId(u32)
);
number!(
    /// One core's part of a data directory: one thread, one ring, one WAL.
    ShardId(u16)
);
number!(
    /// A group's place in its shard's WAL: dense from 1.
    GroupNumber(u64)
);
number!(
    /// A file of a shard, by name (`%016x.log`). It may be a WAL file now and a segment later.
    FileNumber(u64)
);
number!(
    /// A WAL file's place in the order of use: dense from 1, new for each life of a recycled file.
    WalSequence(u64)
);
number!(
    /// A position in a shard's WAL: `sequence × wal.file_bytes + byte in the file`. Grows for ever.
    WalPosition(u64)
);
number!(
    /// The epoch of the leader that appended a batch; 0 until there is replication.
    LeaderEpoch(u32)
);

impl Offset {
    /// The offset `count` records later.
    #[must_use]
    pub fn plus(self, count: u64) -> Offset {
        Offset(self.0.saturating_add(count))
    }
}

impl GroupNumber {
    /// The group after this one.
    #[must_use]
    pub fn next(self) -> GroupNumber {
        GroupNumber(self.0.saturating_add(1))
    }
}

impl WalPosition {
    /// The position of `byte` in the WAL file used `sequence`-th.
    #[must_use]
    pub fn new(sequence: WalSequence, byte: u64, file_bytes: u64) -> WalPosition {
        WalPosition(sequence.0.saturating_mul(file_bytes).saturating_add(byte))
    }

    /// The WAL file and the byte in it.
    #[must_use]
    pub fn split(self, file_bytes: u64) -> (WalSequence, u64) {
        (WalSequence(self.0 / file_bytes), self.0 % file_bytes)
    }
}
