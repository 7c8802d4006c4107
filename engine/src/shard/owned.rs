//! A shard in the caller's own loop: no second thread, no hand-over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thalweg_io::boot::{self, BackendKind};
use thalweg_io::{Backend, Bell, BlockingBackend, DirLock, Nanos, Reactor};

use crate::append::AppendError;
use crate::config::{BackendSetting, Config};
use crate::engine::make_log;
use crate::governor::Pace;
use crate::log::Log;
use crate::open::{JointsOfShard, OpenError, decide_joints, fixed_config, next_joint, superblock};
use crate::probe::{CommitChoice, settle};
use crate::shard::recover::{Recovering, RecoveryReport, ShardPlace};
use crate::shard::thread::{finish_open, open_ring};
use crate::shard::turn::Shard;

/// What an owned shard can do, whatever its backend.
trait Turn {
    fn turn(&mut self) -> bool;
    fn park_unless(&self, woken: &dyn Fn() -> bool);
    fn idle_unless<'a>(&'a self, woken: &'a dyn Fn() -> bool) -> Pin<Box<dyn Future<Output = ()> + 'a>>;
    fn wind_down(&mut self) -> bool;
    fn now(&self) -> Nanos;
    fn bell(&self) -> Arc<Bell>;
}

impl<B: Backend> Turn for Shard<B> {
    fn turn(&mut self) -> bool {
        Shard::turn(self)
    }

    fn park_unless(&self, woken: &dyn Fn() -> bool) {
        Shard::park_unless(self, woken);
    }

    fn idle_unless<'a>(&'a self, woken: &'a dyn Fn() -> bool) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(Shard::idle_unless(self, woken))
    }

    fn wind_down(&mut self) -> bool {
        Shard::wind_down(self)
    }

    fn now(&self) -> Nanos {
        self.core.reactor.now()
    }

    fn bell(&self) -> Arc<Bell> {
        Bell::new(self.core.reactor.wake())
    }
}

/// A data directory of one shard, driven by the caller: the fastest way to embed the log.
///
/// Call [`turn`](Self::turn) in your loop; it never blocks. Appends and reads go through
/// [`log`](Self::log) as with an [`Engine`](crate::Engine), but their tickets resolve only while
/// somebody turns: look at [`Ticket::is_ready`](crate::Ticket::is_ready), or let
/// [`block_on`](Self::block_on) turn for you. Never `wait` for a ticket on this thread.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let mut config = thalweg::Config::new(dir.path());
/// # config.wal.file_bytes = 4 << 20;
/// # config.cache.bytes = 16 << 20;
/// use thalweg::{OwnedShard, PartitionConfig};
///
/// let mut shard = OwnedShard::open(config)?;
/// let creating = shard.log().start_create("ticks", PartitionConfig::default());
/// let ticks = shard.block_on(creating)?;
/// let ticket = ticks.append("101.25");
/// while !ticket.is_ready() {
///     if !shard.turn() {
///         shard.park(); // or do something else
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OwnedShard {
    shard: Box<dyn Turn>,
    log: Log,
    report: RecoveryReport,
    commit: Option<CommitChoice>,
    _lock: Option<DirLock>,
}

impl OwnedShard {
    /// Opens a data directory of one shard on this thread, making it if there is none. How this
    /// device commits best is measured here too, by a loop that polls for `threads.poll_us` and then
    /// sleeps: one that never sleeps nor yields its core may starve the kernel's own threads.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Shards`] if the directory has more than one shard.
    pub fn open(mut config: Config) -> Result<OwnedShard, OpenError> {
        config.validate()?;
        let root = config.data_dir.clone();
        let io = |source| OpenError::Io { path: root.clone(), source };
        boot::create_data_dir(&root).map_err(io)?;
        let lock = DirLock::acquire(&root, Duration::from_secs(5))?;
        let chosen = boot::choose(config.threads.backend.into())?;
        let settled = settle(&config, chosen.kind, None);
        let strategy = settled.choice.strategy;
        if !settled.choice.polls {
            config.threads.poll_us = 0;
        }
        let pace = Pace::of_device(boot::device_of(&root).map_err(io)?);
        let ring = match chosen.kind {
            BackendKind::Uring => match open_ring(&root, strategy, &lock) {
                Ok(backend) => Some(backend),
                Err(error) if config.threads.backend == BackendSetting::Auto => {
                    tracing::warn!(%error, "no ring for this shard; it uses blocking I/O");
                    None
                }
                Err(error) => return Err(io(error)),
            },
            BackendKind::Blocking => None,
        };
        let mut opened = match ring {
            Some(backend) => OwnedShard::start(backend, config, Some(lock), pace),
            None => {
                let backend = BlockingBackend::open(&root, strategy).map_err(io)?;
                OwnedShard::start(backend, config, Some(lock), pace)
            }
        }?;
        settled.store(&root);
        opened.commit = Some(settled.choice);
        Ok(opened)
    }

