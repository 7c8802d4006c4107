//! fjall: an LSM tree with a journal. A log is a keyspace with increasing keys.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{About, Peer, Result};

/// `persist(SyncData)` after each insert (by default nothing is synced): page cache, then
/// `fdatasync` of a sparse journal file under the journal's lock, so callers do not share one;
/// records are written again when a memtable is flushed.
pub(super) const ABOUT: About = About { name: "fjall", package: Some("fjall") };

pub(super) struct Fjall {
    database: Database,
    log: Keyspace,
    next: AtomicU64,
}

impl Fjall {
    pub(super) fn open(dir: &Path) -> Result<Fjall> {
        let database = Database::builder(dir.join("fjall")).open()?;
        let log = database.keyspace("log", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, log, next: AtomicU64::new(0) })
    }
}

impl Peer for Fjall {
    fn about(&self) -> About {
        ABOUT
    }

    fn append(&self, _: usize, record: &[u8]) -> Result<()> {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        self.log.insert(key.to_be_bytes(), record)?;
        self.database.persist(PersistMode::SyncData)?;
        Ok(())
    }

    fn append_batch(&self, _: usize, records: &[&[u8]]) -> Result<()> {
        let first = self.next.fetch_add(records.len() as u64, Ordering::Relaxed);
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, record) in (first..).zip(records) {
            batch.insert(&self.log, key.to_be_bytes(), *record);
        }
        batch.commit()?;
        Ok(())
    }
}
