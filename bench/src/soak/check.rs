//! What the records of a soak hold, and whether those that are read do.

use std::collections::BTreeMap;
use std::fmt;

use thalweg::{Log, Offset, Partition, ReadFrom, Record, RecordView};

/// Keys of a compacted partition: offset `o` has the key `o % KEYS`.
pub const KEYS: u64 = 512;

/// Why a log is not as it should be.
#[derive(Debug)]
pub enum Found {
    /// The log did not do what it was asked for.
    Failed(crate::Error),
    /// It did, and what it holds is wrong.
    Wrong(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Failed(error) => write!(f, "{error}"),
            Found::Wrong(words) => f.write_str(words),
        }
    }
}

// No error itself, so that every error becomes one of these.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Found {
    fn from(error: E) -> Found {
        Found::Failed(error.into())
    }
}

/// The value of a record: 9 to 2,047 bytes.
#[must_use]
pub fn value(partition: u32, offset: u64) -> Vec<u8> {
    let seed = (offset << 8 | u64::from(partition)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut value = offset.to_le_bytes().to_vec();
    value.extend_from_slice(&seed.to_le_bytes().repeat(1 + (seed >> 32) as usize % 254));
    value.truncate(value.len() - (seed >> 16) as usize % 8);
    value
}

/// The record of a soak at an offset.
pub(super) fn record(partition: u32, offset: u64, keyed: bool) -> Record {
    let record = Record::new(value(partition, offset));
    if keyed { record.with_key((offset % KEYS).to_le_bytes().to_vec()) } else { record }
}

/// Compares a record with what was appended.
pub(super) fn check(partition: u32, record: &RecordView<'_>) -> Result<(), Found> {
    let offset = record.offset.0;
    if record.value() == Some(&value(partition, offset)[..]) {
        return Ok(());
    }
    let len = record.value().map_or(0, <[u8]>::len);
    Err(Found::Wrong(format!(
        "partition {partition}, offset {offset}: {len} B that were never appended there"
    )))
}

/// Reads a partition from `from` to its end and checks all of it: every offset is there up to `end`; in a
/// compacted partition the last one of each key. Returns how many records were read.
pub(super) fn check_all(partition: &Partition, id: u32, keyed: bool, end: u64) -> Result<u64, Found> {
    let info = partition.describe().wait();
    let info = info.ok_or_else(|| Found::Wrong(format!("partition {id} is gone")))?;
    if info.flushed.0 != end {
        let (flushed, start) = (info.flushed, info.log_start);
        return Err(Found::Wrong(format!(
            "partition {id} has the offsets {start}..{flushed}; up to {end} were acknowledged, and no more"
        )));
    }
    let (mut next, mut read, mut last) = (info.log_start.0, 0, BTreeMap::new());
    let mut reader = partition.read(ReadFrom::Offset(info.log_start)).to_end();
    for batch in reader.by_ref() {
        for found in batch?.records() {
            let found = found?;
            if found.offset < info.log_start {
                continue;
            }
            check(id, &found)?;
            let offset = found.offset.0;
            if offset < next || (offset > next && !keyed) {
                return Err(Found::Wrong(format!("partition {id}: offset {offset} where {next} should be")));
            }
            (next, read) = (offset + 1, read + 1);
            last.insert(offset % KEYS, offset);
        }
    }
    let missing = match keyed {
        false => (next < end).then_some(next),
        true => (info.log_start.0.max(end.saturating_sub(KEYS))..end)
            .find(|at| last.get(&(at % KEYS)) != Some(at)),
    };
    match missing {
        Some(offset) => Err(Found::Wrong(format!("partition {id}: offset {offset} of {end} is missing"))),
        None => Ok(read),
    }
}

/// A reader that follows all partitions and checks what it sees.
pub(super) struct Follower {
    /// Partition, and the next offset to be read.
    places: Vec<(Partition, u64)>,
    keyed: fn(u32) -> bool,
}

impl Follower {
    pub(super) fn new(partitions: &[Partition], from: &[u64], keyed: fn(u32) -> bool) -> Follower {
        Follower { places: partitions.iter().cloned().zip(from.iter().copied()).collect(), keyed }
    }

    /// Reads on to the end of each; `seen` is told how far it is. Returns how many records it read.
    pub(super) fn step(&mut self, mut seen: impl FnMut(usize, u64)) -> Result<u64, Found> {
        let mut read = 0;
        for (index, (partition, next)) in self.places.iter_mut().enumerate() {
            let id = index as u32;
            let mut reader = partition.read(ReadFrom::Offset(Offset(*next))).to_end();
            for batch in reader.by_ref() {
                for found in batch?.records() {
                    let found = found?;
                    if found.offset.0 < *next {
                        continue;
                    }
                    check(id, &found)?;
                    if found.offset.0 > *next && !(self.keyed)(id) {
                        let (at, wanted) = (found.offset, *next);
                        return Err(Found::Wrong(format!(
                            "partition {id}: offset {at} where {wanted} should be"
                        )));
                    }
                    (*next, read) = (found.offset.0 + 1, read + 1);
                }
            }
            seen(index, *next);
        }
        Ok(read)
    }
}

/// Whether some shard has ended, and why.
pub(super) fn check_running(log: &Log) -> Result<(), Found> {
    log.ended().map_or(Ok(()), |why| Err(why.into()))
}

#[cfg(test)]
mod tests {
    use thalweg::{Config, Engine, PartitionConfig};

    use super::*;

    /// A log whose partition holds what `values` say, closed and opened again.
    fn checked(values: impl Iterator<Item = Vec<u8>>, end: u64) -> Result<u64, Found> {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        config.wal.file_bytes = 4 << 20;
        config.cache.bytes = 8 << 20;
        config.commit.strategy = thalweg::config::CommitSetting::Dsync;
        let engine = Engine::open(config).unwrap();
        let partition = engine.create("0", PartitionConfig::default()).unwrap();
        for value in values {
            partition.append(Record::new(value)).wait().unwrap();
        }
        let found = check_all(&partition, 0, false, end);
        engine.close().unwrap();
        found
    }

    #[test]
    fn what_is_wrong_is_found() {
        assert_eq!(checked((0..5).map(|at| value(0, at)), 5).unwrap(), 5);
        let why = |found: Result<u64, Found>| found.unwrap_err().to_string();
        // The bytes of another offset, of another partition, and one bit.
        assert!(why(checked([0, 2, 1].into_iter().map(|at| value(0, at)), 3)).contains("offset 1: "));
        assert!(why(checked((0..2).map(|at| value(at as u32, at)), 2)).contains("offset 1: "));
        let flipped = value(0, 0).into_iter().map(|byte| byte ^ 1).collect();
        assert!(why(checked([flipped].into_iter(), 1)).contains("never appended there"));
        // One more, or one less, than was acknowledged.
        assert!(why(checked((0..3).map(|at| value(0, at)), 2)).contains("and no more"));
        assert!(why(checked((0..3).map(|at| value(0, at)), 4)).contains("0..3"));
    }

    #[test]
    fn values_differ_and_are_of_many_lengths() {
        let lengths: std::collections::BTreeSet<usize> = (0..3000).map(|at| value(1, at).len()).collect();
        assert!(lengths.len() > 1000 && lengths.iter().all(|len| (9..2048).contains(len)), "{lengths:?}");
        assert_ne!(value(1, 7), value(2, 7));
    }
}
