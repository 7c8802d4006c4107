//! The backend: operations in, requests through the ring, completions out.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::squeue;
use rustix::process::Resource;
use slab::Slab;

use super::ops::{self, InFlight, Work};
use super::registered::{BufferTable, FileTable, limit_words};
use super::ring::{Entered, Ring};
use super::setup::{self, Built, Level, SQ_ENTRIES, Supported};
use super::steps::{Fate, Step};
use crate::backend::{Backend, Buffer, CommitStrategy, Completion, FileId, Nanos, Op, Reply, Tag};
use crate::memory::{AlignedBuf, Region};
use crate::real_files::{self, RealFiles};
use crate::wake::Wake;

/// Pause before something is repeated that the kernel had no memory or queue slot for, µs.
pub(super) const RETRY_PAUSE_US: u64 = 1000;

/// A backend on io_uring. Lives and dies on the thread that opened it.
///
/// Requests go to the kernel in [`poll`](Backend::poll) and in [`park`](Backend::park). A shard that
/// is not going to spin can park straight after `submit`: handing over the request and waiting for
/// its end are then one system call. While nothing is queued and no completion waits, `poll` makes
/// no system call.
pub struct UringBackend {
    /// First, so that the ring is gone before the memory that it knows.
    pub(super) ring: Ring,
    pub(super) buffers: BufferTable,
    pub(super) table: FileTable,
    pub(super) ops: Slab<InFlight>,
    /// Operations whose next request has not been made, in order.
    pub(super) queue: VecDeque<usize>,
    /// Operations to be tried again, each not before its time.
    pub(super) later: Vec<(Nanos, usize)>,
    pub(super) done: Vec<Completion>,
    /// Writes that have completed and wait for a sync on this thread.
    pub(super) written: Vec<(FileId, usize)>,
    pub(super) answers: Vec<(usize, i32)>,
    pub(super) files: RealFiles,
    pub(super) strategy: CommitStrategy,
    pub(super) supported: Supported,
    pub(super) summary: String,
    pub(super) wake: Arc<Wake>,
    /// The wake-up rang since the last park.
    pub(super) woken: bool,
    /// The kernel no longer serves the ring: everything fails with this.
    pub(super) broken: Option<String>,
    /// The kernel takes requests only from the thread that made the ring.
    _one_thread: PhantomData<Rc<()>>,
}

impl UringBackend {
    /// Makes a ring and opens the data directory `root`, which must exist.
    ///
    /// # Errors
    /// The host has no io_uring for us ([`boot::choose`](crate::boot::choose) says why), or the
    /// directory cannot be opened.
    pub fn open(root: &Path, strategy: CommitStrategy) -> io::Result<UringBackend> {
        UringBackend::start(setup::build(SQ_ENTRIES, &Level::ALL)?, root, strategy)
    }

    /// Opens `root` on a ring that has just been made.
    pub(super) fn start(built: Built, root: &Path, strategy: CommitStrategy) -> io::Result<UringBackend> {
        let (supported, summary) = (built.supported, built.summary());
        let ring = Ring::new(built);
        let table = FileTable::register(&ring.submitter());
        Ok(UringBackend {
            ring,
            buffers: BufferTable::new(),
            table,
            ops: Slab::new(),
            queue: VecDeque::new(),
            later: Vec::new(),
            done: Vec::new(),
            written: Vec::new(),
            answers: Vec::new(),
            files: RealFiles::open_root(root)?,
            strategy,
            supported,
            summary,
            wake: Arc::new(Wake::new()?),
            woken: false,
            broken: None,
            _one_thread: PhantomData,
        })
    }

