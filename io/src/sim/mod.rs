//! A deterministic disk in memory, with everything a power cut may do to it.
//!
//! A [`SimDisk`] outlives the processes that use it. Each process (a test's "life") takes one
//! [`SimBackend`] per shard from [`SimDisk::backend`]; [`SimDisk::crash`] is a power cut, after
//! which the backends of the earlier life answer every operation with an error and the next life
//! takes new ones. Everything is drawn from the disk's seed: the same seed and the same calls give
//! the same bytes, the same times and the same [`SimDisk::trace_hash`].
//!
//! # The model
//! * **Content.** A file is pages of 4,096 B, kept or lost in sectors of 512 B, which are atomic.
//!   It has what is stored and a list of changes since, in order of completion. A volatile write
//!   is such a change; a durable write is one that is certain. A power cut goes through the list in
//!   order and keeps, loses or tears each change on its own.
//! * **Length** is a fact of its own. Growth by a write, an allocation or a truncation can be lost
//!   while the bytes are kept (they are then out of sight) and kept while the bytes are lost (they
//!   then read as zeros). A durable write makes certain the length that reaches its end.
//! * **Sync** makes certain what had completed when it was *submitted*. One that fails loses those
//!   changes for ever: they are still read until the power cut, and the next sync succeeds.
//! * **Names** are facts of the directory and become certain by [`Op::SyncDir`] alone, see
//!   [`names`]. A directory whose own name is lost takes its files with it.
//! * **In flight.** At a power cut an operation in flight may have happened, or not, or, for a
//!   write, in any subset of its sectors. A read of a range with a write in flight gets old or new
//!   bytes, sector by sector.
//! * **Time** is virtual. Every operation takes a latency drawn from the seed, so completions come
//!   in another order than submissions. `park` jumps to the next completion; `poll` costs
//!   [`POLL_NS`].
//!
//! Misuse of the contract panics here, where a real backend would do something quiet and wrong.
//!
//! [`Op::SyncDir`]: crate::Op::SyncDir

mod backend;
mod client;
mod crash;
mod disk;
mod execute;
mod fault;
mod file;
pub mod names;
mod options;
mod pages;
mod random;
mod state;
mod trace;

#[cfg(test)]
mod tests;

pub use backend::{POLL_NS, SimBackend};
pub use crash::Undecided;
pub use disk::SimDisk;
pub use fault::{Effect, FaultRule, OpKind};
pub use options::SimOptions;
pub use pages::SECTOR;
pub use random::SimRandom;
pub use trace::Event;
