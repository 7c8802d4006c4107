//! A log opened and read whole: the world's own after a restart, or a copy of its disk on which
//! something is tried that the world itself must not feel.

use std::collections::BTreeMap;

use thalweg::{Config, FetchError, OpenError, OwnedShard, PartitionInfo, ReadFrom, RecoveryReport};
use thalweg_io::sim::SimDisk;
use thalweg_tests::{Found, Row, in_order};

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) info: PartitionInfo,
    pub(crate) found: Found,
    /// Where it starts after it was read.
    pub(crate) log_start: u64,
}

/// All partitions, by name.
pub(crate) type Contents = BTreeMap<String, Look>;

/// Why a log can't be read whole.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The shard has stopped.
    Ended(String),
    /// A read failed, and said so.
    Unreadable(String),
}

/// Reads every partition from its start.
pub(crate) fn contents(shard: &mut OwnedShard) -> Result<Contents, Trouble> {
    let mut contents = Contents::new();
    let ended = || Trouble::Ended("a question was not answered".to_owned());
    for partition in shard.log().partitions() {
        let describe = partition.describe();
        let info = shard.block_on(describe).ok_or_else(ended)?;
        let mut reader = partition.read(ReadFrom::Earliest).to_end();
        let mut rows = Vec::new();
        while let Some(batch) = shard.block_on(reader.next_batch()) {
            let batch = batch.map_err(|error| match error {
                FetchError::Ended(error) => Trouble::Ended(error.to_string()),
                error => Trouble::Unreadable(format!("{}: {error}", partition.name())),
            })?;
            for record in batch.records() {
                let record = record.map_err(|error| Trouble::Unreadable(error.to_string()))?;
                if record.offset >= info.log_start {
                    rows.push(Row { offset: record.offset.0, record: record.to_owned() });
                }
            }
        }
        let describe = partition.describe();
        let log_start = shard.block_on(describe).ok_or_else(ended)?.log_start.0;
        let found = in_order(partition.name(), rows).unwrap_or_else(|wrong| panic!("I2: {wrong}"));
        contents.insert(partition.name().to_owned(), Look { info, found, log_start });
    }
    Ok(contents)
}

/// Opens the disk's one shard.
pub(crate) fn open(disk: &SimDisk, config: &Config) -> Result<OwnedShard, OpenError> {
    OwnedShard::open_on(disk.backend(), config.clone(), None)
}

/// A copy of the disk that has nothing planned, and room.
pub(crate) fn copy(disk: &SimDisk) -> SimDisk {
    let copy = disk.snapshot();
    copy.clear_faults();
    copy.crash_after(u64::MAX);
    copy.set_capacity(1 << 40);
    copy
}

/// Opens and reads a disk on which nothing goes wrong.
pub(crate) fn look(disk: &SimDisk, config: &Config, what: &str) -> (RecoveryReport, Contents) {
    let mut shard = open(disk, config).unwrap_or_else(|error| panic!("{what}: does not open: {error}"));
    let report = shard.recovery().clone();
    let contents = contents(&mut shard).unwrap_or_else(|trouble| panic!("{what}: {trouble:?}"));
    disk.kill();
    (report, contents)
}
