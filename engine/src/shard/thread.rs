//! The pinned thread of a shard: a loop around `turn()`.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use thalweg_io::boot::BackendKind;
use thalweg_io::{Backend, BlockingBackend, CommitStrategy, DirLock, Reactor, Region, UringBackend, pin};

use crate::config::{BackendSetting, Config};
use crate::governor::Pace;
use crate::ids::{GroupNumber, PartitionId, ShardId};
use crate::mailbox::Mailbox;
use crate::open::JointsOfShard;
use crate::probe::keep_workers_off;
use crate::shard::recover::{RecoverError, Recovering, RecoveryReport, ShardPlace};
use crate::shard::turn::Shard;
use crate::superblock::Superblock;

/// A shard that is open.
pub(crate) struct Opened {
    pub mailbox: Arc<Mailbox>,
    pub report: RecoveryReport,
    pub partitions: Vec<(Arc<str>, PartitionId)>,
}

/// What the opening thread and a shard's thread tell each other.
pub(crate) struct Channels {
    pub read: Sender<Result<JointsOfShard, RecoverError>>,
    /// The group to cut before, if any; closed when the engine gives up.
    pub decide: Receiver<Option<GroupNumber>>,
    pub opened: Sender<Result<Opened, RecoverError>>,
}

/// What a shard's thread needs to start.
pub(crate) struct ThreadStart {
    pub shard: ShardId,
    pub superblock: Superblock,
    pub config: Arc<Config>,
    pub kind: BackendKind,
    pub strategy: CommitStrategy,
    pub lock: Arc<DirLock>,
    pub core: Option<usize>,
    pub pace: Arc<Pace>,
    pub channels: Channels,
}

/// The life of a shard's thread.
pub(crate) fn run(start: ThreadStart) {
    let others: Vec<usize> = match start.core {
        Some(core) => {
            pin::allowed_cores().unwrap_or_default().into_iter().filter(|each| *each != core).collect()
        }
        None => Vec::new(),
    };
    if let Some(core) = start.core
        && let Err(error) = pin::pin_to(core)
    {
        tracing::warn!(shard = start.shard.0, core, %error, "the shard is not pinned");
    }
    let root = &start.config.data_dir;
    let strategy = start.strategy;
    let failed = |source| RecoverError::Io { path: root.clone(), source };
    match start.kind {
        BackendKind::Uring => match open_ring(root, strategy, &start.lock) {
            Ok(mut backend) => {
                keep_workers_off(&mut backend, &others);
                return run_on(backend, start);
            }
            Err(error) if start.config.threads.backend == BackendSetting::Auto => {
                tracing::warn!(shard = start.shard.0, %error, "no ring for this shard; it uses blocking I/O");
            }
            Err(error) => return drop(start.channels.read.send(Err(failed(error)))),
        },
        BackendKind::Blocking => {}
    }
    match BlockingBackend::open(root, strategy) {
        Ok(backend) => run_on(backend, start),
        Err(error) => drop(start.channels.read.send(Err(failed(error)))),
    }
}

/// A ring that keeps the directory's lock: a killed process's write may still land, and the ring holds
/// the lock until it has.
pub(crate) fn open_ring(root: &Path, strategy: CommitStrategy, lock: &DirLock) -> io::Result<UringBackend> {
    let mut backend = UringBackend::open(root, strategy)?;
    backend.hold(lock.as_fd())?;
    Ok(backend)
}

fn run_on<B: Backend>(backend: B, start: ThreadStart) {
    let reactor = Reactor::new(backend);
    let place = ShardPlace::new(start.shard, start.superblock);
    let read = reactor.block_on(Recovering::read(&reactor, place, start.config.clone()));
    let recovering = match read {
        Ok(recovering) => recovering,
        Err(error) => return drop(start.channels.read.send(Err(error))),
    };
    let joints = JointsOfShard {
        shard: start.shard,
        found: recovering.joints(),
        resolved: recovering.joint_resolved(),
    };
    if start.channels.read.send(Ok(joints)).is_err() {
        return;
    }
    let Ok(cut) = start.channels.decide.recv() else { return };
    let opened = finish(&reactor, recovering, cut, start.pace, &start.config);
    drop(reactor);
    match opened {
        Ok((shard, opened)) => {
            if start.channels.opened.send(Ok(opened)).is_ok() {
                live(shard);
            }
        }
        Err(error) => drop(start.channels.opened.send(Err(error))),
    }
}

fn finish<B: Backend>(
    reactor: &Reactor<B>,
    recovering: Recovering<B>,
    cut: Option<GroupNumber>,
    pace: Arc<Pace>,
    config: &Config,
) -> Result<(Shard<B>, Opened), RecoverError> {
    reactor.block_on(finish_open(reactor, recovering, cut, pace, config))
}

/// Makes the tail cache and the mailbox, and opens the shard on them.
pub(crate) async fn finish_open<B: Backend>(
    reactor: &Reactor<B>,
    recovering: Recovering<B>,
    cut: Option<GroupNumber>,
    pace: Arc<Pace>,
    config: &Config,
) -> Result<(Shard<B>, Opened), RecoverError> {
    let chunk_bytes = config.chunk_bytes();
    let chunks = (config.cache.bytes / chunk_bytes) as usize;
    let region = Region::new(chunk_bytes as usize, chunks)
        .map_err(|source| RecoverError::Io { path: config.data_dir.clone(), source })?;
    reactor.with_backend(|backend| backend.register(&region));
    let limits = &config.limits;
    let shard = recovering.shard();
    let mailbox =
        Arc::new(Mailbox::new(shard, limits.queue_requests_max, limits.queue_bytes_max, reactor.wake()));
    let (shard, report) = recovering.finish(cut, pace, mailbox.clone(), region).await?;
    let partitions = {
        let state = shard.core.state();
        state.partitions.iter().map(|(id, partition)| (partition.name.clone(), id)).collect()
    };
    Ok((shard, Opened { mailbox, report, partitions }))
}

/// Turns until the engine is closed.
fn live<B: Backend>(mut shard: Shard<B>) {
    loop {
        // Before the turn, which takes the step that winding down asks a task for: a shard that does
        // not poll would sleep on it until a timer of its own.
        if shard.mailbox().is_closing() && shard.wind_down() {
            return;
        }
        if !shard.turn() {
            shard.park();
        }
    }
}
