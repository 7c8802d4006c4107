//! raft-engine: the log of TiKV. Many logs ("regions") in one file, as Thalweg's partitions.

use std::path::Path;
use std::sync::Mutex;

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::load::{Load, WRITERS};
use super::{About, Peer, Result};

/// Length of a file when they are prefilled, and how much is: more than a run appends.
const FILE_BYTES: u64 = 32 << 20;
const PREFILLED_BYTES: u64 = 1 << 30;

/// What the log is written into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// As by default: `fallocate`d 2 MiB ahead, so some syncs write extents too.
    Growing,
    /// `prefill-for-recycle` (off by default): zeros written when the engine opens, so that `fdatasync`
    /// has no metadata to write.
    Prefilled,
}

/// An entry of a log as the engine wants it: any protobuf message with an index. This one has a
/// number and bytes, as raft's own has, and comes with the protobuf crate.
struct Entries;

impl MessageExt for Entries {
    type Entry = UninterpretedOption;

    fn index(entry: &UninterpretedOption) -> u64 {
        entry.get_positive_int_value()
    }
}

/// `write(batch, sync = true)`: page cache, then one `fdatasync` for all callers that came together. As by
/// default it compresses batches from 8 KiB on, in vain: the records are random.
pub(super) struct RaftEngine {
    files: Files,
    engine: Engine,
    /// By writer, each with a region of its own: the next index, which must be dense.
    next: Vec<Mutex<u64>>,
}

impl RaftEngine {
    pub(super) fn open(dir: &Path, files: Files) -> Result<RaftEngine> {
        let name = if files == Files::Growing { "raft-engine" } else { "raft-engine-prefilled" };
        let mut config = Config { dir: dir.join(name).display().to_string(), ..Config::default() };
        if files == Files::Prefilled {
            config.prefill_for_recycle = true;
            config.target_file_size = ReadableSize(FILE_BYTES);
            config.prefill_limit = Some(ReadableSize(PREFILLED_BYTES));
        }
        let next = (0..WRITERS).map(|_| Mutex::new(1)).collect();
        let peer = RaftEngine { files, engine: Engine::open(config)?, next };
        if files == Files::Prefilled {
            peer.leave_first_file()?;
        }
        Ok(peer)
    }

    /// The first file is never a prefilled one: fills it, unsynced.
    fn leave_first_file(&self) -> Result<()> {
        let load = Load::new(std::time::Duration::ZERO);
        let mut bytes = 0;
        while bytes <= FILE_BYTES {
            bytes += self.write(0, &load.batch(0), false)?;
        }
        self.engine.sync()?;
        Ok(())
    }

    fn write(&self, writer: usize, records: &[&[u8]], sync: bool) -> Result<u64> {
        let mut next = self.next[writer].lock().map_err(|_| "a writer panicked")?;
        let entries: Vec<_> = records
            .iter()
            .zip(*next..)
            .map(|(record, index)| {
                let mut entry = UninterpretedOption::new();
                entry.set_positive_int_value(index);
                entry.set_string_value(record.to_vec());
                entry
            })
            .collect();
        *next += entries.len() as u64;
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Entries>(writer as u64 + 1, &entries)?;
        Ok(self.engine.write(&mut batch, sync)? as u64)
    }
}

impl Peer for RaftEngine {
    fn about(&self) -> About {
        let name = match self.files {
            Files::Growing => "raft-engine",
            Files::Prefilled => "raft-engine prefilled",
        };
        About { name, package: Some("raft-engine") }
    }

    fn append(&self, writer: usize, record: &[u8]) -> Result<()> {
        self.append_batch(writer, &[record])
    }

    fn append_batch(&self, writer: usize, records: &[&[u8]]) -> Result<()> {
        self.write(writer, records, true)?;
        Ok(())
    }
}
