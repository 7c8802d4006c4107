//! The end of a segment: what is in it and where.
//!
//! ```text
//! ┌ batches (or the groups of a promoted WAL file) ┬ entries ┬ runs ┬ zeros ┬ trailer ┐
//!                                                   ^ footer_position, a multiple of 4,096
//! ```
//! A *run* is one partition's part of the segment; an *entry* is a contiguous piece of it. The
//! trailer is the last 128 bytes of the file, so a segment describes itself.

use crate::ids::{FileNumber, Offset, PartitionId, ShardId};
use crate::manifest::SegmentKind;
use crate::planted::{Planted, planted};
use crate::wire::{Fields, Malformed, check_crc};
use thalweg_io::BLOCK;

/// Bytes of an index entry.
pub const ENTRY_BYTES: usize = 48;
/// Bytes of a run.
pub const RUN_BYTES: usize = 64;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 128;
const TRAILER_MAGIC: [u8; 8] = *b"TLWSEG\x00\x01";

/// A contiguous piece of a run: whole batches, one behind the other, each padded to 8 bytes.
///
/// | bytes  | field           | meaning (little-endian)                        |
/// |--------|-----------------|------------------------------------------------|
/// | 0..8   | `base_offset`   | offset of the first batch                      |
/// | 8..16  | `end_offset`    | offset after the last batch                    |
/// | 16..24 | `position`      | byte in the file                               |
/// | 24..32 | `max_timestamp` | largest timestamp up to here in the run, ms    |
/// | 32..36 | `bytes`         | length, padding included                       |
/// | 36..40 | `batches`       | batches                                        |
/// | 40..44 | `crc32c`        | over bytes `0..40`                             |
/// | 44..48 | reserved        | zero                                           |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offset of the first batch.
    pub base_offset: Offset,
    /// Offset after the last batch.
    pub end_offset: Offset,
    /// Byte in the file.
    pub position: u64,
    /// Largest timestamp of the run up to and with this entry, ms: it only grows, so it is searched.
    pub max_timestamp_ms: i64,
    /// Length in bytes.
    pub bytes: u32,
    /// Batches.
    pub batches: u32,
}

impl IndexEntry {
    pub(super) fn push(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.base_offset.0.to_le_bytes());
        out.extend_from_slice(&self.end_offset.0.to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.max_timestamp_ms.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.batches.to_le_bytes());
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`Malformed`] if it is damaged.
    pub fn read(bytes: &[u8]) -> Result<IndexEntry, Malformed> {
        let mut fields = Fields::new(bytes);
        let entry = IndexEntry {
            base_offset: Offset(fields.u64("entry base_offset")?),
            end_offset: Offset(fields.u64("entry end_offset")?),
            position: fields.u64("entry position")?,
            max_timestamp_ms: fields.i64("entry max_timestamp")?,
            bytes: fields.u32("entry bytes")?,
            batches: fields.u32("entry batches")?,
        };
        let crc = fields.u32("entry crc32c")?;
        if !planted(Planted::IndexUnchecked) {
            check_crc("index entry", crc, crc32c::crc32c(&bytes[..40]))?;
        }
        fields.u32("entry reserved")?;
        if entry.end_offset < entry.base_offset {
            return Err(Malformed::Impossible { field: "entry end_offset", value: entry.end_offset.0 });
        }
        Ok(entry)
    }
}

/// One partition's part of a segment.
///
/// | bytes  | field           | meaning (little-endian)                          |
/// |--------|-----------------|--------------------------------------------------|
/// | 0..4   | `partition`     | partition id                                     |
/// | 4..8   | `entry_count`   | entries of the run                               |
/// | 8..12  | `first_entry`   | index of its first entry                         |
/// | 12..16 | `flags`         | 1: compacted or repaired: offsets may be missing |
/// | 16..24 | `base_offset`   | first offset the run covers                      |
/// | 24..32 | `end_offset`    | offset after the last one it covers              |
/// | 32..40 | `min_timestamp` | smallest base timestamp of its batches, ms       |
/// | 40..48 | `max_timestamp` | ms                                               |
/// | 48..56 | `bytes`         | bytes of its batches                             |
/// | 56..64 | `records`       | records in its batches                           |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The partition.
    pub partition: PartitionId,
    /// Entries of the run.
    pub entry_count: u32,
    /// Index of its first entry.
    pub first_entry: u32,
    /// Whether records were left out because a later one has their key.
    pub compacted: bool,
    /// First offset covered.
    pub base_offset: Offset,
    /// Offset after the last one covered.
    pub end_offset: Offset,
    /// Smallest timestamp, ms.
    pub min_timestamp_ms: i64,
    /// Largest timestamp, ms.
    pub max_timestamp_ms: i64,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Records in its batches.
    pub records: u64,
}

