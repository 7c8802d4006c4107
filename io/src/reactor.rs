//! A backend's operations as futures, and the shard's background tasks.
//!
//! [`Reactor`] owns the backend of one shard. An operation started through it is a [`Pending`]: a
//! future for a task, or something the commit path asks "are you done?" once a turn. Tasks run on
//! the same thread, between turns, so they need neither `Send` nor locks.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use async_executor::LocalExecutor;
use slab::Slab;

use crate::backend::{
    Backend, Buffer, Completion, Durability, Entry, FileId, Nanos, Op, OpenMode, Reply, Tag,
};
use crate::memory::AlignedBuf;
use crate::wake::Wake;

enum Slot {
    Waiting(Option<Waker>),
    Done(Completion),
    /// Nobody waits any more; the buffer is freed when the kernel gives it back.
    Abandoned,
}

struct Inner<B: Backend> {
    backend: RefCell<B>,
    slots: RefCell<Slab<Slot>>,
    reaped: RefCell<Vec<Completion>>,
    /// By time, and by who asked.
    timers: RefCell<BTreeMap<(Nanos, u64), Waker>>,
    next_timer: Cell<u64>,
    /// Gone after `shutdown`: tasks hold the reactor, so somebody has to break the circle.
    tasks: RefCell<Option<Rc<LocalExecutor<'static>>>>,
    spawned: Cell<usize>,
    /// What a task panicked with.
    panic: RefCell<Option<Box<dyn Any + Send>>>,
}

/// Remembers that a future was woken, and wakes the shard's thread for it.
pub struct Bell {
    rung: AtomicBool,
    wake: Arc<Wake>,
}

impl Bell {
    /// A bell that ends the sleep of `wake`'s shard.
    #[must_use]
    pub fn new(wake: Arc<Wake>) -> Arc<Bell> {
        Arc::new(Bell { rung: AtomicBool::new(false), wake })
    }

    /// Whether it was rung since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }
}

impl std::task::Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.wake.notify();
    }
}

/// The backend of one shard, its operations in flight and its background tasks. Clones share it.
pub struct Reactor<B: Backend> {
    inner: Rc<Inner<B>>,
}

impl<B: Backend> Clone for Reactor<B> {
    fn clone(&self) -> Self {
        Reactor { inner: self.inner.clone() }
    }
}

impl<B: Backend> Reactor<B> {
    /// Takes over a backend.
    pub fn new(backend: B) -> Self {
        Reactor {
            inner: Rc::new(Inner {
                backend: RefCell::new(backend),
                slots: RefCell::new(Slab::new()),
                reaped: RefCell::new(Vec::new()),
                timers: RefCell::new(BTreeMap::new()),
                next_timer: Cell::new(0),
                tasks: RefCell::new(Some(Rc::new(LocalExecutor::new()))),
                spawned: Cell::new(0),
                panic: RefCell::new(None),
            }),
        }
    }

    /// Uses the backend for a moment. Not to be nested.
    pub fn with_backend<T>(&self, f: impl FnOnce(&mut B) -> T) -> T {
        f(&mut self.inner.backend.borrow_mut())
    }

    /// Submits an operation.
    pub fn start(&self, op: Op) -> Pending<B> {
        let key = self.inner.slots.borrow_mut().insert(Slot::Waiting(None));
        self.inner.backend.borrow_mut().submit(op, Tag(key as u64));
        Pending { inner: self.inner.clone(), key, finished: false }
    }

