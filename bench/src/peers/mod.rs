//! Thalweg against embedded peers, under the same load, each acknowledgement synced to the device.
//!
//! What a peer is stands here; each has a file, which says what it really syncs. `run.rs` has the
//! rounds, `load.rs` the load, `figures.rs` what they come to. Nothing is pinned but Thalweg's shard,
//! which pins itself: a peer is driven by 64 threads.
//!
//! Left out, because what they acknowledge is not on the device: commitlog 0.2 (`flush` syncs its
//! index; for the records it is [`std::io::Write::flush`] on a `File`, which does nothing), and sled
//! 0.34 (`flush` waits for `sync_file_range`, which neither commits the file's extents nor flushes the
//! device's cache).

mod device;
mod figures;
mod fjall;
mod load;
mod okaywal;
mod raft_engine;
mod redb;
mod run;
mod sqlite;
mod thalweg;
mod walrus;

use crate::Result;
use crate::bench::Bench;
use crate::floor::FloorKind;
use crate::load::Loaded;

use load::{Load, Workload};

pub use run::run;
pub use walrus::run_again;

/// What has rows, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct About {
    /// For people; blanks are underscores in the names of its figures.
    name: &'static str,
    /// The package in `Cargo.lock`; `None` for the device itself.
    package: Option<&'static str>,
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

/// What has rows: a peer, or a way to drive Thalweg or the device.
trait Subject {
    fn about(&self) -> About;

    /// Whether it has rows for this workload.
    fn takes(&self, workload: Workload) -> bool;

    /// Runs a workload it takes.
    fn run(&mut self, workload: Workload, load: &Load) -> Result<Loaded>;
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

    fn run(&mut self, workload: Workload, load: &Load) -> Result<Loaded> {
        match workload {
            Workload::One => load.one_by_one(|record| self.0.append(0, record)),
            Workload::Many => load.by_threads(|writer, record| self.0.append(writer, record)),
            Workload::Batch => load.in_batches(|records| self.0.append_batch(0, records)),
        }
    }
}

/// Opens everything that is compared: the two floors first, then Thalweg, then the peers.
fn open(bench: &Bench<'_>) -> Result<Vec<Box<dyn Subject>>> {
    let dir = &bench.dir;
    let mut subjects: Vec<Box<dyn Subject>> = vec![
        Box::new(device::Device::open(dir, FloorKind::Dsync)?),
        Box::new(device::Device::open(dir, FloorKind::WriteThenSync)?),
    ];
    subjects.extend(thalweg::open(bench)?);
    for files in [raft_engine::Files::Growing, raft_engine::Files::Prefilled] {
        subjects.push(Box::new(Driven(raft_engine::RaftEngine::open(dir, files)?)));
    }
    subjects.push(Box::new(Driven(okaywal::OkayWal::open(dir)?)));
    subjects.push(Box::new(Driven(walrus::WalrusLog::open()?)));
    subjects.push(Box::new(Driven(fjall::Fjall::open(dir)?)));
    subjects.push(Box::new(Driven(redb::Redb::open(dir)?)));
    subjects.push(Box::new(Driven(sqlite::Sqlite::open(dir)?)));
    Ok(subjects)
}
