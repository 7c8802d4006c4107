//! A shard on a simulated disk, and a model of what it has promised.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::task::{Context, Poll, Waker};

use thalweg::{AppendResult, Config, ControlError, Log, OpenError, OwnedShard, Partition, PartitionId};
use thalweg::{Offset, PartitionConfig, ReadFrom, Record, Ticket};
use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_tests::Wrong;

/// Turns after which something that should have happened did not.
const TURNS_MAX: u32 = 400_000;
/// Turns that a shard gets to find out that the power is off.
const OFF_TURNS_MAX: u32 = 1000;

/// Small files and groups, so that a short run seals, promotes, merges and recycles.
pub(crate) fn config() -> Config {
    let mut config = Config::new("sim");
    config.wal.file_bytes = 224 << 10;
    config.group.bytes_max = 8 << 10;
    config.limits.batch_bytes_max = 8 << 10;
    config.limits.queue_bytes_max = 1 << 20;
    config.cache.bytes = 128 << 10;
    config.segment.check_interval_ms = 1;
    config.segment.own_bytes_min = 16 << 10;
    config.segment.promote_partitions_max = 1;
    config.segment.merge_fan_in = 3;
    config.segment.run_bytes_min = 1 << 20;
    config.wal.witness_after_us = 2_000;
    config
}

/// What a power cut does to what is not synced.
pub(crate) const SURVIVALS: [fn() -> SimOptions; 3] =
    [SimOptions::strict, SimOptions::kind, SimOptions::random];

/// What is known of a change that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Known {
    /// Not asked for.
    #[default]
    No,
    /// Asked for, and not answered.
    Maybe,
    /// Acknowledged.
    Yes,
}

/// What was promised about one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promise {
    pub(crate) created: Known,
    pub(crate) deleted: Known,
    /// Values sent and not known to be lost, in the order sent.
    pub(crate) sent: BTreeMap<u64, Vec<u8>>,
    /// Offset to value.
    pub(crate) acked: BTreeMap<u64, u64>,
    /// The log start offset is at least the first and at most the second.
    pub(crate) trimmed: (u64, u64),
}

/// What was promised, by partition name.
pub(crate) type Model = BTreeMap<String, Promise>;

/// A partition as read back: offset and value of each record.
pub(crate) type Contents = BTreeMap<String, Vec<(u64, u64)>>;

/// A value that says which it is and can't be mistaken for another.
pub(crate) fn value(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < len.max(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len.max(8));
    bytes
}

/// An answer that is awaited.
enum Awaited {
    Append { name: String, ids: Vec<u64>, ticket: Ticket<AppendResult> },
    Create { name: String, creating: thalweg::Creating },
    Trim { name: String, to: u64, ticket: Ticket<Result<PartitionId, ControlError>> },
    Delete { name: String, ticket: Ticket<Result<PartitionId, ControlError>> },
}

/// One life of the process: a shard and what it was asked.
pub(crate) struct Life<'a> {
    pub(crate) shard: OwnedShard,
    pub(crate) disk: SimDisk,
    pub(crate) model: &'a mut Model,
    awaited: Vec<Awaited>,
    next_id: &'a mut u64,
}

fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Opens the disk's one shard.
pub(crate) fn open(disk: &SimDisk, config: &Config) -> Result<OwnedShard, OpenError> {
    OwnedShard::open_on(disk.backend(), config.clone(), None)
}

