//! Every checksum and every invariant of a closed data directory, changing nothing.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thalweg_io::{Backend, Op, OpenMode, Reactor};

use crate::ids::{FileNumber, ShardId};
use crate::inspect::catalog::plan_catalog;
use crate::inspect::remains::Remains;
use crate::inspect::segments::examine;
use crate::inspect::{Access, InspectError, Progress, open, read_superblock, read_wal, wal_identity};
use crate::manifest::{Change, Loaded, Manifest, ManifestError, SegmentMeta, load, manifest_name};
use crate::open::{JointsOfShard, decide_joints};
use crate::record::BatchKind;
use crate::segment::{Run, read_trailer};
use crate::shard::core::{file_number, file_path};
use crate::shard::recover::{RecoverError, ShardPlace, dropped_from, joints};
use crate::shard::replay::check_files;
use crate::superblock::Superblock;
use crate::wal::control::Control;
use crate::wal::decide::{Decision, decide, dropped};
use crate::wal::life::strays;
use crate::wal::scan::Scan;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file or directory.
    pub path: PathBuf,
    /// Byte in the file.
    pub position: u64,
    /// What is wrong.
    pub reason: String,
    /// Whether only a copy of the directory helps: a repair can do nothing about it.
    pub copy_needed: bool,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Segments that are there, damaged ones too.
    pub segments: u64,
    /// Groups in the WAL that are whole.
    pub groups: u64,
    /// Batches in segments and in the WAL that are whole.
    pub batches: u64,
    /// Partitions; those with records in segments, if a manifest is damaged.
    pub partitions: u64,
    /// What opening would drop from the end of a WAL: never acknowledged.
    pub unfinished: Vec<Damage>,
    /// What keeps the log from opening, or a part of it from being read.
    pub damage: Vec<Damage>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Verifies the data directory at `data_dir`. `progress` is called now and then.
///
/// # Errors
/// [`InspectError`] if it can't be looked at; damage is in the report.
pub fn verify(data_dir: &Path, progress: &mut dyn FnMut(&Progress)) -> Result<VerifyReport, InspectError> {
    let (_lock, reactor) = open(data_dir, Access::Look)?;
    reactor.block_on(verify_on(&reactor, progress))
}

/// As [`verify`], on a backend of the caller's.
///
/// # Errors
/// As [`verify`].
pub async fn verify_on<B: Backend>(
    reactor: &Reactor<B>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<VerifyReport, InspectError> {
    let report = VerifyReport::default();
    let mut verifier = Verifier { reactor, progress, report, total: 0, joints: Vec::new() };
    let superblock = match read_superblock(reactor).await {
        Ok(superblock) => superblock,
        Err(InspectError::Superblock { path, reason }) => {
            let reason =
                format!("{reason}; nothing else says what the directory is, so the rest was not read");
            verifier.hopeless(path, 0, reason);
            return Ok(verifier.report);
        }
        Err(error) => return Err(error),
    };
    let places: Vec<_> =
        (0..superblock.shards).map(|shard| ShardPlace::new(ShardId(shard), superblock)).collect();
    for place in &places {
        for entry in reactor.list(&place.dir).await.unwrap_or_default() {
            verifier.total += entry.len;
        }
    }
    for place in places {
        verifier.shard(&superblock, place).await;
    }
    verifier.joints();
    Ok(verifier.report)
}

struct Verifier<'a, B: Backend> {
    reactor: &'a Reactor<B>,
    progress: &'a mut dyn FnMut(&Progress),
    report: VerifyReport,
    total: u64,
    /// Joint appends, and where the end of each WAL is.
    joints: Vec<(JointsOfShard, PathBuf)>,
}