impl Run {
    pub(super) fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.0.to_le_bytes());
        out.extend_from_slice(&self.entry_count.to_le_bytes());
        out.extend_from_slice(&self.first_entry.to_le_bytes());
        out.extend_from_slice(&u32::from(self.compacted).to_le_bytes());
        out.extend_from_slice(&self.base_offset.0.to_le_bytes());
        out.extend_from_slice(&self.end_offset.0.to_le_bytes());
        out.extend_from_slice(&self.min_timestamp_ms.to_le_bytes());
        out.extend_from_slice(&self.max_timestamp_ms.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Run, Malformed> {
        let run = Run {
            partition: PartitionId(fields.u32("run partition")?),
            entry_count: fields.u32("run entry_count")?,
            first_entry: fields.u32("run first_entry")?,
            compacted: match fields.u32("run flags")? {
                0 => false,
                1 => true,
                flags => return Err(Malformed::Impossible { field: "run flags", value: u64::from(flags) }),
            },
            base_offset: Offset(fields.u64("run base_offset")?),
            end_offset: Offset(fields.u64("run end_offset")?),
            min_timestamp_ms: fields.i64("run min_timestamp")?,
            max_timestamp_ms: fields.i64("run max_timestamp")?,
            bytes: fields.u64("run bytes")?,
            records: fields.u64("run records")?,
        };
        if run.end_offset < run.base_offset {
            return Err(Malformed::Impossible { field: "run end_offset", value: run.end_offset.0 });
        }
        Ok(run)
    }
}

/// The last 128 bytes of a segment.
///
/// | bytes    | field             | meaning (little-endian)                           |
/// |----------|-------------------|---------------------------------------------------|
/// | 0..8     | magic             | `TLWSEG` 0 1 (the last byte is the version)       |
/// | 8..12    | `crc32c`          | over bytes `12..128`                              |
/// | 12..16   | `footer_crc`      | CRC-32C over entries and runs                     |
/// | 16..24   | `footer_position` | where the entries start                           |
/// | 24..28   | `entry_count`     | entries                                           |
/// | 28..32   | `run_count`       | runs, sorted by partition                         |
/// | 32..40   | `file`            | file number                                       |
/// | 40..56   | `directory`       | identity of the data directory                    |
/// | 56..58   | `shard`           | the shard                                         |
/// | 58       | `kind`            | 0 promoted, 1 shared, 2 own, 3 merged             |
/// | 59..64   | reserved          | zero                                              |
/// | 64..72   | `created_ms`      | wall clock, ms                                    |
/// | 72..80   | `batch_bytes`     | bytes of batches, of all runs                     |
/// | 80..88   | `sequence_end`    | the WAL files before this one are covered, with the segments before it |
/// | 88..128  | reserved          | zero                                              |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Over entries and runs.
    pub footer_crc: u32,
    /// Where the entries start.
    pub footer_position: u64,
    /// Entries.
    pub entry_count: u32,
    /// Runs.
    pub run_count: u32,
    /// File number.
    pub file: FileNumber,
    /// Identity of the data directory.
    pub directory: u128,
    /// The shard.
    pub shard: ShardId,
    /// How it came about.
    pub kind: SegmentKind,
    /// Wall clock, ms.
    pub created_ms: i64,
    /// Bytes of batches.
    pub batch_bytes: u64,
    /// WAL files before this one are covered.
    pub sequence_end: u64,
}

impl Trailer {
    /// Bytes of entries and runs.
    #[must_use]
    pub fn footer_bytes(&self) -> u64 {
        u64::from(self.entry_count) * ENTRY_BYTES as u64 + u64::from(self.run_count) * RUN_BYTES as u64
    }

