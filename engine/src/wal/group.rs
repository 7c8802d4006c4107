//! A group: the batches that share one write and one sync.
//!
//! ```text
//! ┌ header 96 B ┬ batch ┬ pad to 8 ┬ batch ┬ … ┬ zeros to a multiple of 4,096 ┐
//! ```
//! A group without batches is an idle marker: it only says that the groups before it were durable.

use crate::ids::{GroupNumber, ShardId, WalSequence};
use crate::record::{BatchHeader, check_batch};
use crate::wire::{Fields, Malformed, Writer, check_crc};

/// Bytes of a group's header.
pub const GROUP_HEADER_BYTES: usize = 96;

/// The first bytes of a group.
pub const GROUP_MAGIC: [u8; 8] = *b"TLWGRP\x00\x01";

/// A group's header.
///
/// | bytes  | field           | meaning (little-endian)                                          |
/// |--------|-----------------|------------------------------------------------------------------|
/// | 0..8   | magic           | `TLWGRP` 0 1 (the last byte is the version)                      |
/// | 8..12  | `crc32c`        | over the file's salt (8 B), then bytes `12..96`                  |
/// | 12..16 | `len`           | header and batches, without the padding behind them              |
/// | 16..24 | `number`        | the group's number, dense per shard                              |
/// | 24..32 | `sequence`      | sequence of the WAL file's present life                          |
/// | 32..40 | `position`      | byte in the file at which the group starts                       |
/// | 40..48 | `durable`       | the last group known durable when this one was written           |
/// | 48..52 | `shard`         | the shard                                                        |
/// | 52..56 | `batch_count`   | batches in the group; 0 marks an idle marker                     |
/// | 56..60 | `batch_digest`  | CRC-32C over the batches' own checksums, in order, 4 B each      |
/// | 60..64 | `previous`      | `crc32c` of the previous group's header                          |
/// | 64..72 | `written_ms`    | wall clock when the group was built, ms since the Unix epoch     |
/// | 72..80 | `salt`          | the file's salt, so that a group is known when the file header is lost |
/// | 80..88 | `directory`     | lower half of the data directory's identity                      |
/// | 88..96 | `revision`      | the manifest's last durable revision when the group was written  |
///
/// Source: `docs/format.md`, "Group"; golden bytes in `tests/golden`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Over salt and header.
    pub crc: u32,
    /// Header and batches, unpadded.
    pub len: u32,
    /// The group's number.
    pub number: GroupNumber,
    /// Which life of which file it was written for.
    pub sequence: WalSequence,
    /// Byte in the file.
    pub position: u64,
    /// The last group known durable.
    pub durable: GroupNumber,
    /// The shard.
    pub shard: ShardId,
    /// Batches in the group.
    pub batch_count: u32,
    /// Over the batches' checksums.
    pub batch_digest: u32,
    /// Checksum of the previous group's header.
    pub previous: u32,
    /// Wall clock, ms.
    pub written_ms: i64,
    /// Salt of the file's present life.
    pub salt: u64,
    /// Lower half of the data directory's identity.
    pub directory: u64,
    /// The manifest is at this revision at least.
    pub revision: u64,
}

fn header_crc(salt: u64, header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &header[12..GROUP_HEADER_BYTES])
}

fn read_shard(fields: &mut Fields<'_>) -> Result<ShardId, Malformed> {
    let shard = fields.u32("group shard")?;
    let narrow = u16::try_from(shard);
    narrow.map(ShardId).map_err(|_| Malformed::Impossible { field: "group shard", value: u64::from(shard) })
}

