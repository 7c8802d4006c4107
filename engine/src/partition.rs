//! The handle of a partition: append to it, read from it.

use std::sync::Arc;

use smallvec::smallvec;

use crate::append::admit::check_batch_shape;
use crate::append::request::{AppendReply, AppendRequest, AppendSlot, ControlError, ControlRequest, Part};
use crate::append::{Ack, AppendError, Appended};
use crate::config::{LimitsConfig, PartitionConfig};
use crate::ids::{Offset, PartitionId};
use crate::mailbox::{Mailbox, Refused, Request};
use crate::read::ahead::AheadBudget;
use crate::read::{ReadFrom, ReadLevel, Reader};
use crate::record::Batch;
use crate::shard::query::{PartitionInfo, QueryRequest};
use crate::slot::{Slot, SlotPool};
use crate::ticket::Ticket;
use crate::wal::control::Control;

/// The answer to an append.
pub type AppendResult = Result<Appended, AppendError>;

/// Slots that a shard's callers share.
pub(crate) type AppendPool = Arc<SlotPool<AppendResult>>;

/// A way to a shard: what every handle holds.
#[derive(Clone)]
pub(crate) struct ShardLink {
    pub mailbox: Arc<Mailbox>,
    pub pool: AppendPool,
    pub limits: Arc<LimitsConfig>,
    pub fetch_bytes_max: u32,
    pub ahead: Arc<AheadBudget>,
}

/// Why `try_append` did not take a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryAppendError {
    /// The shard's queue is full; the batch is given back.
    #[error("the shard's queue is full")]
    WouldBlock(Box<Batch>),
    /// It would be refused at any time.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// How to append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// When to acknowledge.
    pub ack: Ack,
    /// Append only if the batch gets this offset.
    pub expected_offset: Option<Offset>,
}

/// A partition of an open engine. Cheap to clone; clones and threads share it freely.
#[derive(Clone)]
pub struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) name: Arc<str>,
    pub(crate) link: ShardLink,
}

impl Partition {
    /// The partition's id.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// The partition's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Appends a record or a batch. The ticket resolves when it is on the disk.
    ///
    /// Appends of one thread keep their order. One that finds the queue full stands in line until
    /// there is room; see [`Ticket`].
    ///
    /// # Errors
    /// The ticket's: see [`AppendError`].
    pub fn append(&self, batch: impl Into<Batch>) -> Ticket<AppendResult> {
        self.append_with(batch, AppendOptions::default())
    }

    /// Appends if the batch gets exactly `expected`: optimistic concurrency between writers.
    pub fn append_if(&self, expected: Offset, batch: impl Into<Batch>) -> Ticket<AppendResult> {
        let options = AppendOptions { expected_offset: Some(expected), ..AppendOptions::default() };
        self.append_with(batch, options)
    }

    /// Appends with every choice spelled out.
    pub fn append_with(&self, batch: impl Into<Batch>, options: AppendOptions) -> Ticket<AppendResult> {
        match self.request(batch.into(), options) {
            Ok((request, slot)) => {
                let pool = Some(self.link.pool.clone());
                Ticket::send(&self.link.mailbox, slot, pool, Request::Append(request))
            }
            Err(error) => Ticket::ready(Err(error)),
        }
    }

    /// As [`append_with`](Self::append_with), or gives the batch back at once if the queue is full.
    ///
    /// # Errors
    /// [`TryAppendError`].
    pub fn try_append(
        &self,
        batch: impl Into<Batch>,
        options: AppendOptions,
    ) -> Result<Ticket<AppendResult>, TryAppendError> {
        let (request, slot) = self.request(batch.into(), options)?;
        let sent = slot.clone();
        match self.link.mailbox.try_send(Request::Append(request)) {
            Ok(()) => Ok(Ticket::sent(sent, self.link.pool.clone())),
            Err(Refused::Ended(_, error)) => Err(error.into()),
            Err(Refused::Full(Request::Append(mut request))) => {
                let part = request.parts.pop().expect("a request has its batch");
                Err(TryAppendError::WouldBlock(Box::new(part.batch)))
            }
            Err(Refused::Full(_)) => unreachable!("an append was sent"),
        }
    }

    fn request(
        &self,
        batch: Batch,
        options: AppendOptions,
    ) -> Result<(AppendRequest, AppendSlot), AppendError> {
        let bytes_max = check_batch_shape(&self.link.limits, self.id, &batch)?;
        let slot = self.link.pool.take();
        let part = Part { partition: self.id, batch, expected: options.expected_offset, bytes_max };
        let request = AppendRequest {
            parts: smallvec![part],
            ack: options.ack,
            reply: AppendReply::One(slot.clone()),
            budget: bytes_max,
        };
        Ok((request, slot))
    }

    /// Reads from `from` on: records that survive a power cut, waiting at the end for more.
    #[must_use]
    pub fn read(&self, from: ReadFrom) -> Reader {
        self.read_with(from, ReadLevel::default())
    }

    /// Reads from `from` on what `level` shows.
    #[must_use]
    pub fn read_with(&self, from: ReadFrom, level: ReadLevel) -> Reader {
        Reader::new(self.id, self.link.clone(), from, level)
    }

    /// Moves the log start offset forward: records below it go, for good.
    ///
    /// # Errors
    /// [`ControlError::BeyondEnd`] if it is beyond what is flushed.
    pub fn trim(&self, log_start: Offset) -> Ticket<Result<PartitionId, ControlError>> {
        self.link.control(Control::Trim { partition: self.id, log_start })
    }

    /// Changes the partition's settings.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn configure(&self, config: PartitionConfig) -> Ticket<Result<PartitionId, ControlError>> {
        self.link.control(Control::Configure { partition: self.id, config })
    }

    /// The partition as it is at the moment; none if it was deleted or the engine is closed.
    pub fn describe(&self) -> Ticket<Option<PartitionInfo>> {
        let slot = Arc::new(Slot::new());
        let request = Request::Query(QueryRequest::Describe(self.id, slot.clone()));
        Ticket::send(&self.link.mailbox, slot, None, request)
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partition({}, {:?})", self.id, self.name)
    }
}

impl ShardLink {
    /// Asks for a change of the catalog.
    pub(crate) fn control(&self, control: Control) -> Ticket<Result<PartitionId, ControlError>> {
        let slot = Arc::new(Slot::new());
        let request = Request::Control(ControlRequest { control, reply: Some(slot.clone()) });
        Ticket::send(&self.mailbox, slot, None, request)
    }
}
