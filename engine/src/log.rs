//! The log: partitions by name, over all shards. What an [`Engine`](crate::Engine) and an
//! [`OwnedShard`](crate::OwnedShard) have in common.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;

use smallvec::SmallVec;

use crate::append::admit::check_batch_shape;
use crate::append::joint::{Joint, JointPart};
use crate::append::request::{AppendReply, AppendRequest, ControlError, Part};
use crate::append::{Ack, AppendError, Appended};
use crate::config::{LimitsConfig, PartitionConfig};
use crate::directory::{Directory, check_name};
use crate::ids::{PartitionId, ShardId};
use crate::mailbox::Request;
use crate::metrics::ShardStats;
use crate::partition::{Partition, ShardLink};
use crate::record::Batch;
use crate::shard::query::QueryRequest;
use crate::slot::{Slot, this_thread};
use crate::ticket::Ticket;
use crate::wal::control::Control;

/// Partitions by name. Cheap to clone, shared freely between threads and tasks.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    links: Vec<ShardLink>,
    directory: Directory,
    limits: Arc<LimitsConfig>,
    /// Joint appends reach every mailbox in one order, which recovery relies on.
    joint: Mutex<()>,
    next_joint: AtomicU64,
    /// The thread that turns an owned shard: it must not wait for itself.
    turned_by: OnceLock<ThreadId>,
}

/// The answer to a joint append: where each batch went, in the order given.
pub type JointResult = Result<Vec<Appended>, AppendError>;

impl Log {
    pub(crate) fn new(links: Vec<ShardLink>, limits: Arc<LimitsConfig>, next_joint: u64) -> Log {
        let directory = Directory::new(links.len());
        let inner = Inner {
            links,
            directory,
            limits,
            joint: Mutex::new(()),
            next_joint: AtomicU64::new(next_joint),
            turned_by: OnceLock::new(),
        };
        Log { inner: Arc::new(inner) }
    }

    /// This thread turns the log's one shard.
    pub(crate) fn turned_here(&self) {
        self.inner.turned_by.get_or_init(this_thread);
    }

    fn check_may_wait(&self) -> Result<(), ControlError> {
        let here = self.inner.turned_by.get().is_some_and(|thread| *thread == this_thread());
        if here { Err(ControlError::WouldWaitForItself) } else { Ok(()) }
    }

    pub(crate) fn add_found(&self, name: Arc<str>, id: PartitionId) -> bool {
        self.inner.directory.add(name, id)
    }

    /// Takes nothing new on any shard; a joint append has all its parts before, or none.
    pub(crate) fn stop_taking(&self) {
        let _between_joints = self.inner.joint.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.links.iter().for_each(|link| link.mailbox.close());
    }

    pub(crate) fn links(&self) -> &[ShardLink] {
        &self.inner.links
    }

    fn link(&self, id: PartitionId) -> &ShardLink {
        &self.inner.links[id.0 as usize % self.inner.links.len()]
    }

    fn handle(&self, name: Arc<str>, id: PartitionId) -> Partition {
        Partition { id, name, link: self.link(id).clone() }
    }

