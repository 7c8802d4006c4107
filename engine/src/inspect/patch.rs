//! Carrying out a repair: segments of what was saved, one edit of the manifest, and what is
//! replaced put aside.

use std::io;
use std::path::PathBuf;

use thalweg_io::{AlignedBuf, BLOCK, Backend, Op, OpenMode, Reactor};

use crate::governor::Governor;
use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, WalSequence};
use crate::inspect::InspectError;
use crate::inspect::repair::Work;
use crate::inspect::salvage::Saved;
use crate::manifest::{Change, ManifestError, ManifestFile, SegmentKind, SegmentMeta};
use crate::segment::{SegmentIdentity, SegmentWriter};
use crate::shard::core::{file_name, file_path};
use crate::shard::quarantine::Quarantine;
use crate::wal::life::{Life, read_file};

/// A run to be written: a gap in a partition, and what is left of its records.
pub(super) struct Patch {
    pub partition: PartitionId,
    pub base: Offset,
    pub end: Offset,
    pub batches: Vec<Saved>,
}

impl<B: Backend> Work<'_, B> {
    /// Carries the plan out. Joint appends up to `joint` are decided: what there is of them stays.
    pub(super) async fn apply(&mut self, joint: u64) -> Result<(), InspectError> {
        let io = |source| InspectError::Io { path: self.place.dir.clone(), source };
        let fail = |error: ManifestError| InspectError::Repair(error.to_string());
        let directory = self.place.superblock.directory;
        let (reactor, dir, shard) = (self.reactor, &self.place.dir, self.place.shard);
        let mut file =
            ManifestFile::resume(reactor, dir, shard, directory, &self.loaded).await.map_err(fail)?;
        // A manifest that lost an edit may not know of a file that is there.
        let first = self.loaded.manifest.next_file.max(self.next_file);
        let rounds = rounds(std::mem::take(&mut self.patches));
        let mut changes = vec![Change::NextFile(FileNumber(first.0 + rounds.len() as u64))];
        changes.append(&mut self.catalog);
        changes.extend(self.damaged_segments.iter().map(|file| Change::SegmentRemoved(*file)));
        // Files with a part missing can't take another life.
        let sound = self.scan.files.iter().filter(|file| file.flaw.is_none());
        let scanned: Vec<_> = sound.map(|file| file.number).collect();
        let gone = self.loaded.manifest.wal_files.iter().filter(|file| !scanned.contains(file));
        changes.extend(gone.map(|file| Change::WalFileRemoved(*file)));
        for (index, patches) in rounds.iter().enumerate() {
            let number = FileNumber(first.0 + index as u64);
            let identity = SegmentIdentity {
                file: number,
                directory,
                shard,
                kind: SegmentKind::Merged,
                created_ms: reactor.wall_ms(),
                sequence_end: 0,
            };
            let built = write_patches(reactor, file_path(dir, number), identity, patches);
            changes.push(Change::SegmentAdded(built.await.map_err(io)?));
        }
        if self.wal_damaged {
            changes.push(self.floor());
            changes.push(Change::JointResolved(joint.max(self.loaded.manifest.joint_resolved)));
        }
        let quarantine = Quarantine::new(self.reactor, &self.place.dir);
        quarantine.make().await.map_err(io)?;
        self.keep_wal(&quarantine).await.map_err(io)?;
        file.commit(&mut self.loaded.manifest, changes).await.map_err(fail)?;
        for number in &self.damaged_segments {
            match quarantine.take(&file_name(*number)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
        }
        self.reactor.run(Op::SyncDir { path: self.place.dir.clone() }).await.map_err(io)
    }

    /// The WAL starts anew; numbers of groups that may exist somewhere are not used again.
    fn floor(&self) -> Change {
        let manifest = &self.loaded.manifest;
        let sequence = self.scan.last_sequence.0.max(manifest.floor.0);
        let sequence = WalSequence(sequence + 1 + manifest.wal_files.len() as u64);
        let last = self.scan.tail.later_durable.map_or(GroupNumber(0), |proof| proof.said_by);
        let group = last
            .max(self.last_group)
            .max(self.scan.tail.missing)
            .max(manifest.floor_group)
            .max(manifest.durable.next());
        let blocks = self.place.superblock.wal_file_bytes / BLOCK as u64;
        Change::Floor { sequence, group: GroupNumber(group.0.saturating_add(blocks)) }
    }

    /// Copies WAL files aside before their bytes may be written over.
    async fn keep_wal(&self, quarantine: &Quarantine<'_, B>) -> io::Result<()> {
        for file in self.scan.files.iter().filter(|file| self.wal_damaged && file.life != Life::Spare) {
            let (from, len) =
                self.reactor.open(file_path(&self.place.dir, file.number), OpenMode::Read).await?;
            let (bytes, _) = read_file(self.reactor, from, len).await;
            self.reactor.run(Op::Close { file: from }).await?;
            let name = format!("repair-{}.bin", file_name(file.number));
            quarantine.keep(&name, AlignedBuf::padded(&bytes)).await?;
        }
        Ok(())
    }
}

/// Patches by segment: a segment holds one run of a partition, so a second gap goes to a second.
fn rounds(patches: Vec<Patch>) -> Vec<Vec<Patch>> {
    let mut rounds: Vec<Vec<Patch>> = Vec::new();
    for patch in patches {
        let free =
            rounds.iter().position(|round| round.last().is_none_or(|last| last.partition < patch.partition));
        match free {
            Some(index) => rounds[index].push(patch),
            None => rounds.push(vec![patch]),
        }
    }
    rounds
}

async fn write_patches<B: Backend>(
    reactor: &Reactor<B>,
    path: PathBuf,
    identity: SegmentIdentity,
    patches: &[Patch],
) -> io::Result<SegmentMeta> {
    let governor = Governor::alone(reactor.clone());
    let mut writer = SegmentWriter::create(&governor, path, identity).await?;
    for patch in patches {
        writer.begin_run(patch.partition, patch.base);
        for saved in &patch.batches {
            writer.add(&saved.header, saved.bytes()).await?;
        }
        writer.end_run(patch.end, true);
    }
    Ok(writer.finish().await?.meta)
}
