//! An append over several partitions: all or nothing, also after a crash.
//!
//! On one shard the batches share a group, which is stored whole or not at all. Over several
//! shards each part is in one group of its shard, opened by a `joint` change that names the shards. A
//! part is published only when every part is durable; until then nothing behind it on the same
//! shard is published either. After a crash the append stands if every named shard has its part
//! (`open::decide_joints`), else each shard cuts its log before the part's group: nothing in it or
//! behind it was ever acknowledged.
//!
//! A cut takes later joint appends with it, and cuts their other parts. So a part counts as durable
//! only when nothing before it can be cut any more, and no group has parts of two: joint appends are
//! decided in their one order.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::append::{AppendError, Appended};
use crate::ids::ShardId;
use crate::mailbox::Mailbox;
use crate::slot::Slot;

/// Where the answer to a joint append goes.
pub(crate) type JointSlot = Arc<Slot<Result<Vec<Appended>, AppendError>>>;

/// A joint append in flight, shared by its parts.
pub(crate) struct Joint {
    /// The append's number, for an append over more than one shard.
    pub transaction: u64,
    /// Every shard that has a part.
    pub shards: Vec<ShardId>,
    /// Their mailboxes: a shard may have to be woken to publish.
    pub mailboxes: Vec<Arc<Mailbox>>,
    state: Mutex<State>,
    parts_left: AtomicU32,
    unpublished: AtomicU32,
}

struct State {
    appended: Vec<Option<Appended>>,
    failed: Option<AppendError>,
    slot: Option<JointSlot>,
}

impl Joint {
    pub(crate) fn new(
        transaction: u64,
        mailboxes: Vec<Arc<Mailbox>>,
        batches: usize,
        slot: JointSlot,
    ) -> Arc<Joint> {
        let shards: Vec<_> = mailboxes.iter().map(|mailbox| mailbox.shard()).collect();
        Arc::new(Joint {
            transaction,
            parts_left: AtomicU32::new(shards.len() as u32),
            unpublished: AtomicU32::new(shards.len() as u32),
            shards,
            mailboxes,
            state: Mutex::new(State { appended: vec![None; batches], failed: None, slot: Some(slot) }),
        })
    }

    /// Whether every part is durable, or one will never be.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_decided() || self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.is_some()
    }

    /// Whether every part is durable.
    pub(crate) fn is_decided(&self) -> bool {
        self.parts_left.load(Ordering::Acquire) == 0
    }

    /// Whether it touches more than one shard.
    pub(crate) fn spans_shards(&self) -> bool {
        self.shards.len() > 1
    }

    fn answer(&self, state: &mut State) {
        let Some(slot) = state.slot.take() else { return };
        slot.fill(match &state.failed {
            Some(error) => Err(error.clone()),
            None => Ok(state.appended.iter().flatten().copied().collect()),
        });
    }
}

/// One shard's part of a joint append.
#[derive(Clone)]
pub(crate) struct JointPart {
    pub joint: Arc<Joint>,
    /// For each of the shard's batches, its index in the append as the caller gave it.
    pub indexes: Arc<[usize]>,
}

impl JointPart {
    /// The part is durable, at these offsets. Returns whether this was the last part.
    pub(crate) fn durable(&self, appended: impl Iterator<Item = Appended>) -> bool {
        let mut state = self.joint.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, appended) in self.indexes.iter().zip(appended) {
            state.appended[*index] = Some(appended);
        }
        let last = self.joint.parts_left.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            drop(state);
            self.joint.mailboxes.iter().for_each(|mailbox| mailbox.wake());
        }
        last
    }

    /// Every part is durable and this shard has published its own. The last one to do so answers
    /// the caller, who can then read all of it.
    pub(crate) fn published(&self) {
        if self.joint.unpublished.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut state = self.joint.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.joint.answer(&mut state);
    }

    /// The part will not become durable.
    pub(crate) fn fail(&self, error: AppendError) {
        let mut state = self.joint.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failed.get_or_insert(error);
        self.joint.answer(&mut state);
        drop(state);
        self.joint.mailboxes.iter().for_each(|mailbox| mailbox.wake());
    }

    /// The first error of any part.
    pub(crate) fn failure(&self) -> Option<AppendError> {
        self.joint.state.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }
}
