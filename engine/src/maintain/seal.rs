//! Sealing: full WAL files become segments, and are free for a new life.
//!
//! Several that many partitions share become one segment: its runs are longer by as much, and long
//! ones need no merging.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use thalweg_io::{Backend, FileId, Op, View};

use crate::governor::Work;
use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, WalPosition, WalSequence};
use crate::maintain::MaintainError;
use crate::maintain::due::{Outlook, due, files_max};
use crate::maintain::walk::STEP_PARTITIONS;
use crate::manifest::{Change, SegmentKind};
use crate::partitions::TailEntry;
use crate::planted::{Planted, planted};
use crate::record::{BatchHeader, check_batch};
use crate::segment::{Built, Pieces, ReadError, SegmentReader, SegmentWriter};
use crate::segment::{IndexBuilder, SegmentIdentity, promote};
use crate::shard::Core;
use crate::wal::ring::{SpareFile, WalFile};

/// How long a file that is still being read waits to be closed before it is looked at again, µs.
const CLOSE_AGAIN_US: u64 = 1000;

/// A WAL file to be sealed.
struct JobFile {
    number: FileNumber,
    id: FileId,
    sequence: WalSequence,
    end: u64,
    joint: u64,
    /// An earlier attempt to promote it cut its end off: it can't take another life.
    shortened: bool,
}

impl JobFile {
    fn of(file: &WalFile) -> JobFile {
        let WalFile { number, id, sequence, position: end, joint, shortened, .. } = *file;
        JobFile { number, id, sequence, end, joint, shortened }
    }
}

/// WAL files to be sealed as one, and what is in them.
struct Job {
    /// The oldest full ones, in order of use.
    files: Vec<JobFile>,
    /// Behind the last of them.
    sequence_end: WalSequence,
    /// Batches by partition, in ascending order of both.
    partitions: Vec<(PartitionId, Vec<TailEntry>)>,
    /// The first file and group that stay in the WAL.
    floor: (WalSequence, GroupNumber),
}

impl Job {
    fn batch_bytes(&self) -> u64 {
        self.partitions.iter().flat_map(|(_, entries)| entries).map(|entry| u64::from(entry.len)).sum()
    }

    /// Largest joint append with a part in it.
    fn joint(&self) -> u64 {
        self.files.iter().map(|file| file.joint).max().unwrap_or_default()
    }
}

/// Gives the batches of a job: from the tail cache, else from their file, each read once.
struct Source<'a, B: Backend> {
    core: &'a Rc<Core<B>>,
    job: &'a Job,
    /// What was read of each file.
    loaded: Vec<Option<Pieces>>,
}

impl<'a, B: Backend> Source<'a, B> {
    fn new(core: &'a Rc<Core<B>>, job: &'a Job) -> Self {
        Source { core, job, loaded: job.files.iter().map(|_| None).collect() }
    }

    async fn batch(
        &mut self,
        partition: PartitionId,
        entry: &TailEntry,
    ) -> Result<(BatchHeader, View), ReadError> {
        let cached = self.core.state().cache.peek(entry.position, entry.len as usize);
        if let Some(view) = cached {
            let header = BatchHeader::read(&view).map_err(|error| ReadError::new(entry.position.0, error))?;
            return Ok((header, View::Cache(view)));
        }
        let file_bytes = self.core.state().wal.file_bytes;
        let (sequence, byte) = entry.position.split(file_bytes);
        let bytes = self.whole(sequence).await?.slice(byte as usize, entry.len as usize);
        let bytes =
            bytes.ok_or_else(|| ReadError::new(byte, "a batch reaches beyond the end of the file"))?;
        let header = check_batch(&bytes).map_err(|error| ReadError::new(byte, error))?;
        let found = (header.partition, header.base_offset, header.end_offset(), header.len);
        if found != (partition, entry.base_offset, entry.end_offset(), entry.len) {
            return Err(ReadError::new(byte, "the WAL file holds another batch than was written there"));
        }
        Ok((header, bytes))
    }

    /// All of a file's groups.
    async fn whole(&mut self, sequence: WalSequence) -> Result<&Pieces, ReadError> {
        let found = self.job.files.iter().zip(&mut self.loaded).find(|(file, _)| file.sequence == sequence);
        let Some((file, loaded)) = found else {
            return Err(ReadError::new(0, format!("WAL file {} is not among those to seal", sequence.0)));
        };
        if let Some(whole) = loaded {
            return Ok(whole);
        }
        let reader = SegmentReader::new(&self.core.governor, Work::Upkeep, file.id, file.end)
            .into_buffers_of(&self.core.buffers);
        Ok(loaded.insert(Pieces::read(&reader, file.end as usize).await?))
    }

