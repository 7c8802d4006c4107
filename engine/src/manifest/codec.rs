//! An edit as bytes.
//!
//! | bytes  | field      | meaning (little-endian)                                       |
//! |--------|------------|---------------------------------------------------------------|
//! | 0..8   | magic      | `TLWMAN` 0 1 (the last byte is the version)                   |
//! | 8..12  | `crc32c`   | over bytes `12..len`                                          |
//! | 12..16 | `len`      | header and changes; the next edit starts at the next multiple of 4,096 |
//! | 16..24 | `revision` | the revision the edit leads to, dense                         |
//! | 24..28 | `previous` | `crc32c` of the edit before, 0 for a snapshot                 |
//! | 28..30 | `shard`    | the shard                                                     |
//! | 30     | `snapshot` | 1 if the edit starts from an empty manifest                   |
//! | 31     | reserved   | zero                                                          |
//! | 32..48 | `directory`| identity of the data directory                                |
//! | 48..52 | `count`    | changes                                                       |
//! | 52..   | changes    | see `push_change`                                             |
//!
//! Source: `docs/format.md`, "Manifest"; golden bytes in `tests/golden`.

use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, ShardId, WalSequence};
use crate::manifest::edit::{Change, Edit, SegmentKind, SegmentMeta};
use crate::planted::{Planted, planted};
use crate::wal::control::{push_settings, read_name, read_settings};
use crate::wire::{Fields, Malformed, check_crc, push_prefixed};

/// Bytes before the changes.
pub const EDIT_HEADER_BYTES: usize = 52;
const EDIT_MAGIC: [u8; 8] = *b"TLWMAN\x00\x01";

/// Who an edit belongs to and what it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EditFrame {
    /// Checksum of the whole edit.
    pub crc: u32,
    /// Bytes of the edit, unpadded.
    pub len: u32,
    /// Checksum of the edit before.
    pub previous: u32,
    /// The shard.
    pub shard: ShardId,
    /// Identity of the data directory.
    pub directory: u128,
}

fn push_change(out: &mut Vec<u8>, change: &Change) {
    let tagged = |out: &mut Vec<u8>, tag: u8, value: u64| {
        out.push(tag);
        out.extend_from_slice(&value.to_le_bytes());
    };
    match change {
        Change::WalFileAdded(file) => tagged(out, 1, file.0),
        Change::WalFileRemoved(file) => tagged(out, 2, file.0),
        Change::Floor { sequence, group } => {
            tagged(out, 3, sequence.0);
            out.extend_from_slice(&group.0.to_le_bytes());
        }
        Change::SegmentAdded(meta) => {
            tagged(out, 4, meta.file.0);
            out.extend_from_slice(&meta.file_bytes.to_le_bytes());
            out.extend_from_slice(&meta.batch_bytes.to_le_bytes());
            out.extend_from_slice(&meta.footer_crc.to_le_bytes());
            out.extend_from_slice(&meta.runs.to_le_bytes());
            out.push(match meta.kind {
                SegmentKind::Promoted => 0,
                SegmentKind::Shared => 1,
                SegmentKind::Own => 2,
                SegmentKind::Merged => 3,
            });
        }
        Change::SegmentRemoved(file) => tagged(out, 5, file.0),
        Change::PartitionCreated { partition, config, log_start, name } => {
            tagged(out, 6, u64::from(partition.0));
            push_settings(out, config);
            out.extend_from_slice(&log_start.0.to_le_bytes());
            push_prefixed(out, name.as_bytes());
        }
        Change::PartitionDeleted(partition) => tagged(out, 7, u64::from(partition.0)),
        Change::Trimmed { partition, log_start } => {
            tagged(out, 8, u64::from(partition.0));
            out.extend_from_slice(&log_start.0.to_le_bytes());
        }
        Change::Configured { partition, config } => {
            tagged(out, 9, u64::from(partition.0));
            push_settings(out, config);
        }
        Change::NextPartition(partition) => tagged(out, 10, u64::from(partition.0)),
        Change::NextFile(file) => tagged(out, 11, file.0),
        Change::JointResolved(transaction) => tagged(out, 12, *transaction),
        Change::Durable(group) => tagged(out, 13, group.0),
    }
}