    /// Opens a shard on a backend of the caller's, such as the simulator.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on(
        backend: impl Backend,
        config: Config,
        lock: Option<DirLock>,
    ) -> Result<OwnedShard, OpenError> {
        OwnedShard::start(backend, config, lock, Pace::new())
    }

    fn start(
        backend: impl Backend,
        config: Config,
        lock: Option<DirLock>,
        pace: Arc<Pace>,
    ) -> Result<OwnedShard, OpenError> {
        let reactor = Reactor::new(backend);
        reactor.block_on(OwnedShard::open_async(&reactor, config, lock, pace))
    }

    /// Opens a shard inside somebody's executor, whose thread must not block: glommio's.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_within(backend: impl Backend, config: Config) -> Result<OwnedShard, OpenError> {
        let root = config.data_dir.clone();
        let lock = DirLock::acquire(&root, Duration::ZERO)?;
        let reactor = Reactor::new(backend);
        let device = boot::device_of(&root).map_err(|source| OpenError::Io { path: root, source })?;
        let pace = Pace::of_device(device);
        reactor.drive(OwnedShard::open_async(&reactor, config, Some(lock), pace)).await
    }

    async fn open_async<B: Backend>(
        reactor: &Reactor<B>,
        mut config: Config,
        lock: Option<DirLock>,
        pace: Arc<Pace>,
    ) -> Result<OwnedShard, OpenError> {
        config.shards = Some(1);
        config.validate()?;
        let superblock = superblock(reactor, &config).await?;
        let config = fixed_config(&config, &superblock)?;
        let id = crate::ids::ShardId(0);
        let named = |source| OpenError::Shard { shard: id, source };
        let place = ShardPlace::new(id, superblock);
        let recovering = Recovering::read(reactor, place, config.clone()).await.map_err(named)?;
        let joints =
            [JointsOfShard { shard: id, found: recovering.joints(), resolved: recovering.joint_resolved() }];
        let cut = decide_joints(&joints).get(&id).copied();
        let (shard, opened) = finish_open(reactor, recovering, cut, pace, &config).await.map_err(named)?;
        let log = make_log(&config, std::slice::from_ref(&opened), next_joint(&joints))?;
        log.turned_here();
        Ok(OwnedShard { shard: Box::new(shard), log, report: opened.report, commit: None, _lock: lock })
    }

    /// The log of this shard.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What opening found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// How groups are made durable, why, and what was measured of this device. `None` on a backend
    /// of the caller's, which does it in its own way.
    #[must_use]
    pub fn commit(&self) -> Option<&CommitChoice> {
        self.commit.as_ref()
    }

    /// Takes what has arrived, moves everything a step on, hands the kernel what is new. Never
    /// blocks. Returns whether there was anything to do.
    pub fn turn(&mut self) -> bool {
        self.shard.turn()
    }

    /// Sleeps until there may be something to do: a completion, a request from another thread, or
    /// a timer of the shard's own.
    pub fn park(&self) {
        self.shard.park_unless(&|| false);
    }

    /// As [`park`](Self::park), in an executor whose thread must not block. Await it between any
    /// two turns: operations move only while the executor does. `busy` is what `turn` returned.
    pub async fn idle(&self, busy: bool) {
        self.shard.idle_unless(&|| busy).await;
    }

    /// The clock of the shard's backend.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.shard.now()
    }

    /// Turns and sleeps until `future` resolves.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let bell = self.shard.bell();
        let waker = Waker::from(bell.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            if !self.turn() {
                self.shard.park_unless(&|| bell.take());
            }
        }
    }

    /// Turns until `future` resolves, in an executor whose thread must not block.
    pub async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let bell = self.shard.bell();
        let waker = Waker::from(bell.clone());
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            let busy = self.turn();
            self.shard.idle_unless(&|| bell.take() || busy).await;
        }
    }

    /// Finishes what is queued and proves it durable.
    ///
    /// # Errors
    /// [`AppendError::Halted`] if the shard had stopped: what was accepted may not be stored.
    pub fn close(mut self) -> Result<(), AppendError> {
        self.log.links().iter().for_each(|link| link.mailbox.close());
        while !self.shard.wind_down() {
            if !self.turn() {
                self.park();
            }
        }
        self.log.how_it_ended()
    }

    /// As [`close`](Self::close), in an executor whose thread must not block.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub async fn close_within(mut self) -> Result<(), AppendError> {
        self.log.links().iter().for_each(|link| link.mailbox.close());
        while !self.shard.wind_down() {
            let busy = self.turn();
            self.shard.idle_unless(&|| busy).await;
        }
        self.log.how_it_ended()
    }
}
