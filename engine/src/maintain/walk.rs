//! Looking at every partition without holding commits up: some at a time, between turns.

use thalweg_io::Backend;

use crate::ids::PartitionId;
use crate::partitions::Partition;
use crate::shard::Core;

/// Partitions looked at in one step: some ten microseconds of work.
pub(super) const STEP_PARTITIONS: usize = 64;

impl<B: Backend> Core<B> {
    /// Visits every partition, by id. One made or deleted meanwhile may be seen or not.
    pub(super) async fn walk_partitions(&self, mut visit: impl FnMut(PartitionId, &Partition)) {
        let mut next = Some(PartitionId(0));
        while let Some(from) = next {
            next = self.visit_some(from, &mut visit);
            self.reactor.yield_now().await;
        }
    }

    /// Visits one step's partitions. Returns where the next step starts.
    fn visit_some(
        &self,
        from: PartitionId,
        visit: &mut impl FnMut(PartitionId, &Partition),
    ) -> Option<PartitionId> {
        let state = self.state();
        for (at, (id, partition)) in state.partitions.range(from).enumerate() {
            if at == STEP_PARTITIONS {
                return Some(id);
            }
            visit(id, partition);
        }
        None
    }
}
