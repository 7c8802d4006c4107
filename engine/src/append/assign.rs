//! Step 2: give offsets, in arrival order.

use crate::append::Appended;
use crate::append::request::Part;
use crate::ids::Offset;
use crate::partitions::Partitions;

/// Gives `part` the next offsets of its partition, which exists: `admit` looked.
pub(crate) fn assign(partitions: &mut Partitions, part: &Part) -> Option<Appended> {
    let partition = partitions.get_mut(part.partition).filter(|partition| !partition.deleting)?;
    let count = part.batch.count();
    let base_offset: Offset = partition.log_end;
    partition.log_end = base_offset.plus(u64::from(count));
    Some(Appended { base_offset, count })
}
