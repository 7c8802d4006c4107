//! New segments take the place of WAL entries and of older segments, some partitions at a time:
//! a hundred thousand of them would hold commits up for tens of milliseconds.

use std::collections::BTreeSet;
use std::rc::Rc;

use thalweg_io::Backend;

use crate::ids::{FileNumber, PartitionId, WalPosition};
use crate::maintain::walk::STEP_PARTITIONS;
use crate::partitions::RunRef;
use crate::segment::{Built, Run};
use crate::shard::Core;
use crate::shard::state::{SegmentState, State};

impl<B: Backend> Core<B> {
    /// Lets partitions refer to the runs of `built`, which the manifest has, and no longer to those
    /// of `replaced`. Each partition changes over at once; what was trimmed or deleted meanwhile is
    /// left out.
    pub(super) async fn adopt(self: &Rc<Self>, built: &[Built], replaced: &BTreeSet<FileNumber>) {
        let mut runs: Vec<(FileNumber, &Run)> =
            built.iter().flat_map(|built| built.runs.iter().map(|run| (built.meta.file, run))).collect();
        runs.sort_unstable_by_key(|(_, run)| (run.partition, run.base_offset));
        self.state_mut().expect_segments(built);
        let groups: Vec<_> = runs.chunk_by(|(_, a), (_, b)| a.partition == b.partition).collect();
        for step in groups.chunks(STEP_PARTITIONS) {
            step.iter().for_each(|runs| self.state_mut().adopt_runs(runs, replaced));
            self.reactor.yield_now().await;
        }
        let mut state = self.state_mut();
        for built in built {
            if let Some(segment) = state.segments.get_mut(&built.meta.file) {
                segment.arriving = false;
            }
        }
    }

    /// Drops sealed entries of `touched` partitions that lie before `floor`. They stay while their
    /// bytes are cached: reads there need no disk.
    pub(super) async fn drop_sealed_entries(self: &Rc<Self>, touched: Vec<PartitionId>, floor: WalPosition) {
        let mut look = std::mem::take(&mut self.state_mut().lingering);
        look.extend(touched);
        look.sort_unstable();
        look.dedup();
        for step in look.chunks(STEP_PARTITIONS) {
            step.iter().for_each(|id| self.state_mut().drop_sealed_entries(*id, floor));
            self.reactor.yield_now().await;
        }
    }
}

impl State {
    fn drop_sealed_entries(&mut self, id: PartitionId, floor: WalPosition) {
        let cached_from = self.cache.start().unwrap_or(WalPosition(u64::MAX));
        let Some(partition) = self.partitions.get_mut(id) else { return };
        while partition.tail.front().is_some_and(|e| e.position < floor && e.position < cached_from) {
            partition.tail.pop_front();
        }
        if partition.tail.is_empty() {
            partition.tail.shrink_to_fit();
        }
        if partition.tail.front().is_some_and(|entry| entry.position < floor) {
            self.lingering.push(id);
        }
    }

    /// Counts segments as wanted whole: adopting takes off what is not.
    fn expect_segments(&mut self, built: &[Built]) {
        for Built { meta, runs } in built {
            let live_bytes = runs.iter().map(|run| run.bytes).sum();
            let segment = SegmentState {
                meta: meta.clone(),
                live_bytes,
                live_runs: runs.len() as u32,
                arriving: true,
                taken: false,
            };
            self.segments.insert(meta.file, segment);
        }
    }

    /// One partition's change over.
    fn adopt_runs(&mut self, runs: &[(FileNumber, &Run)], replaced: &BTreeSet<FileNumber>) {
        let Some((_, first)) = runs.first() else { return };
        let partition = self.partitions.get_mut(first.partition);
        if let Some(partition) = partition
            && !replaced.is_empty()
        {
            partition.runs.retain(|run| !replaced.contains(&run.file));
        }
        for (file, run) in runs {
            match self.partitions.get_mut(run.partition) {
                Some(partition) if run.end_offset > partition.log_start => {
                    partition.add_run(RunRef::new(*file, run));
                    if run.compacted {
                        partition.compacted_to = partition.compacted_to.max(run.end_offset);
                    }
                }
                _ => self.release_run(*file, run.bytes),
            }
        }
    }
}