impl GroupHeader {
    /// Writes the header over the first 96 bytes of `group`; returns its checksum.
    ///
    /// # Panics
    /// If `group` is shorter.
    pub fn seal(&self, group: &mut [u8]) -> u32 {
        let mut out = Writer::new(&mut group[..GROUP_HEADER_BYTES]);
        out.put(&GROUP_MAGIC);
        out.put(&[0; 4]);
        out.put(&self.len.to_le_bytes());
        out.put(&self.number.0.to_le_bytes());
        out.put(&self.sequence.0.to_le_bytes());
        out.put(&self.position.to_le_bytes());
        out.put(&self.durable.0.to_le_bytes());
        out.put(&u32::from(self.shard.0).to_le_bytes());
        out.put(&self.batch_count.to_le_bytes());
        out.put(&self.batch_digest.to_le_bytes());
        out.put(&self.previous.to_le_bytes());
        out.put(&self.written_ms.to_le_bytes());
        out.put(&self.salt.to_le_bytes());
        out.put(&self.directory.to_le_bytes());
        out.put(&self.revision.to_le_bytes());
        let crc = header_crc(self.salt, group);
        group[8..12].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads and checks the header at the front of `bytes`: checksum and magic only. Whether it is
    /// the header that belongs there, salt included, is for the caller to compare.
    ///
    /// # Errors
    /// [`Malformed`] if there is no undamaged group header.
    pub fn read(bytes: &[u8]) -> Result<GroupHeader, Malformed> {
        let mut fields = Fields::new(bytes);
        let magic = fields.take(8, "group magic")?;
        if magic[..7] != GROUP_MAGIC[..7] {
            return Err(Malformed::Impossible { field: "group magic", value: u64::from(magic[0]) });
        }
        if magic[7] != GROUP_MAGIC[7] {
            return Err(Malformed::Version { what: "group", found: u16::from(magic[7]), known: 1 });
        }
        let crc = fields.u32("group crc32c")?;
        if bytes.len() < GROUP_HEADER_BYTES {
            return Err(Malformed::Short { field: "group header", at: bytes.len() });
        }
        let salt = Fields::new(&bytes[72..]).u64("group salt")?;
        check_crc("group header", crc, header_crc(salt, bytes))?;
        let header = GroupHeader {
            crc,
            len: fields.u32("group len")?,
            number: GroupNumber(fields.u64("group number")?),
            sequence: WalSequence(fields.u64("group sequence")?),
            position: fields.u64("group position")?,
            durable: GroupNumber(fields.u64("group durable")?),
            shard: read_shard(&mut fields)?,
            batch_count: fields.u32("group batch_count")?,
            batch_digest: fields.u32("group batch_digest")?,
            previous: fields.u32("group previous")?,
            written_ms: fields.i64("group written_ms")?,
            salt: fields.u64("group salt")?,
            directory: fields.u64("group directory")?,
            revision: fields.u64("group revision")?,
        };
        if (header.len as usize) < GROUP_HEADER_BYTES {
            return Err(Malformed::Impossible { field: "group len", value: u64::from(header.len) });
        }
        Ok(header)
    }

    /// Whether the group only marks the groups before it as durable.
    #[must_use]
    pub fn is_marker(&self) -> bool {
        self.batch_count == 0
    }
}

/// A running digest over batches' checksums.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchDigest(u32);

impl BatchDigest {
    /// Adds the next batch's checksum.
    pub fn add(&mut self, batch_crc: u32) {
        self.0 = crc32c::crc32c_append(self.0, &batch_crc.to_le_bytes());
    }

    /// The digest so far.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Checks the batches of a group whose header was read from the front of `group`, and gives each
/// to `visit` with its position in the group.
///
/// # Errors
/// [`Malformed`] if a batch is damaged, or they are not the batches the header was written for.
pub fn check_batches(
    header: &GroupHeader,
    group: &[u8],
    mut visit: impl FnMut(usize, &BatchHeader),
) -> Result<(), Malformed> {
    let end = header.len as usize;
    if end > group.len() {
        return Err(Malformed::Short { field: "group batches", at: group.len() });
    }
    let mut digest = BatchDigest::default();
    let mut at = GROUP_HEADER_BYTES;
    for _ in 0..header.batch_count {
        let batch = check_batch(&group[at.min(end)..end])?;
        digest.add(batch.crc);
        visit(at, &batch);
        at += batch.stride();
    }
    check_crc("group batches", header.batch_digest, digest.get())?;
    if at.min(end) != end {
        return Err(Malformed::Impossible { field: "group len", value: u64::from(header.len) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> GroupHeader {
        GroupHeader {
            crc: 0,
            len: GROUP_HEADER_BYTES as u32,
            number: GroupNumber(9),
            sequence: WalSequence(2),
            position: 4096,
            durable: GroupNumber(8),
            shard: ShardId(1),
            batch_count: 0,
            batch_digest: 0,
            previous: 0xdead_beef,
            written_ms: 1_700_000_000_000,
            salt: 42,
            directory: 7,
            revision: 3,
        }
    }

    #[test]
    fn a_header_comes_back_as_written() {
        let mut bytes = [0u8; GROUP_HEADER_BYTES];
        let crc = header().seal(&mut bytes);
        assert_eq!(GroupHeader::read(&bytes), Ok(GroupHeader { crc, ..header() }));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = [0u8; GROUP_HEADER_BYTES];
        header().seal(&mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupHeader::read(&damaged).is_err(), "bit {bit}");
        }
    }
}
