//! I5: `log_start ≤ flushed ≤ log_end`; each of them, and every counter, only grows.

use std::collections::BTreeMap;

use thalweg::{PartitionInfo, ShardStats};

/// What was seen in this life.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    infos: BTreeMap<u32, PartitionInfo>,
    stats: Option<ShardStats>,
}

impl Seen {
    pub(crate) fn partition(&mut self, info: &PartitionInfo) {
        let in_order = info.log_start <= info.flushed && info.flushed <= info.log_end;
        assert!(in_order, "I5: {info:?}");
        let Some(before) = self.infos.insert(info.id.0, info.clone()) else { return };
        let grown = before.log_start <= info.log_start
            && before.flushed <= info.flushed
            && before.log_end <= info.log_end;
        assert!(grown, "I5: {before:?} became {info:?}");
    }

    pub(crate) fn shard(&mut self, stats: ShardStats) {
        let counters = |stats: &ShardStats| {
            [
                stats.groups,
                stats.markers,
                stats.records,
                stats.group_bytes,
                stats.background_bytes,
                stats.files_sealed,
                stats.files_promoted,
                stats.files_recycled,
                stats.segments_merged,
                stats.segments_removed,
                stats.background_errors,
            ]
        };
        if let Some(before) = &self.stats {
            let grown = counters(before).iter().zip(counters(&stats)).all(|(before, now)| *before <= now);
            assert!(grown, "I5: {before:?} became {stats:?}");
        }
        assert!(stats.markers <= stats.groups, "I5: {stats:?}");
        self.stats = Some(stats);
    }
}
