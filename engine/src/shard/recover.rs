//! Opening a shard: what was durable comes back, what never was acknowledged may go, and damage to
//! what was is refused.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use thalweg_io::{AlignedBuf, BLOCK, Backend, Durability, Op, OpenMode, Reactor, Region};

use crate::cache::TailCache;
use crate::config::Config;
use crate::governor::Governor;
use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, ShardId, WalSequence};
use crate::mailbox::Mailbox;
use crate::maintain::prepare::make_file;
use crate::manifest::{Change, Edit, Loaded, Manifest, ManifestError, ManifestFile, load};
use crate::metrics::Metrics;
use crate::partitions::{Partitions, RunRef, TailEntry};
use crate::segment::files::SegmentFiles;
use crate::segment::{SegmentReader, read_trailer};
use crate::shard::Core;
use crate::shard::core::{ManifestPair, file_number, file_path};
use crate::shard::state::{SegmentState, State};
use crate::shard::turn::Shard;
use crate::superblock::Superblock;
use crate::wal::control::Control;
use crate::wal::decide::{Decision, TailState, decide};
use crate::wal::ring::{SpareFile, WalFile, WalRing};
use crate::wal::scan::{FoundGroup, Life, Scan, WalIdentity, scan};

/// Files a fresh WAL ring has.
const WAL_FILES_FIRST: u64 = 2;
/// Bounds on the files a ring may grow to.
const WAL_FILES_RANGE: (u64, u64) = (3, 64);
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
        "{path}, byte {position}: {reason}. Nothing was changed; `thalweg verify` shows the damage, `thalweg repair` what can be saved"
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

/// Makes the files of a new shard. Returns the speed at which a WAL file reads back, bytes/s.
pub(crate) async fn format<B: Backend>(reactor: &Reactor<B>, place: &ShardPlace) -> io::Result<u64> {
    reactor.run(Op::CreateDir { path: place.dir.clone() }).await?;
    reactor.run(Op::SyncDir { path: PathBuf::new() }).await?;
    let file_bytes = place.superblock.wal_file_bytes;
    let mut manifest = Manifest::default();
    let mut changes = vec![
        Change::NextFile(FileNumber(WAL_FILES_FIRST)),
        Change::NextPartition(PartitionId(u32::from(place.shard.0))),
        Change::Floor { sequence: WalSequence(1), group: GroupNumber(1) },
    ];
    let mut speed = 0;
    for number in 0..WAL_FILES_FIRST {
        let path = file_path(&place.dir, FileNumber(number));
        // A crash while formatting leaves files that nothing refers to.
        match reactor.run(Op::Remove { path: path.clone() }).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = make_file(reactor, None, path, file_bytes).await?;
        if number == 0 {
            speed = measure_replay(reactor, file, file_bytes).await?;
        }
        reactor.run(Op::Close { file }).await?;
        changes.push(Change::WalFileAdded(FileNumber(number)));
    }
    let edit = Edit { revision: 1, snapshot: false, changes };
    manifest.apply(&edit).map_err(|conflict| io::Error::other(conflict.to_string()))?;
    let superblock = &place.superblock;
    ManifestFile::create(reactor, &place.dir, place.shard, superblock.directory, &manifest, 1)
        .await
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(speed)
}

