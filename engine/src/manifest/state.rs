//! What all edits so far add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::PartitionConfig;
use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, WalSequence};
use crate::manifest::edit::{Change, Edit, SegmentMeta};
use crate::manifest::predicate::{self, Conflict};

/// A partition, as the manifest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMeta {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: PartitionConfig,
    /// First offset kept.
    pub log_start: Offset,
}

/// The manifest of one shard at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Grows by one with each edit.
    pub revision: u64,
    /// Files of the WAL ring.
    pub wal_files: BTreeSet<FileNumber>,
    /// The first WAL file still needed.
    pub floor: WalSequence,
    /// The first group of that file; every earlier group was durable.
    pub floor_group: GroupNumber,
    /// Segments by file.
    pub segments: BTreeMap<FileNumber, SegmentMeta>,
    /// Partitions by id.
    pub partitions: BTreeMap<PartitionId, PartitionMeta>,
    /// The next partition id to give out.
    pub next_partition: PartitionId,
    /// The next file number to give out.
    pub next_file: FileNumber,
    /// Joint appends up to this one that have a part here are decided.
    pub joint_resolved: u64,
    /// Groups up to this one were durable when the log was last closed.
    pub durable: GroupNumber,
}

impl Manifest {
    /// The last group that the manifest proves to have been durable.
    #[must_use]
    pub fn durable_group(&self) -> GroupNumber {
        GroupNumber(self.floor_group.0.saturating_sub(1)).max(self.durable)
    }

    /// Applies an edit.
    ///
    /// # Errors
    /// [`Conflict`] if the edit was made for another revision or breaks a rule; nothing has
    /// changed then.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), Conflict> {
        let mut next = if edit.snapshot { Manifest::default() } else { std::mem::take(self) };
        if !edit.snapshot && Some(edit.revision) != next.revision.checked_add(1) {
            let expected = next.revision.saturating_add(1);
            let conflict = Conflict::Revision { expected, found: edit.revision };
            *self = next;
            return Err(conflict);
        }
        // Predicates look at one change against the state before it, so a refused edit is undone by
        // replaying nothing: check all changes on the live state and keep an undo of those applied.
        let mut undo = Vec::with_capacity(edit.changes.len());
        for change in &edit.changes {
            if let Err(conflict) = predicate::check(&next, change) {
                undo.into_iter().rev().for_each(|undo: Undo| undo.apply(&mut next));
                if !edit.snapshot {
                    *self = next;
                }
                return Err(conflict);
            }
            undo.push(next.change(change));
        }
        next.revision = edit.revision;
        *self = next;
        Ok(())
    }

    fn change(&mut self, change: &Change) -> Undo {
        match change {
            Change::WalFileAdded(file) => {
                self.wal_files.insert(*file);
                Undo::WalFileAdded(*file)
            }
            Change::WalFileRemoved(file) => {
                self.wal_files.remove(file);
                Undo::WalFileRemoved(*file)
            }
            Change::Floor { sequence, group } => {
                let undo = Undo::Floor(self.floor, self.floor_group);
                (self.floor, self.floor_group) = (*sequence, *group);
                undo
            }
            Change::SegmentAdded(meta) => {
                Undo::Segment(meta.file, self.segments.insert(meta.file, meta.clone()))
            }
            Change::SegmentRemoved(file) => Undo::Segment(*file, self.segments.remove(file)),
            Change::PartitionCreated { partition, config, log_start, name } => {
                let meta = PartitionMeta { name: name.clone(), config: *config, log_start: *log_start };
                Undo::Partition(*partition, self.partitions.insert(*partition, meta))
            }
            Change::PartitionDeleted(partition) => {
                Undo::Partition(*partition, self.partitions.remove(partition))
            }
            Change::Trimmed { partition, log_start } => {
                let old = self.partitions.get(partition).cloned();
                if let Some(meta) = self.partitions.get_mut(partition) {
                    meta.log_start = *log_start;
                }
                Undo::Partition(*partition, old)
            }
            Change::Configured { partition, config } => {
                let old = self.partitions.get(partition).cloned();
                if let Some(meta) = self.partitions.get_mut(partition) {
                    meta.config = *config;
                }
                Undo::Partition(*partition, old)
            }
            Change::NextPartition(next) => {
                Undo::NextPartition(std::mem::replace(&mut self.next_partition, *next))
            }
            Change::NextFile(next) => Undo::NextFile(std::mem::replace(&mut self.next_file, *next)),
            Change::JointResolved(last) => Undo::Joint(std::mem::replace(&mut self.joint_resolved, *last)),
            Change::Durable(group) => Undo::Durable(std::mem::replace(&mut self.durable, *group)),
        }
    }

    /// Whether a file belongs to the shard, as WAL file or segment.
    #[must_use]
    pub fn knows(&self, file: FileNumber) -> bool {
        self.wal_files.contains(&file) || self.segments.contains_key(&file)
    }

    /// The whole state as one edit, for a fresh manifest file.
    #[must_use]
    pub fn snapshot(&self) -> Edit {
        let files = self.wal_files.iter().map(|file| Change::WalFileAdded(*file));
        let segments = self.segments.values().map(|meta| Change::SegmentAdded(meta.clone()));
        let partitions = self.partitions.iter().map(|(partition, meta)| Change::PartitionCreated {
            partition: *partition,
            config: meta.config,
            log_start: meta.log_start,
            name: meta.name.clone(),
        });
        let numbers = [
            Change::NextFile(self.next_file),
            Change::NextPartition(self.next_partition),
            Change::Floor { sequence: self.floor, group: self.floor_group },
            Change::JointResolved(self.joint_resolved),
            Change::Durable(self.durable),
        ];
        let changes = numbers.into_iter().chain(files).chain(segments).chain(partitions).collect();
        Edit { revision: self.revision, snapshot: true, changes }
    }
}

