//! What a data directory is: identity, format, and what was fixed when it was made.

use std::io;
use std::path::PathBuf;

use thalweg_io::{AlignedBuf, BLOCK, Backend, Durability, Op, OpenMode, Reactor};

use crate::reread::read_settled;
use crate::wire::{Fields, Malformed, Writer, check_crc};

/// Name of the superblock's file.
pub const SUPERBLOCK_NAME: &str = "SUPERBLOCK";
const MAGIC: [u8; 8] = *b"TLWDIR\x00\x01";

/// The superblock: one block, written once.
///
/// | bytes  | field            | meaning (little-endian)                            |
/// |--------|------------------|----------------------------------------------------|
/// | 0..8   | magic            | `TLWDIR` 0 1 (the last byte is the version)        |
/// | 8..12  | `crc32c`         | over bytes `12..64`                                |
/// | 12..16 | `shards`         | shards of the directory, fixed                     |
/// | 16..32 | `directory`      | random identity                                    |
/// | 32..40 | `wal_file_bytes` | length of every WAL file, fixed                    |
/// | 40..48 | `replay_speed`   | bytes/s at which the WAL read back when made       |
/// | 48..56 | `created_ms`     | wall clock, ms                                     |
/// | 56..64 | reserved         | zero                                               |
///
/// Source: `docs/format.md`, "Superblock".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Shards.
    pub shards: u16,
    /// Identity.
    pub directory: u128,
    /// Length of a WAL file.
    pub wal_file_bytes: u64,
    /// Bytes per second.
    pub replay_speed: u64,
    /// Wall clock, ms.
    pub created_ms: i64,
}

impl Superblock {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> [u8; 64] {
        let mut out = [0; 64];
        let mut writer = Writer::new(&mut out);
        writer.put(&MAGIC);
        writer.put(&[0; 4]);
        writer.put(&u32::from(self.shards).to_le_bytes());
        writer.put(&self.directory.to_le_bytes());
        writer.put(&self.wal_file_bytes.to_le_bytes());
        writer.put(&self.replay_speed.to_le_bytes());
        writer.put(&self.created_ms.to_le_bytes());
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`Malformed`] if it is damaged, or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Superblock, Malformed> {
        let mut fields = Fields::new(bytes);
        let magic = fields.take(8, "superblock magic")?;
        if magic[..7] != MAGIC[..7] {
            return Err(Malformed::Impossible { field: "superblock magic", value: u64::from(magic[0]) });
        }
        if magic[7] != MAGIC[7] {
            return Err(Malformed::Version { what: "data directory", found: u16::from(magic[7]), known: 1 });
        }
        let crc = fields.u32("superblock crc32c")?;
        if bytes.len() < 64 {
            return Err(Malformed::Short { field: "superblock", at: bytes.len() });
        }
        check_crc("superblock", crc, crc32c::crc32c(&bytes[12..64]))?;
        let shards = fields.u32("superblock shards")?;
        let narrow = u16::try_from(shards).ok().filter(|shards| *shards > 0);
        let directory = fields.take(16, "superblock directory")?;
        Ok(Superblock {
            shards: narrow
                .ok_or(Malformed::Impossible { field: "superblock shards", value: u64::from(shards) })?,
            directory: u128::from_le_bytes(directory.try_into().expect("16 bytes were taken")),
            wal_file_bytes: fields.u64("superblock wal_file_bytes")?,
            replay_speed: fields.u64("superblock replay_speed")?,
            created_ms: fields.i64("superblock created_ms")?,
        })
    }
}

/// Reads the superblock; `None` if the directory has none.
///
/// # Errors
/// The host's, or of kind `InvalidData` if it is damaged.
pub async fn read<B: Backend>(reactor: &Reactor<B>) -> io::Result<Option<Superblock>> {
    let (file, len) = match reactor.open(SUPERBLOCK_NAME, OpenMode::Read).await {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = BLOCK.min(len as usize);
    let read = read_settled(reactor, file, 0, len).await;
    reactor.run(Op::Close { file }).await?;
    let decoded = Superblock::decode(&read?[..len.min(64)]);
    decoded.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes the superblock, durable under its name when this returns.
///
/// # Errors
/// The host's.
pub async fn write<B: Backend>(reactor: &Reactor<B>, superblock: &Superblock) -> io::Result<()> {
    let temporary = PathBuf::from(format!("{SUPERBLOCK_NAME}.tmp"));
    match reactor.run(Op::Remove { path: temporary.clone() }).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (file, _) = reactor.open(&temporary, OpenMode::CreateNew).await?;
    let buf = AlignedBuf::padded(&superblock.encode());
    reactor.write(file, 0, buf, Durability::Volatile).await.1?;
    reactor.run(Op::Sync { file }).await?;
    reactor.run(Op::Close { file }).await?;
    reactor.run(Op::Rename { from: temporary, to: SUPERBLOCK_NAME.into() }).await?;
    reactor.run(Op::SyncDir { path: PathBuf::new() }).await
}