    /// What the kernel granted, for logs and reports.
    #[must_use]
    pub fn features(&self) -> String {
        let (slots, mib) = (self.table.slots(), self.buffers.bytes() >> 20);
        format!("{}, {slots} file slots, {mib} MiB registered", self.summary)
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

    /// Makes the ring keep `fd` open until its last request has ended, even if this process is
    /// killed before. For a locked file: the lock then outlives the writes in flight.
    ///
    /// # Errors
    /// The ring has no file table, or its few slots for this are taken.
    pub fn hold(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.table.hold(&self.ring.submitter(), fd)
    }

    /// Keeps the kernel's worker threads of this ring on `cores`, away from threads that spin.
    ///
    /// # Errors
    /// The kernel is older than 5.14, or none of the cores can be used.
    pub fn set_worker_cores(&mut self, cores: &[usize]) -> io::Result<()> {
        // SAFETY: a set of no cores is all zeros.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        for core in cores {
            if *core >= 8 * size_of::<libc::cpu_set_t>() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("core {core}: no such core"),
                ));
            }
            // SAFETY: `core` is inside the set.
            unsafe { libc::CPU_SET(*core, &mut set) };
        }
        self.ring.submitter().register_iowq_aff(&set)
    }

    /// Makes requests of what is queued, as far as there is room.
    fn fill(&mut self) {
        while self.broken.is_none() && !self.queue.is_empty() && self.ring.has_room() {
            let Some(key) = self.queue.pop_front() else { break };
            match self.step(key) {
                Step::Done(result) => self.finish(key, result),
                Step::Request(entry) => self.send(key, entry),
            }
        }
        if let Some(reason) = &self.broken {
            let reason = reason.clone();
            while let Some(key) = self.queue.pop_front() {
                self.finish(key, Err(io::Error::other(reason.clone())));
            }
        }
    }

    fn send(&mut self, key: usize, entry: squeue::Entry) {
        let op = &mut self.ops[key];
        let entry = if op.patient { entry.flags(squeue::Flags::ASYNC) } else { entry };
        // SAFETY: the request refers to the buffer and the paths of `ops[key]`. They are on the heap,
        // so they stay where they are when the slab grows; they are not touched while `flying` is
        // set, and are freed only after the answer (or never, if the ring breaks).
        op.flying = unsafe { self.ring.push(&entry, key) };
        if !op.flying {
            self.queue.push_front(key);
        }
    }

    /// Takes what the kernel has answered.
    fn reap(&mut self) {
        if self.broken.is_some() {
            return; // an answer now would be of an operation that has had its end
        }
        let mut answers = mem::take(&mut self.answers);
        if self.ring.take(&mut answers) {
            self.wake.drain();
            self.woken = true;
        }
        for (key, result) in answers.drain(..) {
            let result = ops::answer(result);
            self.ops[key].flying = false;
            match self.judge(key, result) {
                Fate::Again => self.queue.push_back(key),
                Fate::Later => self.later.push((self.now().plus_us(RETRY_PAUSE_US), key)),
                Fate::Written(file) => self.written.push((file, key)),
                Fate::Done(result) => self.finish(key, result),
            }
        }
        self.answers = answers;
        self.sync_written();
    }

    pub(super) fn finish(&mut self, key: usize, result: io::Result<Reply>) {
        let op = self.ops.remove(key);
        self.done.push(Completion { tag: op.tag, buffer: op.buffer, result });
    }

    /// One system call. Returns whether the kernel did what it was asked.
    fn enter(&mut self, want: u32, nanos: Option<u64>) -> bool {
        match self.ring.enter(want, nanos) {
            Entered::Fine => true,
            Entered::Busy => false,
            Entered::Broken(error) => {
                self.reap(); // what has been answered before still counts
                self.fail_all(&error);
                false
            }
        }
    }

    /// Ends every operation with an error, because the kernel will answer none any more.
    ///
    /// It may still write into the buffers, so those are given up for good, and others of the same
    /// length go back to the callers.
    pub(super) fn fail_all(&mut self, error: &io::Error) {
        let reason = format!("the kernel no longer serves the ring: io_uring_enter: {error}");
        tracing::error!(in_flight = self.ops.len(), "{reason}");
        self.queue.clear();
        self.later.clear();
        for mut op in mem::take(&mut self.ops) {
            let (op, result) = (&mut op.1, Err(io::Error::other(reason.clone())));
            let mut buffer = op.buffer.take();
            if op.flying {
                let substitute = buffer.as_ref().map(substitute);
                mem::forget(mem::replace(&mut buffer, substitute));
                mem::forget(mem::replace(&mut op.work, Work::Refused(None)));
            }
            self.done.push(Completion { tag: op.tag, buffer, result });
        }
        self.broken = Some(reason);
    }

    /// Puts operations whose pause is over back in the queue.
    fn retry_due(&mut self) {
        if self.later.is_empty() {
            return;
        }
        let now = self.now();
        let queue = &mut self.queue;
        self.later.retain(|(at, key)| {
            let wait = *at > now;
            if !wait {
                queue.push_back(*key);
            }
            wait
        });
    }

    /// Hands requests to the kernel and takes answers, without waiting. Returns false when the
    /// kernel would take no more for now.
    fn turn(&mut self) -> bool {
        self.retry_due();
        loop {
            self.fill();
            let call = self.ring.unsent() > 0 || self.ring.has_deferred();
            if call && self.broken.is_none() && !self.enter(0, None) {
                return self.broken.is_some();
            }
            self.reap();
            // A queue is left when the ring was full, or when an answer asks for another request.
            if self.queue.is_empty() || self.ring.is_saturated() {
                return true;
            }
        }
    }

    /// How long a sleep until `deadline` may be, in nanoseconds. `None` is without end.
    fn sleep_nanos(&self, deadline: Option<Nanos>) -> Option<u64> {
        let until = self.later.iter().map(|(at, _)| *at).chain(deadline).min()?;
        Some(until.since(self.now()))
    }
}