/// Bytes per second at which recovery would read and check a WAL file.
async fn measure_replay<B: Backend>(
    reactor: &Reactor<B>,
    file: thalweg_io::FileId,
    len: u64,
) -> io::Result<u64> {
    let start = reactor.now();
    let mut at = 0;
    let mut buf = AlignedBuf::zeroed(1 << 20);
    let mut crc = 0;
    while at < len {
        let (back, read) = reactor.read(file, at, buf).await;
        buf = back;
        crc = crc32c::crc32c_append(crc, &buf[..read?]);
        at += buf.len() as u64;
    }
    std::hint::black_box(crc);
    let nanos = reactor.now().since(start).max(1);
    Ok((len as f64 * 1e9 / nanos as f64) as u64)
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
        let outside = GroupNumber(loaded.manifest.floor_group.0.saturating_sub(1));
        let files = loaded.manifest.wal_files.iter().copied();
        let scanned = scan(reactor, &place.dir, files, &identity, outside, OpenMode::ReadWrite).await;
        let scan = scanned.map_err(|source| RecoverError::Io { path: place.dir.clone(), source })?;
        let decision = decide(&scan.tail);
        if let Decision::Refuse(reason) = &decision {
            return Err(RecoverError::Damaged {
                path: file_path(&place.dir, scan.tail.file),
                position: scan.tail.position,
                reason: reason.clone(),
            });
        }
        Ok(Recovering { place, reactor: reactor.clone(), config, loaded, scan, decision, footers })
    }

    /// The shard.
    pub(crate) fn shard(&self) -> ShardId {
        self.place.shard
    }

    /// Parts of joint appends in the WAL.
    pub(crate) fn joints(&self) -> Vec<FoundJoint> {
        let controls = self
            .scan
            .groups
            .iter()
            .flat_map(|group| group.controls.iter().map(move |control| (group.header.number, control)));
        controls
            .filter_map(|(group, control)| match control {
                Control::Joint { transaction, shards } => {
                    Some(FoundJoint { transaction: *transaction, shards: shards.clone(), group })
                }
                _ => None,
            })
            .collect()
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
        mailbox: Arc<Mailbox>,
        region: Arc<Region>,
    ) -> Result<(Shard<B>, RecoveryReport), RecoverError> {
        if let Some(cut) = cut {
            self.scan.groups.retain(|group| group.header.number < cut);
            self.decision = Decision::Cut { fresh_file: true };
        }
        let io = |source| RecoverError::Io { path: self.place.dir.clone(), source };
        self.tidy_directory().await.map_err(io)?;
        let dropped = self.describe_dropped(cut);
        if let Some(dropped) = &dropped {
            tracing::warn!(shard = self.place.shard.0, dropped, "dropped an unfinished write");
            self.quarantine().await.map_err(io)?;
        }
        let (mut state, groups) = self.found().replay(region)?;
        self.found().check_coverage(&state)?;
        let manifest_file = {
            let directory = self.place.superblock.directory;
            ManifestFile::resume(&self.reactor, &self.place.dir, self.place.shard, directory, &self.loaded)
                .await?
        };
        self.fill_spares(&state).await.map_err(io)?;
        let report = RecoveryReport {
            shard: self.place.shard.0,
            groups,
            wal_bytes: self.scan.bytes,
            segments: state.segments.len() as u64,
            partitions: state.partitions.len() as u64,
            dropped,
        };
        let fresh = self.decision == Decision::Cut { fresh_file: true };
        if fresh && let Some(active) = state.wal.active.take() {
            state.wal.full.push_back(active);
        }
        let core = self.into_core(state, mailbox, manifest_file);
        if core.state().wal.active.is_none() {
            start_file(&core).await?;
        }
        core.start_maintenance();
        tracing::info!(?report, "shard open");
        Ok((Shard::new(core), report))
    }

    /// Removes what an earlier life left half made; moves what nobody knows out of the way.
    async fn tidy_directory(&self) -> io::Result<()> {
        let manifest = &self.loaded.manifest;
        let mut moved = false;
        for entry in self.reactor.list(&self.place.dir).await? {
            let path = self.place.dir.join(&entry.name);
            let known = file_number(&entry.name).is_none_or(|number| {
                manifest.wal_files.contains(&number) || manifest.segments.contains_key(&number)
            });
            if entry.name.ends_with(".tmp") {
                self.reactor.run(Op::Remove { path }).await?;
            } else if !known {
                // A segment that was finished just before a crash, or a file from elsewhere.
                let aside = self.place.dir.join("quarantine");
                if !moved {
                    self.reactor.run(Op::CreateDir { path: aside.clone() }).await?;
                    self.reactor.run(Op::SyncDir { path: self.place.dir.clone() }).await?;
                }
                moved = true;
                tracing::warn!(file = %path.display(), "not in the manifest; moved to quarantine");
                self.reactor.run(Op::Rename { from: path, to: aside.join(&entry.name) }).await?;
            }
        }
        Ok(())
    }

    fn describe_dropped(&self, cut: Option<GroupNumber>) -> Option<String> {
        if let Some(cut) = cut {
            return Some(format!(
                "groups from {cut} on: part of an append over several shards that is not whole"
            ));
        }
        let Decision::Cut { fresh_file } = self.decision else { return None };
        let tail = &self.scan.tail;
        let TailState::Broken(why) = &tail.state else {
            return Some(format!("groups behind {}, which was never written", tail.missing));
        };
        // Behind the last group of a recycled file lie bytes of its earlier lives: no news.
        let ours = fresh_file || !why.contains("magic");
        ours.then(|| {
            format!("group {} at byte {} of file {:016x}: {why}", tail.missing, tail.position, tail.file.0)
        })
    }

    /// Keeps the dropped bytes aside, for whoever wants to look.
    async fn quarantine(&self) -> io::Result<()> {
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
        let aside = self.place.dir.join("quarantine");
        self.reactor.run(Op::CreateDir { path: aside.clone() }).await?;
        let name = format!("wal-{:016x}-{:08x}-{:016x}.bin", tail.file.0, tail.position, tail.missing.0);
        let path = aside.join(name);
        match self.reactor.open(&path, OpenMode::CreateNew).await {
            Ok((out, _)) => {
                let written = self.reactor.write(out, 0, buf, Durability::Durable).await.1;
                self.reactor.run(Op::Close { file: out }).await?;
                written
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Keeping a copy is a service; a full disk must not keep the log from opening.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn found(&self) -> Found<'_> {
        Found { place: &self.place, loaded: &self.loaded, scan: &self.scan, footers: &self.footers }
    }
    /// Spare files that somebody cut short get their zeros back.
    async fn fill_spares(&self, state: &State) -> io::Result<()> {
        let file_bytes = state.wal.file_bytes;
        for spare in &state.wal.spares {
            let Some(found) = self.scan.files.iter().find(|found| found.number == spare.number) else {
                continue;
            };
            if found.len != file_bytes {
                let from = found.len.min(file_bytes) / BLOCK as u64 * BLOCK as u64;
                crate::maintain::prepare::zero_fill(&self.reactor, None, spare.id, from, file_bytes).await?;
                self.reactor.run(Op::Truncate { file: spare.id, len: file_bytes }).await?;
                self.reactor.run(Op::Sync { file: spare.id }).await?;
            }
        }
        Ok(())
    }

    fn into_core(self, state: State, mailbox: Arc<Mailbox>, file: ManifestFile<B>) -> Rc<Core<B>> {
        let Recovering { place, reactor, config, loaded, .. } = self;
        let target_bytes =
            u128::from(place.superblock.replay_speed) * u128::from(config.wal.recovery_target_ms) / 1000;
        let files = (target_bytes / u128::from(place.superblock.wal_file_bytes)) as u64;
        let (least, most) = WAL_FILES_RANGE;
        let governor = Governor::new(reactor.clone(), config.segment.background_bytes_per_s);
        let files_max = config.read.open_files_max as usize;
        Rc::new(Core {
            shard: place.shard,
            shards: place.superblock.shards,
            directory: place.superblock.directory,
            dir: place.dir,
            mailbox,
            state: state.into(),
            manifest: async_lock::Mutex::new(ManifestPair { manifest: loaded.manifest, file }),
            governor,
            files: SegmentFiles::new(reactor.clone(), files_max),
            metrics: Metrics::default().into(),
            maintain: event_listener::Event::new(),
            wal_files_max: files.clamp(least, most) as usize,
            maintenance_tasks: 0.into(),
            config,
            reactor,
        })
    }
}

/// What a shard's files say, all of it read.
struct Found<'a> {
    place: &'a ShardPlace,
    loaded: &'a Loaded,
    scan: &'a Scan,
    footers: &'a [(FileNumber, Vec<crate::segment::Run>)],
}