    /// Runs `task` in the background, a step at a time, whenever the shard turns.
    /// After [`shutdown`](Self::shutdown) the task is dropped at once.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let Some(tasks) = self.inner.tasks.borrow().clone() else { return };
        self.inner.spawned.set(self.inner.spawned.get() + 1);
        let inner = Rc::downgrade(&self.inner);
        let counted = async move {
            let mut task = std::pin::pin!(task);
            let mut step =
                |context: &mut Context<'_>| catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
            let ended = std::future::poll_fn(|context| match step(context) {
                Ok(Poll::Ready(())) => Poll::Ready(None),
                Ok(Poll::Pending) => Poll::Pending,
                Err(panic) => Poll::Ready(Some(panic)),
            });
            let panic = ended.await;
            if let Some(inner) = inner.upgrade() {
                inner.spawned.set(inner.spawned.get() - 1);
                inner.panic.replace(panic);
            }
        };
        tasks.spawn(counted).detach();
    }

    /// Drops every background task where it stands. The backend closes with the last clone.
    pub fn shutdown(&self) {
        let tasks = self.inner.tasks.borrow_mut().take();
        drop(tasks);
        let timers = std::mem::take(&mut *self.inner.timers.borrow_mut());
        drop(timers);
    }

    /// Whether [`shutdown`](Self::shutdown) was called.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.inner.tasks.borrow().is_none()
    }

    /// Background tasks that have not ended.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.inner.spawned.get()
    }

    /// Hands requests to the kernel, takes completions and wakes whoever waited for them.
    /// Returns whether anything happened.
    pub fn poll_io(&self) -> bool {
        let mut reaped = self.inner.reaped.take();
        let count = self.inner.backend.borrow_mut().poll(&mut reaped);
        for completion in reaped.drain(..) {
            self.settle(completion);
        }
        self.inner.reaped.replace(reaped);
        count > 0 || self.fire_timers()
    }

    fn settle(&self, completion: Completion) {
        let mut slots = self.inner.slots.borrow_mut();
        let key = completion.tag.0 as usize;
        match std::mem::replace(&mut slots[key], Slot::Done(completion)) {
            Slot::Waiting(waker) => {
                drop(slots);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Slot::Abandoned => {
                slots.remove(key);
            }
            Slot::Done(_) => unreachable!("an operation completes once"),
        }
    }

    fn fire_timers(&self) -> bool {
        let first = self.inner.timers.borrow().first_key_value().map(|((at, _), _)| *at);
        let Some(first) = first else { return false };
        let now = self.now();
        if first > now {
            return false;
        }
        let mut timers = self.inner.timers.borrow_mut();
        let later = timers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut *timers, later);
        drop(timers);
        due.into_values().for_each(Waker::wake);
        true
    }

    /// Lets background tasks take up to `steps` steps. Returns how many they took.
    ///
    /// # Panics
    /// If a task does: nobody may take it for one that waits.
    pub fn run_tasks(&self, steps: usize) -> usize {
        let Some(tasks) = self.inner.tasks.borrow().clone() else { return 0 };
        let taken = (0..steps).take_while(|_| tasks.try_tick()).count();
        if let Some(panic) = self.inner.panic.take() {
            resume_unwind(panic);
        }
        taken
    }

    /// Sleeps until a completion, a wake-up, the next timer or `deadline`.
    pub fn park(&self, deadline: Option<Nanos>) {
        let deadline = self.next_deadline(deadline);
        self.inner.backend.borrow_mut().park(deadline);
    }

    /// Lets others have the core for a moment. False where looking again brings nothing.
    pub fn yield_core(&self) -> bool {
        self.inner.backend.borrow().yield_core()
    }

    /// As [`park`](Self::park), without blocking the thread when the backend lives in an executor.
    pub async fn idle(&self, deadline: Option<Nanos>) {
        let deadline = self.next_deadline(deadline);
        let idle = self.inner.backend.borrow_mut().idle(deadline);
        idle.await;
    }

    fn next_deadline(&self, deadline: Option<Nanos>) -> Option<Nanos> {
        let timers = self.inner.timers.borrow();
        timers.first_key_value().map(|((at, _), _)| *at).into_iter().chain(deadline).min()
    }

    /// Runs `future` to its end on this thread, with everything else the reactor has to do.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let wake = self.wake();
        let bell = Bell::new(wake.clone());
        let waker = Waker::from(bell.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            let ran = self.run_tasks(64) > 0;
            if !self.poll_io() && !ran {
                wake.prepare();
                if !bell.take() {
                    self.park(None);
                }
                wake.finish();
            }
        }
    }

    /// Runs `future` to its end in an executor whose thread must not block.
    pub async fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let wake = self.wake();
        let bell = Bell::new(wake.clone());
        let waker = Waker::from(bell.clone());
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            let ran = self.run_tasks(64) > 0;
            if !self.poll_io() && !ran {
                wake.prepare();
                let deadline = if bell.take() { Some(Nanos(0)) } else { None };
                self.idle(deadline).await;
                wake.finish();
            } else {
                // Operations move only while the executor does.
                self.idle(Some(Nanos(0))).await;
            }
        }
    }

    /// Waits for `micros` µs of the backend's clock.
    pub fn sleep_us(&self, micros: u64) -> Sleep<B> {
        let id = self.inner.next_timer.get();
        self.inner.next_timer.set(id.wrapping_add(1));
        Sleep { reactor: self.clone(), at: self.now().plus_us(micros), id }
    }

    /// Lets the shard turn once before the caller goes on.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// The backend's monotonic clock.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.inner.backend.borrow().now()
    }

    /// The backend's wall clock, milliseconds since the Unix epoch.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        self.inner.backend.borrow().wall_ms()
    }

    /// What other threads call to end a sleep.
    #[must_use]
    pub fn wake(&self) -> Arc<Wake> {
        self.inner.backend.borrow().wake()
    }

    /// Random bits.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.inner.backend.borrow_mut().random()
    }

    /// Opens a file; returns its id and length.
    ///
    /// # Errors
    /// The host's, with its kind: not found, exists, no permission.
    pub async fn open(&self, path: impl AsRef<Path>, mode: OpenMode) -> io::Result<(FileId, u64)> {
        match self.start(Op::Open { path: path.as_ref().to_owned(), mode }).await.result? {
            Reply::Opened { file, len } => Ok((file, len)),
            other => unreachable!("open answered {other:?}"),
        }
    }

    /// Fills `buf` from `position`; returns it with the bytes read.
    pub async fn read(
        &self,
        file: FileId,
        position: u64,
        buf: AlignedBuf,
    ) -> (AlignedBuf, io::Result<usize>) {
        let done = self.start(Op::Read { file, position, buf }).await;
        let Some(Buffer::Aligned(buf)) = done.buffer else { unreachable!("a read gives its buffer back") };
        let len = done.result.map(|reply| match reply {
            Reply::Read(len) => len,
            other => unreachable!("read answered {other:?}"),
        });
        (buf, len)
    }

    /// Writes all of `buf`; returns it with the result.
    pub async fn write(
        &self,
        file: FileId,
        position: u64,
        buf: AlignedBuf,
        durability: Durability,
    ) -> (AlignedBuf, io::Result<()>) {
        let done = self.start(Op::Write { file, position, buf: Buffer::Aligned(buf), durability }).await;
        let Some(Buffer::Aligned(buf)) = done.buffer else { unreachable!("a write gives its buffer back") };
        (buf, done.result.map(drop))
    }

    /// Lists a directory in name order; a directory that does not exist is empty.
    ///
    /// # Errors
    /// The host's.
    pub async fn list(&self, path: impl Into<PathBuf>) -> io::Result<Vec<Entry>> {
        match self.start(Op::List { path: path.into() }).await.result {
            Ok(Reply::Listed(entries)) => Ok(entries),
            Ok(other) => unreachable!("list answered {other:?}"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// An operation whose success has nothing to say: sync, rename, remove, close and the like.
    ///
    /// # Errors
    /// The host's.
    pub async fn run(&self, op: Op) -> io::Result<()> {
        self.start(op).await.result.map(drop)
    }
}

/// An operation in flight. Dropping it lets the operation finish unheard.
pub struct Pending<B: Backend> {
    inner: Rc<Inner<B>>,
    key: usize,
    finished: bool,
}

impl<B: Backend> Pending<B> {
    /// The completion, if there is one yet. Gives it once.
    pub fn try_take(&mut self) -> Option<Completion> {
        let mut slots = self.inner.slots.borrow_mut();
        if self.finished || !matches!(slots[self.key], Slot::Done(_)) {
            return None;
        }
        self.finished = true;
        match slots.remove(self.key) {
            Slot::Done(completion) => Some(completion),
            Slot::Waiting(_) | Slot::Abandoned => None,
        }
    }
}

impl<B: Backend> Future for Pending<B> {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        if let Some(completion) = self.try_take() {
            return Poll::Ready(completion);
        }
        assert!(!self.finished, "an operation was polled after its end");
        if let Slot::Waiting(waker) = &mut self.inner.slots.borrow_mut()[self.key] {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<B: Backend> Drop for Pending<B> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut slots = self.inner.slots.borrow_mut();
        match &mut slots[self.key] {
            slot @ Slot::Waiting(_) => *slot = Slot::Abandoned,
            Slot::Done(_) => drop(slots.remove(self.key)),
            Slot::Abandoned => {}
        }
    }
}

/// A wait for a point in time.
pub struct Sleep<B: Backend> {
    reactor: Reactor<B>,
    at: Nanos,
    /// Which of the reactor's timers it is.
    id: u64,
}

impl<B: Backend> Future for Sleep<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.reactor.now() >= self.at {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let before = self.reactor.inner.timers.borrow_mut().insert((self.at, self.id), waker);
        drop(before);
        Poll::Pending
    }
}

impl<B: Backend> Drop for Sleep<B> {
    fn drop(&mut self) {
        let waker = self.reactor.inner.timers.borrow_mut().remove(&(self.at, self.id));
        drop(waker);
    }
}
