//! A journal, lived again on the simulated disk: that one knows what a power cut may do.

use std::collections::BTreeMap;

use thalweg_io::sim::{Effect, FaultRule, OpKind, SimBackend, SimDisk, SimOptions};
use thalweg_io::{AlignedBuf, Buffer, Durability, FileId, Op, OpenMode, Reactor, Reply};

use crate::journal::{Change, Entry, NodeId};

/// A disk on which a journal is lived again, one change at a time.
pub(crate) struct Replay {
    disk: SimDisk,
    reactor: Reactor<SimBackend>,
    open: BTreeMap<NodeId, FileId>,
}

impl Replay {
    pub(crate) fn new() -> Replay {
        let disk = SimDisk::with_options(1, SimOptions::strict());
        let reactor = Reactor::new(disk.backend());
        Replay { disk, reactor, open: BTreeMap::new() }
    }

    /// The disk as it is now.
    pub(crate) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Lets one change happen. `cut` sees the disk while the change is in flight.
    ///
    /// # Panics
    /// If the simulated disk answers otherwise than the file system did.
    pub(crate) fn step(&mut self, entry: &Entry, cut: impl FnOnce(&SimDisk)) {
        let (op, kind) = self.op(&entry.change);
        if let Some(errno) = entry.failed {
            self.disk.plan(FaultRule::new(kind, Effect::Error(errno)));
        }
        let pending = self.reactor.start(op);
        cut(&self.disk);
        let result = self.reactor.block_on(pending).result;
        let errno = result.as_ref().err().map(|error| error.raw_os_error().unwrap_or(-1));
        assert_eq!(errno, entry.failed, "{:?}: {result:?}", entry.change);
        if let (Change::Create { node, .. }, Ok(Reply::Opened { file, .. })) = (&entry.change, result) {
            self.open.insert(*node, file);
        }
    }

    fn op(&self, change: &Change) -> (Op, OpKind) {
        let file = |node: &NodeId| self.open[node];
        let op = match change {
            Change::Create { path, .. } => Op::Open { path: path.clone(), mode: OpenMode::CreateNew },
            Change::Write { node, position, bytes, durable } => Op::Write {
                file: file(node),
                position: *position,
                buf: Buffer::Aligned(AlignedBuf::padded(bytes)),
                durability: if *durable { Durability::Durable } else { Durability::Volatile },
            },
            Change::Sync { node } => Op::Sync { file: file(node) },
            Change::Allocate { node, len } => Op::Allocate { file: file(node), len: *len },
            Change::Truncate { node, len } => Op::Truncate { file: file(node), len: *len },
            Change::Rename { from, to } => Op::Rename { from: from.clone(), to: to.clone() },
            Change::Remove { path } => Op::Remove { path: path.clone() },
            Change::CreateDir { path } => Op::CreateDir { path: path.clone() },
            Change::SyncDir { path } => Op::SyncDir { path: path.clone() },
        };
        let kind = OpKind::of(&op);
        (op, kind)
    }
}
