//! One way to commit under one load for a few milliseconds, waiting as a shard does.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use thalweg_io::{
    AlignedBuf, BLOCK, Backend, BlockingBackend, Buffer, ChunkView, CommitStrategy, Durability, FileId,
    Nanos, Op, OpenMode, Pending, Reactor, Region, UringBackend,
};

use crate::probe::choose::{Load, Way};

/// Name of the file that is written to. It is removed when the probe ends, and when the next begins.
pub const PROBE_NAME: &str = "PROBE.tmp";

/// Largest group that is measured.
pub(super) const GROUP_BYTES_MAX: u32 = 256 << 10;
/// First commits of a slice that do not count: the ring's first worker is being started, and the
/// device may have slept.
const WARM_UP: usize = 2;
/// How long a thread that polls looks before it sleeps, ns: beyond a scheduler tick, so that a commit
/// that has to wait for one shows. A shard looks no further than `threads.poll_us`.
const LOOK_NS: u64 = 12_000_000;

/// A backend whose way of committing can be changed while it runs.
pub(super) trait Switch: Backend {
    /// The strategies that differ on it.
    const STRATEGIES: &'static [CommitStrategy];
    fn switch(&mut self, strategy: CommitStrategy);
    /// The strategy in use: another one than asked for, if the kernel refused that.
    fn in_use(&self) -> CommitStrategy;
}

impl Switch for UringBackend {
    const STRATEGIES: &'static [CommitStrategy] = &CommitStrategy::ALL;

    fn switch(&mut self, strategy: CommitStrategy) {
        self.set_strategy(strategy);
    }

    fn in_use(&self) -> CommitStrategy {
        self.strategy()
    }
}

impl Switch for BlockingBackend {
    const STRATEGIES: &'static [CommitStrategy] = &[CommitStrategy::Dsync, CommitStrategy::WriteThenSync];

    fn switch(&mut self, strategy: CommitStrategy) {
        self.set_strategy(strategy);
    }

    fn in_use(&self) -> CommitStrategy {
        self.strategy()
    }
}

/// What one slice measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slice {
    /// From submitting to reaping, ns, ascending.
    pub taken_ns: Vec<u64>,
    pub commits_per_s: f64,
}

/// The smallest of ascending values with `per_mille` of them at or below it; 0 if there are none.
pub(super) fn percentile(ascending: &[u64], per_mille: usize) -> u64 {
    let rank = (ascending.len() * per_mille).div_ceil(1000).max(1);
    ascending.get(rank - 1).copied().unwrap_or(0)
}

/// A file of a data directory's file system to commit to, laid out like a WAL file.
pub(super) struct Bench<B: Switch> {
    reactor: Reactor<B>,
    file: FileId,
    file_bytes: u64,
    /// From the same kind of memory that groups are written from.
    group: ChunkView,
    position: u64,
}

impl<B: Switch> Bench<B> {
    /// Makes and fills the file.
    ///
    /// # Errors
    /// The host's. No file is left then.
    pub(super) fn make(reactor: &Reactor<B>, file_bytes: u64) -> io::Result<Bench<B>> {
        let region = Region::new(GROUP_BYTES_MAX as usize, 1)?;
        reactor.with_backend(|backend| backend.register(&region));
        let mut writer = region.take().ok_or(io::ErrorKind::OutOfMemory)?;
        // Not zeros: some devices store those as nothing.
        let mut bits = reactor.with_backend(|backend| backend.random()) | 1;
        for word in writer.spare().chunks_exact_mut(8) {
            bits = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
            word.copy_from_slice(&bits.to_le_bytes());
        }
        let group = writer.publish(GROUP_BYTES_MAX as usize);
        let file = reactor.block_on(make_file(reactor, file_bytes));
        if file.is_err() {
            remove_file(reactor);
        }
        Ok(Bench { reactor: reactor.clone(), file: file?, file_bytes, group, position: 0 })
    }

    /// Closes and removes the file.
    pub(super) fn remove(self) {
        let closed = self.reactor.block_on(self.reactor.run(Op::Close { file: self.file }));
        if let Err(error) = closed {
            tracing::debug!(%error, "the probe's file is not closed");
        }
        remove_file(&self.reactor);
    }

    /// Commits for about `nanos`, and at least `commits_min` times. `None` if the kernel refused
    /// the strategy.
    ///
    /// # Errors
    /// The host's, when all that was in flight has ended.
    pub(super) fn run(
        &mut self,
        way: Way,
        load: Load,
        nanos: u64,
        commits_min: usize,
    ) -> io::Result<Option<Slice>> {
        self.reactor.with_backend(|backend| backend.switch(way.strategy));
        let start = self.reactor.now();
        let mut flights: VecDeque<(Nanos, Pending<B>)> = VecDeque::new();
        let mut taken_ns = Vec::new();
        let mut failed = None;
        let mut idle_since: Option<Nanos> = None;
        loop {
            let mut busy = self.reactor.poll_io();
            while let Some((since, pending)) = flights.front_mut() {
                let Some(completion) = pending.try_take() else { break };
                taken_ns.push(self.reactor.now().since(*since));
                failed = failed.or(completion.result.err());
                flights.pop_front();
                busy = true;
            }
            let over = self.reactor.now().since(start) >= nanos && taken_ns.len() >= commits_min;
            let stop = over || failed.is_some();
            while !stop && flights.len() < usize::from(load.in_flight) {
                flights.push_back((self.reactor.now(), self.commit(load)));
                busy = true;
            }
            if flights.is_empty() {
                break;
            }
            if busy {
                idle_since = None;
                continue;
            }
            self.wait(way, &mut idle_since);
        }
        let elapsed = self.reactor.now().since(start);
        let in_use = self.reactor.with_backend(|backend| backend.in_use());
        match failed {
            Some(error) => Err(error),
            None if in_use != way.strategy => Ok(None),
            None => Ok(Some(summary(taken_ns, elapsed))),
        }
    }

