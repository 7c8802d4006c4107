//! The first block of a WAL file: which life of the file this is.

use crate::ids::{GroupNumber, ShardId, WalSequence};
use crate::wire::{Fields, Malformed, Writer, check_crc};

/// Bytes of the header; the rest of the first block is zero.
pub const FILE_HEADER_BYTES: usize = 80;

/// The first bytes of a WAL file.
pub const FILE_MAGIC: [u8; 8] = *b"TLWWAL\x00\x01";

/// The header of a WAL file, written together with the first group of each life of the file.
///
/// | bytes  | field         | meaning (little-endian)                                            |
/// |--------|---------------|--------------------------------------------------------------------|
/// | 0..8   | magic         | `TLWWAL` 0 1 (the last byte is the version)                        |
/// | 8..12  | `crc32c`      | over bytes `12..80`                                                |
/// | 12..16 | `shard`       | the shard                                                          |
/// | 16..24 | `sequence`    | place in the order of use, dense from 1                            |
/// | 24..32 | `salt`        | random; seeds every group header's checksum in this life           |
/// | 32..40 | `first_group` | number of the first group; groups of earlier files end before it   |
/// | 40..44 | `previous`    | `crc32c` of the header of the group before `first_group`, 0 if none |
/// | 44..48 | reserved      | zero                                                               |
/// | 48..64 | `directory`   | identity of the data directory                                     |
/// | 64..72 | `started_ms`  | wall clock at the start of this life                               |
/// | 72..80 | `file_bytes`  | fixed length of a WAL file                                         |
///
/// Source: `docs/format.md`, "WAL file"; golden bytes in `tests/golden`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The shard.
    pub shard: ShardId,
    /// Place in the order of use.
    pub sequence: WalSequence,
    /// Seeds the group headers' checksums.
    pub salt: u64,
    /// Number of the first group.
    pub first_group: GroupNumber,
    /// Checksum of the header of the group before the first.
    pub previous: u32,
    /// Identity of the data directory.
    pub directory: u128,
    /// Wall clock, ms.
    pub started_ms: i64,
    /// Length of a WAL file.
    pub file_bytes: u64,
}

impl FileHeader {
    /// Writes the header over the first 80 bytes of `out`.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn seal(&self, out: &mut [u8]) {
        let mut writer = Writer::new(&mut out[..FILE_HEADER_BYTES]);
        writer.put(&FILE_MAGIC);
        writer.put(&[0; 4]);
        writer.put(&u32::from(self.shard.0).to_le_bytes());
        writer.put(&self.sequence.0.to_le_bytes());
        writer.put(&self.salt.to_le_bytes());
        writer.put(&self.first_group.0.to_le_bytes());
        writer.put(&self.previous.to_le_bytes());
        writer.put(&[0; 4]);
        writer.put(&self.directory.to_le_bytes());
        writer.put(&self.started_ms.to_le_bytes());
        writer.put(&self.file_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&out[12..FILE_HEADER_BYTES]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the header at the front of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] if it is damaged, or of another version.
    pub fn read(bytes: &[u8]) -> Result<FileHeader, Malformed> {
        let mut fields = Fields::new(bytes);
        let magic = fields.take(8, "WAL file magic")?;
        if magic[..7] != FILE_MAGIC[..7] {
            return Err(Malformed::Impossible { field: "WAL file magic", value: u64::from(magic[0]) });
        }
        if magic[7] != FILE_MAGIC[7] {
            return Err(Malformed::Version { what: "WAL file", found: u16::from(magic[7]), known: 1 });
        }
        let crc = fields.u32("WAL file crc32c")?;
        if bytes.len() < FILE_HEADER_BYTES {
            return Err(Malformed::Short { field: "WAL file header", at: bytes.len() });
        }
        check_crc("WAL file header", crc, crc32c::crc32c(&bytes[12..FILE_HEADER_BYTES]))?;
        let shard = fields.u32("WAL file shard")?;
        let shard = u16::try_from(shard)
            .map_err(|_| Malformed::Impossible { field: "WAL file shard", value: u64::from(shard) })?;
        let sequence = WalSequence(fields.u64("WAL file sequence")?);
        let salt = fields.u64("WAL file salt")?;
        let first_group = GroupNumber(fields.u64("WAL file first_group")?);
        let previous = fields.u32("WAL file previous")?;
        fields.u32("WAL file reserved")?;
        let directory = fields.take(16, "WAL file directory")?;
        Ok(FileHeader {
            shard: ShardId(shard),
            sequence,
            salt,
            first_group,
            previous,
            directory: u128::from_le_bytes(directory.try_into().expect("16 bytes were taken")),
            started_ms: fields.i64("WAL file started_ms")?,
            file_bytes: fields.u64("WAL file file_bytes")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_every_flipped_bit_is_noticed() {
        let header = FileHeader {
            shard: ShardId(3),
            sequence: WalSequence(5),
            salt: 77,
            first_group: GroupNumber(1000),
            previous: 12,
            directory: 1 << 100,
            started_ms: 1,
            file_bytes: 1 << 20,
        };
        let mut bytes = [0u8; FILE_HEADER_BYTES];
        header.seal(&mut bytes);
        assert_eq!(FileHeader::read(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::read(&damaged).is_err(), "bit {bit}");
        }
    }
}
