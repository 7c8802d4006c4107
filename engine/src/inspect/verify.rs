//! Every checksum and every invariant of a closed data directory, changing nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thalweg_io::{Backend, FileId, Op, OpenMode, Reactor};

use crate::governor::Governor;
use crate::ids::ShardId;
use crate::inspect::{InspectError, Progress, open, read_superblock};
use crate::manifest::{Loaded, ManifestError, SegmentMeta, load};
use crate::segment::{ReadError, Run, check_segment, read_trailer};
use crate::shard::core::{file_number, file_path};
use crate::shard::recover::ShardPlace;
use crate::shard::replay::check_files;
use crate::superblock::Superblock;
use crate::wal::decide::{Decision, decide};
use crate::wal::life::{WalIdentity, strays};
use crate::wal::scan::{Scan, scan};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file or directory.
    pub path: PathBuf,
    /// Byte in the file.
    pub position: u64,
    /// What is wrong.
    pub reason: String,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Segments, each read whole.
    pub segments: u64,
    /// Groups in the WAL.
    pub groups: u64,
    /// Batches, in segments and in the WAL.
    pub batches: u64,
    /// Partitions.
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
    let (_lock, reactor) = open(data_dir)?;
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
    let superblock = read_superblock(reactor).await?;
    let mut verifier = Verifier { reactor, progress, report: VerifyReport::default(), total: 0 };
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
    Ok(verifier.report)
}

struct Verifier<'a, B: Backend> {
    reactor: &'a Reactor<B>,
    progress: &'a mut dyn FnMut(&Progress),
    report: VerifyReport,
    total: u64,
}

impl<B: Backend> Verifier<'_, B> {
    fn damaged(&mut self, path: PathBuf, position: u64, reason: impl ToString) {
        self.report.damage.push(Damage { path, position, reason: reason.to_string() });
    }

    fn read(&mut self, path: PathBuf, bytes: u64) {
        self.report.files += 1;
        self.report.bytes += bytes;
        let (bytes_done, bytes_total) = (self.report.bytes, self.total);
        (self.progress)(&Progress { path, bytes_done, bytes_total });
    }

    async fn shard(&mut self, superblock: &Superblock, place: ShardPlace) {
        let before = self.report.damage.len();
        let loaded =
            match load(self.reactor, &place.dir, place.shard, superblock.directory, OpenMode::Read).await {
                Ok(loaded) => loaded,
                Err(ManifestError::Damaged { path, position, reason }) => {
                    return self.damaged(path, position, reason);
                }
                Err(error) => return self.damaged(place.dir, 0, error),
            };
        self.read(place.dir.join(crate::manifest::manifest_name(loaded.generation)), loaded.end);
        if let Some((position, reason)) = &loaded.torn {
            let path = place.dir.join(crate::manifest::manifest_name(loaded.generation));
            let reason = format!("the last edit is not whole: {reason}");
            self.report.unfinished.push(Damage { path, position: *position, reason });
        }
        let mut footers = Vec::new();
        for meta in loaded.manifest.segments.values() {
            if let Some(runs) = self.segment(&place, meta).await {
                footers.push((meta.file, runs));
            }
        }
        let scan = self.wal(&place, &loaded).await;
        self.strangers(&place, &loaded).await;
        let Some(scan) = scan.filter(|_| self.report.damage.len() == before) else { return };
        match check_files(&place, &loaded, &scan, &footers) {
            Ok(partitions) => self.report.partitions += partitions,
            Err(error) => self.damaged(place.dir.clone(), 0, error),
        }
    }

    async fn segment(&mut self, place: &ShardPlace, meta: &SegmentMeta) -> Option<Vec<Run>> {
        let path = file_path(&place.dir, meta.file);
        let (file, len) = match self.reactor.open(&path, OpenMode::Read).await {
            Ok(opened) => opened,
            Err(error) => {
                self.damaged(path, 0, error);
                return None;
            }
        };
        let read = self.check_segment(place, meta, file, len).await;
        let _ = self.reactor.run(Op::Close { file }).await;
        self.read(path.clone(), len);
        match read {
            Ok((runs, batches)) => {
                self.report.segments += 1;
                self.report.batches += batches;
                Some(runs)
            }
            Err(error) => {
                self.damaged(path, error.position, error.reason);
                None
            }
        }
    }

    async fn check_segment(
        &self,
        place: &ShardPlace,
        meta: &SegmentMeta,
        file: FileId,
        len: u64,
    ) -> Result<(Vec<Run>, u64), ReadError> {
        let trailer = read_trailer(self.reactor, file, len).await?;
        let ours = (trailer.directory, trailer.shard, trailer.file)
            == (place.superblock.directory, place.shard, meta.file);
        if !ours || trailer.footer_crc != meta.footer_crc || len != meta.file_bytes {
            return Err(ReadError::new(len, "is not the segment that the manifest names"));
        }
        let governor = Governor::new(self.reactor.clone(), u64::MAX);
        let footer = check_segment(self.reactor, &governor, file, &trailer).await?;
        let batches = footer.entries.iter().map(|entry| u64::from(entry.batches)).sum();
        Ok((footer.runs, batches))
    }

    async fn wal(&mut self, place: &ShardPlace, loaded: &Loaded) -> Option<Scan> {
        let manifest = &loaded.manifest;
        let identity = WalIdentity {
            shard: place.shard,
            directory: place.superblock.directory,
            file_bytes: place.superblock.wal_file_bytes,
            floor: manifest.floor,
            floor_group: manifest.floor_group,
        };
        let outside = manifest.durable_group();
        let files = manifest.wal_files.iter().copied();
        let strays = strays(self.reactor, &place.dir, |file| manifest.knows(file)).await.unwrap_or_default();
        let mode = OpenMode::Read;
        let scanned = scan(self.reactor, &place.dir, files, &strays, &identity, outside, mode).await;
        let scan = match scanned {
            Ok(scan) => scan,
            Err(error) => {
                self.damaged(place.dir.clone(), 0, error);
                return None;
            }
        };
        for file in &scan.files {
            let _ = self.reactor.run(Op::Close { file: file.id }).await;
        }
        self.read(place.dir.join("WAL"), scan.bytes);
        self.report.groups += scan.groups.len() as u64;
        self.report.batches += scan.groups.iter().map(|group| group.placed.len() as u64).sum::<u64>();
        let (path, position) = (file_path(&place.dir, scan.tail.file), scan.tail.position);
        match decide(&scan.tail) {
            Decision::Refuse(reason) => self.damaged(path, position, reason),
            Decision::Cut { fresh_file: true } => {
                let reason = format!("group {} was never acknowledged", scan.tail.missing);
                self.report.unfinished.push(Damage { path, position, reason });
            }
            Decision::Cut { fresh_file: false } | Decision::End => {}
        }
        Some(scan)
    }

    /// Files that the manifest does not know.
    async fn strangers(&mut self, place: &ShardPlace, loaded: &Loaded) {
        let manifest = &loaded.manifest;
        let known: BTreeSet<_> = manifest.wal_files.iter().chain(manifest.segments.keys()).copied().collect();
        for entry in self.reactor.list(&place.dir).await.unwrap_or_default() {
            let stranger = file_number(&entry.name).is_some_and(|number| !known.contains(&number));
            if stranger || entry.name.ends_with(".tmp") {
                let reason = "not in the manifest; opening moves or removes it".to_owned();
                self.report.unfinished.push(Damage { path: place.dir.join(entry.name), position: 0, reason });
            }
        }
    }
}
