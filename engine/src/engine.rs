//! The engine: a data directory with a pinned thread per shard.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use thalweg_io::boot::{self, Chosen};
use thalweg_io::{BlockingBackend, CommitStrategy, DirLock, Reactor, pin};

use crate::append::AppendError;
use crate::config::Config;
use crate::governor::Pace;
use crate::ids::{GroupNumber, ShardId};
use crate::log::Log;
use crate::open::{JointsOfShard, OpenError, decide_joints, fixed_config, next_joint, superblock};
use crate::partition::ShardLink;
use crate::probe::{CommitChoice, Settled, first_core, settle};
use crate::read::ahead::AheadBudget;
use crate::shard::recover::{RecoverError, RecoveryReport};
use crate::shard::thread::{Channels, Opened, ThreadStart, run};
use crate::slot::SlotPool;

/// How long to wait for the last owner's writes to land before saying who has the directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// An open data directory, with a pinned thread for each shard.
///
/// It is a [`Log`]: every method of that is here too. Dropping it closes it; [`close`](Self::close)
/// says so in the code.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let mut config = thalweg::Config::new(dir.path());
/// # config.wal.file_bytes = 4 << 20;
/// # config.cache.bytes = 16 << 20;
/// use thalweg::{Engine, PartitionConfig, ReadFrom};
///
/// let engine = Engine::open(config)?;
/// let events = engine.create("events", PartitionConfig::default())?;
/// let at = events.append("hello").wait()?; // on the disk, at an offset
/// let (offset, record) = events.read(ReadFrom::Earliest).records().next().unwrap()?;
/// assert_eq!((offset, record.value.unwrap()), (at.base_offset, "hello".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    log: Log,
    threads: Vec<JoinHandle<()>>,
    reports: Vec<RecoveryReport>,
    chosen: Chosen,
    commit: CommitChoice,
    // Last: let go of when the threads have ended.
    _lock: Arc<DirLock>,
}

struct Starting {
    thread: JoinHandle<()>,
    read: Receiver<Result<JointsOfShard, RecoverError>>,
    decide: Sender<Option<GroupNumber>>,
    opened: Receiver<Result<Opened, RecoverError>>,
}

impl Engine {
    /// Opens a data directory, making it if there is none: locks it, starts a thread for each
    /// shard, recovers, and is ready.
    ///
    /// # Errors
    /// [`OpenError`]. Damage to acknowledged records is refused, with the place.
    pub fn open(mut config: Config) -> Result<Engine, OpenError> {
        config.validate()?;
        let root = config.data_dir.clone();
        let io = |source| OpenError::Io { path: root.clone(), source };
        boot::create_data_dir(&root).map_err(io)?;
        let lock = Arc::new(DirLock::acquire(&root, LOCK_PATIENCE)?);
        let chosen = boot::choose(config.threads.backend.into())?;
        if let Some(reason) = &chosen.reason {
            tracing::warn!(reason, "io_uring can't be used; shards use blocking I/O");
        }
        let superblock = {
            let backend = BlockingBackend::open(&root, CommitStrategy::Dsync).map_err(io)?;
            let reactor = Reactor::new(backend);
            reactor.block_on(superblock(&reactor, &config))?
        };
        let settled = settle(&config, chosen.kind, first_core(&config));
        if !settled.choice.polls {
            config.threads.poll_us = 0;
        }
        let config = fixed_config(&config, &superblock)?;
        let pace = Pace::of_device(boot::device_of(&root).map_err(io)?);
        let cores = pin::allowed_cores().unwrap_or_default();
        let mut starting = Vec::new();
        for shard in 0..superblock.shards {
            let (read_to, read) = mpsc::channel();
            let (decide, decide_from) = mpsc::channel();
            let (opened_to, opened) = mpsc::channel();
            let core = (config.threads.pin && !cores.is_empty()).then(|| cores[shard as usize % cores.len()]);
            let start = ThreadStart {
                shard: ShardId(shard),
                superblock,
                config: config.clone(),
                kind: chosen.kind,
                strategy: settled.choice.strategy,
                lock: lock.clone(),
                core,
                pace: pace.clone(),
                channels: Channels { read: read_to, decide: decide_from, opened: opened_to },
            };
            let name = format!("thalweg-{shard}");
            let spawned = std::thread::Builder::new().name(name).spawn(move || run(start));
            let thread = spawned.map_err(io)?;
            starting.push(Starting { thread, read, decide, opened });
        }
        Engine::finish_open(config, starting, chosen, settled, lock)
    }

