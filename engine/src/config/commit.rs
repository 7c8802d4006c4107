//! How a group is made durable.

use serde::{Deserialize, Serialize};
use thalweg_io::CommitStrategy;

/// How a group is made durable. Which way is fastest differs by device and kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommitConfig {
    /// The strategy; the default measures and takes the best.
    pub strategy: CommitSetting,
    /// Longest that the device may leave a group without an answer, ms: then the shard stops and says so,
    /// and what waited is told that it may be stored or not. 30 s is how long Linux waits by itself before
    /// it gives up on a request to a SCSI disk. A strategy that commits on the shard's own thread waits with
    /// the disk, and can't tell.
    pub stuck_ms: u32,
}

impl Default for CommitConfig {
    fn default() -> CommitConfig {
        CommitConfig { strategy: CommitSetting::default(), stuck_ms: 30_000 }
    }
}

/// The strategy by which a group is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitSetting {
    /// What was measured to be the best on the data directory's device: when the directory is
    /// made, and again when the device, the kernel or the backend is another one.
    #[default]
    Auto,
    /// One write carrying `RWF_DSYNC`: one round trip.
    Dsync,
    /// A write, then `fdatasync` by a worker of the ring.
    WriteThenSync,
    /// A write through the ring, then `fdatasync` on the shard's thread.
    Hybrid,
    /// `pwritev2` with `RWF_DSYNC` on the shard's thread, which does nothing else meanwhile.
    Blocking,
}

impl CommitSetting {
    /// The strategy asked for by name; `None` if it is to be found out.
    #[must_use]
    pub fn forced(self) -> Option<CommitStrategy> {
        match self {
            CommitSetting::Auto => None,
            CommitSetting::Dsync => Some(CommitStrategy::Dsync),
            CommitSetting::WriteThenSync => Some(CommitStrategy::WriteThenSync),
            CommitSetting::Hybrid => Some(CommitStrategy::Hybrid),
            CommitSetting::Blocking => Some(CommitStrategy::Blocking),
        }
    }
}
