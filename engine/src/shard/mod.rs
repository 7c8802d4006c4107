//! A shard: one thread, one ring, one WAL, a set of partitions.

pub(crate) mod core;
pub(crate) mod format;
pub(crate) mod owned;
mod patience;
pub(crate) mod polling;
pub(crate) mod quarantine;
pub(crate) mod query;
pub(crate) mod recover;
pub(crate) mod replay;
mod rest;
pub(crate) mod state;
#[cfg(test)]
mod tests;
pub(crate) mod thread;
pub(crate) mod turn;

pub(crate) use core::Core;
