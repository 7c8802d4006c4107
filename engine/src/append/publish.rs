//! Step 5: let readers see it, and tell the callers.

use std::sync::Arc;

use thalweg_io::Backend;

use crate::append::persist::Formed;
use crate::ids::PartitionId;
use crate::manifest::Change;
use crate::planted::{Planted, planted};
use crate::shard::turn::Shard;
use crate::wal::control::Control;

impl<B: Backend> Shard<B> {
    /// Publishes durable groups, in order, up to the first with an undecided joint append.
    ///
    /// Only the first tells the other shards that its part is durable: a crash that cut an earlier
    /// group would take it along, and with it what the others had acknowledged behind their parts.
    pub(crate) fn publish_decided(&mut self) -> bool {
        let mut busy = false;
        while let Some(formed) = self.durable.front_mut() {
            formed.announce();
            if let Some(error) = formed.joints.iter().find_map(|(part, _)| part.failure()) {
                let Some(formed) = self.durable.pop_front() else { break };
                self.stop(formed, &format!("a part of a joint append failed: {error}"));
                return true;
            }
            let decided = formed.joints.iter().all(|(part, _)| part.joint.is_decided());
            if !decided && !planted(Planted::JointPublishedUndecided) {
                break;
            }
            let Some(formed) = self.durable.pop_front() else { break };
            self.publish(formed);
            busy = true;
        }
        busy
    }

    fn publish(&mut self, mut formed: Formed) {
        let core = self.core.clone();
        {
            let mut state = core.state_mut();
            for placed in &formed.placed {
                let Some(partition) = state.partitions.get_mut(placed.partition) else { continue };
                partition.flushed = placed.base_offset.plus(u64::from(placed.span));
                partition.check();
            }
        }
        for index in 0..formed.controls.len() {
            self.publish_control(index, &mut formed);
        }
        // Readers first: a caller that hears of its append finds it.
        for placed in &formed.placed {
            core.wake_readers(placed.partition);
        }
        if let [(_, first), (_, second), ..] = formed.acks.as_mut_slice()
            && planted(Planted::AnswersSwapped)
        {
            std::mem::swap(first, second);
        }
        for (slot, at) in formed.acks.drain(..) {
            if planted(Planted::TicketResolvedTwice) {
                slot.fill(Ok(at));
            }
            slot.fill(Ok(at));
        }
        for (part, _) in formed.joints.drain(..) {
            part.published();
        }
        core.mailbox.release(formed.budget);
        core.metrics.borrow_mut().group_published(&formed, core.reactor.now(), self.last_durable);
        self.formed_pool.push(formed.recycle());
    }

    /// A change of the catalog is durable: carry out what waited for that.
    fn publish_control(&mut self, index: usize, formed: &mut Formed) {
        let (control, reply) = &mut formed.controls[index];
        let reply = reply.take();
        let mut state = self.core.state_mut();
        let partition = match control {
            Control::Create { partition, config, name } => {
                let next = PartitionId(partition.0 + u32::from(self.core.shards));
                let name: Arc<str> = name.as_str().into();
                state.catalog.push(Change::NextPartition(next));
                state.catalog.push(Change::PartitionCreated {
                    partition: *partition,
                    config: *config,
                    log_start: crate::Offset(0),
                    name,
                });
                *partition
            }
            Control::Delete { partition } => {
                let partition = *partition;
                if let Some(gone) = state.partitions.remove(partition) {
                    gone.runs.iter().for_each(|run| state.release_run(run.file, run.bytes));
                }
                if !planted(Planted::DeletionNotInManifest) {
                    state.catalog.push(Change::PartitionDeleted(partition));
                }
                drop(state);
                self.core.wake_readers(partition);
                self.core.maintain.notify(usize::MAX);
                partition
            }
            Control::Trim { partition, log_start } => {
                if let Some(known) = state.partitions.get_mut(*partition)
                    && *log_start > known.log_start
                {
                    known.log_start = *log_start;
                    let (partition, log_start) = (*partition, *log_start);
                    if !planted(Planted::TrimNotInManifest) {
                        state.catalog.push(Change::Trimmed { partition, log_start });
                    }
                    state.release_trimmed_runs(partition);
                    drop(state);
                    self.core.wake_readers(partition);
                    self.core.maintain.notify(usize::MAX);
                }
                *partition
            }
            Control::Configure { partition, config } => {
                state.partitions.configure(*partition, *config);
                if !planted(Planted::SettingsNotInManifest) {
                    state.catalog.push(Change::Configured { partition: *partition, config: *config });
                }
                *partition
            }
            Control::Joint { .. } => return,
        };
        if let Some(slot) = reply {
            slot.fill(Ok(partition));
        }
    }
}