impl<'a> Life<'a> {
    pub(crate) fn open(
        disk: &SimDisk,
        config: &Config,
        model: &'a mut Model,
        next_id: &'a mut u64,
    ) -> Result<Life<'a>, OpenError> {
        let shard = open(disk, config)?;
        Ok(Life { shard, disk: disk.clone(), model, awaited: Vec::new(), next_id })
    }

    fn log(&self) -> Log {
        self.shard.log().clone()
    }

    /// The partition, if it is known to the log.
    pub(crate) fn find(&self, name: &str) -> Option<Partition> {
        self.log().partition(name).ok()
    }

    /// Starts to make a partition.
    pub(crate) fn create(&mut self, name: &str, settings: PartitionConfig) {
        let promise = self.model.entry(name.to_owned()).or_default();
        if promise.created != Known::No {
            return;
        }
        promise.created = Known::Maybe;
        let creating = self.shard.log().start_create(name, settings);
        self.awaited.push(Awaited::Create { name: name.to_owned(), creating });
    }

    /// Starts to append `count` records of about `len` bytes.
    pub(crate) fn append(&mut self, name: &str, count: usize, len: usize) {
        let Some(partition) = self.find(name) else { return };
        let promise = self.model.get_mut(name).expect("a partition that was created");
        let mut ids = Vec::new();
        let mut records = Vec::new();
        for _ in 0..count {
            let id = *self.next_id;
            *self.next_id += 1;
            let bytes = value(id, len);
            promise.sent.insert(id, bytes.clone());
            records.push(Record::new(bytes).with_key(format!("k{}", id % 7)));
            ids.push(id);
        }
        let ticket = partition.append(records);
        self.awaited.push(Awaited::Append { name: name.to_owned(), ids, ticket });
    }

    /// Starts to trim so many of the acknowledged records.
    pub(crate) fn trim(&mut self, name: &str, to: u64) {
        let Some(partition) = self.find(name) else { return };
        let promise = self.model.get_mut(name).expect("a partition that was created");
        let end = promise.acked.last_key_value().map_or(0, |(offset, _)| offset + 1);
        if to <= promise.trimmed.1 || to > end {
            return;
        }
        promise.trimmed.1 = to;
        let ticket = partition.trim(Offset(to));
        self.awaited.push(Awaited::Trim { name: name.to_owned(), to, ticket });
    }

    /// Starts to delete a partition.
    pub(crate) fn delete(&mut self, name: &str) {
        let Ok(ticket) = self.shard.log().start_delete(name) else { return };
        self.model.get_mut(name).expect("a partition that was created").deleted = Known::Maybe;
        self.awaited.push(Awaited::Delete { name: name.to_owned(), ticket });
    }

    /// Takes the answers that are there. Returns whether none is awaited any more.
    pub(crate) fn collect(&mut self) -> bool {
        let log = self.log();
        let model = &mut *self.model;
        self.awaited.retain_mut(|awaited| match awaited {
            Awaited::Append { name, ids, ticket } => {
                let Some(answer) = poll(ticket) else { return true };
                if let Ok(at) = answer {
                    let promise = model.get_mut(name).expect("a known partition");
                    assert_eq!(at.count as usize, ids.len());
                    for (index, id) in ids.iter().enumerate() {
                        let before = promise.acked.insert(at.base_offset.0 + index as u64, *id);
                        assert_eq!(before, None, "{name}: an offset was given twice");
                    }
                }
                false
            }
            Awaited::Create { name, creating } => {
                let Some(answer) = poll(creating) else { return true };
                if answer.is_ok() {
                    model.get_mut(name).expect("a known partition").created = Known::Yes;
                }
                false
            }
            Awaited::Trim { name, to, ticket } => {
                let Some(answer) = poll(ticket) else { return true };
                if answer.is_ok() {
                    let promise = model.get_mut(name).expect("a known partition");
                    promise.trimmed.0 = promise.trimmed.0.max(*to);
                }
                false
            }
            Awaited::Delete { name, ticket } => {
                let Some(answer) = poll(ticket) else { return true };
                if answer.is_ok() {
                    model.get_mut(name).expect("a known partition").deleted = Known::Yes;
                    log.forget(name);
                }
                false
            }
        });
        self.awaited.is_empty()
    }

    /// Turns until every answer is there. Returns whether the disk still has power.
    pub(crate) fn pump(&mut self) -> bool {
        let mut off = 0;
        for _ in 0..TURNS_MAX {
            self.collect();
            // Without power a full WAL is never sealed, and what waits for room waits on.
            off += u32::from(self.disk.is_off());
            if self.awaited.is_empty() || off > OFF_TURNS_MAX {
                return !self.disk.is_off();
            }
            if !self.shard.turn() {
                self.shard.park();
            }
        }
        panic!("{} answers never came", self.awaited.len());
    }

    /// Lets the background do its work for so long. Returns whether the disk still has power.
    pub(crate) fn settle(&mut self, micros: u64) -> bool {
        let until = self.disk.now().plus_us(micros);
        for _ in 0..TURNS_MAX {
            if self.disk.is_off() || self.disk.now() >= until {
                break;
            }
            if !self.shard.turn() {
                self.shard.park();
            }
            // A shard that has stopped waits for nothing any more.
            if self.disk.now() < until && self.shard.log().ended().is_some() {
                break;
            }
        }
        self.collect();
        !self.disk.is_off()
    }

    /// The offset after the last acknowledged record.
    pub(crate) fn acked_end(&self, name: &str) -> u64 {
        let acked = self.model.get(name).and_then(|promise| promise.acked.last_key_value());
        acked.map_or(0, |(offset, _)| offset + 1)
    }

    /// Takes the answers that are there, and ends the process at once.
    pub(crate) fn forget(mut self) {
        self.collect();
    }

    /// Finishes and ends the process in good order.
    pub(crate) fn close(mut self) {
        self.pump();
        let _ = self.shard.close();
    }
}

