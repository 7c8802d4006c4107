//! Making a damaged data directory open again: what can be read is kept, at its offset; what can't
//! is listed, and its offsets stay empty for ever. Files that are replaced go to quarantine.
//!
//! An offset that may have been acknowledged is not given out again. Where nothing tells how far a
//! partition had come, its next offset moves past all that the missing bytes can have held.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thalweg_io::{Backend, Op, OpenMode, Reactor};

use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, ShardId};
use crate::inspect::catalog::{joints, plan_catalog};
use crate::inspect::ledger::Ledger;
use crate::inspect::patch::Patch;
use crate::inspect::remains::Remains;
use crate::inspect::salvage::{Pool, Saved};
use crate::inspect::segments::{Range, examine, salvage};
use crate::inspect::{Access, InspectError, open, read_superblock, read_wal, wal_identity};
use crate::manifest::{Change, Edit, Loaded, SegmentKind, load};
use crate::segment::Run;
use crate::shard::core::file_path;
use crate::shard::recover::ShardPlace;
use crate::shard::replay::check_revision;
use crate::wal::decide::{Decision, decide};
use crate::wal::life::{WalIdentity, read_file, strays};
use crate::wal::scan::Scan;

/// Offsets stay below this, so that the next one is always a number.
const OFFSET_END: Offset = Offset(1 << 62);

/// Records that can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The partition.
    pub partition: PartitionId,
    /// Its name.
    pub name: String,
    /// First offset lost.
    pub from: Offset,
    /// Offset after the last one lost. None if nothing tells: then all there was from `from` on may
    /// be lost, and it may be that nothing was.
    pub end: Option<Offset>,
    /// The offset that the next record gets, if `end` is not known. All that may have been given
    /// out are below it, and stay empty.
    pub next_offset: Option<Offset>,
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
    /// Records that are lost, or may be. Their offsets stay empty.
    pub lost: Vec<Lost>,
    /// Bytes of the log that are missing and do not say what was in them.
    pub missing_bytes: u64,
}

impl RepairReport {
    /// Whether it is certain that every acknowledged record is still there.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        self.lost.is_empty() && self.missing_bytes == 0
    }
}

/// Plans a repair of the data directory at `data_dir`, and carries it out if `apply` says so.
///
/// # Errors
/// [`InspectError`]; [`InspectError::Superblock`] and [`InspectError::Manifest`] for damage that only
/// a copy can help against.
pub fn repair(data_dir: &Path, apply: bool) -> Result<RepairReport, InspectError> {
    let (_lock, reactor) = open(data_dir, if apply { Access::Change } else { Access::Look })?;
    reactor.block_on(repair_on(&reactor, apply))
}

/// As [`repair`], on a backend of the caller's.
///
/// # Errors
/// As [`repair`].
pub async fn repair_on<B: Backend>(reactor: &Reactor<B>, apply: bool) -> Result<RepairReport, InspectError> {
    let superblock = read_superblock(reactor).await?;
    let mut report = RepairReport { applied: apply, ..RepairReport::default() };
    let mut works = Vec::new();
    for shard in 0..superblock.shards {
        let place = ShardPlace::new(ShardId(shard), superblock);
        let mode = if apply { OpenMode::ReadWrite } else { OpenMode::Read };
        let loaded = load(reactor, &place.dir, place.shard, superblock.directory, mode).await;
        let loaded = loaded.map_err(InspectError::Manifest)?;
        works.push(Work::find(reactor, place, loaded).await?);
    }
    // Another shard must not drop its part of a joint append because this one's can't be read.
    let joint = works.iter().map(|work| work.joint).max().unwrap_or(0);
    for work in &mut works {
        work.plan(&mut report);
        if apply && !work.is_empty() {
            work.apply(joint).await?;
        }
        report.repairs.append(&mut work.repairs);
    }
    Ok(report)
}

/// The repair of one shard.
pub(super) struct Work<'a, B: Backend> {
    pub reactor: &'a Reactor<B>,
    pub place: ShardPlace,
    pub loaded: Loaded,
    pub scan: Scan,
    pub wal_damaged: bool,
    pub damaged_segments: Vec<FileNumber>,
    /// Above every file that is there.
    pub next_file: FileNumber,
    /// The last group that can be read.
    pub last_group: GroupNumber,
    /// The largest joint append in the WAL.
    joint: u64,
    /// Runs of damaged segments whose footers are whole: what they covered.
    covered: Vec<Run>,
    /// What of them is no loss, though no batch has it.
    accounted: Vec<Range>,
    /// Runs of the other segments.
    runs: BTreeMap<PartitionId, Vec<Run>>,
    /// Bytes missing from damaged segments, and whose they were if that is known.
    missing: Vec<(u64, Option<BTreeSet<PartitionId>>)>,
    pool: Pool,
    remains: Remains,
    repairs: Vec<Repaired>,
    pub patches: Vec<Patch>,
    pub catalog: Vec<Change>,
}

