//! How this device commits fastest, by measuring.
//!
//! Which of the four strategies is fastest differs by device, kernel and load, and a thread that
//! polls can starve the kernel's threads that its own commits complete on. So the ways take turns
//! on a file in the data directory, waiting as a shard waits; [`choose()`] decides; the result is
//! kept in the directory as its [`DeviceProfile`], and looked at again when it is opened.

mod choose;
mod measure;
mod profile;
mod report;
mod rounds;
mod settle;
mod slice;

pub use choose::{Choice, DECIDING, Figures, Load, Way, choose, floor, starved};
pub use profile::{DEVICE_NAME, DeviceProfile, PROFILE_BYTES, Profiled};
pub use report::{ProbeError, ProbeReport, probe};
pub use rounds::Budget;
pub use settle::CommitChoice;
pub use slice::PROBE_NAME;
pub use thalweg_io::boot::BackendKind;
pub use thalweg_io::{CommitStrategy, Device, WriteCache};

pub(crate) use measure::keep_workers_off;
pub(crate) use report::first_core;
pub(crate) use settle::{Settled, settle};
