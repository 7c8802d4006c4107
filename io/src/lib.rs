//! Bytes and the kernel, for one shard of a Thalweg log.
//!
//! A shard is one thread that owns a set of files. Everything it may ask of its host is one trait,
//! [`Backend`]: files, directories, a clock, randomness and a way to sleep. Operations take their
//! buffer by value and give it back with the result, so a buffer is never touched by the kernel
//! and by us at once. The trait is dispatched statically and ends at the shard's mailbox.
//!
//! | backend | what it is |
//! |---|---|
//! | [`UringBackend`] | our own io_uring: the default |
//! | [`BlockingBackend`] | `pwritev2`/`fdatasync` on the shard's thread: where io_uring is forbidden |
//! | `GlommioBackend` | inside a glommio executor (feature `glommio`) |
//! | [`sim::SimBackend`] | a deterministic disk in memory, with everything a power cut may do to it |
//!
//! [`Reactor`] turns a backend into futures and [`boot`] chooses a backend for this host.
//! This is the only crate of the workspace that contains `unsafe`.

pub mod allocations;
pub mod backend;
pub mod blocking;
pub mod boot;
mod buffer;
pub mod device;
#[cfg(feature = "glommio")]
pub mod glommio;
pub mod lock;
pub mod memory;
pub mod pin;
#[cfg(not(feature = "planted"))]
mod planted;
#[cfg(feature = "planted")]
#[doc(hidden)]
pub mod planted;
pub mod power;
mod pwrite;
pub mod reactor;
mod real_files;
pub mod sim;
mod transfer;
pub mod uring;
pub mod wake;

#[cfg(feature = "glommio")]
pub use crate::glommio::GlommioBackend;
pub use backend::{
    BLOCK, Backend, Buffer, CommitStrategy, Completion, Durability, Entry, FileId, Nanos, Op, OpenMode,
    Reply, Tag,
};
pub use blocking::BlockingBackend;
pub use device::{Device, WriteCache};
pub use lock::DirLock;
pub use memory::{AlignedBuf, BufferPool, Chunk, ChunkView, ChunkWriter, Region, View};
pub use reactor::{Bell, Pending, Reactor};
pub use uring::UringBackend;
pub use wake::Wake;
