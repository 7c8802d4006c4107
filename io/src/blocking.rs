//! System calls on the shard's own thread, where io_uring is forbidden.
//!
//! Every operation runs to its end inside [`poll`](Backend::poll), in the order of submission. A
//! commit costs what the device costs; what is lost is that nothing else happens meanwhile.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use crate::backend::{
    Backend, Buffer, CommitStrategy, Completion, Durability, FileId, Nanos, Op, Reply, Tag,
};
use crate::memory::{AlignedBuf, Region};
use crate::real_files::{self, RealFiles};
use crate::transfer::Transfer;
use crate::wake::Wake;

/// Pause before a request is repeated that the kernel had no memory or queue slot for.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

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
            (Durability::Volatile, _) => Ok(write(fd, position, bytes, ReadWriteFlags::empty())?),
            (Durability::Durable, CommitStrategy::WriteThenSync) => write_then_sync(fd, position, bytes),
            (Durability::Durable, CommitStrategy::Dsync) => {
                let refused = match write(fd, position, bytes, ReadWriteFlags::DSYNC) {
                    Err(WriteError::Refused(errno)) => errno,
                    result => return Ok(result?),
                };
                // Refused before a byte moved. Either the flag is unknown here, and a plain write
                // works, or the request itself is bad, and that answer comes again.
                write_then_sync(fd, position, bytes)?;
                self.strategy = CommitStrategy::WriteThenSync;
                real_files::say_dsync_is_refused(refused);
                Ok(())
            }
        }
    }
}

fn write_then_sync(fd: BorrowedFd<'_>, position: u64, bytes: &[u8]) -> io::Result<()> {
    write(fd, position, bytes, ReadWriteFlags::empty())?;
    Ok(retry_on_intr(|| rustix::fs::fdatasync(fd))?)
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
            Err(errno) => pause_or_fail(errno)?,
        }
    }
    Ok(transfer.done())
}

/// Why a write did not come to its end.
enum WriteError {
    /// The kernel would not take the first piece as it was asked.
    Refused(Errno),
    Failed(io::Error),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> io::Error {
        match error {
            WriteError::Refused(errno) => errno.into(),
            WriteError::Failed(error) => error,
        }
    }
}

/// Writes all of `bytes`.
fn write(fd: BorrowedFd<'_>, position: u64, bytes: &[u8], flags: ReadWriteFlags) -> Result<(), WriteError> {
    let mut transfer = Transfer::new(position, bytes).map_err(WriteError::Failed)?;
    while !transfer.complete() {
        let (at, range) = transfer.next();
        let piece = &bytes[range];
        let written = if flags.is_empty() {
            rustix::io::pwrite(fd, piece, at)
        } else {
            rustix::io::pwritev2(fd, &[IoSlice::new(piece)], at, flags)
        };
        match written {
            Ok(bytes) => {
                if !transfer.moved(bytes) && transfer.stuck() {
                    return Err(WriteError::Failed(transfer.stuck_error()));
                }
            }
            Err(errno @ (Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)) if transfer.done() == 0 => {
                return Err(WriteError::Refused(errno));
            }
            Err(errno) => pause_or_fail(errno).map_err(WriteError::Failed)?,
        }
    }
    Ok(())
}

/// Returns for another try after `EINTR`, and after a pause for `EAGAIN`.
fn pause_or_fail(errno: Errno) -> io::Result<()> {
    match errno {
        Errno::INTR => Ok(()),
        Errno::AGAIN => {
            std::thread::sleep(RETRY_PAUSE);
            Ok(())
        }
        errno => Err(errno.into()),
    }
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