impl<B: Backend> Verifier<'_, B> {
    fn damaged(&mut self, path: PathBuf, position: u64, reason: impl ToString) {
        let (reason, copy_needed) = (reason.to_string(), false);
        self.report.damage.push(Damage { path, position, reason, copy_needed });
    }

    fn hopeless(&mut self, path: PathBuf, position: u64, reason: String) {
        self.report.damage.push(Damage { path, position, reason, copy_needed: true });
    }

    fn unfinished(&mut self, path: PathBuf, position: u64, reason: String) {
        self.report.unfinished.push(Damage { path, position, reason, copy_needed: false });
    }

    fn read(&mut self, path: PathBuf, bytes: u64) {
        self.report.files += 1;
        self.report.bytes += bytes;
        let (bytes_done, bytes_total) = (self.report.bytes, self.total);
        (self.progress)(&Progress { path, bytes_done, bytes_total });
    }

    async fn shard(&mut self, superblock: &Superblock, place: ShardPlace) {
        let before = self.report.damage.len();
        let loaded = load(self.reactor, &place.dir, place.shard, superblock.directory, OpenMode::Read).await;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return self.without_manifest(&place, error).await,
        };
        let path = place.dir.join(manifest_name(loaded.generation));
        self.read(path.clone(), loaded.end);
        if let Some((position, reason)) = &loaded.torn {
            self.unfinished(path, *position, format!("the last edit is not whole: {reason}"));
        }
        let mut footers = Vec::new();
        for meta in loaded.manifest.segments.values() {
            if let Some(runs) = self.segment(&place, meta.file, Some(meta)).await {
                footers.push((meta.file, runs));
            }
        }
        let found = self.wal(&place, &loaded).await;
        self.strangers(&place, &loaded).await;
        let Some((scan, controls)) = found else {
            self.report.partitions += loaded.manifest.partitions.len() as u64;
            return;
        };
        let there = partitions(&loaded.manifest, place.shard, superblock.shards, &controls);
        let whole = self.report.damage.len() == before;
        let checked = if whole { check_files(&place, &loaded, &scan, &footers) } else { Ok(there) };
        match checked {
            Ok(partitions) => self.report.partitions += partitions,
            Err(error) => {
                self.report.partitions += there;
                match error {
                    RecoverError::Damaged { path, position, reason } => self.damaged(path, position, reason),
                    error => self.damaged(place.dir.clone(), 0, error),
                }
            }
        }
    }

    /// Without a manifest segments are still what they say they are; the WAL is not read, because
    /// nothing says where it starts.
    async fn without_manifest(&mut self, place: &ShardPlace, error: ManifestError) {
        let (path, position, reason) = match error {
            ManifestError::Damaged { path, position, reason } => (path, position, reason),
            ManifestError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => {
                (path, 0, "there is no manifest".to_owned())
            }
            error => return self.damaged(place.dir.clone(), 0, error),
        };
        let reason =
            format!("{reason}; without it the WAL can't be read, and records may be missing unnoticed");
        self.hopeless(path, position, reason);
        let names = self.reactor.list(&place.dir).await.unwrap_or_default();
        let mut there = BTreeSet::new();
        for number in names.iter().filter_map(|entry| file_number(&entry.name)) {
            let Ok((file, len)) = self.reactor.open(&file_path(&place.dir, number), OpenMode::Read).await
            else {
                continue;
            };
            let segment = read_trailer(self.reactor, file, len).await.is_ok();
            let _ = self.reactor.run(Op::Close { file }).await;
            if segment {
                let runs = self.segment(place, number, None).await.unwrap_or_default();
                there.extend(runs.iter().map(|run| run.partition));
            }
        }
        self.report.partitions += there.len() as u64;
    }

    /// Reads a segment to its end; gives its runs if all of it is whole.
    async fn segment(
        &mut self,
        place: &ShardPlace,
        number: FileNumber,
        named: Option<&SegmentMeta>,
    ) -> Option<Vec<Run>> {
        let path = file_path(&place.dir, number);
        let (file, len) = match self.reactor.open(&path, OpenMode::Read).await {
            Ok(opened) => opened,
            Err(error) => {
                self.damaged(path, 0, error);
                return None;
            }
        };
        let examined = examine(self.reactor, place, named, file, len).await;
        let _ = self.reactor.run(Op::Close { file }).await;
        self.read(path.clone(), len);
        self.report.segments += 1;
        self.report.batches += examined.batches;
        let whole = examined.flaws.is_empty();
        for flaw in examined.flaws {
            self.damaged(path.clone(), flaw.position, flaw.reason);
        }
        examined.footer.filter(|_| whole).map(|footer| footer.runs)
    }

    /// Reads the WAL to its end, past what is damaged. Gives the changes of the catalog in it too.
    async fn wal(&mut self, place: &ShardPlace, loaded: &Loaded) -> Option<(Scan, Vec<Control>)> {
        let manifest = &loaded.manifest;
        let strays = strays(self.reactor, &place.dir, |file| manifest.knows(file)).await.unwrap_or_default();
        let (scan, gone) = match read_wal(self.reactor, place, manifest, &strays).await {
            Ok(found) => found,
            Err(error) => {
                self.damaged(place.dir.clone(), 0, error);
                return None;
            }
        };
        self.read(place.dir.join("WAL"), scan.bytes);
        let (path, position) = (file_path(&place.dir, scan.tail.file), scan.tail.position);
        let found =
            JointsOfShard { shard: place.shard, found: joints(&scan), resolved: manifest.joint_resolved };
        self.joints.push((found, path.clone()));
        let decision = decide(&scan.tail);
        let mut controls: Vec<_> = scan.groups.iter().flat_map(|group| group.controls.clone()).collect();
        let refused = match decision {
            Decision::Refuse(ref reason) => Some(reason.clone()),
            Decision::Cut { .. } | Decision::End => {
                if let Some(dropped) = dropped(&decision, &scan.tail) {
                    self.unfinished(path.clone(), position, dropped);
                }
                None
            }
        };
        if refused.is_some() || !gone.is_empty() {
            let remains = Remains::read(self.reactor, &scan, &gone, &wal_identity(place, manifest)).await;
            controls = remains.controls();
            let flaws = remains.flaws();
            // What may have been in them is a flaw already, unless the rest shows that nothing was.
            for file in gone.iter().filter(|file| flaws.iter().all(|flaw| flaw.file != **file)) {
                let reason = "the file is not there, and is part of the WAL";
                self.damaged(file_path(&place.dir, *file), 0, reason);
            }
            self.damaged_wal(place, &remains, refused.map(|reason| (path, position, reason)));
        } else {
            self.report.groups += scan.groups.len() as u64;
            let batches = scan.groups.iter().map(|group| group.placed.len() as u64);
            self.report.batches += batches.sum::<u64>();
        }
        for file in &scan.files {
            let _ = self.reactor.run(Op::Close { file: file.id }).await;
        }
        Some((scan, controls))
    }

    /// What opening drops because other shards do not have their part of it.
    fn joints(&mut self) {
        if !self.report.is_clean() {
            return; // nothing is opened, so nothing is decided
        }
        let (shards, paths): (Vec<_>, Vec<_>) = std::mem::take(&mut self.joints).into_iter().unzip();
        let cuts = decide_joints(&shards);
        for (shard, path) in shards.iter().zip(paths) {
            if let Some(cut) = cuts.get(&shard.shard) {
                self.unfinished(path, 0, dropped_from(*cut));
            }
        }
    }

    /// Everything that is wrong with a WAL; why it was refused belongs to the first of it.
    fn damaged_wal(
        &mut self,
        place: &ShardPlace,
        remains: &Remains,
        refused: Option<(PathBuf, u64, String)>,
    ) {
        let mut flaws = remains.flaws().into_iter();
        if let Some((path, position, why)) = refused {
            match flaws.next() {
                None => self.damaged(path, position, why),
                Some(first) => {
                    let path = file_path(&place.dir, first.file);
                    self.damaged(path, first.position, format!("{}; {why}", first.reason));
                }
            }
        }
        for flaw in flaws {
            self.damaged(file_path(&place.dir, flaw.file), flaw.position, flaw.reason);
        }
        for group in remains.groups() {
            self.report.groups += u64::from(group.whole().count() == group.parts.len());
            let records = group.whole().filter(|(.., header)| header.kind != BatchKind::Control);
            self.report.batches += records.count() as u64;
        }
    }

    /// Files that the manifest does not know.
    async fn strangers(&mut self, place: &ShardPlace, loaded: &Loaded) {
        let manifest = &loaded.manifest;
        let known: BTreeSet<_> = manifest.wal_files.iter().chain(manifest.segments.keys()).copied().collect();
        for entry in self.reactor.list(&place.dir).await.unwrap_or_default() {
            let stranger = file_number(&entry.name).is_some_and(|number| !known.contains(&number));
            if stranger || entry.name.ends_with(".tmp") {
                let reason = "not in the manifest; opening moves or removes it".to_owned();
                self.unfinished(place.dir.join(entry.name), 0, reason);
            }
        }
    }
}

/// Partitions there are by the manifest and the WAL.
fn partitions(manifest: &Manifest, shard: ShardId, shards: u16, controls: &[Control]) -> u64 {
    let changes = plan_catalog(manifest, shard, shards, controls, &BTreeSet::new());
    let count = |made: fn(&Change) -> bool| changes.iter().filter(|change| made(change)).count();
    let made = count(|change| matches!(change, Change::PartitionCreated { .. }));
    let deleted = count(|change| matches!(change, Change::PartitionDeleted(_)));
    (manifest.partitions.len() + made).saturating_sub(deleted) as u64
}