/// How to take one change back.
enum Undo {
    WalFileAdded(FileNumber),
    WalFileRemoved(FileNumber),
    Floor(WalSequence, GroupNumber),
    Segment(FileNumber, Option<SegmentMeta>),
    Partition(PartitionId, Option<PartitionMeta>),
    NextPartition(PartitionId),
    NextFile(FileNumber),
    Joint(u64),
    Durable(GroupNumber),
}

impl Undo {
    fn apply(self, manifest: &mut Manifest) {
        match self {
            Undo::WalFileAdded(file) => drop(manifest.wal_files.remove(&file)),
            Undo::WalFileRemoved(file) => drop(manifest.wal_files.insert(file)),
            Undo::Floor(sequence, group) => (manifest.floor, manifest.floor_group) = (sequence, group),
            Undo::Segment(file, Some(meta)) => drop(manifest.segments.insert(file, meta)),
            Undo::Segment(file, None) => drop(manifest.segments.remove(&file)),
            Undo::Partition(id, Some(meta)) => drop(manifest.partitions.insert(id, meta)),
            Undo::Partition(id, None) => drop(manifest.partitions.remove(&id)),
            Undo::NextPartition(next) => manifest.next_partition = next,
            Undo::NextFile(next) => manifest.next_file = next,
            Undo::Joint(last) => manifest.joint_resolved = last,
            Undo::Durable(group) => manifest.durable = group,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(revision: u64, changes: Vec<Change>) -> Edit {
        Edit { revision, snapshot: false, changes }
    }

    fn created(id: u32) -> Change {
        let config = PartitionConfig::default();
        Change::PartitionCreated {
            partition: PartitionId(id),
            config,
            log_start: Offset(0),
            name: "p".into(),
        }
    }

    #[test]
    fn an_edit_for_another_revision_changes_nothing() {
        let mut manifest = Manifest::default();
        manifest.apply(&edit(1, vec![Change::NextPartition(PartitionId(1)), created(0)])).unwrap();
        let before = manifest.clone();
        assert!(matches!(manifest.apply(&edit(1, vec![])), Err(Conflict::Revision { .. })));
        assert!(matches!(manifest.apply(&edit(3, vec![])), Err(Conflict::Revision { .. })));
        assert_eq!(manifest, before);
    }

    #[test]
    fn a_refused_edit_is_undone_whole() {
        let mut manifest = Manifest::default();
        manifest
            .apply(&edit(1, vec![Change::NextPartition(PartitionId(2)), created(0), created(1)]))
            .unwrap();
        let before = manifest.clone();
        let changes = vec![
            Change::PartitionDeleted(PartitionId(0)),
            Change::Trimmed { partition: PartitionId(1), log_start: Offset(5) },
            Change::NextFile(FileNumber(3)),
            Change::SegmentRemoved(FileNumber(9)), // there is none
        ];
        assert!(manifest.apply(&edit(2, changes)).is_err());
        assert_eq!(manifest, before);
    }

    #[test]
    fn a_snapshot_says_everything() {
        let mut manifest = Manifest::default();
        let changes = vec![
            Change::NextPartition(PartitionId(4)),
            Change::NextFile(FileNumber(9)),
            Change::WalFileAdded(FileNumber(2)),
            Change::Floor { sequence: WalSequence(1), group: GroupNumber(1) },
            created(3),
        ];
        manifest.apply(&edit(1, changes)).unwrap();
        let mut copy = Manifest::default();
        copy.apply(&manifest.snapshot()).unwrap();
        assert_eq!(copy, manifest);
    }
}
