//! A durable log that programs embed.
//!
//! **Thalweg** keeps partitions of records on local disks. An acknowledged record survives a power
//! cut, at the latency the device allows, whatever the number of partitions: all partitions of a
//! shard share one write and one sync per group.
//!
//! ```
//! # let dir = tempfile::tempdir().unwrap();
//! # let mut config = thalweg::Config::new(dir.path());
//! # config.wal.file_bytes = 4 << 20;
//! # config.cache.bytes = 16 << 20;
//! use thalweg::{Engine, PartitionConfig, ReadFrom, Record};
//!
//! let engine = Engine::open(config)?;
//! let orders = engine.create("orders", PartitionConfig::default())?;
//!
//! // Several appends in flight share a group; each ticket is a future, or can be waited for.
//! let tickets: Vec<_> =
//!     (0..10).map(|n| orders.append(Record::new(format!("order {n}")).with_key("alice"))).collect();
//! for ticket in tickets {
//!     println!("durable at {}", ticket.wait()?.base_offset);
//! }
//!
//! for record in orders.read(ReadFrom::Earliest).to_end().records() {
//!     let (offset, record) = record?;
//!     println!("{offset}: {:?}", record.value);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Three ways to embed
//! | | who runs the shard | for |
//! |---|---|---|
//! | [`Engine`] | a pinned thread per shard | any program, any async runtime or none |
//! | [`OwnedShard`] | your loop calls [`turn`](OwnedShard::turn) | the last microsecond: no hand-over |
//! | [`OwnedShard::open_within`] | a glommio executor | programs that live in one (feature `glommio`) |
//!
//! # What is promised
//! - A ticket that resolves without error under [`Ack::Flushed`] (the default) names an offset at
//!   which the record is after any crash or power cut, if the disk keeps what it acknowledged.
//! - Readers see records in offset order, without gap or duplicate, and by default only records
//!   that survive a power cut: nothing that was read is ever un-read.
//! - Damage is reported and never served. What was acknowledged is never cut off silently: see
//!   [`wal::decide`] for the one rule by which recovery may drop the end of a log.
//! - After a failed write or sync nothing is acknowledged: the shard stops and says why.
//!
//! # Settings
//! [`Config`] is all of them, each with its reason; `docs/settings.md` is the table, with the ranges.
//! What fixes the disk a new directory takes, two WAL files a shard, is `wal.file_bytes`.
//!
//! # Finding one's way
//! The journey of an append is `append/`: admit, assign, group, persist, publish. The journey of a
//! read is `read/`: locate, fetch, cut, wait. Formats are drawn byte by byte where they are encoded
//! ([`record`], [`wal`], [`segment`], [`manifest`], [`superblock`]) and in `docs/format.md`.

#![forbid(unsafe_code)]

mod append;
mod cache;
pub mod config;
mod directory;
mod engine;
mod governed;
mod governor;
mod ids;
pub mod inspect;
mod log;
mod mailbox;
mod maintain;
pub mod manifest;
mod metrics;
mod names;
mod open;
mod partition;
mod partitions;
#[cfg(not(feature = "planted"))]
mod planted;
#[cfg(feature = "planted")]
#[doc(hidden)]
pub mod planted;
pub mod probe;
mod read;
pub mod record;
mod reread;
pub mod segment;
mod shard;
mod slot;
#[cfg(feature = "stages")]
#[doc(hidden)]
pub mod stages;
pub mod superblock;
mod ticket;
pub mod wal;
pub mod wire;

pub use append::request::ControlError;
pub use append::{Ack, AppendError, Appended};
pub use config::{Config, ConfigError, PartitionConfig, Retention};
pub use engine::Engine;
pub use ids::{FileNumber, GroupNumber, LeaderEpoch, Offset, PartitionId, ShardId, WalPosition, WalSequence};
pub use log::{Creating, JointResult, Log};
pub use metrics::{Latency, ShardStats};
pub use open::OpenError;
pub use partition::{AppendOptions, AppendResult, Partition, TryAppendError};
pub use read::{FetchError, ReadFrom, ReadLevel, Reader, Records, Streaming};
pub use record::{Batch, BatchView, Header, Record, RecordView};
pub use shard::owned::OwnedShard;
pub use shard::query::PartitionInfo;
pub use shard::recover::{RecoverError, RecoveryReport};
pub use thalweg_io::lock::LockError;
pub use ticket::Ticket;
