//! okaywal: a write-ahead log and nothing more. What it holds is dropped at each checkpoint.

use std::path::Path;

use okaywal::{Configuration, LogVoid, WriteAheadLog};

use super::{About, Peer, Result};

/// As Thalweg's WAL file. Its own default of 1 MiB renames a file and syncs the directory every
/// 768 records.
const FILE_BYTES: u32 = 32 << 20;
const CHECKPOINT_BYTES: u64 = FILE_BYTES as u64 * 3 / 4;

/// `commit()`: page cache, then `fdatasync` by one caller for all that wait, into zero-filled and
/// recycled files; it keeps nothing: a full file is emptied, where the others keep all records.
pub(super) const ABOUT: About = About { name: "okaywal", package: Some("okaywal") };

pub(super) struct OkayWal(WriteAheadLog);

impl OkayWal {
    pub(super) fn open(dir: &Path) -> Result<OkayWal> {
        let config = Configuration::default_for(dir.join("okaywal"))
            .preallocate_bytes(FILE_BYTES)
            .checkpoint_after_bytes(CHECKPOINT_BYTES);
        Ok(OkayWal(config.open(LogVoid)?))
    }
}

impl Peer for OkayWal {
    fn about(&self) -> About {
        ABOUT
    }

    fn append(&self, writer: usize, record: &[u8]) -> Result<()> {
        self.append_batch(writer, &[record])
    }

    fn append_batch(&self, _: usize, records: &[&[u8]]) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        for record in records {
            entry.write_chunk(record)?;
        }
        entry.commit()?;
        Ok(())
    }
}
