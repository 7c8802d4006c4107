//! Planned faults.

use std::path::PathBuf;

use crate::backend::Op;

/// What an operation does, for planning faults and counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpKind {
    /// Every operation.
    Any,
    /// [`Op::Open`].
    Open,
    /// [`Op::Close`].
    Close,
    /// [`Op::Read`].
    Read,
    /// [`Op::Write`].
    Write,
    /// [`Op::Sync`].
    Sync,
    /// [`Op::Allocate`].
    Allocate,
    /// [`Op::Truncate`].
    Truncate,
    /// [`Op::Rename`].
    Rename,
    /// [`Op::Remove`].
    Remove,
    /// [`Op::CreateDir`].
    CreateDir,
    /// [`Op::SyncDir`].
    SyncDir,
    /// [`Op::List`].
    List,
}

/// How many kinds there are.
pub(super) const KINDS: usize = OpKind::List as usize + 1;

impl OpKind {
    /// The kind of `op`.
    #[must_use]
    pub fn of(op: &Op) -> OpKind {
        match op {
            Op::Open { .. } => OpKind::Open,
            Op::Close { .. } => OpKind::Close,
            Op::Read { .. } => OpKind::Read,
            Op::Write { .. } => OpKind::Write,
            Op::Sync { .. } => OpKind::Sync,
            Op::Allocate { .. } => OpKind::Allocate,
            Op::Truncate { .. } => OpKind::Truncate,
            Op::Rename { .. } => OpKind::Rename,
            Op::Remove { .. } => OpKind::Remove,
            Op::CreateDir { .. } => OpKind::CreateDir,
            Op::SyncDir { .. } => OpKind::SyncDir,
            Op::List { .. } => OpKind::List,
        }
    }

    fn covers(self, kind: OpKind) -> bool {
        self == OpKind::Any || self == kind
    }
}

/// What a fault does to the operation it hits. Where an effect has no meaning for an operation, it
/// is used up and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Fails with this `errno`. A failed write leaves any subset of its sectors; a failed sync
    /// loses what it should have covered, and the next one succeeds; anything else did not happen.
    Error(i32),
    /// A write leaves a prefix of its sectors and fails with `EIO`. A read answers fewer bytes
    /// than there are, as if the file ended there.
    Short,
    /// A sync, directory sync or durable write succeeds and makes nothing durable.
    Lie,
    /// A write succeeds and nothing is stored.
    Drop,
    /// Takes so many ns longer.
    Delay(u64),
    /// One bit of what is written, or of what is read, comes out wrong.
    FlipBit,
    /// A write lands on, or a read comes from, another block of the same file.
    Misdirect,
    /// A write lands on, or a read comes from, the same position of another file.
    MisdirectTo(PathBuf),
}

/// A planned fault: which operations it hits, and what it does to them.
///
/// ```
/// use thalweg_io::sim::{Effect, FaultRule, OpKind, SimDisk};
///
/// let disk = SimDisk::new(1);
/// // The third and the fourth sync of a WAL file fail.
/// disk.plan(FaultRule::new(OpKind::Sync, Effect::Error(5)).on("wal/").skip(2).times(2));
/// ```
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// The operations it looks at.
    pub op: OpKind,
    /// Only those on paths that contain this.
    pub path_contains: String,
    /// So many of them go by first.
    pub skip: u64,
    /// So many of them are hit.
    pub count: u64,
    /// What happens to them.
    pub effect: Effect,
}

impl FaultRule {
    /// Hits the next operation of a kind, on any path.
    #[must_use]
    pub fn new(op: OpKind, effect: Effect) -> FaultRule {
        FaultRule { op, path_contains: String::new(), skip: 0, count: 1, effect }
    }

    /// Hits only paths that contain `part`.
    #[must_use]
    pub fn on(self, part: impl Into<String>) -> FaultRule {
        FaultRule { path_contains: part.into(), ..self }
    }

    /// Lets `count` operations go by first.
    #[must_use]
    pub fn skip(self, count: u64) -> FaultRule {
        FaultRule { skip: count, ..self }
    }

    /// Hits `count` operations.
    #[must_use]
    pub fn times(self, count: u64) -> FaultRule {
        FaultRule { count, ..self }
    }

    /// Hits every operation from here on.
    #[must_use]
    pub fn always(self) -> FaultRule {
        self.times(u64::MAX)
    }

    /// Whether the rule looks at operations of this kind.
    pub(super) fn looks_at(&self, kind: OpKind) -> bool {
        self.count > 0 && self.op.covers(kind)
    }

    /// Shows the rule an operation it looks at; returns whether it is hit.
    pub(super) fn hits(&mut self, paths: &[PathBuf]) -> bool {
        let named = |path: &PathBuf| path.to_string_lossy().contains(&self.path_contains);
        if !self.path_contains.is_empty() && !paths.iter().any(named) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.count = self.count.saturating_sub(u64::from(self.count != u64::MAX));
        true
    }
}
