//! The batch: the unit that is checksummed, stored and handed to readers, the same bytes in the
//! WAL, in a segment and on the way to a reader.

use crate::ids::{LeaderEpoch, Offset, PartitionId};
use crate::wire::{Fields, Malformed, Writer, check_crc};

/// Bytes of a batch's header.
pub const BATCH_HEADER_BYTES: usize = 64;

/// What a batch's body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Records as `docs/format.md`, "Record" draws them.
    Records,
    /// Bytes of the caller's own format, stored and returned as they are.
    Opaque,
    /// A change of the shard's catalog (`wal::control`); never shown to readers.
    Control,
}

impl BatchKind {
    fn code(self) -> u8 {
        match self {
            BatchKind::Records => 0,
            BatchKind::Opaque => 1,
            BatchKind::Control => 2,
        }
    }

    fn from_code(code: u8) -> Result<BatchKind, Malformed> {
        match code {
            0 => Ok(BatchKind::Records),
            1 => Ok(BatchKind::Opaque),
            2 => Ok(BatchKind::Control),
            _ => Err(Malformed::Impossible { field: "batch kind", value: u64::from(code) }),
        }
    }
}

/// A batch's header.
///
/// | bytes  | field            | meaning (little-endian)                                     |
/// |--------|------------------|-------------------------------------------------------------|
/// | 0..4   | `crc32c`         | over bytes `4..len`                                         |
/// | 4..8   | `len`            | bytes of header and body, padding not counted               |
/// | 8..12  | `partition`      | partition id                                                |
/// | 12..16 | `leader_epoch`   | epoch of the appending leader                               |
/// | 16..24 | `base_offset`    | offset of the first record ever in the batch                |
/// | 24..28 | `offset_span`    | offsets the batch covers: the next batch starts that far on |
/// | 28..32 | `record_count`   | records in the body; less than the span after compaction    |
/// | 32..40 | `base_timestamp` | ms since the Unix epoch; records count from it              |
/// | 40..48 | `max_timestamp`  | the largest timestamp in the batch                          |
/// | 48     | `kind`           | 0 records, 1 opaque, 2 control                              |
/// | 49..64 | reserved         | zero                                                        |
///
/// Source: `docs/format.md`, "Batch"; golden bytes in `tests/golden`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Over everything behind the checksum.
    pub crc: u32,
    /// Bytes of header and body.
    pub len: u32,
    /// The partition.
    pub partition: PartitionId,
    /// Epoch of the appending leader.
    pub leader_epoch: LeaderEpoch,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offsets covered.
    pub offset_span: u32,
    /// Records in the body.
    pub record_count: u32,
    /// Records' timestamps count from here, ms.
    pub base_timestamp_ms: i64,
    /// The largest timestamp, ms.
    pub max_timestamp_ms: i64,
    /// What the body holds.
    pub kind: BatchKind,
}

impl BatchHeader {
    /// The offset after the last one covered.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.offset_span))
    }

    /// Bytes to the next batch in a group or segment: `len` rounded up to 8.
    #[must_use]
    pub fn stride(&self) -> usize {
        (self.len as usize).next_multiple_of(8)
    }

    /// Writes the header over the first 64 bytes of `batch`, whose body is already behind it, and
    /// sets its checksum. `self.crc` is ignored. Returns the checksum.
    ///
    /// # Panics
    /// If `batch` is not `self.len` bytes long.
    pub fn seal(&self, batch: &mut [u8]) -> u32 {
        assert!(batch.len() == self.len as usize && batch.len() >= BATCH_HEADER_BYTES);
        let mut out = Writer::new(&mut batch[4..BATCH_HEADER_BYTES]);
        out.put(&self.len.to_le_bytes());
        out.put(&self.partition.0.to_le_bytes());
        out.put(&self.leader_epoch.0.to_le_bytes());
        out.put(&self.base_offset.0.to_le_bytes());
        out.put(&self.offset_span.to_le_bytes());
        out.put(&self.record_count.to_le_bytes());
        out.put(&self.base_timestamp_ms.to_le_bytes());
        out.put(&self.max_timestamp_ms.to_le_bytes());
        out.put(&[self.kind.code()]);
        out.put(&[0; 15]);
        let crc = crc32c::crc32c(&batch[4..]);
        batch[..4].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads the header at the front of `bytes`, without looking at the body.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes cannot be a batch that lies inside `bytes`.
    pub fn read(bytes: &[u8]) -> Result<BatchHeader, Malformed> {
        let mut fields = Fields::new(bytes);
        let header = BatchHeader {
            crc: fields.u32("batch crc32c")?,
            len: fields.u32("batch len")?,
            partition: PartitionId(fields.u32("batch partition")?),
            leader_epoch: LeaderEpoch(fields.u32("batch leader_epoch")?),
            base_offset: Offset(fields.u64("batch base_offset")?),
            offset_span: fields.u32("batch offset_span")?,
            record_count: fields.u32("batch record_count")?,
            base_timestamp_ms: fields.i64("batch base_timestamp")?,
            max_timestamp_ms: fields.i64("batch max_timestamp")?,
            kind: BatchKind::from_code(fields.u8("batch kind")?)?,
        };
        let reserved = fields.take(15, "batch reserved")?;
        if reserved.iter().any(|byte| *byte != 0) {
            return Err(Malformed::Impossible { field: "batch reserved", value: u64::from(reserved[0]) });
        }
        if (header.len as usize) < BATCH_HEADER_BYTES || header.record_count > header.offset_span.max(1) {
            return Err(Malformed::Impossible { field: "batch len", value: u64::from(header.len) });
        }
        if header.len as usize > bytes.len() {
            return Err(Malformed::Short { field: "batch body", at: bytes.len() });
        }
        if header.base_offset.0.checked_add(u64::from(header.offset_span)).is_none() {
            return Err(Malformed::Impossible { field: "batch base_offset", value: header.base_offset.0 });
        }
        Ok(header)
    }
}

/// Reads the batch at the front of `bytes` and compares its checksum.
///
/// # Errors
/// [`Malformed`] if it is not a whole, undamaged batch.
pub fn check_batch(bytes: &[u8]) -> Result<BatchHeader, Malformed> {
    let header = BatchHeader::read(bytes)?;
    check_crc("batch", header.crc, crc32c::crc32c(&bytes[4..header.len as usize]))?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (BatchHeader, Vec<u8>) {
        let mut bytes = vec![0u8; BATCH_HEADER_BYTES];
        bytes.extend_from_slice(b"body");
        let mut header = BatchHeader {
            crc: 0,
            len: bytes.len() as u32,
            partition: PartitionId(7),
            leader_epoch: LeaderEpoch(3),
            base_offset: Offset(100),
            offset_span: 4,
            record_count: 2,
            base_timestamp_ms: -5,
            max_timestamp_ms: 9,
            kind: BatchKind::Opaque,
        };
        header.crc = header.seal(&mut bytes);
        (header, bytes)
    }

    #[test]
    fn a_header_comes_back_as_written() {
        let (header, bytes) = sample();
        assert_eq!(check_batch(&bytes), Ok(header));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (_, bytes) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(check_batch(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let (_, bytes) = sample();
        for len in 0..bytes.len() {
            assert!(check_batch(&bytes[..len]).is_err(), "length {len}");
        }
    }
}
