//! What a shard may ask of its host.
//!
//! # Contract
//! Every backend passes the suite in `tests/contract`; the simulator enforces the worst of it.
//!
//! 1. A completed [`Durability::Durable`] write survives a power cut. It says nothing about any
//!    other write.
//! 2. [`Op::Sync`] covers exactly the writes, the allocation and the length whose completion was
//!    *reaped before the sync was submitted*.
//! 3. Nothing else is ordered. Writes in flight or not synced may survive a power cut whole, in
//!    part (per 512-byte sector) or not at all, in any order. A caller orders by not submitting.
//! 4. A name (created, renamed, removed) survives a power cut only after [`Op::SyncDir`] on its
//!    directory, submitted after the operation completed. A directory's own name likewise.
//! 5. The backend finishes short reads and writes and retries `EINTR` and `EAGAIN`. Any other
//!    error is final: a caller never retries a failed write or sync on the same bytes.
//! 6. A buffer belongs to its operation from `submit` until its completion is reaped, and comes
//!    back with it, error or not.
//! 7. Dropping a backend first waits for what is in flight, then frees the buffers.
//!
//! Paths are relative to the data directory the backend was opened on.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::memory::{AlignedBuf, ChunkView, Region};
use crate::wake::Wake;

/// The unit of every write: positions, lengths and addresses are multiples of it.
///
/// Devices of today report 512 or 4,096 B for direct I/O; 4,096 serves both, and is the page size
/// of the file systems above them.
pub const BLOCK: usize = 4096;

/// An open file of one backend. Meaningless to any other backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(pub u32);

/// The caller's name for an operation in flight, given back in its [`Completion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

/// A point on the backend's monotonic clock, nanoseconds from an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The point `micros` µs after this one.
    #[must_use]
    pub fn plus_us(self, micros: u64) -> Nanos {
        Nanos(self.0.saturating_add(micros.saturating_mul(1000)))
    }

    /// Nanoseconds from `earlier` to this point, 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Whether a write's completion promises that its bytes survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The bytes may be lost until a later [`Op::Sync`].
    Volatile,
    /// The bytes are on stable storage when the write completes, by the backend's
    /// [`CommitStrategy`].
    Durable,
}

/// How a backend makes a [`Durability::Durable`] write durable.
///
/// Which is fastest differs by device and kernel, so it is a choice and not a belief.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommitStrategy {
    /// One write carrying `RWF_DSYNC`: one round trip, and a single FUA write where the device
    /// has it.
    #[default]
    Dsync,
    /// A write, and an `fdatasync` by the ring's worker once it has completed.
    WriteThenSync,
    /// A write, and an `fdatasync` on the shard's thread when its completion is reaped: no worker
    /// to hand over to, and nothing else happens meanwhile. Writes reaped together share it.
    Hybrid,
    /// `pwritev2` with `RWF_DSYNC` on the shard's thread, which does nothing else meanwhile.
    Blocking,
}

impl CommitStrategy {
    /// All of them, in the order in which equals are preferred: those that leave the shard's
    /// thread free first.
    pub const ALL: [CommitStrategy; 4] = [
        CommitStrategy::Dsync,
        CommitStrategy::WriteThenSync,
        CommitStrategy::Hybrid,
        CommitStrategy::Blocking,
    ];
}

impl fmt::Display for CommitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CommitStrategy::Dsync => "dsync",
            CommitStrategy::WriteThenSync => "write_then_sync",
            CommitStrategy::Hybrid => "hybrid",
            CommitStrategy::Blocking => "blocking",
        })
    }
}

/// How a file is opened. Every file is opened for direct I/O where the file system has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; only read.
    Read,
    /// Must exist; read and written.
    ReadWrite,
    /// Must not exist; read and written.
    CreateNew,
}

/// A buffer lent to an operation.
#[derive(Debug)]
pub enum Buffer {
    /// Memory of its own.
    Aligned(AlignedBuf),
    /// A published part of the tail cache. Only ever written from.
    View(ChunkView),
}

impl Buffer {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Buffer::Aligned(buf) => buf,
            Buffer::View(view) => view,
        }
    }
}