/// Checks that a shard's files fit together, as opening it would.
///
/// # Errors
/// [`RecoverError::Damaged`].
pub(crate) fn check_files(
    place: &ShardPlace,
    loaded: &Loaded,
    scan: &Scan,
    footers: &[(FileNumber, Vec<crate::segment::Run>)],
) -> Result<(), RecoverError> {
    let found = Found { place, loaded, scan, footers };
    let region =
        Region::new(BLOCK, 1).map_err(|source| RecoverError::Io { path: place.dir.clone(), source })?;
    let (state, _) = found.replay(region)?;
    found.check_coverage(&state)
}

impl Found<'_> {
    /// Builds the state from manifest, segments and groups.
    fn replay(&self, region: Arc<Region>) -> Result<(State, u64), RecoverError> {
        let manifest = &self.loaded.manifest;
        let superblock = &self.place.superblock;
        let mut state = State {
            shard: self.place.shard,
            partitions: Partitions::default(),
            wal: WalRing {
                shard: self.place.shard,
                directory: superblock.directory,
                file_bytes: superblock.wal_file_bytes,
                active: None,
                full: VecDeque::new(),
                spares: VecDeque::new(),
                next_sequence: WalSequence(self.scan.last_sequence.max(last_before(manifest.floor)).0 + 1),
                next_group: manifest.floor_group,
                previous: 0,
                durable: GroupNumber(manifest.floor_group.0.saturating_sub(1)),
            },
            cache: TailCache::new(region),
            arrivals: VecDeque::new(),
            arrival_bytes: 0,
            waiting: FxHashMap::default(),
            waiting_count: 0,
            disk_queue: VecDeque::new(),
            disk_fetches: 0,
            segments: FxHashMap::default(),
            catalog: Vec::new(),
            next_partition: manifest.next_partition,
            next_file: manifest.next_file,
            lingering: Vec::new(),
            halted: None,
            out_of_space: false,
            roll_wanted: false,
            closing: false,
        };
        for (id, meta) in &manifest.partitions {
            state.partitions.insert(*id, meta.name.clone(), meta.config, meta.log_start);
        }
        for (file, runs) in self.footers {
            let meta = manifest.segments[file].clone();
            let mut segment = SegmentState { meta, live_bytes: 0, live_runs: 0 };
            for run in runs {
                let Some(partition) = state.partitions.get_mut(run.partition) else { continue };
                if run.end_offset <= partition.log_start {
                    continue;
                }
                partition.runs.push(RunRef::new(*file, run));
                if run.compacted {
                    partition.compacted_to = partition.compacted_to.max(run.end_offset);
                }
                segment.live_bytes += run.bytes;
                segment.live_runs += 1;
            }
            state.segments.insert(*file, segment);
        }
        for id in state.partitions.ids() {
            let Some(partition) = state.partitions.get_mut(id) else { continue };
            partition.runs.sort_unstable_by_key(|run| run.base_offset);
            let end = partition.sealed_end();
            (partition.flushed, partition.log_end) = (end, end);
        }
        self.add_wal_files(&mut state);
        let mut last = None;
        for group in &self.scan.groups {
            self.replay_group(&mut state, group)?;
            last = Some(group);
        }
        if let Some(group) = last {
            state.wal.previous = group.header.crc;
            state.wal.next_group = group.header.number.next();
            state.wal.durable = group.header.number;
        } else if let Some((_, _, header)) = self.scan.live().next() {
            state.wal.previous = header.previous;
        }
        Ok((state, self.scan.groups.len() as u64))
    }

    /// Takes the files of the ring over: live ones in order of use, the last of them active.
    fn add_wal_files(&self, state: &mut State) {
        let mut ends: BTreeMap<usize, (u64, i64)> = BTreeMap::new();
        for group in &self.scan.groups {
            let entry = ends.entry(group.file).or_insert((0, group.header.written_ms));
            entry.0 = group.end;
        }
        for (index, found) in self.scan.files.iter().enumerate() {
            let header = match &found.life {
                Life::Live(header) => *header,
                // A torn first write of a life: nothing in it counts, the file is free.
                Life::Headless(_) | Life::Spare => {
                    state.wal.spares.push_back(SpareFile { number: found.number, id: found.id });
                    continue;
                }
            };
            let (position, since_ms) = ends.get(&index).copied().unwrap_or((BLOCK as u64, header.started_ms));
            let file = WalFile {
                number: found.number,
                id: found.id,
                sequence: header.sequence,
                salt: header.salt,
                first_group: header.first_group,
                position,
                touched: Vec::new(),
                joint: 0,
                since_ms,
                batch_bytes: 0,
            };
            if let Some(before) = state.wal.active.replace(file) {
                state.wal.full.push_back(before);
            }
        }
        // A file of another length can't take a life; it was cut off by somebody.
        if state.wal.active.as_ref().is_some_and(|active| {
            self.scan
                .files
                .iter()
                .any(|found| found.number == active.number && found.len != state.wal.file_bytes)
        }) && let Some(active) = state.wal.active.take()
        {
            state.wal.full.push_back(active);
        }
    }

    fn replay_group(&self, state: &mut State, group: &FoundGroup) -> Result<(), RecoverError> {
        let damaged = |reason: String| RecoverError::Damaged {
            path: file_path(&self.place.dir, self.scan.files[group.file].number),
            position: group.header.position,
            reason,
        };
        let sequence = group.header.sequence;
        let mut joint = 0;
        for control in &group.controls {
            if let Control::Joint { transaction, .. } = control {
                joint = joint.max(*transaction);
            }
            replay_control(state, control, self.place.superblock.shards);
        }
        let files = state.wal.full.iter_mut().chain(&mut state.wal.active);
        let Some(file) = files.into_iter().find(|file| file.sequence == sequence) else {
            return Err(damaged("the group's file is not in the ring".into()));
        };
        file.joint = file.joint.max(joint);
        for placed in &group.placed {
            file.batch_bytes += u64::from(placed.len);
            let Some(partition) = state.partitions.get_mut(placed.partition) else {
                if placed.partition < state.next_partition {
                    continue; // deleted since
                }
                return Err(damaged(format!(
                    "holds records of partition {}, which never was",
                    placed.partition
                )));
            };
            let end = placed.base_offset.plus(u64::from(placed.span));
            if end <= partition.sealed_end() {
                continue; // sealed before the crash; the floor had not moved yet
            }
            if placed.base_offset != partition.log_end {
                return Err(damaged(format!(
                    "partition {}: records {}..{end} follow {}",
                    placed.partition, placed.base_offset, partition.log_end
                )));
            }
            partition.tail.push_back(TailEntry {
                base_offset: placed.base_offset,
                position: placed.position,
                max_timestamp_ms: placed.max_timestamp_ms,
                span: placed.span,
                len: placed.len,
            });
            (partition.flushed, partition.log_end) = (end, end);
            if partition.touched != sequence {
                partition.touched = sequence;
                file.touched.push(placed.partition);
            }
        }
        Ok(())
    }

    /// Every offset from the log start to the end is in a segment or in the WAL.
    fn check_coverage(&self, state: &State) -> Result<(), RecoverError> {
        for (id, partition) in state.partitions.iter() {
            let mut next = partition.log_start;
            let missing = |next: Offset| RecoverError::Damaged {
                path: self.place.dir.clone(),
                position: 0,
                reason: format!(
                    "partition {id} ({}): records from offset {next} on are missing",
                    partition.name
                ),
            };
            for run in &partition.runs {
                if run.base_offset > next {
                    return Err(missing(next));
                }
                next = next.max(run.end_offset);
            }
            for entry in &partition.tail {
                if entry.base_offset > next {
                    return Err(missing(next));
                }
                next = next.max(entry.end_offset());
            }
            if next > partition.log_end {
                return Err(missing(next));
            }
        }
        Ok(())
    }
}

