//! Benchmarks of Thalweg, against the device in the same run.
//!
//! The machines that logs run on are shared and drift: a figure in microseconds says little. So every
//! run measures **the device floor** ([`floor`]) alternating with the log, round by round, and gives
//! the ratio of the two within a round; what is printed is the median over the rounds. Throughput is
//! measured with closed loops, latency with open ones or one append at a time ([`load`]).

#![forbid(unsafe_code)]

pub mod append;
pub mod bench;
pub mod bound;
pub mod floor;
pub mod load;
pub mod machine;
pub mod meter;
pub mod mixed;
pub mod partitions;
#[cfg(feature = "peers")]
pub mod peers;
pub mod read;
pub mod recover;
pub mod report;
pub mod result;
pub mod soak;
pub mod strategies;
pub mod suite;
pub mod tail;

/// Why a benchmark ended early.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// What a benchmark comes to.
pub type Result<T> = std::result::Result<T, Error>;