    /// Length of the file that ends with this trailer.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let end = self.footer_position + self.footer_bytes() + TRAILER_BYTES as u64;
        end.next_multiple_of(BLOCK as u64)
    }

    /// Writes it to `out`, [`TRAILER_BYTES`] long.
    pub(super) fn seal(&self, out: &mut [u8]) {
        out[..TRAILER_BYTES].fill(0);
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &TRAILER_MAGIC);
        put(12, &self.footer_crc.to_le_bytes());
        put(16, &self.footer_position.to_le_bytes());
        put(24, &self.entry_count.to_le_bytes());
        put(28, &self.run_count.to_le_bytes());
        put(32, &self.file.0.to_le_bytes());
        put(40, &self.directory.to_le_bytes());
        put(56, &self.shard.0.to_le_bytes());
        let kind = match self.kind {
            SegmentKind::Promoted => 0,
            SegmentKind::Shared => 1,
            SegmentKind::Own => 2,
            SegmentKind::Merged => 3,
        };
        put(58, &[kind]);
        put(64, &self.created_ms.to_le_bytes());
        put(72, &self.batch_bytes.to_le_bytes());
        put(80, &self.sequence_end.to_le_bytes());
        let crc = crc32c::crc32c(&out[12..TRAILER_BYTES]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the trailer from the last 128 bytes of a segment.
    ///
    /// # Errors
    /// [`Malformed`] if it is damaged, or of another version.
    pub fn read(bytes: &[u8]) -> Result<Trailer, Malformed> {
        let mut fields = Fields::new(bytes);
        let magic = fields.take(8, "segment magic")?;
        if magic[..7] != TRAILER_MAGIC[..7] {
            return Err(Malformed::Impossible { field: "segment magic", value: u64::from(magic[0]) });
        }
        if magic[7] != TRAILER_MAGIC[7] {
            return Err(Malformed::Version { what: "segment", found: u16::from(magic[7]), known: 1 });
        }
        let crc = fields.u32("segment crc32c")?;
        if bytes.len() < TRAILER_BYTES {
            return Err(Malformed::Short { field: "segment trailer", at: bytes.len() });
        }
        check_crc("segment trailer", crc, crc32c::crc32c(&bytes[12..TRAILER_BYTES]))?;
        let trailer = Trailer {
            footer_crc: fields.u32("segment footer_crc")?,
            footer_position: fields.u64("segment footer_position")?,
            entry_count: fields.u32("segment entry_count")?,
            run_count: fields.u32("segment run_count")?,
            file: FileNumber(fields.u64("segment file")?),
            directory: u128::from_le_bytes(
                fields.take(16, "segment directory")?.try_into().expect("16 bytes were taken"),
            ),
            shard: ShardId(fields.u16("segment shard")?),
            kind: match fields.u8("segment kind")? {
                0 => SegmentKind::Promoted,
                1 => SegmentKind::Shared,
                2 => SegmentKind::Own,
                3 => SegmentKind::Merged,
                kind => {
                    return Err(Malformed::Impossible { field: "segment kind", value: u64::from(kind) });
                }
            },
            created_ms: {
                fields.take(5, "segment reserved")?;
                fields.i64("segment created_ms")?
            },
            batch_bytes: fields.u64("segment batch_bytes")?,
            sequence_end: fields.u64("segment sequence_end")?,
        };
        if trailer.footer_position.checked_add(trailer.footer_bytes() + 2 * BLOCK as u64).is_none()
            || !trailer.footer_position.is_multiple_of(BLOCK as u64)
        {
            let value = trailer.footer_position;
            return Err(Malformed::Impossible { field: "segment footer_position", value });
        }
        Ok(trailer)
    }
}

/// The runs and entries of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// Entries of all runs, run after run.
    pub entries: Vec<IndexEntry>,
    /// Runs, sorted by partition, at most one each.
    pub runs: Vec<Run>,
}