    /// Waits for a completion: by looking, as a shard's thread does that expects it soon, or asleep.
    fn wait(&self, way: Way, idle_since: &mut Option<Nanos>) {
        let now = self.reactor.now();
        let since = *idle_since.get_or_insert(now);
        if way.polls && now.since(since) < LOOK_NS {
            std::thread::yield_now();
            return;
        }
        let wake = self.reactor.wake();
        wake.prepare();
        self.reactor.park(None);
        wake.finish();
        *idle_since = None;
    }

    fn commit(&mut self, load: Load) -> Pending<B> {
        let len = u64::from(load.bytes);
        if self.position + len > self.file_bytes {
            self.position = 0;
        }
        let (file, position) = (self.file, self.position);
        self.position += len;
        let buf = Buffer::View(self.group.slice(0..load.bytes as usize));
        self.reactor.start(Op::Write { file, position, buf, durability: Durability::Durable })
    }
}

/// A file whose blocks have been written, as those of a WAL file have.
async fn make_file<B: Backend>(reactor: &Reactor<B>, file_bytes: u64) -> io::Result<FileId> {
    let path = PathBuf::from(PROBE_NAME);
    match reactor.run(Op::Remove { path: path.clone() }).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (file, _) = reactor.open(&path, OpenMode::CreateNew).await?;
    match fill(reactor, file, file_bytes).await {
        Ok(()) => Ok(file),
        Err(error) => {
            reactor.run(Op::Close { file }).await?;
            Err(error)
        }
    }
}

async fn fill<B: Backend>(reactor: &Reactor<B>, file: FileId, file_bytes: u64) -> io::Result<()> {
    reactor.run(Op::Allocate { file, len: file_bytes }).await?;
    let mut buf = AlignedBuf::zeroed((file_bytes as usize).min(1 << 20) / BLOCK * BLOCK);
    let mut at = 0;
    while at < file_bytes {
        let (back, written) = reactor.write(file, at, buf, Durability::Volatile).await;
        written?;
        at += back.len() as u64;
        buf = back;
    }
    reactor.run(Op::Sync { file }).await
}

fn remove_file<B: Backend>(reactor: &Reactor<B>) {
    match reactor.block_on(reactor.run(Op::Remove { path: PROBE_NAME.into() })) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "{PROBE_NAME} is left behind; the next probe removes it");
        }
        _ => {}
    }
}

fn summary(mut taken_ns: Vec<u64>, elapsed_ns: u64) -> Slice {
    let commits_per_s = taken_ns.len() as f64 * 1e9 / elapsed_ns.max(1) as f64;
    if taken_ns.len() > 4 * WARM_UP {
        taken_ns.drain(..WARM_UP);
    }
    taken_ns.sort_unstable();
    Slice { taken_ns, commits_per_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let slice = summary((0..1002).rev().collect(), 1_000_000);
        // The first two are the warm-up: 1001 and 1000.
        assert_eq!(slice.taken_ns.len(), 1000);
        let at = |per_mille| percentile(&slice.taken_ns, per_mille);
        assert_eq!((at(500), at(990), at(999), at(1000)), (499, 989, 998, 999));
        assert!((slice.commits_per_s - 1_002_000.0).abs() < 1.0);
        let slice = summary(vec![7, 5], 10);
        assert_eq!((percentile(&slice.taken_ns, 500), percentile(&slice.taken_ns, 999)), (5, 7));
        assert_eq!(percentile(&[], 500), 0);
    }

    #[test]
    fn every_strategy_commits_and_no_file_is_left() {
        let dir = tempfile::tempdir().unwrap();
        fn check<B: Switch>(backend: B) {
            let reactor = Reactor::new(backend);
            let mut bench = Bench::make(&reactor, 1 << 20).unwrap();
            for strategy in B::STRATEGIES {
                for (polls, bytes, in_flight) in [(true, 4096, 1), (false, GROUP_BYTES_MAX, 4)] {
                    let (way, load) = (Way { strategy: *strategy, polls }, Load { bytes, in_flight });
                    let slice = bench.run(way, load, 0, 9).unwrap().unwrap();
                    let fastest = slice.taken_ns.first();
                    assert!(slice.taken_ns.len() >= 7 && fastest > Some(&0), "{way:?} {load:?}: {slice:?}");
                }
            }
            bench.remove();
        }
        check(UringBackend::open(dir.path(), CommitStrategy::Dsync).unwrap());
        check(BlockingBackend::open(dir.path(), CommitStrategy::Dsync).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
