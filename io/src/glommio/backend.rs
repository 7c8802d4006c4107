//! Operations as tasks of the executor.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::timer::Timer;
use rustix::io::Errno;
use slab::Slab;

use crate::backend::{Backend, Buffer, Completion, Durability, FileId, Nanos, Op, OpenMode, Reply, Tag};
use crate::memory::Region;
use crate::real_files::{self, RealFiles};
use crate::wake::Wake;

use super::file::{File, direct_io_works};

/// A backend whose operations are tasks of the glommio executor it was opened in.
///
/// Operations only move while the shard's own task awaits something. Between two turns the shard
/// awaits [`idle`](Backend::idle), when it has more to do with a deadline that has passed;
/// [`park`](Backend::park) returns at once and moves nothing.
///
/// A write is durable by a write and an `fdatasync`. Dropping the backend cannot wait, as that
/// would stop the executor that has to finish the operations: they go on, each holding its own
/// buffer and file, and [`settled`](Self::settled) is the way to wait for them.
pub struct GlommioBackend {
    shared: Rc<Shared>,
    /// Operations submitted and not reaped.
    in_flight: usize,
    wake: Arc<Wake>,
}

/// What the operations share with the backend, and keep alive without it.
struct Shared {
    root: PathBuf,
    /// Whether files are opened for direct I/O.
    direct: bool,
    /// Names are changed by blocking calls, on glommio's thread for those.
    names: Arc<RealFiles>,
    files: RefCell<Slab<Rc<File>>>,
    done: RefCell<VecDeque<Completion>>,
    /// Operations that have not ended.
    running: Cell<usize>,
    /// Who waits for an operation to end.
    waiters: RefCell<Vec<Waker>>,
}

impl GlommioBackend {
    /// Opens the data directory `root`, which must exist.
    ///
    /// # Errors
    /// The directory cannot be opened, or the process has no descriptors left.
    ///
    /// # Panics
    /// Outside of a glommio executor.
    pub async fn open(root: &Path) -> io::Result<GlommioBackend> {
        let names = RealFiles::open_root(root)?;
        let direct = match direct_io_works(names.root()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    %error,
                    "glommio has no direct I/O here: going on through the page cache, as durable but slower"
                );
                false
            }
        };
        let shared = Shared {
            root: root.canonicalize()?,
            direct,
            names: Arc::new(names),
            files: RefCell::default(),
            done: RefCell::default(),
            running: Cell::new(0),
            waiters: RefCell::default(),
        };
        Ok(GlommioBackend { shared: Rc::new(shared), in_flight: 0, wake: Arc::new(Wake::new()?) })
    }

    /// Waits until every operation has ended, reaped or not. Holds nothing of the backend, so it
    /// can be awaited after the backend was dropped.
    pub fn settled(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        poll_fn(move |context| {
            if shared.running.get() == 0 {
                return Poll::Ready(());
            }
            shared.wait(context);
            Poll::Pending
        })
    }
}

impl Shared {
    /// Wakes `context` when the next operation ends.
    fn wait(&self, context: &Context<'_>) {
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.iter().any(|waiter| waiter.will_wake(context.waker())) {
            waiters.push(context.waker().clone());
        }
    }

    fn finish(&self, completion: Completion) {
        self.done.borrow_mut().push_back(completion);
        self.running.set(self.running.get() - 1);
        let waiters = self.waiters.take();
        waiters.into_iter().for_each(Waker::wake);
    }

    async fn run(&self, op: Op) -> (Option<Buffer>, io::Result<Reply>) {
        match op {
            Op::Read { file, position, mut buf } => {
                let result = match self.file(file) {
                    Ok(file) => file.read(position, &mut buf).await,
                    Err(error) => Err(error),
                };
                (Some(Buffer::Aligned(buf)), result.map(Reply::Read))
            }
            Op::Write { file, position, buf, durability } => {
                let result = self.write(file, position, buf.as_slice(), durability).await;
                (Some(buf), result.map(|()| Reply::Done))
            }
            Op::Open { path, mode } => (None, self.open(path, mode).await),
            Op::List { path } => (None, self.names(move |names| names.list(&path)).await.map(Reply::Listed)),
            Op::Allocate { file, len } => (None, self.allocate(file, len).await),
            op => (None, self.change(op).await.map(|()| Reply::Done)),
        }
    }

    async fn allocate(&self, file: FileId, len: u64) -> io::Result<Reply> {
        self.file(file)?.allocate(len).await
    }

