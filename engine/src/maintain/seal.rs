//! Sealing: a full WAL file becomes segments, and is free for a new life.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use thalweg_io::{Backend, FileId, Op, View};

use crate::governor::Work;
use crate::ids::{FileNumber, GroupNumber, Offset, PartitionId, WalPosition, WalSequence};
use crate::maintain::MaintainError;
use crate::maintain::walk::STEP_PARTITIONS;
use crate::manifest::{Change, SegmentKind};
use crate::partitions::TailEntry;
use crate::record::{BatchHeader, check_batch};
use crate::segment::{Built, Pieces, ReadError, SegmentReader, SegmentWriter};
use crate::segment::{IndexBuilder, SegmentIdentity, promote};
use crate::shard::Core;
use crate::wal::ring::SpareFile;

/// How long a file that is still being read waits to be closed before it is looked at again, µs.
const CLOSE_AGAIN_US: u64 = 1000;

/// A WAL file to be sealed, and what is in it.
struct Job {
    number: FileNumber,
    id: FileId,
    sequence: WalSequence,
    end: u64,
    joint: u64,
    /// An earlier attempt to promote it cut its end off: it can't take another life.
    shortened: bool,
    /// Batches by partition, in ascending order of both.
    partitions: Vec<(PartitionId, Vec<TailEntry>)>,
    /// The first file and group that stay in the WAL.
    floor: (WalSequence, GroupNumber),
}

impl Job {
    fn batch_bytes(&self) -> u64 {
        self.partitions.iter().flat_map(|(_, entries)| entries).map(|entry| u64::from(entry.len)).sum()
    }
}

/// Gives a sealed file's batches: from the tail cache, else from the file, read once.
struct Source<'a, B: Backend> {
    core: &'a Rc<Core<B>>,
    job: &'a Job,
    loaded: Option<Pieces>,
}

