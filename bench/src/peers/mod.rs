//! Thalweg against embedded peers, under the same load, each acknowledgement synced to the device.
//!
//! What a peer is stands here; each has a file, which says what it really syncs. `run.rs` has the
//! rounds, `load.rs` the load, `meters.rs` what is read from the host, `report.rs` the tables.
//!
//! Left out, because what they acknowledge is not on the device: commitlog 0.2 (`flush` syncs its
//! index; for the records it is [`std::io::Write::flush`] on a `File`, which does nothing), and sled
//! 0.34 (`flush` waits for `sync_file_range`, which neither commits the file's extents nor flushes the
//! device's cache).

mod conditions;
mod fjall;
mod floor;
mod load;
mod meters;
mod okaywal;
mod raft_engine;
mod redb;
mod report;
mod run;
mod sqlite;
mod thalweg;
mod walrus;

use std::error::Error;
use std::path::Path;

use load::{Load, Sample};

pub(crate) use load::Workload;
pub(crate) use run::{Options, run};
pub(crate) use walrus::{DIR_VARIABLE, QUIET_VARIABLE};

/// Whatever went wrong; the run ends and says it.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What the report says of a row.
#[derive(Clone, Copy, Debug)]
struct About {
    /// As in the tables, and for `--only`.
    name: &'static str,
    /// The package in `Cargo.lock`; `None` for the device itself.
    package: Option<&'static str>,
    /// What an acknowledged append has been through, in one sentence.
    syncs: &'static str,
}

/// An embedded engine that can append durably. Threads share it.
trait Peer: Send + Sync {
    fn about(&self) -> About;

    /// Appends one record and returns when it is on the device. `writer` is one of
    /// [`load::WRITERS`] callers, of which none calls twice at once: for engines with a log each.
    fn append(&self, writer: usize, record: &[u8]) -> Result<()>;

    /// The same for several records as one: all of them are on the device, by one commit.
    fn append_batch(&self, writer: usize, records: &[&[u8]]) -> Result<()>;
}

/// What has rows in the tables: a peer, or a way to drive Thalweg or the device.
trait Subject {
    fn about(&self) -> About;

    /// Whether it has a row for this workload.
    fn takes(&self, workload: Workload) -> bool;

    /// Runs a workload it takes.
    fn run(&mut self, workload: Workload, load: &Load) -> Result<Sample>;
}

/// A peer takes every workload, each by the same loop.
struct Driven<P>(P);

impl<P: Peer> Subject for Driven<P> {
    fn about(&self) -> About {
        self.0.about()
    }

    fn takes(&self, _: Workload) -> bool {
        true
    }

    fn run(&mut self, workload: Workload, load: &Load) -> Result<Sample> {
        match workload {
            Workload::One => load.one_by_one(|record| self.0.append(0, record)),
            Workload::Many => load.by_threads(|writer, record| self.0.append(writer, record)),
            Workload::Batch => load.in_batches(|records| self.0.append_batch(0, records)),
        }
    }
}

/// Opens everything that is compared, each in a folder of its own below `dir`: the device first,
/// then Thalweg, then the peers. `wanted` says by name what is opened.
fn open(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<Box<dyn Subject>>> {
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    subjects.push(Box::new(floor::Floor::open(dir)?));
    subjects.extend(thalweg::open(dir, &wanted)?);
    if wanted(raft_engine::NAME) {
        subjects.push(Box::new(Driven(raft_engine::RaftEngine::open(dir, raft_engine::Files::Growing)?)));
    }
    if wanted(raft_engine::NAME_PREFILLED) {
        subjects.push(Box::new(Driven(raft_engine::RaftEngine::open(dir, raft_engine::Files::Prefilled)?)));
    }
    if wanted(okaywal::ABOUT.name) {
        subjects.push(Box::new(Driven(okaywal::OkayWal::open(dir)?)));
    }
    if wanted(walrus::ABOUT.name) {
        subjects.push(Box::new(Driven(walrus::WalrusLog::open()?)));
    }
    if wanted(fjall::ABOUT.name) {
        subjects.push(Box::new(Driven(fjall::Fjall::open(dir)?)));
    }
    if wanted(redb::ABOUT.name) {
        subjects.push(Box::new(Driven(redb::Redb::open(dir)?)));
    }
    if wanted(sqlite::ABOUT.name) {
        subjects.push(Box::new(Driven(sqlite::Sqlite::open(dir)?)));
    }
    Ok(subjects)
}
