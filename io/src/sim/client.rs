//! One backend as the disk sees it: its open files and its operations in flight.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use crate::backend::{Buffer, Completion, FileId, Op, Tag};
use crate::memory::AlignedBuf;

use super::fault::{Effect, OpKind};
use super::file::FileKey;

/// A backend's key. Never used again on the same disk.
pub(super) type ClientKey = u64;

/// An open file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handle {
    pub(super) file: FileKey,
    pub(super) writable: bool,
}

/// An operation in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) client: ClientKey,
    pub(super) op: Op,
    pub(super) tag: Tag,
    pub(super) kind: OpKind,
    /// The open file it works on, if it works on one.
    pub(super) handle: Option<Handle>,
    /// The disk's count of changes when it was submitted: what a sync covers.
    pub(super) covers: u64,
    pub(super) effect: Option<Effect>,
}

impl Flight {
    /// The file and first byte of a write, with its bytes.
    pub(super) fn written(&self) -> Option<(FileKey, u64, &[u8])> {
        match (&self.op, self.handle) {
            (Op::Write { position, buf, .. }, Some(handle)) => Some((handle.file, *position, buf.as_slice())),
            _ => None,
        }
    }

    /// The same operation with a buffer of its own.
    pub(super) fn copied(&self) -> Flight {
        Flight { op: copied(&self.op), effect: self.effect.clone(), ..*self }
    }

    /// Gives the buffer back with an error.
    pub(super) fn failed(self, error: io::Error) -> Completion {
        let buffer = match self.op {
            Op::Read { buf, .. } => Some(Buffer::Aligned(buf)),
            Op::Write { buf, .. } => Some(buf),
            _ => None,
        };
        Completion { tag: self.tag, buffer, result: Err(error) }
    }
}

fn copied(op: &Op) -> Op {
    match op {
        Op::Open { path, mode } => Op::Open { path: path.clone(), mode: *mode },
        Op::Close { file } => Op::Close { file: *file },
        Op::Read { file, position, buf } => {
            Op::Read { file: *file, position: *position, buf: AlignedBuf::zeroed(buf.len()) }
        }
        Op::Write { file, position, buf, durability } => Op::Write {
            file: *file,
            position: *position,
            buf: Buffer::Aligned(AlignedBuf::padded(buf.as_slice())),
            durability: *durability,
        },
        Op::Sync { file } => Op::Sync { file: *file },
        Op::Allocate { file, len } => Op::Allocate { file: *file, len: *len },
        Op::Truncate { file, len } => Op::Truncate { file: *file, len: *len },
        Op::Rename { from, to } => Op::Rename { from: from.clone(), to: to.clone() },
        Op::Remove { path } => Op::Remove { path: path.clone() },
        Op::CreateDir { path } => Op::CreateDir { path: path.clone() },
        Op::SyncDir { path } => Op::SyncDir { path: path.clone() },
        Op::List { path } => Op::List { path: path.clone() },
    }
}

/// One backend of the disk.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// The disk's life it belongs to; in a later one it can change nothing.
    pub(super) incarnation: u64,
    pub(super) handles: Vec<Option<Handle>>,
    /// By the time they complete, then by the order they were submitted in.
    pub(super) flights: BTreeMap<(u64, u64), Flight>,
    /// Completions that only wait to be reaped: errors of a disk without power.
    pub(super) refused: VecDeque<Completion>,
}

impl Client {
    /// The open file with this id.
    pub(super) fn handle(&self, file: FileId) -> Option<Handle> {
        *self.handles.get(file.0 as usize)?
    }

    /// Opens a file under the lowest free id.
    pub(super) fn open(&mut self, handle: Handle) -> FileId {
        let free = self.handles.iter().position(Option::is_none).unwrap_or(self.handles.len());
        if free == self.handles.len() {
            self.handles.push(None);
        }
        self.handles[free] = Some(handle);
        FileId(u32::try_from(free).expect("fewer than 2^32 open files"))
    }

    /// Frees an id.
    pub(super) fn close(&mut self, file: FileId) -> Option<Handle> {
        self.handles.get_mut(file.0 as usize)?.take()
    }

    /// Operations submitted and not reaped.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len() + self.refused.len()
    }
}
