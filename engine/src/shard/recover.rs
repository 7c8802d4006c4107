//! Opening a shard: what was durable comes back, what never was acknowledged may go, and damage to
//! what was is refused.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use thalweg_io::{AlignedBuf, BLOCK, Backend, BufferPool, Entry, Op, OpenMode, Reactor, Region};

use crate::config::Config;
use crate::governor::{Governor, Pace, Work};
use crate::ids::{FileNumber, GroupNumber, ShardId};
use crate::mailbox::Mailbox;
use crate::manifest::{Loaded, Manifest, ManifestError, ManifestFile, is_full, load};
use crate::metrics::Metrics;
use crate::planted::{Planted, planted};
use crate::segment::files::SegmentFiles;
use crate::segment::{SegmentReader, read_trailer};
use crate::shard::Core;
use crate::shard::core::{ManifestPair, file_number, file_path};
use crate::shard::quarantine::Quarantine;
use crate::shard::replay::{Found, check_revision};
use crate::shard::state::State;
use crate::shard::turn::Shard;
use crate::superblock::Superblock;
use crate::wal::control::Control;
use crate::wal::decide::{Decision, decide, dropped};
use crate::wal::lease::Leases;
use crate::wal::life::{WalIdentity, strays};
use crate::wal::scan::{Scan, scan};

/// Bounds on the files a ring may grow to.
const WAL_FILES_RANGE: (u64, u64) = (3, 64);
/// Unused buffers that are kept for the next reads, bytes.
const BUFFERS_KEPT_BYTES_MAX: usize = 8 << 20;
/// Most bytes of a dropped tail that are kept aside.
const QUARANTINE_BYTES_MAX: usize = 1 << 20;

/// Why a shard did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The host refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The manifest can't be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Acknowledged records may be damaged or missing. Nothing was changed.
    #[error(
        "{path}, byte {position}: {reason}. Nothing was changed; `thalweg verify` shows the damage, \
         `thalweg repair` what can be saved"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Byte in it.
        position: u64,
        /// What is wrong.
        reason: String,
    },
}

/// What opening a shard found, for the log and for `--json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RecoveryReport {
    /// The shard.
    pub shard: u16,
    /// Groups read from the WAL.
    pub groups: u64,
    /// Bytes read from the WAL.
    pub wal_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Partitions.
    pub partitions: u64,
    /// What was dropped from the end of the WAL, if anything: it was never acknowledged.
    pub dropped: Option<String>,
}

/// Where a shard's files are and who it is.
#[derive(Clone, Debug)]
pub(crate) struct ShardPlace {
    pub shard: ShardId,
    pub superblock: Superblock,
    pub dir: PathBuf,
}

impl ShardPlace {
    pub(crate) fn new(shard: ShardId, superblock: Superblock) -> ShardPlace {
        ShardPlace { shard, superblock, dir: PathBuf::from(format!("shard-{}", shard.0)) }
    }
}

/// A part of a joint append found in a WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundJoint {
    pub transaction: u64,
    pub shards: Vec<ShardId>,
    pub group: GroupNumber,
}

/// The parts of joint appends in a WAL.
pub(crate) fn joints(scan: &Scan) -> Vec<FoundJoint> {
    let groups = scan.groups.iter();
    let controls =
        groups.flat_map(|group| group.controls.iter().map(move |control| (group.header.number, control)));
    controls
        .filter_map(|(group, control)| match control {
            Control::Joint { transaction, shards } => {
                Some(FoundJoint { transaction: *transaction, shards: shards.clone(), group })
            }
            _ => None,
        })
        .collect()
}

/// What is dropped from the end of a WAL to cut a joint append that is not whole.
pub(crate) fn dropped_from(cut: GroupNumber) -> String {
    format!("groups from {cut} on: part of an append over several shards that is not whole")
}

/// A shard that has read its files and changed nothing yet.
pub(crate) struct Recovering<B: Backend> {
    place: ShardPlace,
    reactor: Reactor<B>,
    config: Arc<Config>,
    loaded: Loaded,
    scan: Scan,
    decision: Decision,
    footers: Vec<(FileNumber, Vec<crate::segment::Run>)>,
}

