//! Compaction by key: only the last record of each key is kept.
//!
//! Offsets stay as they are: a compacted batch covers the offsets it always did, and holds fewer
//! records. Records without a key are kept.

use rustc_hash::FxHashMap;

use crate::ids::Offset;
use crate::planted::{Planted, planted};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind, BatchView};
use crate::segment::ReadError;

/// Most bytes of keys that one compaction remembers; what is behind the point where it is full is left
/// to the next one.
const KEY_BYTES_MAX: usize = 64 << 20;
/// What a key costs beside its bytes.
const KEY_OVERHEAD: usize = 64;

/// The last offset of every key.
#[derive(Default)]
pub(super) struct KeyMap {
    last: FxHashMap<Box<[u8]>, Offset>,
    bytes: usize,
    /// Batches from here on were not looked at.
    end: Option<Offset>,
}

impl KeyMap {
    /// Notes the keys of a batch; batches come in offset order.
    pub(super) fn note(&mut self, batch: &BatchView) -> Result<(), ReadError> {
        if self.end.is_some() || batch.header().kind != BatchKind::Records {
            return Ok(());
        }
        let most = batch.body().len() + batch.header().record_count as usize * KEY_OVERHEAD;
        // One batch is always taken, however large: otherwise there would never be an end to it.
        if self.bytes > 0 && self.bytes + most > KEY_BYTES_MAX {
            self.end = Some(batch.base_offset());
            return Ok(());
        }
        for record in batch.records() {
            let record = record.map_err(|error| ReadError::new(batch.base_offset().0, error))?;
            let Some(key) = record.key() else { continue };
            if planted(Planted::CompactionKeepsFirst) && self.last.contains_key(key) {
                continue;
            }
            if let Some(last) = self.last.get_mut(key) {
                *last = record.offset;
                continue;
            }
            self.bytes += key.len() + KEY_OVERHEAD;
            self.last.insert(key.into(), record.offset);
        }
        Ok(())
    }

    /// The first offset whose keys are not known, if memory did not suffice. Nothing behind it may be
    /// left out: a tombstone there may be what hides a value before it.
    pub(super) fn end(&self) -> Option<Offset> {
        self.end
    }

    fn is_last(&self, key: &[u8], offset: Offset) -> bool {
        if planted(Planted::CompactionKeepsFirst) {
            return self.last.get(key).is_none_or(|first| *first >= offset);
        }
        self.last.get(key).is_none_or(|last| *last <= offset)
    }
}

/// What remains of a batch.
pub(super) enum Keep {
    Whole,
    Part(BatchHeader, Vec<u8>),
    Nothing,
}

/// Leaves out records whose key occurs later, and tombstones older than `horizon_ms`.
pub(super) fn compact_batch(batch: &BatchView, keys: &KeyMap, horizon_ms: i64) -> Result<Keep, ReadError> {
    let header = batch.header();
    if header.kind != BatchKind::Records {
        return Ok(Keep::Whole);
    }
    let mut bytes = vec![0; BATCH_HEADER_BYTES];
    let mut kept = 0;
    let mut max_timestamp_ms = i64::MIN;
    let mut rest = batch.body();
    for record in batch.records() {
        let record = record.map_err(|error| ReadError::new(batch.base_offset().0, error))?;
        let (raw, behind) = rest.split_at(record.encoded_len());
        rest = behind;
        let keep = record.key().is_none_or(|key| {
            let of_age = record.timestamp_ms < horizon_ms || planted(Planted::TombstonesDroppedAtOnce);
            let dead = record.value().is_none() && of_age;
            keys.is_last(key, record.offset) && !dead
        });
        if keep {
            bytes.extend_from_slice(raw);
            kept += 1;
            max_timestamp_ms = max_timestamp_ms.max(record.timestamp_ms);
        }
    }
    if kept == header.record_count {
        return Ok(Keep::Whole);
    }
    if kept == 0 {
        return Ok(Keep::Nothing);
    }
    let mut header = BatchHeader { len: bytes.len() as u32, record_count: kept, max_timestamp_ms, ..*header };
    header.crc = header.seal(&mut bytes);
    Ok(Keep::Part(header, bytes))
}

#[cfg(test)]
mod tests {
    use thalweg_io::{AlignedBuf, View};

    use super::*;
    use crate::ids::{LeaderEpoch, PartitionId};
    use crate::record::{Record, encoded_len_max, write_record};

    /// A batch of `records` records with the same short key.
    fn batch(base_offset: u64, records: u32) -> BatchView {
        let record = Record::new("v").with_key("k");
        let mut bytes = vec![0; BATCH_HEADER_BYTES];
        let mut out = vec![0; encoded_len_max(&record)];
        for delta in 0..records {
            let len = write_record(&mut out, &record, delta, 0);
            bytes.extend_from_slice(&out[..len]);
        }
        let header = BatchHeader {
            crc: 0,
            len: bytes.len() as u32,
            partition: PartitionId(0),
            leader_epoch: LeaderEpoch(0),
            base_offset: Offset(base_offset),
            offset_span: records,
            record_count: records,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            kind: BatchKind::Records,
        };
        BatchView::checked(header, View::of(AlignedBuf::padded(&bytes), bytes.len()))
    }

    #[test]
    fn keys_of_one_batch_are_known_however_many() {
        let many = (KEY_BYTES_MAX / KEY_OVERHEAD) as u32 + 1;
        let mut keys = KeyMap::default();
        keys.note(&batch(0, many)).unwrap();
        assert_eq!(keys.end(), None);
        assert!(keys.is_last(b"k", Offset(u64::from(many) - 1)) && !keys.is_last(b"k", Offset(0)));
        // Whatever follows may not fit: it is left to the next time.
        keys.note(&batch(u64::from(many), many)).unwrap();
        assert_eq!(keys.end(), Some(Offset(u64::from(many))));
    }
}
