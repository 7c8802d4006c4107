//! The partitions of one shard, in memory.
//!
//! An idle partition costs its entry in the table, its name, and 48 bytes for each segment that
//! holds a run of it: `docs/memory.md` states the figures and a test holds them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::append::group::Placed;
use crate::config::PartitionConfig;
use crate::ids::{FileNumber, Offset, PartitionId, WalPosition, WalSequence};

/// A batch that is still in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailEntry {
    pub base_offset: Offset,
    pub position: WalPosition,
    pub max_timestamp_ms: i64,
    pub span: u32,
    pub len: u32,
}

impl TailEntry {
    pub(crate) fn end_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.span))
    }
}

impl From<&Placed> for TailEntry {
    fn from(placed: &Placed) -> TailEntry {
        let Placed { base_offset, position, max_timestamp_ms, span, len, .. } = *placed;
        TailEntry { base_offset, position, max_timestamp_ms, span, len }
    }
}

/// A partition's part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunRef {
    pub base_offset: Offset,
    pub end_offset: Offset,
    pub file: FileNumber,
    pub max_timestamp_ms: i64,
    pub bytes: u64,
    pub first_entry: u32,
    pub entry_count: u32,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub name: Arc<str>,
    pub config: Arc<PartitionConfig>,
    /// First offset kept.
    pub log_start: Offset,
    /// Offset after the last record that readers of flushed records may see.
    pub flushed: Offset,
    /// The next offset to give out.
    pub log_end: Offset,
    /// Batches in the WAL, or sealed and still in the tail cache; in offset order.
    pub tail: VecDeque<TailEntry>,
    /// Runs in segments, in offset order.
    pub runs: Vec<RunRef>,
    /// The WAL file that has it among its partitions.
    pub touched: WalSequence,
    /// Offsets below it have been compacted by key.
    pub compacted_to: Offset,
    /// Its deletion is on the way to the disk: it takes nothing new, and is kept until then.
    pub deleting: bool,
}

impl Partition {
    pub(crate) fn new(name: Arc<str>, config: Arc<PartitionConfig>, log_start: Offset) -> Partition {
        Partition {
            name,
            config,
            log_start,
            flushed: log_start,
            log_end: log_start,
            tail: VecDeque::new(),
            runs: Vec::new(),
            touched: WalSequence(0),
            compacted_to: Offset(0),
            deleting: false,
        }
    }

    /// Offset after the last run.
    pub(crate) fn sealed_end(&self) -> Offset {
        self.runs.last().map_or(self.log_start, |run| run.end_offset.max(self.log_start))
    }

    /// Takes a segment's run in, at its place.
    pub(crate) fn add_run(&mut self, run: RunRef) {
        if self.runs.is_empty() {
            self.runs.reserve_exact(1); // most partitions have one
        }
        let at = self.runs.partition_point(|known| known.base_offset < run.base_offset);
        self.runs.insert(at, run);
    }

    /// Whether all of a batch is in a segment too, or trimmed. The log start offset may lie inside
    /// a batch, which is then kept whole.
    pub(crate) fn is_sealed(&self, entry: &TailEntry) -> bool {
        entry.end_offset() <= self.sealed_end()
    }

    /// Holds between any two turns.
    pub(crate) fn check(&self) {
        assert!(self.log_start <= self.flushed);
        assert!(self.flushed <= self.log_end);
        debug_assert!(self.runs.windows(2).all(|pair| pair[0].end_offset <= pair[1].base_offset));
    }

    /// Bytes of records in segments and in the WAL.
    pub(crate) fn bytes(&self) -> u64 {
        let tail = self.tail.iter().filter(|entry| !self.is_sealed(entry));
        self.runs.iter().map(|run| run.bytes).sum::<u64>()
            + tail.map(|entry| u64::from(entry.len)).sum::<u64>()
    }
}

/// All partitions of a shard.
#[derive(Default)]
pub(crate) struct Partitions {
    by_id: FxHashMap<PartitionId, Partition>,
    /// The same ids, in order: to go through them in steps.
    ids: BTreeSet<PartitionId>,
    /// Settings are few; partitions share them.
    configs: FxHashSet<Arc<PartitionConfig>>,
}

impl Partitions {
    pub(crate) fn get(&self, id: PartitionId) -> Option<&Partition> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: PartitionId) -> Option<&mut Partition> {
        self.by_id.get_mut(&id)
    }

    /// The partition, if it takes appends and changes.
    pub(crate) fn get_open(&self, id: PartitionId) -> Option<&Partition> {
        self.get(id).filter(|partition| !partition.deleting)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PartitionId, &Partition)> {
        self.by_id.iter().map(|(id, partition)| (*id, partition))
    }

    /// Those with ids from `first` on, in order.
    pub(crate) fn range(&self, first: PartitionId) -> impl Iterator<Item = (PartitionId, &Partition)> {
        self.ids.range(first..).filter_map(|id| Some((*id, self.by_id.get(id)?)))
    }

    /// All of them, in no order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.by_id.values_mut()
    }

    /// Whether any may be compacted by key.
    pub(crate) fn has_compacted(&self) -> bool {
        self.configs.iter().any(|config| config.compact)
    }

    pub(crate) fn remove(&mut self, id: PartitionId) -> Option<Partition> {
        self.ids.remove(&id);
        self.by_id.remove(&id)
    }

    pub(crate) fn insert(
        &mut self,
        id: PartitionId,
        name: Arc<str>,
        config: PartitionConfig,
        log_start: Offset,
    ) {
        let config = self.share(config);
        self.ids.insert(id);
        self.by_id.insert(id, Partition::new(name, config, log_start));
    }

    pub(crate) fn configure(&mut self, id: PartitionId, config: PartitionConfig) {
        let config = self.share(config);
        if let Some(partition) = self.by_id.get_mut(&id) {
            partition.config = config;
        }
    }

    fn share(&mut self, config: PartitionConfig) -> Arc<PartitionConfig> {
        if let Some(known) = self.configs.get(&config) {
            return known.clone();
        }
        if self.configs.len() == self.configs.capacity() {
            self.configs.retain(|known| Arc::strong_count(known) > 1);
        }
        let config = Arc::new(config);
        self.configs.insert(config.clone());
        config
    }
}

impl RunRef {
    pub(crate) fn new(file: FileNumber, run: &crate::segment::Run) -> RunRef {
        RunRef {
            base_offset: run.base_offset,
            end_offset: run.end_offset,
            file,
            max_timestamp_ms: run.max_timestamp_ms,
            bytes: run.bytes,
            first_entry: run.first_entry,
            entry_count: run.entry_count,
        }
    }
}