impl<B: Backend> Recovering<B> {
    /// Reads manifest, segment footers and WAL, and decides about the WAL's tail.
    pub(crate) async fn read(
        reactor: &Reactor<B>,
        place: ShardPlace,
        config: Arc<Config>,
    ) -> Result<Self, RecoverError> {
        let directory = place.superblock.directory;
        let loaded = load(reactor, &place.dir, place.shard, directory, OpenMode::ReadWrite).await?;
        let footers = read_footers(reactor, &place, &loaded.manifest).await?;
        let identity = WalIdentity {
            shard: place.shard,
            directory,
            file_bytes: place.superblock.wal_file_bytes,
            floor: loaded.manifest.floor,
            floor_group: loaded.manifest.floor_group,
        };
        let outside = loaded.manifest.durable_group();
        let files = loaded.manifest.wal_files.iter().copied();
        let io = |source| RecoverError::Io { path: place.dir.clone(), source };
        let known = |file| loaded.manifest.knows(file);
        let strays = strays(reactor, &place.dir, known).await.map_err(io)?;
        let mode = OpenMode::ReadWrite;
        let scan = scan(reactor, &place.dir, files, &strays, &identity, outside, mode).await.map_err(io)?;
        let decision = decide(&scan.tail);
        if let Decision::Refuse(reason) = &decision {
            return Err(RecoverError::Damaged {
                path: file_path(&place.dir, scan.tail.file),
                position: scan.tail.position,
                reason: reason.clone(),
            });
        }
        check_revision(&place, &loaded, &scan)?;
        Ok(Recovering { place, reactor: reactor.clone(), config, loaded, scan, decision, footers })
    }

    /// The shard.
    pub(crate) fn shard(&self) -> ShardId {
        self.place.shard
    }

    /// Parts of joint appends in the WAL.
    pub(crate) fn joints(&self) -> Vec<FoundJoint> {
        joints(&self.scan)
    }

    /// The first groups of the live WAL files, in order of use.
    #[cfg(test)]
    pub(crate) fn first_groups(&self) -> Vec<GroupNumber> {
        self.scan.live().map(|(_, _, header)| header.first_group).collect()
    }

    /// Joint appends up to this one are decided here, without being in the WAL any more.
    pub(crate) fn joint_resolved(&self) -> u64 {
        self.loaded.manifest.joint_resolved
    }

    /// Takes what was read as the shard's state and makes it ready to append. Groups from `cut` on
    /// belong to a joint append that is not whole, or come after one: they are dropped.
    pub(crate) async fn finish(
        mut self,
        cut: Option<GroupNumber>,
        pace: Arc<Pace>,
        mailbox: Arc<Mailbox>,
        region: Arc<Region>,
    ) -> Result<(Shard<B>, RecoveryReport), RecoverError> {
        if let Some(cut) = cut {
            self.scan.groups.retain(|group| group.header.number < cut);
            self.decision = Decision::Cut { fresh_file: true };
        }
        let io = |source| RecoverError::Io { path: self.place.dir.clone(), source };
        let (mut state, groups) = self.found().replay(region)?;
        self.found().check_coverage(&state)?;
        // Nothing was changed so far; from here on nothing can be refused.
        let entries = self.reactor.list(&self.place.dir).await.map_err(io)?;
        self.remove_unfinished(&entries).await.map_err(io)?;
        let manifest_file = {
            let directory = self.place.superblock.directory;
            ManifestFile::resume(&self.reactor, &self.place.dir, self.place.shard, directory, &self.loaded)
                .await?
        };
        // Now what was read of the manifest is stored: an edit whose sync had failed may have been in the
        // page cache alone, and without it the log needs the files that it had replaced.
        self.set_aside_unknown(&entries).await.map_err(io)?;
        let dropped = self.describe_dropped(cut);
        if let Some(dropped) = &dropped {
            tracing::warn!(shard = self.place.shard.0, dropped, "dropped an unfinished write");
            self.keep_dropped().await.map_err(io)?;
        }
        self.fill_spares(&state).await.map_err(io)?;
        let report = RecoveryReport {
            shard: self.place.shard.0,
            groups,
            wal_bytes: self.scan.bytes,
            segments: state.segments.len() as u64,
            partitions: state.partitions.len() as u64,
            dropped,
        };
        let marked = self.scan.groups.last().is_none_or(|group| group.header.is_marker());
        let fresh = self.decision == Decision::Cut { fresh_file: true };
        if fresh && let Some(active) = state.wal.active.take() {
            state.wal.full.push_back(active);
        }
        let core = self.into_core(state, pace, mailbox, manifest_file);
        if core.state().wal.active.is_none() {
            start_file(&core).await?;
        }
        let mut shard = Shard::new(core.clone());
        // The last group may have been acknowledged: from now on that can be proved.
        shard.witnessed = marked;
        if (fresh || report.dropped.is_some()) && !planted(Planted::CutNotRecorded) {
            let io = |source| RecoverError::Io { path: core.dir.clone(), source };
            let recorded = shard.record_cut().await.map_err(io)?;
            // Other shards rely on the cut of a joint append; else a later opening cuts again.
            if cut.is_some() && !recorded {
                return Err(io(io::ErrorKind::StorageFull.into()));
            }
        }
        core.start_maintenance();
        tracing::info!(?report, "shard open");
        Ok((shard, report))
    }