    /// Lets go of what was read.
    async fn end(self) {
        for loaded in self.loaded.into_iter().flatten() {
            loaded.release(&self.core.reactor).await;
        }
    }
}

impl<B: Backend> Core<B> {
    /// Asks for a new WAL file when the oldest record in the active one is old enough.
    pub(super) fn ask_for_roll_by_age(&self) {
        let now_ms = self.reactor.wall_ms();
        let age_max_ms = i64::try_from(self.config.segment.seal_age_max_ms).unwrap_or(i64::MAX);
        let mut state = self.state_mut();
        let Some(active) = &state.wal.active else { return };
        let old = active.batch_bytes > 0 && now_ms.saturating_sub(active.since_ms) >= age_max_ms;
        if old && !state.wal.spares.is_empty() {
            state.roll_wanted = true;
            self.mailbox.wake();
        }
    }

    /// Seals the oldest full files, if it is time; one only if `alone`. Returns whether it was.
    pub(super) async fn seal_due(self: &Rc<Self>, alone: bool) -> Result<bool, MaintainError> {
        let Some(job) = self.plan_seal(alone).await else { return Ok(false) };
        let promoted = job.files.len() == 1 && self.is_promotable(job.partitions.len(), job.batch_bytes());
        let built =
            if promoted { vec![self.promote_file(&job).await?] } else { self.build_segments(&job).await? };
        let (sequence, group) = job.floor;
        let leaves = |file: &&JobFile| promoted || file.shortened;
        let mut changes: Vec<_> = Vec::new();
        changes.extend(job.files.iter().filter(leaves).map(|file| Change::WalFileRemoved(file.number)));
        changes.extend(built.iter().map(|built| Change::SegmentAdded(built.meta.clone())));
        changes.push(Change::Floor { sequence, group });
        let resolved = self.manifest.lock().await.manifest.joint_resolved.max(job.joint());
        changes.push(Change::JointResolved(resolved));
        if planted(Planted::WalRecycledEarly) {
            self.adopt_sealed(&job, &built, promoted).await;
        }
        if let Err(error) = self.commit_manifest(changes).await {
            let error = MaintainError::from(error);
            if !error.is_fatal() && !promoted {
                self.remove_built(&built).await;
            }
            return Err(error);
        }
        // An earlier segment of the same number may still be open.
        for built in &built {
            self.files.forget(built.meta.file);
        }
        if !planted(Planted::WalRecycledEarly) {
            self.adopt_sealed(&job, &built, promoted).await;
        }
        {
            let mut metrics = self.metrics.borrow_mut();
            metrics.files_sealed += job.files.len() as u64;
            metrics.files_promoted += u64::from(promoted);
        }
        for file in &job.files {
            if !leaves(&file) {
                self.retire_surplus_spare().await?;
            } else if !promoted {
                let _ = self.reactor.run(Op::Remove { path: self.path(file.number) }).await;
            }
        }
        Ok(true)
    }

    /// Whether a file that so many partitions share, with so many bytes of batches, becomes a segment
    /// where it lies.
    fn is_promotable(&self, partitions: usize, batch_bytes: u64) -> bool {
        let few = partitions <= self.config.segment.promote_partitions_max as usize;
        few && partitions > 0 && batch_bytes >= self.state().wal.file_bytes / 2
    }

    /// How many of the full files to seal now, as one; 0 if they wait.
    fn files_due(&self, alone: bool) -> usize {
        let now_ms = self.reactor.wall_ms();
        let age_max_ms = i64::try_from(self.config.segment.seal_age_max_ms).unwrap_or(i64::MAX);
        let state = self.state();
        let wal = &state.wal;
        let promotable = |file: &WalFile| self.is_promotable(file.touched.len(), file.batch_bytes);
        let most = files_max(&self.config, wal.file_bytes, self.wal_files_max);
        let old = |file: &WalFile| now_ms.saturating_sub(file.since_ms) >= age_max_ms;
        let outlook = Outlook {
            files_max: if alone { 1 } else { most },
            old: wal.full.front().is_some_and(old),
            short: wal.spares.is_empty() || state.out_of_space,
        };
        let due = due(wal.full.iter().map(promotable), &outlook);
        // The log goes on behind them: in another full file, else in the active one.
        let followed = wal.full.len() + usize::from(wal.active.is_some());
        due.min(followed.saturating_sub(1))
    }