    /// Shards of this log.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.inner.links.len()
    }

    /// Makes a partition, and waits until it is durable.
    ///
    /// # Errors
    /// [`ControlError::NameTaken`], [`ControlError::BadName`], and those of an append;
    /// [`ControlError::WouldWaitForItself`] on the thread of an [`OwnedShard`](crate::OwnedShard).
    pub fn create(&self, name: &str, config: PartitionConfig) -> Result<Partition, ControlError> {
        self.check_may_wait()?;
        self.start_create(name, config).wait()
    }

    /// Starts to make a partition: many can be under way at once.
    pub fn start_create(&self, name: &str, config: PartitionConfig) -> Creating {
        let reserved = check_name(name, self.inner.limits.name_bytes_max)
            .and_then(|()| self.inner.directory.reserve(name));
        let started = reserved.map(|(name, shard)| {
            // Ids say where partitions are from then on.
            let link = &self.inner.links[shard];
            let control = Control::Create { partition: PartitionId(0), config, name: name.to_string() };
            (name, link.control(control))
        });
        Creating { log: self.clone(), started: Some(started) }
    }

    /// The partition of that name.
    ///
    /// # Errors
    /// [`ControlError::NoSuchPartition`].
    pub fn partition(&self, name: &str) -> Result<Partition, ControlError> {
        let found = self.inner.directory.find(name);
        let (name, id) = found.ok_or_else(|| ControlError::NoSuchPartition(format!("{name:?}")))?;
        Ok(self.handle(name, id))
    }

    /// All partitions, by name.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        self.inner.directory.list().into_iter().map(|(name, id)| self.handle(name, id)).collect()
    }

    /// Deletes a partition with its records, and waits until that is durable.
    ///
    /// # Errors
    /// [`ControlError::NoSuchPartition`], and those of an append;
    /// [`ControlError::WouldWaitForItself`] on the thread of an [`OwnedShard`](crate::OwnedShard).
    pub fn delete(&self, name: &str) -> Result<(), ControlError> {
        self.check_may_wait()?;
        self.start_delete(name)?.wait()?;
        self.forget(name);
        Ok(())
    }

    /// Starts to delete a partition. When the ticket has resolved, call [`forget`](Self::forget).
    ///
    /// # Errors
    /// [`ControlError::NoSuchPartition`].
    pub fn start_delete(
        &self,
        name: &str,
    ) -> Result<Ticket<Result<PartitionId, ControlError>>, ControlError> {
        let partition = self.partition(name)?;
        Ok(partition.link.control(Control::Delete { partition: partition.id }))
    }

    /// Lets go of the name of a deleted partition.
    pub fn forget(&self, name: &str) {
        self.inner.directory.remove(name);
    }

    /// Appends to several partitions: all of it is stored, or nothing, also after a crash.
    ///
    /// Over several shards this costs each shard a group, and holds up what comes behind it there
    /// until the slowest shard has it on disk.
    pub fn append_atomic(&self, batches: Vec<(Partition, Batch)>) -> Ticket<JointResult> {
        if let Some(gone) = self.find_deleted(&batches) {
            return Ticket::ready(Err(AppendError::NoSuchPartition(gone)));
        }
        let mut total = 0;
        let mut by_shard: Vec<(ShardId, Vec<usize>, SmallVec<[Part; 1]>)> = Vec::new();
        let count = batches.len();
        for (index, (partition, batch)) in batches.into_iter().enumerate() {
            let bytes_max = match check_batch_shape(&self.inner.limits, partition.id, &batch) {
                Ok(bytes_max) => bytes_max,
                Err(error) => return Ticket::ready(Err(error)),
            };
            total += bytes_max;
            if total > u64::from(self.inner.limits.batch_bytes_max) {
                let limit = self.inner.limits.batch_bytes_max;
                let error = AppendError::BatchTooLarge { partition: partition.id, size: total, limit };
                return Ticket::ready(Err(error));
            }
            let shard = partition.link.mailbox.shard();
            let part = Part { partition: partition.id, batch, expected: None, bytes_max };
            match by_shard.iter_mut().find(|(known, ..)| *known == shard) {
                Some((_, indexes, parts)) => {
                    indexes.push(index);
                    parts.push(part);
                }
                None => by_shard.push((shard, vec![index], smallvec::smallvec![part])),
            }
        }
        if by_shard.is_empty() {
            return Ticket::ready(Ok(Vec::new()));
        }
        self.send_joint(count, by_shard)
    }

    /// A partition of a joint append that was deleted. Over several shards nobody can refuse any
    /// more once the first part is sent.
    fn find_deleted(&self, batches: &[(Partition, Batch)]) -> Option<PartitionId> {
        let known = |partition: &Partition| {
            let found = self.inner.directory.find(&partition.name);
            found.is_some_and(|(_, id)| id == partition.id)
        };
        let spans =
            batches.windows(2).any(|pair| pair[0].0.link.mailbox.shard() != pair[1].0.link.mailbox.shard());
        let gone = batches.iter().find(|(partition, _)| spans && !known(partition));
        gone.map(|(partition, _)| partition.id)
    }

    fn send_joint(
        &self,
        count: usize,
        mut by_shard: Vec<(ShardId, Vec<usize>, SmallVec<[Part; 1]>)>,
    ) -> Ticket<JointResult> {
        let slot = Arc::new(Slot::new());
        let link = |shard: ShardId| &self.inner.links[shard.0 as usize];
        let mailboxes: Vec<_> = by_shard.iter().map(|(shard, ..)| link(*shard).mailbox.clone()).collect();
        let _one_order = self.inner.joint.lock().unwrap_or_else(PoisonError::into_inner);
        // Once a part is sent all of them must be.
        if let Some(error) = mailboxes.iter().find_map(|mailbox| mailbox.refusal()) {
            return Ticket::ready(Err(error));
        }
        let spans = by_shard.len() > 1;
        let transaction = if spans { self.inner.next_joint.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let joint = Joint::new(transaction, mailboxes, count, slot.clone());
        let request = |indexes: Vec<usize>, parts: SmallVec<[Part; 1]>| {
            let budget = parts.iter().map(|part| part.bytes_max).sum();
            let part = JointPart { joint: joint.clone(), indexes: indexes.into() };
            let reply = AppendReply::Joint(part);
            Request::Append(AppendRequest { parts, ack: Ack::Flushed, reply, budget })
        };
        if !spans && let Some((shard, indexes, parts)) = by_shard.pop() {
            return Ticket::send(&link(shard).mailbox, slot, None, request(indexes, parts));
        }
        let count = by_shard.len();
        let mut waiting = Vec::new();
        for (shard, indexes, parts) in by_shard {
            match link(shard).mailbox.send(request(indexes, parts)) {
                Ok(in_line) => waiting.extend(in_line),
                Err((Request::Append(back), error)) => back.refuse(error),
                Err(_) => {}
            }
        }
        // Every part must be sent once one is.
        if waiting.len() < count {
            waiting.clear();
        }
        Ticket::sent_in_parts(slot, waiting)
    }

    /// A snapshot of a shard's counters and latencies; none if it has ended.
    pub fn stats(&self, shard: usize) -> Ticket<Option<ShardStats>> {
        let Some(link) = self.inner.links.get(shard) else { return Ticket::ready(None) };
        let slot = Arc::new(Slot::new());
        let request = Request::Query(QueryRequest::Stats(slot.clone()));
        Ticket::send(&link.mailbox, slot, None, request)
    }

    /// Whether every shard ended by being closed.
    pub(crate) fn how_it_ended(&self) -> Result<(), AppendError> {
        let ends = self.inner.links.iter().filter_map(|link| link.mailbox.ended());
        ends.filter(|end| **end != AppendError::Closed).map(|end| Err(end.clone())).next().unwrap_or(Ok(()))
    }

    /// Why a shard has ended, if any has.
    #[must_use]
    pub fn ended(&self) -> Option<AppendError> {
        self.inner.links.iter().find_map(|link| link.mailbox.ended().cloned())
    }
}

/// A partition in the making: a future, or something to wait for.
#[must_use = "the partition exists when this resolves"]
pub struct Creating {
    log: Log,
    #[allow(clippy::type_complexity)]
    started: Option<Result<(Arc<str>, Ticket<Result<PartitionId, ControlError>>), ControlError>>,
}

impl Creating {
    /// Sleeps until the partition is durable.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn wait(self) -> Result<Partition, ControlError> {
        crate::slot::block_on(self)
    }
}

impl Future for Creating {
    type Output = Result<Partition, ControlError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        use std::task::Poll;
        let (name, mut ticket) = match self.started.take().expect("polled until it resolves, and not after") {
            Ok(started) => started,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let Poll::Ready(made) = std::pin::Pin::new(&mut ticket).poll(context) else {
            self.started = Some(Ok((name, ticket)));
            return Poll::Pending;
        };
        self.log.inner.directory.settle(&name, made.as_ref().ok().copied());
        Poll::Ready(made.map(|id| self.log.handle(name, id)))
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        // Given up half-way: the partition may come into being all the same, and is found on
        // reopening; until then its name stays taken.
        self.started = None;
    }
}
