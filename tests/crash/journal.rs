//! What a program changed on its disk, in order: the journal that power cuts are cut from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A file or directory, never used again for another.
pub(crate) type NodeId = u64;

/// One request that changes what a power cut may leave. Paths are relative to the data directory.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Create {
        path: PathBuf,
        node: NodeId,
    },
    /// Whole blocks.
    Write {
        node: NodeId,
        position: u64,
        bytes: Arc<[u8]>,
        /// Whether the answer promises that the bytes survive.
        durable: bool,
    },
    Sync {
        node: NodeId,
    },
    Allocate {
        node: NodeId,
        len: u64,
    },
    Truncate {
        node: NodeId,
        len: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    CreateDir {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
}

/// A request as it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) change: Change,
    /// The error it was answered with: a write may then have left anything, and what a sync should
    /// have covered is lost.
    pub(crate) failed: Option<i32>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Write { node, position, bytes, durable } => {
                let durable = if *durable { ", durable" } else { "" };
                write!(f, "write {node} {position}..{}{durable}", position + bytes.len() as u64)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// A journal as text, a line for each entry.
pub(crate) fn lines(journal: &[Entry]) -> String {
    let line = |(nth, entry): (usize, &Entry)| match entry.failed {
        Some(errno) => format!("{nth} {}: error {errno}\n", entry.change),
        None => format!("{nth} {}\n", entry.change),
    };
    journal.iter().enumerate().map(line).collect()
}
