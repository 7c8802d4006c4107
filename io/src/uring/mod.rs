//! Our own io_uring: one ring per shard, on the shard's thread.

mod backend;
mod ops;
mod registered;
mod ring;
mod setup;
mod steps;
#[cfg(test)]
mod tests;

pub use backend::UringBackend;
pub(crate) use setup::{SetupError, trial};
