//! A long run with a checker beside it: appends, reads, trims, compaction and restarts, and what memory,
//! descriptors and latency do over time.
//!
//! Every byte of a record follows from its partition and offset, so whoever reads one knows what it must
//! be. A record that is missing, or is not what was appended, ends the run.

mod check;
mod drift;
mod life;
mod run;

pub use check::{Found, KEYS, value};
pub use drift::{Drift, Sample, SoakReport};
pub use run::{Folder, Plan, run};
