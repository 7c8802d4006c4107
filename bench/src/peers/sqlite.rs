//! SQLite, as a yardstick that everybody knows. A log is a table with increasing keys.

use std::path::Path;
use std::sync::Mutex;

use rusqlite::Connection;

use super::{About, Peer, Result};

const INSERT: &str = "INSERT INTO log (record) VALUES (?1)";

/// `journal_mode=WAL`, `synchronous=FULL`: each commit writes whole pages to the WAL, then syncs
/// it; checkpoints write them again. One connection behind a lock: a commit per caller.
pub(super) const ABOUT: About = About { name: "sqlite", package: Some("rusqlite") };

/// One connection: several would sleep and retry for the one write lock, which is slower.
pub(super) struct Sqlite(Mutex<Connection>);

impl Sqlite {
    pub(super) fn open(dir: &Path) -> Result<Sqlite> {
        let connection = Connection::open(dir.join("sqlite"))?;
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(format!("SQLite has no WAL here: its journal_mode is {mode}").into());
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch("CREATE TABLE log (place INTEGER PRIMARY KEY, record BLOB NOT NULL)")?;
        Ok(Sqlite(Mutex::new(connection)))
    }
}

impl Peer for Sqlite {
    fn about(&self) -> About {
        ABOUT
    }

    fn append(&self, _: usize, record: &[u8]) -> Result<()> {
        let connection = self.0.lock().map_err(|_| "a writer panicked")?;
        connection.prepare_cached(INSERT)?.execute([record])?;
        Ok(())
    }

    fn append_batch(&self, _: usize, records: &[&[u8]]) -> Result<()> {
        let mut connection = self.0.lock().map_err(|_| "a writer panicked")?;
        let transaction = connection.transaction()?;
        for record in records {
            transaction.prepare_cached(INSERT)?.execute([record])?;
        }
        transaction.commit()?;
        Ok(())
    }
}
