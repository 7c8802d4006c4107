//! Where each partition ends, as far as what is left of a log can tell, and how many offsets may
//! have been given out in what is missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{Offset, PartitionId};
use crate::inspect::remains::{Group, Part, Piece, Remains};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind};
use crate::wal::control::Control;

/// The smallest record in a batch: a length, two deltas, no key, no value, no headers.
const RECORD_BYTES_MIN: u64 = 6;

/// Most offsets that batches of so many bytes can cover. A batch takes 64 bytes at least, and an
/// opaque one takes whatever offsets its caller asked for, up to 2³² − 1 of them.
pub(super) fn offsets_max(bytes: u64) -> u64 {
    (bytes / BATCH_HEADER_BYTES as u64).saturating_mul(u64::from(u32::MAX))
}

/// The end of a partition.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    offset: Offset,
    /// Missing bytes seen before a batch of the partition said how far it had come.
    seen: u64,
    /// Missing bytes that only some partitions can have records in.
    own: u64,
}

/// Ends of partitions, while everything in the log goes by in order.
#[derive(Default)]
pub(super) struct Ledger {
    ends: BTreeMap<PartitionId, End>,
    /// Bytes of batches that are missing so far, of whichever partition.
    missing: u64,
    /// The same, with those that only some partitions can have had.
    missing_at_all: u64,
}

impl Ledger {
    /// A partition comes at least so far.
    pub(super) fn reaches(&mut self, partition: PartitionId, offset: Offset) {
        let end = self.ends.entry(partition).or_default();
        end.offset = end.offset.max(offset);
    }

    /// Bytes of batches are missing: of `owners` only, if that is known.
    pub(super) fn miss(&mut self, bytes: u64, owners: Option<&BTreeSet<PartitionId>>) {
        self.missing_at_all = self.missing_at_all.saturating_add(bytes);
        match owners {
            None => self.missing = self.missing.saturating_add(bytes),
            Some(owners) => owners.iter().for_each(|owner| {
                let end = self.ends.entry(*owner).or_default();
                end.own = end.own.saturating_add(bytes);
            }),
        }
    }

    /// A batch of the partition is there: whatever is missing from before it is a gap before it.
    fn pin(&mut self, partition: PartitionId, offset: Offset) {
        let offset = self.ends.get(&partition).map_or(offset, |end| end.offset.max(offset));
        self.ends.insert(partition, End { offset, seen: self.missing, own: 0 });
    }

    /// Everything in the WAL, in order.
    pub(super) fn walk(&mut self, remains: &Remains) {
        for piece in &remains.pieces {
            match piece {
                Piece::Hole(hole) => self.miss(hole.bytes, None),
                Piece::Group(group) => group.parts.iter().for_each(|part| self.part(group, part)),
            }
        }
    }

    fn part(&mut self, group: &Group, part: &Part) {
        match part {
            Part::Whole(at, header) if header.kind == BatchKind::Control => {
                match group.control(*at, header) {
                    Some(Control::Create { partition, .. }) => self.pin(partition, Offset(0)),
                    Some(Control::Trim { partition, log_start }) => self.reaches(partition, log_start),
                    _ => {}
                }
            }
            Part::Whole(_, header) => self.pin(header.partition, header.end_offset()),
            Part::Broken { at, bytes, claims, .. } => {
                let owner = claims.and_then(|claims| self.owner(group, *at, &claims));
                match (owner, claims) {
                    (Some(owner), Some(claims)) => self.pin(owner, claims.end_offset()),
                    (None, Some(claims)) if is_control(claims) => {}
                    _ => self.miss(*bytes, None),
                }
            }
        }
    }

    /// Whose a broken batch was, if its header can be believed: it must say twice how many offsets
    /// it covers, and start exactly where its partition had come to.
    fn owner(&self, group: &Group, at: usize, claims: &BatchHeader) -> Option<PartitionId> {
        let next = |end: &End| {
            (end.seen == self.missing && end.own == 0 && end.offset == claims.base_offset).then_some(())
        };
        let span = claims.offset_span;
        let body = u64::from(claims.len) - BATCH_HEADER_BYTES as u64;
        let fits = match claims.kind {
            BatchKind::Records => u64::from(span) <= body / RECORD_BYTES_MIN,
            BatchKind::Opaque => true,
            BatchKind::Control => false,
        };
        if !fits || span == 0 || claims.record_count != span {
            return None;
        }
        next(self.ends.get(&claims.partition)?)?;
        // Another partition at the same offset: the checksum tells whether only the name is wrong.
        let batch = group.bytes.get(at..at + claims.len as usize)?;
        let behind = crc32c::crc32c(&batch[12..]);
        let mut others = self.ends.iter().filter(|(id, end)| **id != claims.partition && next(end).is_some());
        let named = others.find(|(id, _)| {
            let front = crc32c::crc32c_append(crc32c::crc32c(&batch[4..8]), &id.0.to_le_bytes());
            crc32c::crc32c_combine(front, behind, batch.len() - 12) == claims.crc
        });
        Some(named.map_or(claims.partition, |(id, _)| *id))
    }

    /// The offset after the last one that the partition is known to have come to, and most offsets
    /// that it may have given out behind that.
    pub(super) fn end(&self, partition: PartitionId) -> (Offset, u64) {
        let end = self.ends.get(&partition).copied().unwrap_or_default();
        (end.offset, offsets_max((self.missing - end.seen).saturating_add(end.own)))
    }

    /// Bytes of batches that are missing, of which nothing says whose they were.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.missing_at_all
    }
}

/// Whether a broken batch was a change of the catalog: all that is nothing in such a header is.
fn is_control(claims: &BatchHeader) -> bool {
    let zeros = claims.base_offset.0 == 0 && claims.offset_span == 0 && claims.record_count == 0;
    claims.kind == BatchKind::Control
        && zeros
        && claims.base_timestamp_ms == 0
        && claims.max_timestamp_ms == 0
}
