//! Changes of the catalog that only a damaged WAL has.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::PartitionConfig;
use crate::ids::{Offset, PartitionId, ShardId};
use crate::manifest::{Change, Manifest};
use crate::wal::control::Control;

/// The largest joint append among `controls`.
pub(super) fn joints<'a>(controls: impl IntoIterator<Item = &'a Control>) -> u64 {
    let each = controls.into_iter().filter_map(|control| match control {
        Control::Joint { transaction, .. } => Some(*transaction),
        _ => None,
    });
    each.max().unwrap_or(0)
}

/// What the manifest has to be told of `controls`. Partitions that have batches, and whose making is
/// lost, come back as `partition-<id>`.
pub(super) fn plan_catalog(
    manifest: &Manifest,
    shard: ShardId,
    shards: u16,
    controls: &[Control],
    with_batches: &BTreeSet<PartitionId>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut starts: BTreeMap<PartitionId, Offset> =
        manifest.partitions.iter().map(|(id, meta)| (*id, meta.log_start)).collect();
    let mut names: BTreeSet<&str> = manifest.partitions.values().map(|meta| &*meta.name).collect();
    let mut made = BTreeMap::new();
    let mut deleted = BTreeSet::new();
    for control in controls {
        match control {
            Control::Create { partition, config, name } if *partition >= manifest.next_partition => {
                names.insert(name);
                made.insert(*partition, (name.clone(), *config));
            }
            Control::Delete { partition } => drop(deleted.insert(*partition)),
            _ => {}
        }
    }
    let ours = |id: &PartitionId| id.0 % u32::from(shards) == u32::from(shard.0);
    for id in with_batches.iter().filter(|id| **id >= manifest.next_partition && ours(id)) {
        if !made.contains_key(id) && !deleted.contains(id) {
            let name = format!("partition-{id}");
            let name = if names.contains(&*name) { format!("{name}-repaired") } else { name };
            made.insert(*id, (name, PartitionConfig::default()));
        }
    }
    for (partition, (name, config)) in made {
        let Some(next) = partition.0.checked_add(u32::from(shards)) else { continue };
        starts.insert(partition, Offset(0));
        changes.push(Change::NextPartition(PartitionId(next)));
        let (log_start, name) = (Offset(0), name.into());
        changes.push(Change::PartitionCreated { partition, config, log_start, name });
    }
    for control in controls {
        match control {
            Control::Delete { partition } if starts.remove(partition).is_some() => {
                changes.push(Change::PartitionDeleted(*partition));
            }
            Control::Trim { partition, log_start } => {
                let (partition, log_start) = (*partition, *log_start);
                // The manifest may be ahead of what the WAL says.
                if let Some(start) = starts.get_mut(&partition).filter(|start| **start < log_start) {
                    *start = log_start;
                    changes.push(Change::Trimmed { partition, log_start });
                }
            }
            Control::Configure { partition, config } if starts.contains_key(partition) => {
                changes.push(Change::Configured { partition: *partition, config: *config });
            }
            _ => {}
        }
    }
    changes
}
