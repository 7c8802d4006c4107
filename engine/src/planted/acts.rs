//! What planted bugs do, where that takes more than leaving something out.

use thalweg_io::{BLOCK, Backend, Durability, Op};

use super::{Planted, planted};
use crate::append::AppendError;
use crate::append::group::Assigned;
use crate::append::persist::{Formed, InFlight};
use crate::config::GROUP_OVERHEAD;
use crate::ids::{GroupNumber, WalPosition};
use crate::shard::turn::Shard;

/// What the write of a group is to be when it completes.
pub(crate) fn group_durability() -> Durability {
    let synced = !planted(Planted::NoSync) && !planted(Planted::SyncBeforeWriteEnds);
    if synced { Durability::Durable } else { Durability::Volatile }
}

/// The group that the next one, `number`, says is durable.
pub(crate) fn proven(durable: GroupNumber, number: GroupNumber) -> GroupNumber {
    if planted(Planted::ProofTooEarly) { number } else { durable }
}

impl<B: Backend> Shard<B> {
    /// Takes a group whose write failed for one that did not, or goes on without it. Gives it back when
    /// no bug overlooks it.
    pub(crate) fn overlook(&mut self, formed: Formed) -> Option<Formed> {
        if planted(Planted::FailedWriteAcked) {
            self.flushed(formed);
        } else if planted(Planted::ShardGoesOnAfterFailure) {
            self.core.mailbox.release(formed.budget);
            formed.fail(&AppendError::Closed);
        } else if planted(Planted::FailedSyncRetried) && formed.budget > 0 {
            self.sync_again(formed);
        } else {
            return Some(formed);
        }
        None
    }

    /// Syncs the file, and takes that for the write.
    fn sync_again(&mut self, mut formed: Formed) {
        let file = self.core.state().wal.active.as_ref().map(|active| active.id);
        let Some(file) = file else { return self.flushed(formed) };
        self.core.mailbox.release(std::mem::take(&mut formed.budget));
        let pending = self.core.reactor.start(Op::Sync { file });
        self.in_flight.push_front(InFlight { pending, formed });
    }

    /// Sends the first batch of a joint append as a group of its own; returns the others.
    pub(crate) fn tear_joint<'a>(
        &mut self,
        assigned: &'a mut [Assigned],
        formed: &Formed,
    ) -> &'a mut [Assigned] {
        if !planted(Planted::JointAppendTorn) || formed.joints.is_empty() || assigned.len() < 2 {
            return assigned;
        }
        let (first, rest) = assigned.split_at_mut(1);
        self.group_and_send(first, Formed::default());
        self.reserve_again(formed.bytes_max);
        rest
    }

    /// Makes room in the tail cache for a group more.
    fn reserve_again(&self, bytes: u64) {
        let mut state = self.core.state_mut();
        let state = &mut *state;
        let Some(active) = &state.wal.active else { return };
        let position = WalPosition::new(active.sequence, active.position, state.wal.file_bytes);
        let len = (bytes + GROUP_OVERHEAD) as usize + BLOCK;
        state.cache.reserve(position, len.min(state.cache.chunk_bytes()));
    }
}