fn last_before(floor: WalSequence) -> WalSequence {
    WalSequence(floor.0.saturating_sub(1))
}

/// Gives the shard an active WAL file, making one if no spare is left.
async fn start_file<B: Backend>(core: &Rc<Core<B>>) -> Result<(), RecoverError> {
    if core.state().wal.spares.is_empty() {
        let prepared = core.prepare_spare().await;
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

fn replay_control(state: &mut State, control: &Control, shards: u16) {
    match control {
        Control::Create { partition, config, name } => {
            if *partition < state.next_partition {
                return; // the manifest has it, or it was deleted since
            }
            state.next_partition = PartitionId(partition.0 + u32::from(shards));
            let name: Arc<str> = name.as_str().into();
            state.partitions.insert(*partition, name.clone(), *config, Offset(0));
            state.catalog.push(Change::NextPartition(state.next_partition));
            state.catalog.push(Change::PartitionCreated {
                partition: *partition,
                config: *config,
                log_start: Offset(0),
                name,
            });
        }
        Control::Delete { partition } => {
            let Some(gone) = state.partitions.remove(*partition) else { return };
            gone.runs.iter().for_each(|run| state.release_run(run.file, run.bytes));
            state.catalog.push(Change::PartitionDeleted(*partition));
        }
        Control::Trim { partition, log_start } => {
            let Some(known) = state.partitions.get_mut(*partition) else { return };
            if *log_start > known.log_start {
                known.log_start = *log_start;
                let end = known.log_end.max(*log_start);
                (known.flushed, known.log_end) = (end, end);
                let (partition, log_start) = (*partition, *log_start);
                state.catalog.push(Change::Trimmed { partition, log_start });
                state.release_trimmed_runs(partition);
            }
        }
        Control::Configure { partition, config } => {
            if state.partitions.get(*partition).is_some_and(|known| *known.config != *config) {
                state.partitions.configure(*partition, *config);
                state.catalog.push(Change::Configured { partition: *partition, config: *config });
            }
        }
        Control::Joint { .. } => {}
    }
}

/// The runs of every segment in the manifest, each footer checked.
async fn read_footers<B: Backend>(
    reactor: &Reactor<B>,
    place: &ShardPlace,
    manifest: &Manifest,
) -> Result<Vec<(FileNumber, Vec<crate::segment::Run>)>, RecoverError> {
    let governor = Governor::new(reactor.clone(), u64::MAX);
    let mut footers = Vec::with_capacity(manifest.segments.len());
    for meta in manifest.segments.values() {
        let path = file_path(&place.dir, meta.file);
        let opened = reactor.open(&path, OpenMode::Read).await;
        let (file, len) = opened.map_err(|source| RecoverError::Io { path: path.clone(), source })?;
        let read = async {
            let trailer = read_trailer(reactor, file, len).await?;
            let ours = (trailer.directory, trailer.shard, trailer.file)
                == (place.superblock.directory, place.shard, meta.file);
            if !ours || trailer.footer_crc != meta.footer_crc || len != meta.file_bytes {
                return Err(crate::segment::ReadError::new(
                    len,
                    "is not the segment that the manifest names",
                ));
            }
            SegmentReader::new(reactor, &governor, file, len).footer(&trailer).await
        };
        let footer = read.await;
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
