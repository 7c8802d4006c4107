//! Making a damaged data directory open again: what can be read is kept, at its offset; what can't
//! is listed, and its offsets stay empty for ever. Files that are replaced go to quarantine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thalweg_io::{AlignedBuf, BLOCK, Backend, Op, OpenMode, Reactor};

use crate::governor::Governor;
use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, ShardId, WalSequence};
use crate::inspect::salvage::{Pool, Saved};
use crate::inspect::{InspectError, open, read_superblock};
use crate::manifest::{Change, Loaded, ManifestFile, SegmentKind, load};
use crate::segment::{Run, SegmentIdentity, SegmentWriter, check_segment, read_trailer};
use crate::shard::core::{file_name, file_path};
use crate::shard::quarantine::Quarantine;
use crate::shard::recover::ShardPlace;
use crate::shard::replay::check_revision;
use crate::wal::control::Control;
use crate::wal::decide::{Decision, decide};
use crate::wal::life::{Life, WalIdentity, strays};
use crate::wal::scan::{Scan, scan};

/// Records that can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The partition.
    pub partition: PartitionId,
    /// Its name.
    pub name: String,
    /// First offset lost.
    pub from: Offset,
    /// Offset after the last one lost.
    pub end: Offset,
}

/// Something that was, or would be, changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what is done.
    pub what: String,
}

/// What a repair does, or did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Whether it was carried out.
    pub applied: bool,
    /// What is changed. Empty if nothing needs repair.
    pub repairs: Vec<Repaired>,
    /// Records that are lost. Their offsets stay empty.
    pub lost: Vec<Lost>,
}

/// Plans a repair of the data directory at `data_dir`, and carries it out if `apply` says so.
///
/// # Errors
/// [`InspectError`]; [`InspectError::Repair`] for damage that only a copy can help against: a
/// superblock or a manifest.
pub fn repair(data_dir: &Path, apply: bool) -> Result<RepairReport, InspectError> {
    let (_lock, reactor) = open(data_dir)?;
    reactor.block_on(repair_on(&reactor, apply))
}

/// As [`repair`], on a backend of the caller's.
///
/// # Errors
/// As [`repair`].
pub async fn repair_on<B: Backend>(reactor: &Reactor<B>, apply: bool) -> Result<RepairReport, InspectError> {
    let superblock = read_superblock(reactor).await?;
    let mut report = RepairReport { applied: apply, ..RepairReport::default() };
    for shard in 0..superblock.shards {
        let place = ShardPlace::new(ShardId(shard), superblock);
        let mode = if apply { OpenMode::ReadWrite } else { OpenMode::Read };
        let loaded = load(reactor, &place.dir, place.shard, superblock.directory, mode).await;
        let loaded = loaded.map_err(|error| {
            InspectError::Repair(format!(
                "{error}; nothing else names the partitions: restore it from a copy"
            ))
        })?;
        let mut work = Work::find(reactor, place, loaded).await?;
        work.plan(&mut report);
        if apply && !work.is_empty() {
            work.apply().await?;
        }
        report.repairs.append(&mut work.repairs);
    }
    Ok(report)
}

/// A run to be written: a gap in a partition, and what is left of its records.
struct Patch {
    partition: PartitionId,
    base: Offset,
    end: Offset,
    batches: Vec<Saved>,
}

/// The repair of one shard.
struct Work<'a, B: Backend> {
    reactor: &'a Reactor<B>,
    place: ShardPlace,
    loaded: Loaded,
    scan: Scan,
    wal_damaged: bool,
    damaged_segments: Vec<FileNumber>,
    /// Runs of damaged segments whose footers are whole: what they covered.
    covered: Vec<Run>,
    /// Runs of the other segments.
    runs: BTreeMap<PartitionId, Vec<Run>>,
    pool: Pool,
    /// Changes of the catalog in a damaged WAL, in order.
    controls: Vec<(u64, Control)>,
    repairs: Vec<Repaired>,
    patches: Vec<Patch>,
    catalog: Vec<Change>,
}