fn read_partition(fields: &mut Fields<'_>) -> Result<PartitionId, Malformed> {
    let value = fields.u64("manifest partition")?;
    let narrow = u32::try_from(value);
    narrow.map(PartitionId).map_err(|_| Malformed::Impossible { field: "manifest partition", value })
}

fn read_segment(fields: &mut Fields<'_>) -> Result<SegmentMeta, Malformed> {
    Ok(SegmentMeta {
        file: FileNumber(fields.u64("segment file")?),
        file_bytes: fields.u64("segment file_bytes")?,
        batch_bytes: fields.u64("segment batch_bytes")?,
        footer_crc: fields.u32("segment footer_crc")?,
        runs: fields.u32("segment runs")?,
        kind: match fields.u8("segment kind")? {
            0 => SegmentKind::Promoted,
            1 => SegmentKind::Shared,
            2 => SegmentKind::Own,
            3 => SegmentKind::Merged,
            kind => return Err(Malformed::Impossible { field: "segment kind", value: u64::from(kind) }),
        },
    })
}

fn read_change(fields: &mut Fields<'_>) -> Result<Change, Malformed> {
    Ok(match fields.u8("manifest change")? {
        1 => Change::WalFileAdded(FileNumber(fields.u64("WAL file")?)),
        2 => Change::WalFileRemoved(FileNumber(fields.u64("WAL file")?)),
        3 => Change::Floor {
            sequence: WalSequence(fields.u64("floor sequence")?),
            group: GroupNumber(fields.u64("floor group")?),
        },
        4 => Change::SegmentAdded(read_segment(fields)?),
        5 => Change::SegmentRemoved(FileNumber(fields.u64("segment file")?)),
        6 => Change::PartitionCreated {
            partition: read_partition(fields)?,
            config: read_settings(fields)?,
            log_start: Offset(fields.u64("log start")?),
            name: read_name(fields)?.into(),
        },
        7 => Change::PartitionDeleted(read_partition(fields)?),
        8 => Change::Trimmed {
            partition: read_partition(fields)?,
            log_start: Offset(fields.u64("log start")?),
        },
        9 => Change::Configured { partition: read_partition(fields)?, config: read_settings(fields)? },
        10 => Change::NextPartition(read_partition(fields)?),
        11 => Change::NextFile(FileNumber(fields.u64("next file")?)),
        12 => Change::JointResolved(fields.u64("joint append")?),
        13 => Change::Durable(GroupNumber(fields.u64("durable group")?)),
        tag => return Err(Malformed::Impossible { field: "manifest change", value: u64::from(tag) }),
    })
}

/// Encodes an edit; returns its bytes, unpadded, and its checksum.
#[must_use]
pub fn encode_edit(edit: &Edit, shard: ShardId, directory: u128, previous: u32) -> (Vec<u8>, u32) {
    let mut out = Vec::with_capacity(EDIT_HEADER_BYTES + 32 * edit.changes.len());
    out.extend_from_slice(&EDIT_MAGIC);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&edit.revision.to_le_bytes());
    out.extend_from_slice(&previous.to_le_bytes());
    out.extend_from_slice(&shard.0.to_le_bytes());
    out.extend_from_slice(&[u8::from(edit.snapshot), 0]);
    out.extend_from_slice(&directory.to_le_bytes());
    out.extend_from_slice(&(edit.changes.len() as u32).to_le_bytes());
    edit.changes.iter().for_each(|change| push_change(&mut out, change));
    let len = u32::try_from(out.len()).expect("a manifest is smaller than 4 GiB");
    out[12..16].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c(&out[12..]);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    (out, crc)
}