/// Reads entries and runs from the bytes at `trailer.footer_position`.
///
/// # Errors
/// [`Malformed`] if they are damaged, or say something impossible.
pub fn decode_footer(bytes: &[u8], trailer: &Trailer) -> Result<Footer, Malformed> {
    let len = trailer.footer_bytes();
    if len > bytes.len() as u64 {
        return Err(Malformed::Short { field: "segment footer", at: bytes.len() });
    }
    let bytes = &bytes[..len as usize];
    check_crc("segment footer", trailer.footer_crc, crc32c::crc32c(bytes))?;
    let (entries, runs) = bytes.split_at(trailer.entry_count as usize * ENTRY_BYTES);
    let entries: Vec<_> =
        entries.chunks_exact(ENTRY_BYTES).map(IndexEntry::read).collect::<Result<_, _>>()?;
    let mut fields = Fields::new(runs);
    let runs: Vec<_> = (0..trailer.run_count).map(|_| Run::read(&mut fields)).collect::<Result<_, _>>()?;
    let mut next_entry = 0;
    for (index, run) in runs.iter().enumerate() {
        let sorted = index == 0 || runs[index - 1].partition < run.partition;
        let end = u64::from(run.first_entry) + u64::from(run.entry_count);
        if !sorted || run.first_entry != next_entry || end > entries.len() as u64 {
            return Err(Malformed::Impossible {
                field: "run first_entry",
                value: u64::from(run.first_entry),
            });
        }
        next_entry = end as u32;
        if run.bytes > trailer.footer_position {
            return Err(Malformed::Impossible { field: "run bytes", value: run.bytes });
        }
        let mine = &entries[run.first_entry as usize..end as usize];
        let ordered = mine.windows(2).all(|pair| pair[0].end_offset <= pair[1].base_offset);
        let inside = mine.iter().all(|entry| {
            run.base_offset <= entry.base_offset
                && entry.end_offset <= run.end_offset
                && entry
                    .position
                    .checked_add(u64::from(entry.bytes))
                    .is_some_and(|end| end <= trailer.footer_position)
        });
        if !ordered || !inside {
            return Err(Malformed::Impossible { field: "run entries", value: u64::from(run.partition.0) });
        }
    }
    Ok(Footer { entries, runs })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::segment::encode::encode_footer;

    /// A trailer whose counts and checksum are still to come.
    pub(in crate::segment) fn trailer() -> Trailer {
        Trailer {
            footer_crc: 0,
            footer_position: 4096,
            entry_count: 0,
            run_count: 0,
            file: FileNumber(3),
            directory: 9,
            shard: ShardId(1),
            kind: SegmentKind::Shared,
            created_ms: 8,
            batch_bytes: 3000,
            sequence_end: 4,
        }
    }

    fn sample() -> (Footer, Trailer) {
        let entry = |base: u64, position: u64| IndexEntry {
            base_offset: Offset(base),
            end_offset: Offset(base + 10),
            position,
            max_timestamp_ms: 5,
            bytes: 1000,
            batches: 2,
        };
        let run = |partition: u32, first_entry: u32, entry_count: u32| Run {
            partition: PartitionId(partition),
            entry_count,
            first_entry,
            compacted: false,
            base_offset: Offset(0),
            end_offset: Offset(20),
            min_timestamp_ms: 1,
            max_timestamp_ms: 5,
            bytes: 2000,
            records: 20,
        };
        let footer = Footer {
            entries: vec![entry(0, 0), entry(10, 1000), entry(3, 2000)],
            runs: vec![run(1, 0, 2), run(4, 2, 1)],
        };
        (footer, trailer())
    }

    #[test]
    fn a_footer_comes_back_as_written() {
        let (footer, mut trailer) = sample();
        let bytes = encode_footer(&footer, &mut trailer);
        assert_eq!(bytes.len() as u64 + trailer.footer_position, trailer.file_bytes());
        assert_eq!(Trailer::read(&bytes[bytes.len() - TRAILER_BYTES..]), Ok(trailer));
        assert_eq!(decode_footer(&bytes, &trailer), Ok(footer));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (footer, mut trailer) = sample();
        let bytes = encode_footer(&footer, &mut trailer);
        let footer_bits = trailer.footer_bytes() as usize * 8;
        for bit in 0..footer_bits {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_footer(&damaged, &trailer).is_err(), "footer bit {bit}");
        }
        let start = (bytes.len() - TRAILER_BYTES) * 8;
        for bit in start..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::read(&damaged[start / 8..]).is_err(), "trailer bit {bit}");
        }
    }
}