impl<'a, B: Backend> Work<'a, B> {
    async fn find(
        reactor: &'a Reactor<B>,
        place: ShardPlace,
        loaded: Loaded,
    ) -> Result<Work<'a, B>, InspectError> {
        let io = |source| InspectError::Io { path: place.dir.clone(), source };
        let manifest = &loaded.manifest;
        let identity = WalIdentity {
            shard: place.shard,
            directory: place.superblock.directory,
            file_bytes: place.superblock.wal_file_bytes,
            floor: manifest.floor,
            floor_group: manifest.floor_group,
        };
        // A WAL file that is gone can't be searched; the others still can.
        let names = reactor.list(&place.dir).await.map_err(io)?;
        let there = |number: &FileNumber| {
            let path = file_path(&place.dir, *number);
            names.iter().any(|entry| Some(entry.name.as_ref()) == path.file_name())
        };
        let gone: Vec<_> = manifest.wal_files.iter().copied().filter(|file| !there(file)).collect();
        let files: Vec<_> = manifest.wal_files.iter().copied().filter(there).collect();
        let outside = manifest.durable_group();
        let strays = strays(reactor, &place.dir, |file| manifest.knows(file)).await.map_err(io)?;
        let (files, mode) = (files.into_iter(), OpenMode::Read);
        let scan = scan(reactor, &place.dir, files, &strays, &identity, outside, mode).await.map_err(io)?;
        let mut work = Work {
            reactor,
            place,
            loaded,
            scan,
            wal_damaged: false,
            damaged_segments: Vec::new(),
            covered: Vec::new(),
            runs: BTreeMap::new(),
            pool: Pool::default(),
            controls: Vec::new(),
            repairs: Vec::new(),
            patches: Vec::new(),
            catalog: Vec::new(),
        };
        work.find_segments().await?;
        work.find_wal(&gone).await?;
        Ok(work)
    }

    async fn find_segments(&mut self) -> Result<(), InspectError> {
        let governor = Governor::new(self.reactor.clone(), u64::MAX);
        for number in self.loaded.manifest.segments.keys().copied().collect::<Vec<_>>() {
            let path = file_path(&self.place.dir, number);
            let mut footer = None;
            let found = match self.reactor.open(&path, OpenMode::Read).await {
                Err(error) => Err(error.to_string()),
                Ok((file, len)) => {
                    let trailer = read_trailer(self.reactor, file, len).await;
                    let checked = match &trailer {
                        Ok(trailer) => check_segment(self.reactor, &governor, file, trailer).await,
                        Err(error) => Err(error.clone()),
                    };
                    if let (Ok(trailer), Err(_)) = (&trailer, &checked) {
                        let reader = crate::segment::SegmentReader::new(self.reactor, &governor, file, len);
                        footer = reader.footer(trailer).await.ok();
                    }
                    if checked.is_err() {
                        self.pool.search_segment(read_readable(self.reactor, file, len).await);
                    }
                    let _ = self.reactor.run(Op::Close { file }).await;
                    checked.map_err(|error| error.to_string())
                }
            };
            match found {
                Ok(footer) => {
                    for run in footer.runs {
                        self.runs.entry(run.partition).or_default().push(run);
                    }
                }
                Err(reason) => {
                    let what = format!("{reason}: replaced by a segment of what can be read");
                    self.repairs.push(Repaired { path, what });
                    self.damaged_segments.push(number);
                    self.covered.extend(footer.into_iter().flat_map(|footer| footer.runs));
                }
            }
        }
        Ok(())
    }

    async fn find_wal(&mut self, gone: &[FileNumber]) -> Result<(), InspectError> {
        for number in gone {
            let path = file_path(&self.place.dir, *number);
            self.repairs.push(Repaired { path, what: "missing: taken out of the WAL ring".into() });
        }
        let refused = match decide(&self.scan.tail) {
            Decision::Refuse(reason) => Some(reason),
            Decision::End | Decision::Cut { .. } => None,
        };
        let behind = check_revision(&self.place, &self.loaded, &self.scan).err();
        let refused = refused.or_else(|| behind.map(|error| error.to_string()));
        self.wal_damaged = refused.is_some() || !gone.is_empty() || !self.damaged_segments.is_empty();
        if let Some(reason) = refused {
            let path = file_path(&self.place.dir, self.scan.tail.file);
            let what = format!("byte {}: {reason}; what can be read is sealed", self.scan.tail.position);
            self.repairs.push(Repaired { path, what });
        }
        if self.wal_damaged {
            // Everything whole in the WAL goes to a segment, before and behind the damage.
            for file in &self.scan.files {
                let (Life::Live(header) | Life::Headless(header)) = &file.life else { continue };
                let bytes = read_readable(self.reactor, file.id, file.len).await;
                self.controls.extend(self.pool.search_wal(bytes, header.salt));
            }
            self.controls.sort_by_key(|(group, _)| *group);
        }
        for file in &self.scan.files {
            let _ = self.reactor.run(Op::Close { file: file.id }).await;
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.repairs.is_empty()
    }

    /// Finds the gaps in every partition and what fills them.
    fn plan(&mut self, report: &mut RepairReport) {
        if self.is_empty() {
            return;
        }
        self.plan_catalog();
        let mut after = self.loaded.manifest.clone();
        let edit = crate::manifest::Edit {
            revision: after.revision + 1,
            snapshot: false,
            changes: self.catalog.clone(),
        };
        if after.apply(&edit).is_err() {
            self.catalog.clear(); // changes that do not fit were never durable
        }
        let ends = self.pool.ends();
        for (id, meta) in &after.partitions {
            let mut runs = self.runs.get(id).cloned().unwrap_or_default();
            runs.sort_unstable_by_key(|run| run.base_offset);
            let covered = self.covered.iter().filter(|run| run.partition == *id).map(|run| run.end_offset);
            let end = runs.last().map(|run| run.end_offset).into_iter().chain(ends.get(id).copied());
            let end = end.chain(covered).max().unwrap_or(meta.log_start);
            let mut next = meta.log_start;
            let stops = runs.iter().map(|run| (run.base_offset, run.end_offset)).chain([(end, end)]);
            for (base, run_end) in stops {
                if base > next {
                    let batches = self.pool.between(*id, next, base);
                    lost_between(&batches, *id, &meta.name, next, base, &mut report.lost);
                    self.patches.push(Patch { partition: *id, base: next, end: base, batches });
                }
                next = next.max(run_end);
            }
        }
    }

    /// Changes of the catalog that only the damaged WAL has.
    fn plan_catalog(&mut self) {
        let shards = u32::from(self.place.superblock.shards);
        let mut next = self.loaded.manifest.next_partition;
        let mut known: std::collections::BTreeSet<_> =
            self.loaded.manifest.partitions.keys().copied().collect();
        for (_, control) in &self.controls {
            match control {
                Control::Create { partition, config, name } if *partition >= next => {
                    next = PartitionId(partition.0 + shards);
                    known.insert(*partition);
                    self.catalog.push(Change::NextPartition(next));
                    self.catalog.push(Change::PartitionCreated {
                        partition: *partition,
                        config: *config,
                        log_start: Offset(0),
                        name: name.as_str().into(),
                    });
                }
                Control::Delete { partition } if known.remove(partition) => {
                    self.catalog.push(Change::PartitionDeleted(*partition));
                }
                Control::Trim { partition, log_start } if known.contains(partition) => {
                    let (partition, log_start) = (*partition, *log_start);
                    self.catalog.push(Change::Trimmed { partition, log_start });
                }
                Control::Configure { partition, config } if known.contains(partition) => {
                    self.catalog.push(Change::Configured { partition: *partition, config: *config });
                }
                _ => {}
            }
        }
    }

    async fn apply(&mut self) -> Result<(), InspectError> {
        let io = |source| InspectError::Io { path: self.place.dir.clone(), source };
        let fail = |error: crate::manifest::ManifestError| InspectError::Repair(error.to_string());
        let directory = self.place.superblock.directory;
        let (reactor, dir, shard) = (self.reactor, &self.place.dir, self.place.shard);
        let mut file =
            ManifestFile::resume(reactor, dir, shard, directory, &self.loaded).await.map_err(fail)?;
        let manifest = &mut self.loaded.manifest;
        // A manifest that lost an edit may not know of a file that is there.
        let there = self.scan.files.iter().map(|file| FileNumber(file.number.0 + 1));
        let first = there.fold(manifest.next_file, FileNumber::max);
        let rounds = rounds(std::mem::take(&mut self.patches));
        let mut changes = vec![Change::NextFile(FileNumber(first.0 + rounds.len() as u64))];
        changes.append(&mut self.catalog);
        changes.extend(self.damaged_segments.iter().map(|file| Change::SegmentRemoved(*file)));
        // Files with a part missing can't take another life.
        let sound = self.scan.files.iter().filter(|file| file.flaw.is_none());
        let scanned: Vec<_> = sound.map(|file| file.number).collect();
        let gone = manifest.wal_files.iter().filter(|file| !scanned.contains(file));
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
            let sequence = WalSequence(self.scan.last_sequence.0.max(manifest.floor.0) + 1);
            let last = self.scan.tail.later_durable.map_or(GroupNumber(0), |proof| proof.said_by);
            let group =
                last.max(self.scan.tail.missing).max(manifest.floor_group).max(manifest.durable.next());
            // Numbers of groups that may exist somewhere are not used again.
            let group =
                GroupNumber(group.0 + u64::from(self.place.superblock.wal_file_bytes as u32 / BLOCK as u32));
            changes.push(Change::Floor { sequence, group });
        }
        let quarantine = Quarantine::new(self.reactor, &self.place.dir);
        quarantine.make().await.map_err(io)?;
        self.keep_wal(&quarantine).await.map_err(io)?;
        file.commit(&mut self.loaded.manifest, changes).await.map_err(fail)?;
        for number in &self.damaged_segments {
            match quarantine.take(&file_name(*number)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
        }
        self.reactor.run(Op::SyncDir { path: self.place.dir.clone() }).await.map_err(io)
    }

    /// Copies WAL files aside before their bytes may be written over.
    async fn keep_wal(&self, quarantine: &Quarantine<'_, B>) -> std::io::Result<()> {
        for file in self.scan.files.iter().filter(|file| self.wal_damaged && file.life != Life::Spare) {
            let (from, len) =
                self.reactor.open(file_path(&self.place.dir, file.number), OpenMode::Read).await?;
            let bytes = read_readable(self.reactor, from, len).await;
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
) -> std::io::Result<crate::manifest::SegmentMeta> {
    let governor = Governor::new(reactor.clone(), u64::MAX);
    let mut writer = SegmentWriter::create(reactor, &governor, path, identity).await?;
    for patch in patches {
        writer.begin_run(patch.partition, patch.base);
        for saved in &patch.batches {
            writer.add(&saved.header, saved.bytes()).await?;
        }
        writer.end_run(patch.end, true);
    }
    Ok(writer.finish().await?.meta)
}

fn lost_between(
    batches: &[Saved],
    partition: PartitionId,
    name: &str,
    from: Offset,
    end: Offset,
    lost: &mut Vec<Lost>,
) {
    let mut next = from;
    let stops = batches.iter().map(|saved| (saved.header.base_offset, saved.header.end_offset()));
    for (base, batch_end) in stops.chain([(end, end)]) {
        if base > next {
            lost.push(Lost { partition, name: name.to_owned(), from: next, end: base });
        }
        next = next.max(batch_end);
    }
}

/// What can be read of a file; zeros where it can't.
async fn read_readable<B: Backend>(reactor: &Reactor<B>, file: thalweg_io::FileId, len: u64) -> Vec<u8> {
    let len = len as usize / BLOCK * BLOCK;
    let mut bytes = vec![0; len];
    let mut at = 0;
    let mut size = 1 << 20;
    while at < len {
        let want = size.min(len - at);
        let (buf, read) = reactor.read(file, at as u64, AlignedBuf::zeroed(want)).await;
        match read {
            Ok(read) => bytes[at..at + read.min(want)].copy_from_slice(&buf[..read.min(want)]),
            Err(_) if want > BLOCK => {
                size = BLOCK;
                continue;
            }
            Err(_) => {}
        }
        at += want;
    }
    bytes
}
