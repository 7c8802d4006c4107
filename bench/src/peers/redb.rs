//! redb: a copy-on-write B-tree in one file. A log is a table with increasing keys.

use std::path::Path;

use redb::{Database, Durability, ReadableTableMetadata, TableDefinition};

use super::{About, Peer, Result};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

/// `Durability::Immediate`, its default: each commit writes the changed pages of the tree and the
/// header, then `fdatasync`; one writer at a time, so callers do not share a commit.
pub(super) const ABOUT: About = About { name: "redb", package: Some("redb") };

pub(super) struct Redb(Database);

impl Redb {
    pub(super) fn open(dir: &Path) -> Result<Redb> {
        let database = Database::create(dir.join("redb"))?;
        let write = database.begin_write()?;
        write.open_table(LOG)?;
        write.commit()?;
        Ok(Redb(database))
    }
}

impl Peer for Redb {
    fn about(&self) -> About {
        ABOUT
    }

    fn append(&self, writer: usize, record: &[u8]) -> Result<()> {
        self.append_batch(writer, &[record])
    }

    fn append_batch(&self, _: usize, records: &[&[u8]]) -> Result<()> {
        let mut write = self.0.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            let mut log = write.open_table(LOG)?;
            // Nothing is ever removed, so the length is the next key.
            for (key, record) in (log.len()?..).zip(records) {
                log.insert(key, *record)?;
            }
        }
        write.commit()?;
        Ok(())
    }
}