    /// Takes note of what is in the full files that are due; of fewer, if not all of it is published.
    async fn plan_seal(&self, alone: bool) -> Option<Job> {
        for count in (1..=self.files_due(alone)).rev() {
            let job = self.plan_files(count).await;
            if job.is_some() {
                return job;
            }
        }
        None
    }

    /// Takes note of what is in the oldest `count` full files, if all of it is published.
    async fn plan_files(&self, count: usize) -> Option<Job> {
        let (mut job, positions, mut ids) = {
            let state = self.state();
            let files: Vec<_> = state.wal.full.iter().take(count).collect();
            let count_behind = if planted(Planted::FloorTooEarly) { state.wal.full.len() } else { count };
            let next = state.wal.full.get(count_behind).or(state.wal.active.as_ref())?;
            let (first, last) = (files.first()?.sequence, files.last()?.sequence);
            let sequence_end = WalSequence(last.0 + 1);
            let [start, end] = [first, sequence_end].map(|at| WalPosition::new(at, 0, state.wal.file_bytes));
            let job = Job {
                files: files.iter().map(|file| JobFile::of(file)).collect(),
                sequence_end,
                partitions: Vec::new(),
                floor: (next.sequence, next.first_group),
            };
            let ids: Vec<_> = files.iter().flat_map(|file| file.touched.iter().copied()).collect();
            (job, start..end, ids)
        };
        ids.sort_unstable();
        ids.dedup();
        job.partitions.reserve_exact(ids.len());
        for step in ids.chunks(STEP_PARTITIONS) {
            step.iter().try_for_each(|id| self.take_entries(&mut job, *id, &positions))?;
            self.reactor.yield_now().await;
        }
        Some(job)
    }

    /// Adds what a partition has in the files. None if some of it is not published yet: a group whose
    /// joint append is undecided.
    fn take_entries(&self, job: &mut Job, id: PartitionId, positions: &Range<WalPosition>) -> Option<()> {
        let state = self.state();
        let Some(partition) = state.partitions.get(id) else { return Some(()) };
        let from = partition.tail.partition_point(|entry| entry.position < positions.start);
        let to = partition.tail.partition_point(|entry| entry.position < positions.end);
        let entries = partition.tail.range(from..to).filter(|entry| !partition.is_sealed(entry));
        let entries: Vec<_> = entries.copied().collect();
        if entries.last().is_some_and(|last| last.end_offset() > partition.flushed) {
            return None;
        }
        if !entries.is_empty() {
            job.partitions.push((id, entries));
        }
        Some(())
    }

    fn identity(&self, file: FileNumber, kind: SegmentKind, job: &Job) -> SegmentIdentity {
        SegmentIdentity {
            file,
            directory: self.directory,
            shard: self.shard,
            kind,
            created_ms: self.reactor.wall_ms(),
            sequence_end: job.sequence_end.0,
        }
    }

    async fn promote_file(self: &Rc<Self>, job: &Job) -> Result<Built, MaintainError> {
        let [file] = &job.files[..] else { unreachable!("files are promoted one by one") };
        let mut index = IndexBuilder::default();
        let mut source = Source::new(self, job);
        let file_bytes = self.state().wal.file_bytes;
        for (partition, entries) in &job.partitions {
            index.begin_run(*partition, entries[0].base_offset);
            let mut end = entries[0].base_offset;
            for (at, entry) in entries.iter().enumerate() {
                let (header, _) = source.batch(*partition, entry).await?;
                index.add(&header, entry.position.split(file_bytes).1);
                end = header.end_offset();
                if at % 1024 == 1023 {
                    self.reactor.yield_now().await;
                }
            }
            index.end_run(end, false);
        }
        source.end().await;
        if let Some(front) = self.state_mut().wal.full.front_mut() {
            debug_assert_eq!(front.number, file.number);
            front.shortened = true;
        }
        let identity = self.identity(file.number, SegmentKind::Promoted, job);
        Ok(promote(&self.governor, file.id, file.end, identity, index).await?)
    }

