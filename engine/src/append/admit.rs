//! Step 1: refuse early. Nothing has been promised yet, so refusing costs nothing.

use crate::append::AppendError;
use crate::append::request::{AppendRequest, Part};
use crate::config::LimitsConfig;
use crate::ids::PartitionId;
use crate::partitions::Partitions;
use crate::planted::{Planted, planted};
use crate::record::Batch;

/// What can be refused without knowing the shard: called on the caller's thread.
pub(crate) fn check_batch_shape(
    limits: &LimitsConfig,
    partition: PartitionId,
    batch: &Batch,
) -> Result<u64, AppendError> {
    if batch.count() == 0 {
        return Err(AppendError::EmptyBatch(partition));
    }
    let size = batch.encoded_len_max();
    if size > u64::from(limits.batch_bytes_max) {
        return Err(AppendError::BatchTooLarge { partition, size, limit: limits.batch_bytes_max });
    }
    Ok(size)
}

/// Refuses an append that cannot be carried out on the partitions as they are now.
pub(crate) fn admit(partitions: &Partitions, request: &AppendRequest) -> Result<(), AppendError> {
    let mut promised: smallvec::SmallVec<[(PartitionId, u64); 4]> = smallvec::SmallVec::new();
    for part in &request.parts {
        let Some(partition) = partitions.get_open(part.partition) else {
            return Err(AppendError::NoSuchPartition(part.partition));
        };
        if partition.config.compact && !all_keyed(part) {
            return Err(AppendError::KeyRequired(part.partition));
        }
        let Some(expected) = part.expected else { continue };
        let before: u64 =
            promised.iter().filter(|(id, _)| *id == part.partition).map(|(_, count)| count).sum();
        let actual = partition.log_end.plus(before);
        if actual != expected && !planted(Planted::ExpectationIgnored) {
            return Err(AppendError::UnexpectedOffset { partition: part.partition, expected, actual });
        }
        promised.push((part.partition, u64::from(part.batch.count())));
    }
    Ok(())
}

fn all_keyed(part: &Part) -> bool {
    match &part.batch {
        Batch::Opaque { .. } => false,
        batch => batch.records().iter().all(|record| record.key.is_some()),
    }
}
