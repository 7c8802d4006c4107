//! Step 3: copy the records into the tail cache, in the form they have on disk.
//!
//! Each record is copied once, from the caller's memory into the chunk the kernel will write from.
//! Appends to one partition that share a group become one batch, so a stream of small records
//! costs one header a group, not one each.

use crate::append::Appended;
use crate::append::request::Part;
use crate::ids::{GroupNumber, LeaderEpoch, Offset, PartitionId, ShardId, WalPosition, WalSequence};
use crate::record::{BATCH_HEADER_BYTES, Batch, BatchHeader, BatchKind, write_record};
use crate::wal::group::{BatchDigest, GROUP_HEADER_BYTES, GroupHeader};

/// A part with its offsets, waiting to be laid into the group.
pub(crate) struct Assigned {
    pub part: Part,
    pub at: Appended,
    /// Order of arrival, which decides among parts of one partition.
    pub arrival: u32,
}

/// A batch as it lies in the WAL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub partition: PartitionId,
    pub base_offset: Offset,
    pub span: u32,
    pub position: WalPosition,
    pub len: u32,
    pub max_timestamp_ms: i64,
}

/// What the group's header says beside its batches.
pub(crate) struct GroupStart {
    pub number: GroupNumber,
    pub sequence: WalSequence,
    pub salt: u64,
    /// Byte in the file at which the group starts.
    pub byte: u64,
    /// The same in the shard's WAL.
    pub position: WalPosition,
    pub durable: GroupNumber,
    pub shard: ShardId,
    pub previous: u32,
    pub now_ms: i64,
    /// Lower half of the data directory's identity.
    pub directory: u64,
    /// The manifest's last durable revision.
    pub revision: u64,
}

/// Lays one group into `out`.
pub(crate) struct GroupBuilder<'a> {
    out: &'a mut [u8],
    at: usize,
    start: GroupStart,
    digest: BatchDigest,
    batches: u32,
}

impl<'a> GroupBuilder<'a> {
    /// Starts a group at the front of `out`, which holds the group at its largest.
    pub(crate) fn new(out: &'a mut [u8], start: GroupStart) -> GroupBuilder<'a> {
        GroupBuilder { out, at: GROUP_HEADER_BYTES, start, digest: BatchDigest::default(), batches: 0 }
    }

    /// Adds a batch that is whole already.
    pub(crate) fn add_encoded(&mut self, batch: &[u8]) {
        self.out[self.at..self.at + batch.len()].copy_from_slice(batch);
        let crc = u32::from_le_bytes(batch[..4].try_into().expect("a batch has a header"));
        self.finish_batch(batch.len(), crc);
    }

    /// Adds the parts of one partition, in order, as one batch each for opaque parts and one for
    /// every run of records. Parts follow each other without a gap in offsets.
    pub(crate) fn add_partition(&mut self, parts: &[Assigned], placed: &mut Vec<Placed>) {
        let mut from = 0;
        while from < parts.len() {
            let opaque = matches!(parts[from].part.batch, Batch::Opaque { .. });
            let records =
                parts[from..].iter().take_while(|part| !matches!(part.part.batch, Batch::Opaque { .. }));
            let count = if opaque { 1 } else { records.count() };
            let run = &parts[from..from + count];
            placed.push(if opaque { self.add_opaque(&run[0]) } else { self.add_records(run) });
            from += count;
        }
    }

    fn add_opaque(&mut self, part: &Assigned) -> Placed {
        let Batch::Opaque { bytes, count, max_timestamp_ms } = &part.part.batch else {
            unreachable!("the caller looked")
        };
        let body = self.at + BATCH_HEADER_BYTES;
        self.out[body..body + bytes.len()].copy_from_slice(bytes);
        let header = BatchHeader {
            crc: 0,
            len: (BATCH_HEADER_BYTES + bytes.len()) as u32,
            partition: part.part.partition,
            leader_epoch: LeaderEpoch(0),
            base_offset: part.at.base_offset,
            offset_span: *count,
            record_count: *count,
            base_timestamp_ms: *max_timestamp_ms,
            max_timestamp_ms: *max_timestamp_ms,
            kind: BatchKind::Opaque,
        };
        self.seal_batch(&header)
    }

    fn add_records(&mut self, parts: &[Assigned]) -> Placed {
        let now_ms = self.start.now_ms;
        let first = parts[0].part.batch.records().first();
        let base_timestamp_ms = first.and_then(|record| record.timestamp_ms).unwrap_or(now_ms);
        let mut max_timestamp_ms = base_timestamp_ms;
        let mut delta = 0u32;
        let mut at = self.at + BATCH_HEADER_BYTES;
        for record in parts.iter().flat_map(|part| part.part.batch.records()) {
            let timestamp_ms = record.timestamp_ms.unwrap_or(now_ms);
            max_timestamp_ms = max_timestamp_ms.max(timestamp_ms);
            let timestamp_delta = timestamp_ms.wrapping_sub(base_timestamp_ms);
            at += write_record(&mut self.out[at..], record, delta, timestamp_delta);
            delta += 1;
        }
        let header = BatchHeader {
            crc: 0,
            len: (at - self.at) as u32,
            partition: parts[0].part.partition,
            leader_epoch: LeaderEpoch(0),
            base_offset: parts[0].at.base_offset,
            offset_span: delta,
            record_count: delta,
            base_timestamp_ms,
            max_timestamp_ms,
            kind: BatchKind::Records,
        };
        self.seal_batch(&header)
    }

    fn seal_batch(&mut self, header: &BatchHeader) -> Placed {
        let len = header.len as usize;
        // The copy left the bytes in the first-level cache: the checksum costs little here.
        let crc = header.seal(&mut self.out[self.at..self.at + len]);
        let placed = Placed {
            partition: header.partition,
            base_offset: header.base_offset,
            span: header.offset_span,
            position: WalPosition(self.start.position.0 + self.at as u64),
            len: header.len,
            max_timestamp_ms: header.max_timestamp_ms,
        };
        self.finish_batch(len, crc);
        placed
    }

    fn finish_batch(&mut self, len: usize, crc: u32) {
        let end = self.at + len;
        self.at = end.next_multiple_of(8);
        self.out[end..self.at].fill(0);
        self.digest.add(crc);
        self.batches += 1;
    }

    /// Writes the header and pads to `block`; returns the group's padded length and its header's
    /// checksum.
    pub(crate) fn finish(self, block: usize) -> (usize, u32) {
        let len = self.at;
        let padded = len.next_multiple_of(block);
        self.out[len..padded].fill(0);
        let header = GroupHeader {
            crc: 0,
            len: len as u32,
            number: self.start.number,
            sequence: self.start.sequence,
            position: self.start.byte,
            durable: self.start.durable,
            shard: self.start.shard,
            batch_count: self.batches,
            batch_digest: self.digest.get(),
            previous: self.start.previous,
            written_ms: self.start.now_ms,
            salt: self.start.salt,
            directory: self.start.directory,
            revision: self.start.revision,
        };
        let crc = header.seal(&mut self.out[..len]);
        (padded, crc)
    }
}
