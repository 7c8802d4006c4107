//! Single steps of an append and of a read, for benches: thin handles on what is private, so that a
//! step is measured by itself. Behind the feature `stages`, and no part of the API.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use smallvec::smallvec;
use thalweg_io::{BLOCK, Region, View, Wake};

use crate::append::group::{Assigned, GroupBuilder, GroupStart, Placed};
use crate::append::request::{AppendReply, AppendRequest, Part};
use crate::append::{Ack, Appended};
use crate::cache::TailCache;
use crate::config::PartitionConfig;
use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, ShardId, WalPosition, WalSequence};
use crate::mailbox::{Mailbox, Refused, Request};
use crate::partitions::{Partition, RunRef};
use crate::read::locate::{Located, locate};
use crate::read::{ReadFrom, ReadLevel};
use crate::record::{Batch, BatchHeader, BatchView};
use crate::segment::IndexEntry;
use crate::slot::Slot;

fn part(partition: PartitionId, batch: Batch) -> Part {
    let bytes_max = batch.encoded_len_max();
    Part { partition, batch, expected: None, bytes_max }
}

/// What one group is built from: appends that have their offsets.
pub struct GroupParts {
    assigned: Vec<Assigned>,
    placed: Vec<Placed>,
}

impl GroupParts {
    /// Gives each batch to the next of `partitions` partitions in turn; none is 0.
    pub fn new(batches: impl IntoIterator<Item = Batch>, partitions: u32) -> GroupParts {
        let mut ends = vec![Offset(0); partitions as usize];
        let assign = |(arrival, batch): (usize, Batch)| {
            let partition = arrival % ends.len();
            let at = Appended { base_offset: ends[partition], count: batch.count() };
            ends[partition] = at.end_offset();
            let part = part(PartitionId(partition as u32), batch);
            Assigned { part, at, arrival: arrival as u32 }
        };
        let mut assigned: Vec<_> = batches.into_iter().enumerate().map(assign).collect();
        assigned.sort_unstable_by_key(|each| (each.part.partition, each.arrival));
        GroupParts { assigned, placed: Vec::new() }
    }

    /// Lays the group into `out`, which holds it at its largest; returns its bytes, whole blocks.
    pub fn build(&mut self, out: &mut [u8]) -> usize {
        self.placed.clear();
        let start = GroupStart {
            number: GroupNumber(7),
            sequence: WalSequence(1),
            salt: 1,
            byte: BLOCK as u64,
            position: WalPosition(BLOCK as u64),
            durable: GroupNumber(6),
            shard: ShardId(0),
            previous: 0,
            now_ms: 1_700_000_000_000,
            directory: 2,
            revision: 3,
        };
        let mut builder = GroupBuilder::new(out, start);
        for parts in self.assigned.chunk_by(|a, b| a.part.partition == b.part.partition) {
            builder.add_partition(parts, &mut self.placed);
        }
        builder.finish(BLOCK).0
    }
}

/// An append on its way through a mailbox.
pub struct Letter(Request);

impl Letter {
    /// An append of `batch`, with a slot for the answer of its own.
    pub fn new(batch: impl Into<Batch>) -> Letter {
        let part = part(PartitionId(0), batch.into());
        let budget = part.bytes_max;
        let reply = AppendReply::One(Arc::new(Slot::new()));
        Letter(Request::Append(AppendRequest { parts: smallvec![part], ack: Ack::Flushed, reply, budget }))
    }
}

/// A shard's mailbox without the shard.
pub struct Letterbox(Mailbox);

impl Letterbox {
    /// Room for `requests_max` appends of `bytes_max` bytes in all.
    ///
    /// # Errors
    /// No `eventfd` could be had.
    pub fn new(requests_max: u32, bytes_max: u64) -> io::Result<Letterbox> {
        Ok(Letterbox(Mailbox::new(ShardId(0), requests_max, bytes_max, Arc::new(Wake::new()?))))
    }

    /// Queues a letter as an append does; gives it back if there is no room.
    #[allow(clippy::result_large_err, reason = "the letter moves either way")]
    pub fn send(&self, letter: Letter) -> Result<(), Letter> {
        self.0.try_send(letter.0).map_err(|refused| match refused {
            Refused::Full(request) | Refused::Ended(request, _) => Letter(request),
        })
    }

    /// Takes the next letter as a shard does, and gives its bytes back.
    pub fn receive(&self) -> Option<Letter> {
        let request = self.0.receive()?;
        if let Request::Append(append) = &request {
            self.0.release(append.budget);
        }
        Some(Letter(request))
    }
}

/// A shard's tail cache.
pub struct Tail(TailCache);

impl Tail {
    /// A cache of `chunks` chunks.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(chunk_bytes: usize, chunks: usize) -> io::Result<Tail> {
        Ok(Tail(TailCache::new(Region::new(chunk_bytes, chunks)?)))
    }

    /// Puts bytes at a position of the WAL; false if every chunk is held by readers.
    pub fn write(&mut self, position: u64, bytes: &[u8]) -> bool {
        let reserved = self.0.reserve(WalPosition(position), bytes.len());
        if reserved {
            self.0.spare()[..bytes.len()].copy_from_slice(bytes);
            self.0.publish(bytes.len());
        }
        reserved
    }

    /// A reader's view of bytes at a position; none if they are cached no more.
    pub fn lend(&self, position: u64, len: usize) -> Option<View> {
        self.0.lend(WalPosition(position), len)
    }

    /// A reader's view of the batch of `len` bytes at a position, its header read.
    pub fn lend_batch(&self, position: u64, len: usize) -> Option<BatchView> {
        let view = self.lend(position, len)?;
        let header = BatchHeader::read(&view).ok()?;
        Some(BatchView::checked(header, view))
    }
}

/// A partition in segments, each with its index in memory, as for one that is read from.
pub struct Indexed {
    partition: Partition,
    entries: Vec<Vec<IndexEntry>>,
}

impl Indexed {
    /// `runs` segments of `entries` index entries of `records` offsets each.
    pub fn new(runs: u32, entries: u32, records: u64) -> Indexed {
        let mut partition = Partition::new("p".into(), Arc::new(PartitionConfig::default()), Offset(0));
        let entry = |nth: u64| IndexEntry {
            base_offset: Offset(nth * records),
            end_offset: Offset((nth + 1) * records),
            position: nth * 4096,
            max_timestamp_ms: nth as i64,
            bytes: 4096,
            batches: 1,
        };
        let in_run = |run: u64| run * u64::from(entries)..(run + 1) * u64::from(entries);
        for run in 0..u64::from(runs) {
            let Range { start, end } = in_run(run);
            partition.runs.push(RunRef {
                base_offset: Offset(start * records),
                end_offset: Offset(end * records),
                file: FileNumber(run),
                max_timestamp_ms: end as i64 - 1,
                bytes: u64::from(entries) * 4096,
                first_entry: 0,
                entry_count: entries,
            });
        }
        let end = Offset(u64::from(runs) * u64::from(entries) * records);
        (partition.flushed, partition.log_end) = (end, end);
        let entries = (0..u64::from(runs)).map(|run| in_run(run).map(entry).collect()).collect();
        Indexed { partition, entries }
    }

    /// The index entry that holds `offset`; none if it is out of range.
    pub fn find(&self, offset: u64) -> Option<&IndexEntry> {
        let from = ReadFrom::Offset(Offset(offset));
        let located = locate(PartitionId(0), &self.partition, from, ReadLevel::Flushed).ok()?;
        let Located::Run { index, target } = located else { return None };
        let entries = self.entries.get(index)?;
        entries.get(target.first_of(entries))
    }
}