/// One request. Buffers and positions of reads and writes are multiples of [`BLOCK`].
#[derive(Debug)]
pub enum Op {
    /// Opens `path`; answers [`Reply::Opened`].
    Open {
        /// Relative to the data directory.
        path: PathBuf,
        /// Read, read and write, or create.
        mode: OpenMode,
    },
    /// Closes `file`. Nothing may be in flight on it.
    Close {
        /// The file to close; its id may be used again afterwards.
        file: FileId,
    },
    /// Fills `buf` from `position`; answers [`Reply::Read`] with the bytes read, which are fewer
    /// than `buf` holds only at the end of the file.
    Read {
        /// Where to read.
        file: FileId,
        /// First byte.
        position: u64,
        /// Filled from its start.
        buf: AlignedBuf,
    },
    /// Writes all of `buf` at `position`; answers [`Reply::Done`].
    Write {
        /// Where to write.
        file: FileId,
        /// First byte.
        position: u64,
        /// Written whole.
        buf: Buffer,
        /// What completion promises.
        durability: Durability,
    },
    /// Makes completed writes, allocation and length of `file` durable.
    Sync {
        /// The file.
        file: FileId,
    },
    /// Reserves space so that `file` is at least `len` bytes long. The blocks read as zeros; only
    /// writing them makes later commits cheap. Answers [`Reply::Done`], or [`Reply::Unreserved`] where
    /// the file system has no `fallocate`: the length grows, and a write may still find no space.
    Allocate {
        /// The file.
        file: FileId,
        /// Bytes from the start of the file.
        len: u64,
    },
    /// Sets the length of `file`.
    Truncate {
        /// The file.
        file: FileId,
        /// New length in bytes.
        len: u64,
    },
    /// Renames `from` to `to`, replacing it.
    Rename {
        /// Existing path.
        from: PathBuf,
        /// New path.
        to: PathBuf,
    },
    /// Removes a file.
    Remove {
        /// Existing path.
        path: PathBuf,
    },
    /// Creates a directory; it is no error if it exists.
    CreateDir {
        /// Path of the directory.
        path: PathBuf,
    },
    /// Makes the names in a directory durable.
    SyncDir {
        /// Path of the directory; empty for the data directory itself.
        path: PathBuf,
    },
    /// Lists a directory in name order; answers [`Reply::Listed`].
    List {
        /// Path of the directory; empty for the data directory itself.
        path: PathBuf,
    },
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// File name, without its directory.
    pub name: String,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// What a successful operation answers.
#[derive(Debug)]
pub enum Reply {
    /// The operation has nothing to say.
    Done,
    /// A file was opened.
    Opened {
        /// Its id.
        file: FileId,
        /// Its length in bytes.
        len: u64,
    },
    /// So many bytes were read.
    Read(usize),
    /// The names in a directory, sorted.
    Listed(Vec<Entry>),
    /// The file is as long as asked for, but no space is reserved.
    Unreserved,
}

/// The end of an operation.
#[derive(Debug)]
pub struct Completion {
    /// As given to `submit`.
    pub tag: Tag,
    /// The operation's buffer, for reads and writes.
    pub buffer: Option<Buffer>,
    /// The answer, or a final error.
    pub result: io::Result<Reply>,
}

/// What one shard may ask of its host. Belongs to one thread.
pub trait Backend: 'static {
    /// Name in logs, metrics and `--json`.
    const NAME: &'static str;

    /// Queues an operation. Never blocks and never fails: an error is a completion.
    fn submit(&mut self, op: Op, tag: Tag);

    /// Hands queued operations to the kernel and moves what has completed to `out`, in order of
    /// completion. Does not wait for anything. Returns how many completions it moved.
    fn poll(&mut self, out: &mut Vec<Completion>) -> usize;

    /// Sleeps until a completion is ready, [`Wake::notify`] is called or `deadline` has passed.
    /// May return early. A backend that lives in somebody's executor returns at once.
    fn park(&mut self, deadline: Option<Nanos>);

    /// As [`park`](Self::park), for a backend whose thread belongs to somebody's executor.
    /// The future holds nothing of the backend, so that others may use it meanwhile.
    fn idle(&mut self, deadline: Option<Nanos>) -> impl Future<Output = ()> + use<Self> {
        self.park(deadline);
        std::future::ready(())
    }

    /// Lets whoever else wants the core have it for a moment, for a caller that looks for what it
    /// waits for instead of sleeping. False where looking again brings nothing: it should park.
    fn yield_core(&self) -> bool {
        false
    }

    /// Operations submitted and not yet reaped.
    fn in_flight(&self) -> usize;

    /// Tells the backend that many writes will come from this memory, so that it can register it.
    /// Registration is an optimisation: a backend that can't goes on without, and says so once.
    fn register(&mut self, region: &Arc<Region>);

    /// What other threads call to end [`park`](Self::park).
    fn wake(&self) -> Arc<Wake>;

    /// The monotonic clock.
    fn now(&self) -> Nanos;

    /// Wall clock, milliseconds since the Unix epoch. May jump.
    fn wall_ms(&self) -> i64;

    /// Random bits: salts and identifiers.
    fn random(&mut self) -> u64;

    /// Bytes free for this data directory, if the host can tell.
    fn free_bytes(&self) -> Option<u64>;
}