/// Reads the edit at the front of `bytes`.
///
/// # Errors
/// [`Malformed`] if it is not a whole, undamaged edit of a version this build knows.
pub fn decode_edit(bytes: &[u8]) -> Result<(EditFrame, Edit), Malformed> {
    let mut fields = Fields::new(bytes);
    let magic = fields.take(8, "manifest magic")?;
    if magic[..7] != EDIT_MAGIC[..7] {
        return Err(Malformed::Impossible { field: "manifest magic", value: u64::from(magic[0]) });
    }
    if magic[7] != EDIT_MAGIC[7] {
        return Err(Malformed::Version { what: "manifest", found: u16::from(magic[7]), known: 1 });
    }
    let crc = fields.u32("manifest crc32c")?;
    let len = fields.u32("manifest len")?;
    if (len as usize) < EDIT_HEADER_BYTES {
        return Err(Malformed::Impossible { field: "manifest len", value: u64::from(len) });
    }
    if len as usize > bytes.len() {
        return Err(Malformed::Short { field: "manifest edit", at: bytes.len() });
    }
    if !planted(Planted::ManifestUnchecked) {
        check_crc("manifest edit", crc, crc32c::crc32c(&bytes[12..len as usize]))?;
    }
    let mut fields = Fields::new(&bytes[..len as usize]);
    fields.take(16, "manifest header")?;
    let revision = fields.u64("manifest revision")?;
    let previous = fields.u32("manifest previous")?;
    let shard = ShardId(fields.u16("manifest shard")?);
    let snapshot = fields.u8("manifest snapshot")? == 1;
    fields.u8("manifest reserved")?;
    let directory = fields.take(16, "manifest directory")?;
    let directory = u128::from_le_bytes(directory.try_into().expect("16 bytes were taken"));
    let count = fields.u32("manifest count")?;
    // A change takes nine bytes at least, which bounds what a wrong count can allocate.
    if count as usize > fields.remaining() / 9 {
        return Err(Malformed::Impossible { field: "manifest count", value: u64::from(count) });
    }
    let changes = (0..count).map(|_| read_change(&mut fields)).collect::<Result<_, _>>()?;
    if fields.remaining() > 0 {
        let value = fields.remaining() as u64;
        return Err(Malformed::Impossible { field: "bytes after the last change", value });
    }
    Ok((EditFrame { crc, len, previous, shard, directory }, Edit { revision, snapshot, changes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PartitionConfig;

    fn sample() -> Edit {
        let meta = SegmentMeta {
            file: FileNumber(9),
            file_bytes: 8192,
            footer_crc: 77,
            runs: 2,
            kind: SegmentKind::Own,
            batch_bytes: 5000,
        };
        let changes = vec![
            Change::WalFileAdded(FileNumber(1)),
            Change::WalFileRemoved(FileNumber(2)),
            Change::Floor { sequence: WalSequence(3), group: GroupNumber(40) },
            Change::SegmentAdded(meta),
            Change::SegmentRemoved(FileNumber(5)),
            Change::PartitionCreated {
                partition: PartitionId(6),
                config: PartitionConfig::default(),
                log_start: Offset(7),
                name: "événements".into(),
            },
            Change::PartitionDeleted(PartitionId(8)),
            Change::Trimmed { partition: PartitionId(6), log_start: Offset(9) },
            Change::Configured { partition: PartitionId(6), config: PartitionConfig::default() },
            Change::NextPartition(PartitionId(10)),
            Change::NextFile(FileNumber(11)),
            Change::JointResolved(12),
            Change::Durable(GroupNumber(13)),
        ];
        Edit { revision: 4, snapshot: true, changes }
    }

    #[test]
    fn an_edit_comes_back_as_written() {
        let (bytes, crc) = encode_edit(&sample(), ShardId(2), 99, 5);
        let (frame, edit) = decode_edit(&bytes).unwrap();
        assert_eq!(edit, sample());
        let len = bytes.len() as u32;
        assert_eq!(frame, EditFrame { crc, len, previous: 5, shard: ShardId(2), directory: 99 });
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let (bytes, _) = encode_edit(&sample(), ShardId(2), 99, 5);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_edit(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode_edit(&bytes[..len]).is_err(), "length {len}");
        }
    }
}