fn substitute(buffer: &Buffer) -> Buffer {
    match buffer {
        Buffer::Aligned(buf) => Buffer::Aligned(AlignedBuf::zeroed(buf.len())),
        Buffer::View(view) => Buffer::View(view.clone()),
    }
}

impl Backend for UringBackend {
    const NAME: &'static str = "uring";

    fn submit(&mut self, op: Op, tag: Tag) {
        let key = self.ops.insert(InFlight::new(op, tag, self.strategy, &self.supported));
        self.queue.push_back(key);
    }

    fn poll(&mut self, out: &mut Vec<Completion>) -> usize {
        self.turn();
        let count = self.done.len();
        out.append(&mut self.done);
        count
    }

    fn park(&mut self, deadline: Option<Nanos>) {
        let wake = self.wake.clone();
        loop {
            self.retry_due();
            self.fill();
            self.reap();
            if !self.done.is_empty() || mem::take(&mut self.woken) {
                return;
            }
            if self.broken.is_some() {
                return real_files::sleep(&wake, deadline.map(|at| at.since(self.now())));
            }
            let nanos = self.sleep_nanos(deadline);
            let watched = self.ring.watch(wake.fd());
            let starved = !self.queue.is_empty() && !self.ring.is_saturated();
            let entered = if nanos == Some(0) || !watched || starved {
                // No time to sleep, or requests that wait for nothing but room in the queue.
                self.turn()
            } else {
                self.enter(1, nanos)
            };
            if !entered {
                return std::thread::sleep(Duration::from_micros(RETRY_PAUSE_US));
            }
            self.reap();
            // An answer that only leads to the next request of its operation is no reason to wake.
            let again = (!watched || !self.queue.is_empty()) && self.done.is_empty();
            if !again || nanos == Some(0) {
                self.woken = false;
                return;
            }
        }
    }

    fn yield_core(&self) -> bool {
        // Never spin without yielding: on a device without FUA the commit completes in a kernel
        // thread of this very core, which a spinning thread delays by whole ticks.
        std::thread::yield_now();
        true
    }

    fn in_flight(&self) -> usize {
        self.ops.len() + self.done.len()
    }

    fn register(&mut self, region: &Arc<Region>) {
        if let Err(error) = self.buffers.register(&self.ring.submitter(), region) {
            tracing::warn!(
                %error,
                "the ring took {} of the {} B of the tail cache, so large commits cost more CPU: raise the \
                 limit on locked memory (RLIMIT_MEMLOCK, `ulimit -l`, LimitMEMLOCK=), now {} B, or lower \
                 cache.bytes",
                self.buffers.bytes(),
                region.span().1,
                limit_words(Resource::Memlock)
            );
        }
    }

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

impl Drop for UringBackend {
    fn drop(&mut self) {
        // What is only queued is dropped; what the kernel has is waited for.
        while self.ring.flying() > 0 && self.broken.is_none() {
            if !self.enter(1, None) {
                std::thread::sleep(Duration::from_micros(RETRY_PAUSE_US));
            }
            self.reap();
        }
        // The ring itself ends in the background. What it holds must be free when we return.
        if self.table.slots() > 0 {
            let _ = self.ring.submitter().unregister_files();
        }
    }
}