    fn finish_open(
        config: Arc<Config>,
        starting: Vec<Starting>,
        chosen: Chosen,
        settled: Settled,
        lock: Arc<DirLock>,
    ) -> Result<Engine, OpenError> {
        let mut opened = Vec::new();
        let joints = open_shards(&starting, &mut opened);
        let made = joints.and_then(|joints| make_log(&config, &opened, next_joint(&joints)));
        let threads = starting.into_iter().map(|each| each.thread);
        match made {
            Ok(log) => {
                let reports = opened.into_iter().map(|opened| opened.report).collect();
                settled.store(&config.data_dir);
                let (threads, commit) = (threads.collect(), settled.choice);
                Ok(Engine { log, threads, reports, chosen, commit, _lock: lock })
            }
            Err(error) => {
                // Shards that are open already hold the directory.
                opened.iter().for_each(|opened| opened.mailbox.close());
                threads.for_each(|thread| drop(thread.join()));
                Err(error)
            }
        }
    }

    /// The log, to keep and share.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What opening found, shard by shard.
    #[must_use]
    pub fn recovery(&self) -> &[RecoveryReport] {
        &self.reports
    }

    /// The backend in use, and why it is not io_uring if it is not. Told to choose, a shard for whose
    /// ring there is no room all the same blocks, and says so in a warning.
    #[must_use]
    pub fn backend(&self) -> &Chosen {
        &self.chosen
    }

    /// How groups are made durable, why, and what was measured of this device.
    #[must_use]
    pub fn commit(&self) -> &CommitChoice {
        &self.commit
    }

    /// Finishes what is queued, proves it durable, and ends the shards' threads. Dropping the engine
    /// does the same, and says nothing of how it went.
    ///
    /// # Errors
    /// [`AppendError::Halted`] if a shard had stopped: what was accepted there may not be stored.
    pub fn close(self) -> Result<(), AppendError> {
        let log = self.log.clone();
        drop(self);
        log.how_it_ended()
    }
}

impl Deref for Engine {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.log.stop_taking();
        for thread in self.threads.drain(..) {
            // A panic there has been reported by its own thread; its callers got their errors.
            let _ = thread.join();
        }
    }
}

/// Reads every shard, decides what is between them, and opens them. Those that open are in `opened`
/// also if another does not.
fn open_shards(starting: &[Starting], opened: &mut Vec<Opened>) -> Result<Vec<JointsOfShard>, OpenError> {
    let at = |index: usize| ShardId(index as u16);
    let ended = |index: usize| OpenError::Thread { shard: at(index) };
    let failed = |index: usize| move |source| OpenError::Shard { shard: at(index), source };
    let mut joints = Vec::new();
    for (index, each) in starting.iter().enumerate() {
        joints.push(each.read.recv().map_err(|_| ended(index))?.map_err(failed(index))?);
    }
    let cuts = decide_joints(&joints);
    for (index, each) in starting.iter().enumerate() {
        each.decide.send(cuts.get(&at(index)).copied()).map_err(|_| ended(index))?;
    }
    let mut first_error = None;
    for (index, each) in starting.iter().enumerate() {
        match each.opened.recv().map_err(|_| ended(index)).and_then(|answer| answer.map_err(failed(index))) {
            Ok(shard) => opened.push(shard),
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    first_error.map_or(Ok(joints), Err)
}

/// Appends that were answered leave so many slots to be used again.
const SLOTS_KEPT_MAX: usize = 4096;

/// The log over shards that are open.
pub(crate) fn make_log(config: &Arc<Config>, opened: &[Opened], next_joint: u64) -> Result<Log, OpenError> {
    let limits = Arc::new(config.limits.clone());
    let links = opened.iter().map(|opened| ShardLink {
        mailbox: opened.mailbox.clone(),
        pool: Arc::new(SlotPool::new(SLOTS_KEPT_MAX)),
        limits: limits.clone(),
        fetch_bytes_max: config.read.fetch_bytes_max,
        ahead: AheadBudget::new(
            config.read.ahead_bytes_max,
            config.read.fetch_bytes_max.max(config.limits.batch_bytes_max),
        ),
    });
    let log = Log::new(links.collect(), limits.clone(), next_joint);
    for (name, id) in opened.iter().flat_map(|opened| &opened.partitions) {
        if !log.add_found(name.clone(), *id) {
            return Err(OpenError::TwoOfAName { name: name.to_string() });
        }
    }
    Ok(log)
}