impl<B: Backend> Source<'_, B> {
    async fn batch(&mut self, entry: &TailEntry) -> Result<(BatchHeader, View), ReadError> {
        let cached = self.core.state().cache.peek(entry.position, entry.len as usize);
        if let Some(view) = cached {
            let header = BatchHeader::read(&view).map_err(|error| ReadError::new(entry.position.0, error))?;
            return Ok((header, View::Cache(view)));
        }
        let file_bytes = self.core.state().wal.file_bytes;
        let (_, byte) = entry.position.split(file_bytes);
        let whole = match &self.loaded {
            Some(whole) => whole,
            None => {
                let reader = SegmentReader::new(&self.core.governor, Work::Upkeep, self.job.id, self.job.end);
                self.loaded.insert(Pieces::read(&reader, self.job.end as usize).await?)
            }
        };
        let bytes = whole.slice(byte as usize, entry.len as usize);
        let bytes =
            bytes.ok_or_else(|| ReadError::new(byte, "a batch reaches beyond the end of the file"))?;
        let header = check_batch(&bytes).map_err(|error| ReadError::new(byte, error))?;
        if header.base_offset != entry.base_offset {
            return Err(ReadError::new(byte, "the WAL file holds another batch than was written there"));
        }
        Ok((header, bytes))
    }

    /// Lets go of what was read.
    async fn end(self) {
        if let Some(loaded) = self.loaded {
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

    /// Seals the oldest full file. Returns whether there was one.
    pub(super) async fn seal_oldest(self: &Rc<Self>) -> Result<bool, MaintainError> {
        let Some(job) = self.plan_seal().await else { return Ok(false) };
        let file_bytes = self.state().wal.file_bytes;
        let few = job.partitions.len() <= self.config.segment.promote_partitions_max as usize;
        let promoted = few && !job.partitions.is_empty() && job.batch_bytes() >= file_bytes / 2;
        let built =
            if promoted { vec![self.promote_file(&job).await?] } else { self.build_segments(&job).await? };
        let (sequence, group) = job.floor;
        let mut changes: Vec<_> = Vec::new();
        let leaves = promoted || job.shortened;
        if leaves {
            changes.push(Change::WalFileRemoved(job.number));
        }
        changes.extend(built.iter().map(|built| Change::SegmentAdded(built.meta.clone())));
        changes.push(Change::Floor { sequence, group });
        let resolved = self.manifest.lock().await.manifest.joint_resolved.max(job.joint);
        changes.push(Change::JointResolved(resolved));
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
        self.adopt_sealed(&job, &built, leaves).await;
        if leaves && !promoted {
            let _ = self.reactor.run(Op::Remove { path: self.path(job.number) }).await;
        }
        if !leaves {
            self.retire_surplus_spare().await?;
        }
        let mut metrics = self.metrics.borrow_mut();
        metrics.files_sealed += 1;
        metrics.files_promoted += u64::from(promoted);
        Ok(true)
    }

    /// Takes note of what is in the oldest full file, if all of it is published.
    async fn plan_seal(&self) -> Option<Job> {
        let (mut job, positions, mut ids) = {
            let state = self.state();
            let file = state.wal.full.front()?;
            let next = state.wal.full.get(1).or(state.wal.active.as_ref())?;
            let start = WalPosition::new(file.sequence, 0, state.wal.file_bytes);
            let job = Job {
                number: file.number,
                id: file.id,
                sequence: file.sequence,
                end: file.position,
                joint: file.joint,
                shortened: file.shortened,
                partitions: Vec::with_capacity(file.touched.len()),
                floor: (next.sequence, next.first_group),
            };
            (job, start..WalPosition(start.0 + state.wal.file_bytes), file.touched.clone())
        };
        ids.sort_unstable();
        for step in ids.chunks(STEP_PARTITIONS) {
            step.iter().try_for_each(|id| self.take_entries(&mut job, *id, &positions))?;
            self.reactor.yield_now().await;
        }
        Some(job)
    }

    /// Adds what a partition has in the file. None if some of it is not published yet: a group whose
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

    fn identity(&self, file: FileNumber, kind: SegmentKind, sequence: WalSequence) -> SegmentIdentity {
        SegmentIdentity {
            file,
            directory: self.directory,
            shard: self.shard,
            kind,
            created_ms: self.reactor.wall_ms(),
            sequence_end: sequence.0 + 1,
        }
    }

    async fn promote_file(self: &Rc<Self>, job: &Job) -> Result<Built, MaintainError> {
        let mut index = IndexBuilder::default();
        let mut source = Source { core: self, job, loaded: None };
        let file_bytes = self.state().wal.file_bytes;
        for (partition, entries) in &job.partitions {
            index.begin_run(*partition, entries[0].base_offset);
            let mut end = entries[0].base_offset;
            for (at, entry) in entries.iter().enumerate() {
                let (header, _) = source.batch(entry).await?;
                index.add(&header, entry.position.split(file_bytes).1);
                end = header.end_offset();
                if at % 1024 == 1023 {
                    self.reactor.yield_now().await;
                }
            }
            index.end_run(end, false);
        }
        source.end().await;
        if let Some(file) = self.state_mut().wal.full.front_mut() {
            debug_assert_eq!(file.number, job.number);
            file.shortened = true;
        }
        let identity = self.identity(job.number, SegmentKind::Promoted, job.sequence);
        Ok(promote(&self.governor, job.id, job.end, identity, index).await?)
    }

    async fn build_segments(self: &Rc<Self>, job: &Job) -> Result<Vec<Built>, MaintainError> {
        let own_min = self.config.segment.own_bytes_min;
        let size = |entries: &[TailEntry]| entries.iter().map(|entry| u64::from(entry.len)).sum::<u64>();
        let (own, shared): (Vec<_>, Vec<_>) =
            job.partitions.iter().partition(|(_, entries)| size(entries) >= own_min);
        let shared = (!shared.is_empty()).then_some((shared, SegmentKind::Shared));
        let own = own.into_iter().map(|each| (vec![each], SegmentKind::Own));
        let mut built = Vec::new();
        let mut source = Source { core: self, job, loaded: None };
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
        let identity = self.identity(number, kind, source.job.sequence);
        let path = self.path(number);
        let mut writer = SegmentWriter::create(&self.governor, path, identity).await?;
        let filled = fill(&mut writer, source, partitions).await;
        if let Err(error) = filled {
            writer.abandon().await;
            return Err(error);
        }
        Ok(writer.finish().await?)
    }

    /// The manifest has the new segments: the file's entries make way for them, and it is free.
    async fn adopt_sealed(self: &Rc<Self>, job: &Job, built: &[Built], leaves: bool) {
        self.adopt(built, &BTreeSet::new()).await;
        let (touched, floor) = {
            let mut state = self.state_mut();
            let floor = WalPosition::new(job.floor.0, 0, state.wal.file_bytes);
            (state.wal.full.front_mut().map(|file| std::mem::take(&mut file.touched)), floor)
        };
        self.drop_sealed_entries(touched.unwrap_or_default(), floor).await;
        let mut state = self.state_mut();
        let Some(file) = state.wal.full.pop_front() else { return };
        debug_assert_eq!(file.number, job.number);
        if leaves {
            self.close_later(file.id);
        } else {
            state.wal.spares.push_back(SpareFile { number: file.number, id: file.id });
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
            let (header, bytes) = source.batch(entry).await?;
            writer.add(&header, &bytes).await?;
            end = header.end_offset();
        }
        writer.end_run(end, false);
    }
    Ok(())
}