    /// Operations that answer nothing and have no buffer.
    async fn change(&self, op: Op) -> io::Result<()> {
        match op {
            Op::Close { file } => self.close(file).await,
            Op::Sync { file } => self.file(file)?.sync().await,
            Op::Truncate { file, len } => self.file(file)?.truncate(len).await,
            Op::Rename { from, to } => self.names(move |names| names.rename(&from, &to)).await,
            Op::Remove { path } => self.names(move |names| names.remove_path(&path)).await,
            Op::CreateDir { path } => self.names(move |names| names.create_dir(&path)).await,
            // glommio's own is an `fdatasync`, which may leave out a name that does not change the
            // directory's size.
            Op::SyncDir { path } => self.names(move |names| names.sync_dir(&path)).await,
            Op::Open { .. } | Op::List { .. } | Op::Read { .. } | Op::Write { .. } | Op::Allocate { .. } => {
                unreachable!("answers something")
            }
        }
    }

    /// Runs a blocking call on glommio's thread for those.
    async fn names<T: Send + 'static>(
        &self,
        call: impl FnOnce(&RealFiles) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let names = self.names.clone();
        glommio::executor().spawn_blocking(move || call(&names)).await
    }

    async fn open(&self, path: PathBuf, mode: OpenMode) -> io::Result<Reply> {
        real_files::file_path(&path)?;
        let path = self.root.join(path);
        if mode != OpenMode::CreateNew && path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(&path, mode, self.direct).await?;
        let len = file.len().await?;
        let mut files = self.files.borrow_mut();
        let id = u32::try_from(files.vacant_key()).map_err(|_| Errno::MFILE)?;
        files.insert(Rc::new(file));
        Ok(Reply::Opened { file: FileId(id), len })
    }

    fn file(&self, file: FileId) -> io::Result<Rc<File>> {
        Ok(self.files.borrow().get(file.0 as usize).ok_or(Errno::BADF)?.clone())
    }

    async fn close(&self, file: FileId) -> io::Result<()> {
        let file = self.files.borrow_mut().try_remove(file.0 as usize).ok_or(Errno::BADF)?;
        match Rc::try_unwrap(file) {
            Ok(file) => file.close().await,
            // Against the contract something is in flight on it; it closes with that.
            Err(_) => Ok(()),
        }
    }

    async fn write(
        &self,
        file: FileId,
        position: u64,
        bytes: &[u8],
        durability: Durability,
    ) -> io::Result<()> {
        let file = self.file(file)?;
        file.write(position, bytes).await?;
        match durability {
            Durability::Volatile => Ok(()),
            Durability::Durable => file.sync().await,
        }
    }
}

/// Whether `wake` has rung since it was last asked.
fn has_rung(wake: &Wake) -> bool {
    let mut count = [0u8; 8];
    rustix::io::read(wake.fd(), &mut count).is_ok()
}

impl Backend for GlommioBackend {
    const NAME: &'static str = "glommio";

    fn submit(&mut self, op: Op, tag: Tag) {
        self.in_flight += 1;
        let shared = self.shared.clone();
        shared.running.set(shared.running.get() + 1);
        let task = async move {
            let (buffer, result) = shared.run(op).await;
            shared.finish(Completion { tag, buffer, result });
        };
        glommio::spawn_local(task).detach();
    }

    fn poll(&mut self, out: &mut Vec<Completion>) -> usize {
        let mut done = self.shared.done.borrow_mut();
        let count = done.len();
        out.extend(done.drain(..));
        self.in_flight -= count;
        count
    }

    /// Returns at once: the thread is the executor's.
    fn park(&mut self, _deadline: Option<Nanos>) {}

    fn idle(&mut self, deadline: Option<Nanos>) -> impl Future<Output = ()> + use<> {
        let (shared, wake) = (self.shared.clone(), self.wake.clone());
        let timeout = deadline.map(|at| Duration::from_nanos(at.since(self.now())));
        async move {
            if !shared.done.borrow().is_empty() {
                // There is something to do already; operations in flight still want to get on.
                glommio::executor().yield_task_queue_now().await;
                return;
            }
            let mut timer = timeout.map(Timer::new);
            let mut asleep = false;
            poll_fn(|context| {
                // Whoever woke the task did so for a reason, and waking up early is allowed.
                if std::mem::replace(&mut asleep, true) {
                    return Poll::Ready(());
                }
                // Registered first: who comes between the look and the sleep then wakes us.
                shared.wait(context);
                wake.register(context.waker());
                if !shared.done.borrow().is_empty() || has_rung(&wake) {
                    return Poll::Ready(());
                }
                match &mut timer {
                    Some(timer) => Pin::new(timer).poll(context).map(drop),
                    None => Poll::Pending,
                }
            })
            .await;
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
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
        self.shared.names.free_bytes()
    }
}