    /// Removes what an earlier life left half made.
    async fn remove_unfinished(&self, entries: &[Entry]) -> io::Result<()> {
        for entry in entries.iter().filter(|entry| entry.name.ends_with(".tmp")) {
            self.reactor.run(Op::Remove { path: self.place.dir.join(&entry.name) }).await?;
        }
        Ok(())
    }

    /// Moves what nobody knows out of the way: a segment that was finished just before a crash, or a file
    /// from elsewhere.
    async fn set_aside_unknown(&self, entries: &[Entry]) -> io::Result<()> {
        let manifest = &self.loaded.manifest;
        let quarantine = Quarantine::new(&self.reactor, &self.place.dir);
        let mut moved = false;
        for entry in entries {
            let path = self.place.dir.join(&entry.name);
            if file_number(&entry.name).is_none_or(|number| manifest.knows(number)) {
                continue;
            }
            let made = if moved { Ok(()) } else { quarantine.make().await };
            match made {
                Err(error) if is_full(&error) => {
                    tracing::warn!(file = %path.display(), "not in the manifest; no space to move it");
                    continue;
                }
                made => made?,
            }
            moved = true;
            tracing::warn!(file = %path.display(), "not in the manifest; moved to quarantine");
            quarantine.take(&entry.name).await?;
        }
        quarantine.prune().await
    }

    fn describe_dropped(&self, cut: Option<GroupNumber>) -> Option<String> {
        if let Some(cut) = cut {
            return Some(dropped_from(cut));
        }
        dropped(&self.decision, &self.scan.tail)
    }

    /// Keeps the dropped bytes aside, for whoever wants to look.
    async fn keep_dropped(&self) -> io::Result<()> {
        let tail = &self.scan.tail;
        let Some(file) = self.scan.files.iter().find(|file| file.number == tail.file) else { return Ok(()) };
        let len = (file.len.saturating_sub(tail.position) as usize).min(QUARANTINE_BYTES_MAX) / BLOCK * BLOCK;
        if len == 0 {
            return Ok(());
        }
        let (buf, read) = self.reactor.read(file.id, tail.position, AlignedBuf::zeroed(len)).await;
        if read.is_err() {
            return Ok(()); // the decision did not rest on these bytes
        }
        let quarantine = Quarantine::new(&self.reactor, &self.place.dir);
        let name = format!("wal-{:016x}-{:08x}-{:016x}.bin", tail.file.0, tail.position, tail.missing.0);
        let kept = async {
            quarantine.make().await?;
            quarantine.keep(&name, buf).await
        };
        match kept.await {
            // Keeping a copy is a service; a full disk must not keep the log from opening.
            Err(error) if is_full(&error) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            kept => kept,
        }
    }

