//! The journey of a read, one file per step:
//! [`locate`] → [`fetch`] → [`cut`] → [`wait`].
//!
//! A reader asks its shard for the batches from an offset on. The shard answers from the tail
//! cache at once, from the WAL or a segment by a background task, or, at the end of the log, when
//! there is something new.

pub(crate) mod ahead;
pub(crate) mod cut;
mod disk;
pub(crate) mod fetch;
pub(crate) mod locate;
mod reader;
pub(crate) mod request;
pub(crate) mod wait;

pub use reader::{Reader, Records, Streaming};
pub use request::{FetchError, ReadFrom, ReadLevel};
