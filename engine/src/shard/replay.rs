//! From what a shard's files say to its state in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use thalweg_io::{BLOCK, Region};

use crate::cache::TailCache;
use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, WalSequence};
use crate::manifest::{Change, Loaded, manifest_name};
use crate::partitions::{Partitions, RunRef, TailEntry};
use crate::planted::{Planted, planted};
use crate::shard::core::file_path;
use crate::shard::recover::{RecoverError, ShardPlace};
use crate::shard::state::{SegmentState, State};
use crate::wal::control::Control;
use crate::wal::life::Life;
use crate::wal::ring::{SpareFile, WalFile, WalRing};
use crate::wal::scan::{FoundGroup, Scan, Witnessed};

/// What a shard's files say, all of it read.
pub(crate) struct Found<'a> {
    pub place: &'a ShardPlace,
    pub loaded: &'a Loaded,
    pub scan: &'a Scan,
    pub footers: &'a [(FileNumber, Vec<crate::segment::Run>)],
    /// Whether what follows goes into a fresh file.
    pub cut: bool,
}

/// Checks that a shard's files fit together, as opening it would. Returns how many partitions it has.
///
/// # Errors
/// [`RecoverError::Damaged`].
pub(crate) fn check_files(
    place: &ShardPlace,
    loaded: &Loaded,
    scan: &Scan,
    footers: &[(FileNumber, Vec<crate::segment::Run>)],
) -> Result<u64, RecoverError> {
    check_revision(place, loaded, scan)?;
    let found = Found { place, loaded, scan, footers, cut: false };
    let region =
        Region::new(BLOCK, 1).map_err(|source| RecoverError::Io { path: place.dir.clone(), source })?;
    let (state, _) = found.replay(region)?;
    found.check_coverage(&state)?;
    Ok(state.partitions.len() as u64)
}

/// Checks that the manifest lost none of its last edits: groups say which they were written under.
///
/// # Errors
/// [`RecoverError::Damaged`].
pub(crate) fn check_revision(place: &ShardPlace, loaded: &Loaded, scan: &Scan) -> Result<(), RecoverError> {
    let known = loaded.manifest.revision;
    if let Some(witnessed) = scan.revision
        && witnessed.revision > known
    {
        let Witnessed { revision, said_by, file, position } = witnessed;
        return Err(RecoverError::Damaged {
            path: place.dir.join(manifest_name(loaded.generation)),
            position: loaded.end,
            reason: format!(
                "ends at revision {known}, but group {said_by} (file {:016x}, byte {position}) was written \
                 under revision {revision}",
                file.0
            ),
        });
    }
    Ok(())
}

impl Found<'_> {
    /// Builds the state from manifest, segments and groups.
    pub(crate) fn replay(&self, region: Arc<Region>) -> Result<(State, u64), RecoverError> {
        let mut state = self.empty_state(region);
        for (id, meta) in &self.loaded.manifest.partitions {
            state.partitions.insert(*id, meta.name.clone(), meta.config, meta.log_start);
        }
        self.add_segments(&mut state);
        for partition in state.partitions.iter_mut() {
            let end = partition.sealed_end();
            (partition.flushed, partition.log_end) = (end, end);
        }
        self.add_wal_files(&mut state);
        let mut last = None;
        let forgotten = usize::from(planted(Planted::LastGroupForgotten));
        for group in self.scan.groups.iter().take(self.scan.groups.len().saturating_sub(forgotten)) {
            self.replay_group(&mut state, group)?;
            last = Some(group);
        }
        if let Some(group) = last {
            state.wal.previous = group.header.crc;
            let number = group.header.number;
            state.wal.next_group = if planted(Planted::GroupNumberReused) { number } else { number.next() };
            state.wal.durable = group.header.number;
        } else if let Some((_, _, header)) = self.scan.live().next() {
            state.wal.previous = header.previous;
        }
        if planted(Planted::OffsetsReused) {
            state.partitions.iter_mut().for_each(|partition| partition.log_end = partition.sealed_end());
        }
        Ok((state, self.scan.groups.len() as u64))
    }

    fn empty_state(&self, region: Arc<Region>) -> State {
        let manifest = &self.loaded.manifest;
        let superblock = &self.place.superblock;
        State {
            shard: self.place.shard,
            partitions: Partitions::default(),
            wal: WalRing {
                shard: self.place.shard,
                directory: superblock.directory,
                file_bytes: superblock.wal_file_bytes,
                active: None,
                full: VecDeque::new(),
                spares: VecDeque::new(),
                filling: None,
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
            seal_failure: None,
            roll_wanted: false,
            closing: false,
        }
    }

    fn add_segments(&self, state: &mut State) {
        for (file, runs) in self.footers {
            let meta = self.loaded.manifest.segments[file].clone();
            let mut segment =
                SegmentState { meta, live_bytes: 0, live_runs: 0, arriving: false, taken: false };
            for run in runs {
                let Some(partition) = state.partitions.get_mut(run.partition) else { continue };
                if run.end_offset <= partition.log_start {
                    continue;
                }
                partition.add_run(RunRef::new(*file, run));
                if run.compacted {
                    partition.compacted_to = partition.compacted_to.max(run.end_offset);
                }
                segment.live_bytes += run.bytes;
                segment.live_runs += 1;
            }
            state.segments.insert(*file, segment);
        }
    }

    /// Takes the files of the ring over: live ones in order of use, the last of them active.
    fn add_wal_files(&self, state: &mut State) {
        let mut ends: BTreeMap<usize, (u64, i64)> = BTreeMap::new();
        for group in &self.scan.groups {
            let entry = ends.entry(group.file).or_insert((0, group.header.written_ms));
            entry.0 = group.end;
        }
        let last_live = self.scan.live().map(|(index, ..)| index).max().unwrap_or(0);
        for (index, found) in self.scan.files.iter().enumerate() {
            if !self.loaded.manifest.wal_files.contains(&found.number) {
                continue; // a torn write to a file that has left the ring since
            }
            let whole = found.len == state.wal.file_bytes;
            let header = match &found.life {
                // All of it lies behind a cut, now or in an earlier opening: the file is free. It
                // begins behind the group at which the file after it does.
                Life::Live(_) if whole && !ends.contains_key(&index) && (self.cut || index < last_live) => {
                    state.wal.spares.push_back(SpareFile { number: found.number, id: found.id });
                    continue;
                }
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
                shortened: found.len < state.wal.file_bytes,
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
            // The log start offset may lie inside the first batch that is kept.
            let first = partition.tail.is_empty() && partition.log_end == partition.log_start;
            if placed.base_offset != partition.log_end && !(first && placed.base_offset < partition.log_start)
            {
                return Err(damaged(format!(
                    "partition {}: records {}..{end} follow {}",
                    placed.partition, placed.base_offset, partition.log_end
                )));
            }
            partition.tail.push_back(TailEntry::from(placed));
            (partition.flushed, partition.log_end) = (end, end);
            if partition.touched != sequence {
                partition.touched = sequence;
                file.touched.push(placed.partition);
            }
        }
        Ok(())
    }

    /// Every offset from the log start to the end is in a segment or in the WAL.
    pub(crate) fn check_coverage(&self, state: &State) -> Result<(), RecoverError> {
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

fn replay_control(state: &mut State, control: &Control, shards: u16) {
    match control {
        Control::Create { partition, config, name } => {
            if *partition < state.next_partition {
                return; // the manifest has it, or it was deleted since
            }
            if !planted(Planted::PartitionIdReused) {
                state.next_partition = PartitionId(partition.0.saturating_add(u32::from(shards)));
            }
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