    fn found(&self) -> Found<'_> {
        Found {
            place: &self.place,
            loaded: &self.loaded,
            scan: &self.scan,
            footers: &self.footers,
            cut: self.decision == Decision::Cut { fresh_file: true },
        }
    }
    /// Spare files that somebody cut short get their zeros back.
    async fn fill_spares(&self, state: &State) -> io::Result<()> {
        let file_bytes = state.wal.file_bytes;
        let governor = Governor::alone(self.reactor.clone());
        for spare in &state.wal.spares {
            let Some(found) = self.scan.files.iter().find(|found| found.number == spare.number) else {
                continue;
            };
            if found.len != file_bytes {
                let from = found.len.min(file_bytes) / BLOCK as u64 * BLOCK as u64;
                crate::maintain::prepare::zero_fill(&governor, spare.id, from, file_bytes).await?;
                self.reactor.run(Op::Truncate { file: spare.id, len: file_bytes }).await?;
                self.reactor.run(Op::Sync { file: spare.id }).await?;
            }
        }
        Ok(())
    }

    fn into_core(
        self,
        state: State,
        pace: Arc<Pace>,
        mailbox: Arc<Mailbox>,
        mut file: ManifestFile<B>,
    ) -> Rc<Core<B>> {
        let Recovering { place, reactor, config, loaded, .. } = self;
        let target_bytes =
            u128::from(place.superblock.replay_speed) * u128::from(config.wal.recovery_target_ms) / 1000;
        let files = (target_bytes / u128::from(place.superblock.wal_file_bytes)) as u64;
        let (least, most) = WAL_FILES_RANGE;
        let rate_max = config.segment.background_bytes_per_s;
        let governor = Rc::new(Governor::new(reactor.clone(), pace, rate_max));
        file.govern(governor.clone());
        let files_max = config.read.open_files_max as usize;
        let revision = loaded.manifest.revision;
        Rc::new(Core {
            shard: place.shard,
            shards: place.superblock.shards,
            directory: place.superblock.directory,
            dir: place.dir,
            mailbox,
            state: state.into(),
            manifest: async_lock::Mutex::new(ManifestPair { manifest: loaded.manifest, file }),
            governor,
            buffers: BufferPool::new(BUFFERS_KEPT_BYTES_MAX),
            leases: Leases::default(),
            files: SegmentFiles::new(reactor.clone(), files_max),
            metrics: Metrics::default().into(),
            maintain: event_listener::Event::new(),
            revision: Cell::new(revision),
            wal_files_max: files.clamp(least, most) as usize,
            maintenance_tasks: 0.into(),
            config,
            reactor,
        })
    }
}

/// Gives the shard an active WAL file, making one if no spare is left.
async fn start_file<B: Backend>(core: &Rc<Core<B>>) -> Result<(), RecoverError> {
    if core.state().wal.spares.is_empty() {
        let prepared = core.prepare_spare(true).await;
        if let Err(error) = prepared {
            // A full disk leaves the shard readable; appends are refused until there is room.
            tracing::warn!(shard = core.shard.0, %error, "no WAL file for new appends yet");
            core.state_mut().out_of_space = true;
            return Ok(());
        }
    }
    let (salt, now_ms) = (core.reactor.random(), core.reactor.wall_ms());
    core.state_mut().wal.roll(salt, now_ms);
    Ok(())
}

/// The runs of every segment in the manifest, each footer checked.
async fn read_footers<B: Backend>(
    reactor: &Reactor<B>,
    place: &ShardPlace,
    manifest: &Manifest,
) -> Result<Vec<(FileNumber, Vec<crate::segment::Run>)>, RecoverError> {
    let governor = Governor::alone(reactor.clone());
    let mut footers = Vec::with_capacity(manifest.segments.len());
    for meta in manifest.segments.values() {
        let path = file_path(&place.dir, meta.file);
        let opened = reactor.open(&path, OpenMode::Read).await;
        let (file, len) = opened.map_err(|source| RecoverError::Io { path: path.clone(), source })?;
        let read = async || {
            let trailer = read_trailer(reactor, file, len).await?;
            let ours = (trailer.directory, trailer.shard, trailer.file)
                == (place.superblock.directory, place.shard, meta.file);
            if !ours || trailer.footer_crc != meta.footer_crc || len != meta.file_bytes {
                return Err(crate::segment::ReadError::new(
                    len,
                    "is not the segment that the manifest names",
                ));
            }
            SegmentReader::new(&governor, Work::Upkeep, file, len).footer(&trailer).await
        };
        let footer = match read().await {
            // The device may have misread it.
            Err(_) => read().await,
            footer => footer,
        };
        reactor
            .run(Op::Close { file })
            .await
            .map_err(|source| RecoverError::Io { path: path.clone(), source })?;
        let footer = footer.map_err(|error| RecoverError::Damaged {
            path,
            position: error.position,
            reason: error.reason,
        })?;
        footers.push((meta.file, footer.runs));
    }
    Ok(footers)
}