    async fn build_segments(self: &Rc<Self>, job: &Job) -> Result<Vec<Built>, MaintainError> {
        let own_min = self.config.segment.own_bytes_min;
        let size = |entries: &[TailEntry]| entries.iter().map(|entry| u64::from(entry.len)).sum::<u64>();
        let (own, shared): (Vec<_>, Vec<_>) =
            job.partitions.iter().partition(|(_, entries)| size(entries) >= own_min);
        let shared = (!shared.is_empty()).then_some((shared, SegmentKind::Shared));
        let own = own.into_iter().map(|each| (vec![each], SegmentKind::Own));
        let mut built = Vec::new();
        let mut source = Source::new(self, job);
        for (partitions, kind) in shared.into_iter().chain(own) {
            match self.build_one(&mut source, &partitions, kind).await {
                Ok(one) => built.push(one),
                Err(error) => {
                    self.remove_built(&built).await;
                    return Err(error);
                }
            }
        }
        source.end().await;
        Ok(built)
    }

    /// Removes segments that will not be used.
    pub(super) async fn remove_built(&self, built: &[Built]) {
        for built in built {
            let _ = self.reactor.run(Op::Remove { path: self.path(built.meta.file) }).await;
        }
    }

    async fn build_one(
        self: &Rc<Self>,
        source: &mut Source<'_, B>,
        partitions: &[&(PartitionId, Vec<TailEntry>)],
        kind: SegmentKind,
    ) -> Result<Built, MaintainError> {
        let number = self.state_mut().take_file_number();
        let identity = self.identity(number, kind, source.job);
        let path = self.path(number);
        let mut writer = SegmentWriter::create(&self.governor, path, identity).await?;
        let filled = fill(&mut writer, source, partitions).await;
        if let Err(error) = filled {
            writer.abandon().await;
            return Err(error);
        }
        Ok(writer.finish().await?)
    }

    /// The manifest has the new segments: the files' entries make way for them, and they are free.
    async fn adopt_sealed(self: &Rc<Self>, job: &Job, built: &[Built], promoted: bool) {
        self.adopt(built, &BTreeSet::new()).await;
        let (touched, floor) = {
            let mut state = self.state_mut();
            let floor = WalPosition::new(job.floor.0, 0, state.wal.file_bytes);
            let sealed = state.wal.full.iter_mut().take(job.files.len());
            (sealed.flat_map(|file| std::mem::take(&mut file.touched)).collect(), floor)
        };
        self.drop_sealed_entries(touched, floor).await;
        let mut state = self.state_mut();
        for sealed in &job.files {
            let Some(file) = state.wal.full.pop_front() else { return };
            debug_assert_eq!(file.number, sealed.number);
            if promoted || sealed.shortened {
                self.close_later(file.id);
            } else {
                state.wal.spares.push_back(SpareFile { number: file.number, id: file.id });
            }
        }
    }

    /// Closes a file that has left the WAL, when nobody reads it any more.
    pub(super) fn close_later(self: &Rc<Self>, id: FileId) {
        if !self.leases.has(id) {
            return drop(self.reactor.start(Op::Close { file: id }));
        }
        let core = self.clone();
        self.reactor.spawn(async move {
            while core.leases.has(id) {
                core.reactor.sleep_us(CLOSE_AGAIN_US).await;
            }
            let _ = core.reactor.run(Op::Close { file: id }).await;
        });
    }

    /// Recovery may have added files beyond the ring's size; let them go when they are free.
    async fn retire_surplus_spare(self: &Rc<Self>) -> Result<(), MaintainError> {
        let surplus = {
            let mut state = self.state_mut();
            let over = state.wal.files() > self.wal_files_max && state.wal.spares.len() > 1;
            let last = state.wal.spares.back().filter(|spare| over && !state.wal.is_filling(spare.number));
            last.is_some().then(|| state.wal.spares.pop_back()).flatten()
        };
        let Some(spare) = surplus else { return Ok(()) };
        if let Err(error) = self.commit_manifest(vec![Change::WalFileRemoved(spare.number)]).await {
            self.state_mut().wal.spares.push_back(spare);
            return Err(error.into());
        }
        self.close_later(spare.id);
        let _ = self.reactor.run(Op::Remove { path: self.path(spare.number) }).await;
        Ok(())
    }
}

async fn fill<B: Backend>(
    writer: &mut SegmentWriter<'_, B>,
    source: &mut Source<'_, B>,
    partitions: &[&(PartitionId, Vec<TailEntry>)],
) -> Result<(), MaintainError> {
    for (partition, entries) in partitions {
        writer.begin_run(*partition, entries[0].base_offset);
        let mut end = Offset(0);
        for entry in entries {
            let (header, bytes) = source.batch(*partition, entry).await?;
            writer.add(&header, &bytes).await?;
            end = header.end_offset();
        }
        writer.end_run(end, false);
    }
    Ok(())
}
