//! System calls on the shard's own thread, where io_uring is forbidden.
//!
//! Every operation runs to its end inside [`poll`](Backend::poll), in the order of submission. A
//! commit costs what the device costs; what is lost is that nothing else happens meanwhile.
//!
//! There is no ring to divide the work with, so two strategies are two others here:
//! [`CommitStrategy::Blocking`] is `Dsync`, and [`CommitStrategy::Hybrid`] is `WriteThenSync`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use crate::backend::{
    Backend, Buffer, CommitStrategy, Completion, Durability, FileId, Nanos, Op, Reply, Tag,
};
use crate::memory::{AlignedBuf, Region};
use crate::pwrite;
use crate::real_files::{self, RealFiles};
use crate::transfer::Transfer;
use crate::wake::Wake;

/// A backend of blocking system calls.
pub struct BlockingBackend {
    files: RealFiles,
    strategy: CommitStrategy,
    queue: VecDeque<(Op, Tag)>,
    wake: Arc<Wake>,
}

impl BlockingBackend {
    /// Opens the data directory `root`, which must exist.
    ///
    /// # Errors
    /// The directory cannot be opened, or the process has no descriptors left.
    pub fn open(root: &Path, strategy: CommitStrategy) -> io::Result<BlockingBackend> {
        Ok(BlockingBackend {
            files: RealFiles::open_root(root)?,
            strategy,
            queue: VecDeque::new(),
            wake: Arc::new(Wake::new()?),
        })
    }

    /// How durable writes are made now: the strategy asked for, or the one that the kernel has.
    #[must_use]
    pub fn strategy(&self) -> CommitStrategy {
        self.strategy
    }

    /// Changes how durable writes are made that are submitted from now on.
    pub fn set_strategy(&mut self, strategy: CommitStrategy) {
        self.strategy = strategy;
    }

    fn run(&mut self, op: Op) -> (Option<Buffer>, io::Result<Reply>) {
        match op {
            Op::Read { file, position, mut buf } => {
                let result = self.files.get(file).and_then(|fd| read(fd, position, &mut buf));
                (Some(Buffer::Aligned(buf)), result.map(Reply::Read))
            }
            Op::Write { file, position, buf, durability } => {
                let result = self.write(file, position, buf.as_slice(), durability);
                (Some(buf), result.map(|()| Reply::Done))
            }
            op => (None, self.files.run(op)),
        }
    }

    fn write(&mut self, file: FileId, position: u64, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let fd = self.files.get(file)?;
        match (durability, self.strategy) {
            (Durability::Volatile, _) => pwrite::write(fd, position, bytes),
            (Durability::Durable, CommitStrategy::WriteThenSync | CommitStrategy::Hybrid) => {
                pwrite::write_then_sync(fd, position, bytes)
            }
            (Durability::Durable, CommitStrategy::Dsync | CommitStrategy::Blocking) => {
                if let Some(refused) = pwrite::write_dsync(fd, position, bytes)? {
                    self.strategy = CommitStrategy::WriteThenSync;
                    real_files::say_dsync_is_refused(refused);
                }
                Ok(())
            }
        }
    }
}

/// Reads until `buf` is full or the file ends; returns the bytes read.
fn read(fd: BorrowedFd<'_>, position: u64, buf: &mut AlignedBuf) -> io::Result<usize> {
    let mut transfer = Transfer::new(position, buf)?;
    while !transfer.complete() {
        let (at, range) = transfer.next();
        match rustix::io::pread(fd, &mut buf[range], at) {
            Ok(bytes) => {
                if !transfer.moved(bytes) {
                    break; // the end of the file
                }
            }
            Err(errno) => pwrite::pause_or_fail(errno)?,
        }
    }
    Ok(transfer.done())
}

impl Backend for BlockingBackend {
    const NAME: &'static str = "blocking";

    fn submit(&mut self, op: Op, tag: Tag) {
        self.queue.push_back((op, tag));
    }

    fn poll(&mut self, out: &mut Vec<Completion>) -> usize {
        let mut count = 0;
        while let Some((op, tag)) = self.queue.pop_front() {
            let (buffer, result) = self.run(op);
            out.push(Completion { tag, buffer, result });
            count += 1;
        }
        count
    }

    fn park(&mut self, deadline: Option<Nanos>) {
        if !self.queue.is_empty() {
            return;
        }
        real_files::sleep(&self.wake, deadline.map(|at| at.since(self.now())));
    }

    fn yield_core(&self) -> bool {
        // Never spin without yielding: on a device without FUA the commit completes in a kernel
        // thread of this very core, which a spinning thread delays by whole ticks.
        std::thread::yield_now();
        true
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }

    fn register(&mut self, _region: &Arc<Region>) {}

    fn wake(&self) -> Arc<Wake> {
        self.wake.clone()
    }

    fn now(&self) -> Nanos {
        real_files::monotonic()
    }

    fn wall_ms(&self) -> i64 {
        real_files::wall_ms()
    }

    fn random(&mut self) -> u64 {
        real_files::random()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.files.free_bytes()
    }
}