/// Reads every partition, oldest record first.
pub(crate) fn read_all(shard: &mut OwnedShard) -> Result<Contents, Wrong> {
    let mut contents = Contents::new();
    for partition in shard.log().partitions() {
        let mut reader = partition.read(ReadFrom::Earliest).to_end();
        let describe = partition.describe();
        let info = shard.block_on(describe).ok_or("a listed partition is not there")?;
        let mut found: Vec<(u64, u64)> = Vec::new();
        while let Some(batch) = shard.block_on(reader.next_batch()) {
            let batch = batch.map_err(|error| Wrong::Unreadable(error.to_string()))?;
            for record in batch.records() {
                let record = record.map_err(|error| error.to_string())?;
                if record.offset < info.log_start {
                    continue;
                }
                let bytes = record.value().ok_or("a value is missing")?;
                let id = u64::from_le_bytes(bytes[..8].try_into().map_err(|_| "a value is short")?);
                if bytes != value(id, bytes.len()) {
                    let (name, offset) = (partition.name(), record.offset);
                    return Err(format!("{name}: offset {offset} holds wrong bytes").into());
                }
                found.push((record.offset.0, id));
            }
        }
        let end = found.last().map_or(info.log_start.0, |(offset, _)| offset + 1);
        if end > info.flushed.0 || info.flushed != info.log_end {
            return Err(format!("{}: read up to {end}, {info:?}", partition.name()).into());
        }
        contents.insert(partition.name().to_owned(), found);
    }
    Ok(contents)
}

/// Compares what is there with what was promised. What was not acknowledged and is there has been
/// seen now: the model promises it from here on, and that what is not there never comes back.
pub(crate) fn check(shard: &mut OwnedShard, model: &mut Model) -> Result<(), Wrong> {
    let contents = read_all(shard)?;
    if let Some(name) = contents.keys().find(|name| !model.contains_key(*name)) {
        return Err(format!("{name} was never created").into());
    }
    for (name, promise) in model.iter_mut() {
        let Some(found) = contents.get(name) else {
            if promise.created == Known::Yes && promise.deleted == Known::No {
                return Err(format!("{name} is gone").into());
            }
            promise.deleted = Known::Yes;
            continue;
        };
        if promise.deleted == Known::Yes {
            return Err(format!("{name} is back").into());
        }
        (promise.created, promise.deleted) = (Known::Yes, Known::No);
        check_partition(name, promise, found)?;
        let describe = shard.log().partition(name).map_err(|error| error.to_string())?.describe();
        let info = shard.block_on(describe).ok_or("a listed partition is not there")?;
        let start = info.log_start.0;
        if start < promise.trimmed.0 || start > promise.trimmed.1 {
            return Err(format!("{name}: starts at {start}, trimmed {:?}", promise.trimmed).into());
        }
        promise.trimmed = (start, start);
        if found.first().is_some_and(|(offset, _)| *offset != start) {
            return Err(format!("{name}: starts at {start}, first record {:?}", found.first()).into());
        }
        if let Some((offset, _)) = promise.acked.iter().next_back()
            && *offset >= info.flushed.0
        {
            return Err(format!("{name}: ends at {}, {offset} was acknowledged", info.flushed).into());
        }
        if found.last().map_or(start, |(offset, _)| offset + 1) != info.flushed.0 {
            return Err(format!("{name}: ends with {:?}, {info:?}", found.last()).into());
        }
        promise.acked = found.iter().copied().collect();
        let seen: BTreeSet<u64> = found.iter().map(|(_, id)| *id).collect();
        promise.sent.retain(|id, _| seen.contains(id));
    }
    model.retain(|_, promise| promise.deleted != Known::Yes);
    Ok(())
}

fn check_partition(name: &str, promise: &Promise, found: &[(u64, u64)]) -> Result<(), String> {
    for pair in found.windows(2) {
        if pair[1].0 != pair[0].0 + 1 || pair[1].1 <= pair[0].1 {
            return Err(format!("{name}: {:?} follows {:?}", pair[1], pair[0]));
        }
    }
    for (offset, id) in found {
        if !promise.sent.contains_key(id) {
            return Err(format!("{name}: value {id} at {offset} was never sent, or was lost before"));
        }
        if promise.acked.get(offset).is_some_and(|acked| acked != id) {
            return Err(format!(
                "{name}: {id} at {offset}, acknowledged was {:?}",
                promise.acked.get(offset)
            ));
        }
    }
    let there: BTreeMap<u64, u64> = found.iter().copied().collect();
    let first = found.first().map_or(promise.trimmed.1, |(offset, _)| *offset);
    for (offset, id) in promise.acked.range(first.max(promise.trimmed.0)..) {
        if there.get(offset) != Some(id) {
            return Err(format!("{name}: {id} was acknowledged at {offset} and is not there"));
        }
    }
    Ok(())
}