impl<'a, B: Backend> Work<'a, B> {
    async fn find(
        reactor: &'a Reactor<B>,
        place: ShardPlace,
        loaded: Loaded,
    ) -> Result<Work<'a, B>, InspectError> {
        let io = |source| InspectError::Io { path: place.dir.clone(), source };
        let manifest = &loaded.manifest;
        let identity = wal_identity(&place, manifest);
        let strays = strays(reactor, &place.dir, |file| manifest.knows(file)).await.map_err(io)?;
        let (scan, gone) = read_wal(reactor, &place, manifest, &strays).await.map_err(io)?;
        let files = scan.files.iter().map(|file| file.number).chain(strays.iter().copied());
        let next_file = files.max().map_or(FileNumber(0), |last| FileNumber(last.0.saturating_add(1)));
        let mut work = Work {
            reactor,
            place,
            loaded,
            scan,
            wal_damaged: false,
            damaged_segments: Vec::new(),
            next_file,
            last_group: GroupNumber(0),
            joint: 0,
            covered: Vec::new(),
            accounted: Vec::new(),
            runs: BTreeMap::new(),
            missing: Vec::new(),
            pool: Pool::default(),
            remains: Remains::default(),
            repairs: Vec::new(),
            patches: Vec::new(),
            catalog: Vec::new(),
        };
        work.find_segments().await;
        work.find_wal(&gone, &identity).await;
        if work.wal_damaged {
            work.find_strays(&strays).await;
        }
        Ok(work)
    }

    async fn find_segments(&mut self) {
        for meta in self.loaded.manifest.segments.values().cloned().collect::<Vec<_>>() {
            let path = file_path(&self.place.dir, meta.file);
            let reason = match self.reactor.open(&path, OpenMode::Read).await {
                Err(error) => {
                    self.missing.push((meta.batch_bytes, None));
                    error.to_string()
                }
                Ok((file, len)) => {
                    let examined = examine(self.reactor, &self.place, Some(&meta), file, len).await;
                    let (flaws, footer) = (&examined.flaws, &examined.footer);
                    if flaws.is_empty()
                        && let Some(footer) = footer
                    {
                        footer
                            .runs
                            .iter()
                            .for_each(|run| self.runs.entry(run.partition).or_default().push(*run));
                        let _ = self.reactor.run(Op::Close { file }).await;
                        continue;
                    }
                    let (bytes, _) = read_file(self.reactor, file, len).await;
                    let _ = self.reactor.run(Op::Close { file }).await;
                    let mut found = Pool::default();
                    let salvaged = salvage(&mut found, bytes, &examined, &meta);
                    self.accounted.extend(salvaged.accounted);
                    // As many partitions as there were runs: then it is these.
                    let owners = found.partitions();
                    let all = owners.len() == meta.runs as usize && meta.kind != SegmentKind::Promoted;
                    self.missing.push((salvaged.missing, all.then_some(owners)));
                    self.pool.absorb(found);
                    self.covered.extend(examined.footer.iter().flat_map(|footer| &footer.runs));
                    examined.flaws.first().map_or_else(String::new, ToString::to_string)
                }
            };
            let what = format!("{reason}: replaced by a segment of what can be read");
            self.repairs.push(Repaired { path, what });
            self.damaged_segments.push(meta.file);
        }
    }

    async fn find_wal(&mut self, gone: &[FileNumber], identity: &WalIdentity) {
        for number in gone {
            let path = file_path(&self.place.dir, *number);
            self.repairs.push(Repaired { path, what: "missing: taken out of the WAL ring".into() });
        }
        let refused = match decide(&self.scan.tail) {
            Decision::Refuse(reason) => Some(reason),
            Decision::End | Decision::Cut { .. } => None,
        };
        let behind = check_revision(&self.place, &self.loaded, &self.scan).err();
        let behind = behind.map(|error| error.to_string());
        let torn = refused.is_some() || !gone.is_empty();
        self.wal_damaged = torn || behind.is_some() || !self.damaged_segments.is_empty();
        if let Some(reason) = refused.or(behind) {
            let path = file_path(&self.place.dir, self.scan.tail.file);
            let what = format!("byte {}: {reason}; what can be read is sealed", self.scan.tail.position);
            self.repairs.push(Repaired { path, what });
        }
        if torn {
            self.remains = Remains::read(self.reactor, &self.scan, gone, identity).await;
        } else if self.wal_damaged {
            self.remains = Remains::read_clean(self.reactor, &self.scan, identity).await;
        }
        for flaw in self.remains.flaws() {
            let path = file_path(&self.place.dir, flaw.file);
            let what = format!("byte {}: {}", flaw.position, flaw.reason);
            self.repairs.push(Repaired { path, what });
        }
        // Everything whole in the WAL goes to a segment, before and behind the damage.
        self.pool.add_wal(&self.remains);
        let scanned = self.scan.groups.iter().flat_map(|group| &group.controls);
        self.joint = joints(scanned).max(joints(&self.remains.controls()));
        self.last_group = self.remains.groups().map(|group| group.header.number).max().unwrap_or_default();
        for file in &self.scan.files {
            let _ = self.reactor.run(Op::Close { file: file.id }).await;
        }
    }

    /// Segments that a manifest which lost an edit does not know.
    async fn find_strays(&mut self, strays: &[FileNumber]) {
        for number in strays {
            let path = file_path(&self.place.dir, *number);
            let Ok((file, len)) = self.reactor.open(&path, OpenMode::Read).await else { continue };
            let examined = examine(self.reactor, &self.place, None, file, len).await;
            if let Some(footer) = &examined.footer {
                let (bytes, _) = read_file(self.reactor, file, len).await;
                self.accounted.extend(self.pool.search_entries(bytes, footer));
                self.covered.extend(&footer.runs);
            }
            let _ = self.reactor.run(Op::Close { file }).await;
        }
    }

    fn is_empty(&self) -> bool {
        self.repairs.is_empty()
    }

    /// Finds the gaps in every partition and what fills them.
    fn plan(&mut self, report: &mut RepairReport) {
        if self.is_empty() {
            return;
        }
        let (shard, shards) = (self.place.shard, self.place.superblock.shards);
        let manifest = &self.loaded.manifest;
        self.catalog =
            plan_catalog(manifest, shard, shards, &self.remains.controls(), &self.pool.partitions());
        let mut after = manifest.clone();
        let edit = Edit { revision: after.revision + 1, snapshot: false, changes: self.catalog.clone() };
        if after.apply(&edit).is_err() {
            self.catalog.clear(); // changes that do not fit were never durable
        }
        let mut accounted: BTreeMap<PartitionId, Vec<&Range>> = BTreeMap::new();
        self.accounted.iter().for_each(|range| accounted.entry(range.0).or_default().push(range));
        let ledger = self.ledger();
        report.missing_bytes += ledger.missing_bytes();
        for (id, meta) in &after.partitions {
            let mut runs = self.runs.get(id).cloned().unwrap_or_default();
            runs.sort_unstable_by_key(|run| run.base_offset);
            let (end, more) = ledger.end(*id);
            let end = end.max(meta.log_start);
            let mut lost = Vec::new();
            let mut next = meta.log_start;
            let stops = runs.iter().map(|run| (run.base_offset, run.end_offset)).chain([(end, end)]);
            let before = self.patches.len();
            for (base, run_end) in stops {
                if base > next {
                    let batches = self.pool.between(*id, next, base, meta.log_start);
                    lost_between(&batches, next, base, &mut lost);
                    self.patches.push(Patch { partition: *id, base: next, end: base, batches });
                }
                next = next.max(run_end);
            }
            for range in accounted.get(id).into_iter().flatten() {
                lost = without(lost, range);
            }
            let (partition, name) = (*id, meta.name.to_string());
            report.lost.extend(lost.into_iter().map(|(from, end)| {
                let (name, end) = (name.clone(), Some(end));
                Lost { partition, name, from, end, next_offset: None }
            }));
            if more > 0 {
                // An empty run behind the last record: its offsets are used up.
                let past = next.plus(more).min(OFFSET_END).max(next);
                match self.patches[before..].last_mut().filter(|patch| patch.end == next) {
                    Some(patch) => patch.end = past,
                    None => {
                        self.patches.push(Patch { partition, base: next, end: past, batches: Vec::new() })
                    }
                }
                report.lost.push(Lost { partition, name, from: next, end: None, next_offset: Some(past) });
            }
        }
    }

    /// How far every partition had come.
    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for (id, meta) in &self.loaded.manifest.partitions {
            ledger.reaches(*id, meta.log_start);
        }
        for run in self.runs.values().flatten().chain(&self.covered) {
            ledger.reaches(run.partition, run.end_offset);
        }
        self.missing.iter().for_each(|(bytes, owners)| ledger.miss(*bytes, owners.as_ref()));
        ledger.walk(&self.remains);
        for (id, end) in self.pool.ends() {
            ledger.reaches(id, end);
        }
        ledger
    }
}

/// What of `[from, end)` is in no batch.
fn lost_between(batches: &[Saved], from: Offset, end: Offset, lost: &mut Vec<(Offset, Offset)>) {
    let mut next = from;
    let stops = batches.iter().map(|saved| (saved.header.base_offset, saved.header.end_offset()));
    for (base, batch_end) in stops.chain([(end, end)]) {
        if base > next {
            lost.push((next, base));
        }
        next = next.max(batch_end);
    }
}

/// What is left of `lost` without `range`.
fn without(lost: Vec<(Offset, Offset)>, range: &Range) -> Vec<(Offset, Offset)> {
    let (_, start, stop) = *range;
    let rest = lost.into_iter().flat_map(|(from, end)| [(from, end.min(start)), (from.max(stop), end)]);
    rest.filter(|(from, end)| from < end).collect()
}
