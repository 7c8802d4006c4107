//! Merging: shared segments of short runs become fewer, and segments with little live data are rewritten.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use thalweg_io::Backend;

use crate::config::SegmentConfig;
use crate::governor::Work;
use crate::ids::{FileNumber, Offset, PartitionId};
use crate::maintain::MaintainError;
use crate::maintain::compact::{Keep, KeyMap, compact_batch};
use crate::manifest::{Change, SegmentKind, SegmentMeta};
use crate::partitions::{Partition, RunRef};
use crate::planted::{Planted, planted};
use crate::read::cut::{Bounds, Piece, cut_piece};
use crate::record::BatchView;
use crate::segment::{
    Built, ENTRY_BYTES, IndexEntry, ReadError, Run, SegmentIdentity, SegmentReader, SegmentWriter, Window,
};
use crate::shard::Core;
use crate::shard::state::{SegmentState, State};

/// Which segments to rewrite next, if any: too many shared ones with short runs, or one with little
/// live data.
pub(crate) fn pick(state: &State, config: &SegmentConfig) -> Option<Vec<FileNumber>> {
    let settled = state.segments.values().filter(|segment| segment.is_settled());
    let mut short: Vec<_> = settled
        .clone()
        .filter(|segment| has_short_runs(&segment.meta, config.run_bytes_min))
        .map(|segment| segment.meta.file)
        .collect();
    let fan_in = config.merge_fan_in as usize;
    if short.len() >= fan_in {
        short.sort_unstable();
        short.truncate(fan_in);
        return Some(short);
    }
    // The sizes come from the disk.
    let live_percent_min = u128::from(config.live_percent_min);
    let sparse = settled.filter(|segment| {
        u128::from(segment.live_bytes) * 100 < u128::from(segment.meta.batch_bytes) * live_percent_min
    });
    Some(vec![sparse.min_by_key(|segment| segment.meta.file)?.meta.file])
}

/// Whether merging a segment with others is worth writing each of its bytes once more.
fn has_short_runs(meta: &SegmentMeta, run_bytes_min: u64) -> bool {
    meta.kind == SegmentKind::Shared && meta.batch_bytes / u64::from(meta.runs.max(1)) < run_bytes_min
}

/// Whether so much of a compacted partition is new that its keys are worth comparing.
fn is_overwritten(partition: &Partition) -> bool {
    let total: u64 = partition.runs.iter().map(|run| run.bytes).sum();
    let dirty = partition.runs.iter().filter(|run| run.end_offset > partition.compacted_to);
    let dirty: u64 = dirty.map(|run| run.bytes).sum();
    partition.config.compact && dirty > 0 && dirty * 2 >= total
}

/// A partition's runs in the inputs that follow each other without another segment between.
struct Stretch {
    partition: PartitionId,
    runs: Vec<RunRef>,
    log_start: Offset,
    compact: bool,
    /// Whether it holds all of the partition's runs, so that keys can be compared.
    whole: bool,
    tombstone_age_ms: u64,
    /// Offsets below it have been compacted.
    compacted_to: Offset,
}

impl Stretch {
    /// The first offset to keep.
    fn start(&self) -> Option<Offset> {
        Some(self.runs.first()?.base_offset.max(self.log_start))
    }

    fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes).sum()
    }
}

/// Adds the stretches of one partition.
fn add_stretches(
    id: PartitionId,
    partition: &Partition,
    inputs: &BTreeSet<FileNumber>,
    stretches: &mut Vec<Stretch>,
) {
    for runs in partition.runs.chunk_by(|a, b| inputs.contains(&a.file) == inputs.contains(&b.file)) {
        if !inputs.contains(&runs[0].file) {
            continue;
        }
        stretches.push(Stretch {
            partition: id,
            runs: runs.to_vec(),
            log_start: partition.log_start,
            compact: partition.config.compact,
            whole: runs.len() == partition.runs.len(),
            tombstone_age_ms: partition.config.tombstone_age_ms,
            compacted_to: partition.compacted_to,
        });
    }
}

/// For each input what was read last of its index and of its batches: partitions follow each other
/// in both.
type Windows = BTreeMap<FileNumber, (Window, Window)>;

impl<B: Backend> Core<B> {
    /// Which segments to rewrite next, if any; those of a partition whose keys were written over last.
    pub(super) async fn pick_merge(&self) -> Option<Vec<FileNumber>> {
        let config = &self.config.segment;
        let picked = pick(&self.state(), config);
        if picked.is_some() || !self.state().partitions.has_compacted() {
            return picked;
        }
        let mut first = None;
        self.walk_partitions(|id, partition| {
            if first.is_none() && is_overwritten(partition) {
                first = Some(id);
            }
        })
        .await;
        let state = self.state();
        let files: BTreeSet<_> = state.partitions.get(first?)?.runs.iter().map(|run| run.file).collect();
        let settled = |file| state.segments.get(file).is_some_and(SegmentState::is_settled);
        files.iter().all(settled).then(|| files.into_iter().collect())
    }

    /// Writes what is live in `inputs` to new segments and lets those take their place.
    pub(super) async fn rewrite(self: &Rc<Self>, inputs: &[FileNumber]) -> Result<(), MaintainError> {
        // All of them die on the way if their partitions are trimmed: nobody else may have them.
        inputs.iter().for_each(|file| {
            self.state_mut().take_segment(*file);
        });
        let done = self.rewrite_taken(inputs).await;
        if done.is_err() {
            inputs.iter().for_each(|file| self.state_mut().give_back_segment(*file));
        }
        done
    }

    async fn rewrite_taken(self: &Rc<Self>, inputs: &[FileNumber]) -> Result<(), MaintainError> {
        let replaced: BTreeSet<_> = inputs.iter().copied().collect();
        let stretches = self.stretches(&replaced).await;
        let mut built = Vec::new();
        let written = self.write_merged(&stretches, &mut built).await;
        if let Err(error) = written.and_then(|()| covers(&stretches, &built)) {
            self.remove_built(&built).await;
            return Err(error);
        }
        let mut changes: Vec<_> = inputs.iter().map(|file| Change::SegmentRemoved(*file)).collect();
        changes.extend(built.iter().map(|built| Change::SegmentAdded(built.meta.clone())));
        if planted(Planted::MergedRemovedEarly) {
            self.adopt(&built, &replaced).await;
            self.remove_merged(inputs).await;
        }
        if let Err(error) = self.commit_manifest(changes).await {
            let error = MaintainError::from(error);
            if !error.is_fatal() {
                self.remove_built(&built).await;
            }
            return Err(error);
        }
        if !planted(Planted::MergedRemovedEarly) {
            self.adopt(&built, &replaced).await;
            self.remove_merged(inputs).await;
        }
        self.metrics.borrow_mut().segments_merged += inputs.len() as u64;
        Ok(())
    }

    /// Removes segments that nothing refers to any more.
    async fn remove_merged(&self, inputs: &[FileNumber]) {
        for file in inputs {
            self.state_mut().segments.remove(file);
            self.files.forget(*file);
            let removed = self.reactor.run(thalweg_io::Op::Remove { path: self.path(*file) }).await;
            if let Err(error) = removed {
                tracing::warn!(shard = self.shard.0, file = file.0, %error, "a merged segment stays on disk");
            }
        }
    }

    /// Writes the stretches: large ones to segments of their own, the others to one they share.
    async fn write_merged(
        self: &Rc<Self>,
        stretches: &[Stretch],
        built: &mut Vec<Built>,
    ) -> Result<(), MaintainError> {
        let mut shared = None;
        let mut windows = Windows::default();
        let written = self.write_stretches(stretches, &mut shared, &mut windows, built).await;
        match (written, shared) {
            (Ok(()), Some(writer)) => built.push(writer.finish().await?),
            (Err(error), Some(writer)) => {
                writer.abandon().await;
                return Err(error);
            }
            (written, None) => return written,
        }
        Ok(())
    }

    async fn write_stretches<'a>(
        self: &'a Rc<Self>,
        stretches: &[Stretch],
        shared: &mut Option<SegmentWriter<'a, B>>,
        windows: &mut Windows,
        built: &mut Vec<Built>,
    ) -> Result<(), MaintainError> {
        let mut seen = BTreeSet::new();
        for stretch in stretches {
            // A segment holds one run of a partition; further ones get segments of their own.
            let mut own =
                stretch.bytes() >= self.config.segment.own_bytes_min || !seen.insert(stretch.partition);
            let mut rest = stretch.start();
            while let Some(from) = rest {
                if !own {
                    if shared.is_none() {
                        *shared = Some(self.merge_writer().await?);
                    }
                    let Some(writer) = shared else { break };
                    rest = self.copy_stretch(writer, stretch, from, windows).await?;
                    own = true;
                    continue;
                }
                let mut writer = self.merge_writer().await?;
                match self.copy_stretch(&mut writer, stretch, from, windows).await {
                    Ok(behind) => rest = behind,
                    Err(error) => {
                        writer.abandon().await;
                        return Err(error);
                    }
                }
                built.push(writer.finish().await?);
            }
        }
        Ok(())
    }

    /// What is live in `inputs`, by partition and then offset.
    async fn stretches(&self, inputs: &BTreeSet<FileNumber>) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        self.walk_partitions(|id, partition| add_stretches(id, partition, inputs, &mut stretches)).await;
        stretches
    }

    async fn merge_writer(self: &Rc<Self>) -> Result<SegmentWriter<'_, B>, MaintainError> {
        let number = self.state_mut().take_file_number();
        let identity = SegmentIdentity {
            file: number,
            directory: self.directory,
            shard: self.shard,
            kind: SegmentKind::Merged,
            created_ms: self.reactor.wall_ms(),
            sequence_end: 0,
        };
        Ok(SegmentWriter::create(&self.governor, self.path(number), identity).await?)
    }

    /// Copies a stretch from offset `from` on, as one run. Returns where to go on, if the keys of a
    /// compacted one did not all fit in memory.
    async fn copy_stretch(
        self: &Rc<Self>,
        writer: &mut SegmentWriter<'_, B>,
        stretch: &Stretch,
        from: Offset,
        windows: &mut Windows,
    ) -> Result<Option<Offset>, MaintainError> {
        let Some(last) = stretch.runs.last() else { return Ok(None) };
        let compacting = stretch.compact && stretch.whole && Some(from) == stretch.start();
        let mut keys = KeyMap::default();
        if compacting {
            // Below `compacted_to` every key is there once.
            for run in stretch.runs.iter().filter(|run| run.end_offset > stretch.compacted_to) {
                self.for_each_batch(stretch, run, windows, async |batch: BatchView| {
                    keys.note(&batch).map_err(MaintainError::from)
                })
                .await?;
            }
        }
        let end = keys.end().unwrap_or(last.end_offset);
        writer.begin_run(stretch.partition, from);
        let horizon_ms = self.reactor.wall_ms().saturating_sub_unsigned(stretch.tombstone_age_ms);
        let runs = stretch.runs.iter().filter(|run| run.end_offset > from && run.base_offset < end);
        for run in runs {
            self.for_each_batch(stretch, run, windows, async |batch: BatchView| {
                let lost = planted(Planted::MergeLosesBatch) && batch.base_offset().0 % 16 == 9;
                if batch.end_offset() <= from || batch.base_offset() >= end || lost {
                    return Ok(());
                }
                let kept = if compacting { compact_batch(&batch, &keys, horizon_ms)? } else { Keep::Whole };
                match kept {
                    Keep::Whole => writer.add(batch.header(), batch.bytes()).await?,
                    Keep::Part(header, bytes) => writer.add(&header, &bytes).await?,
                    Keep::Nothing => {}
                }
                Ok(())
            })
            .await?;
        }
        writer.end_run(end, compacting);
        Ok((end < last.end_offset).then_some(end))
    }

    /// Gives every live batch of a run, in order.
    async fn for_each_batch(
        self: &Rc<Self>,
        stretch: &Stretch,
        run: &RunRef,
        windows: &mut Windows,
        mut visit: impl AsyncFnMut(BatchView) -> Result<(), MaintainError>,
    ) -> Result<(), MaintainError> {
        let open = self.files.open(self.path(run.file), run.file).await?;
        let reader = SegmentReader::new(&self.governor, Work::Upkeep, open.id(), open.len());
        let first = open.trailer().footer_position + u64::from(run.first_entry) * ENTRY_BYTES as u64;
        let windows = windows.entry(run.file).or_default();
        let entries =
            reader.bytes_near(&mut windows.0, first, run.entry_count as usize * ENTRY_BYTES).await?;
        let entries: Vec<_> = entries
            .chunks_exact(ENTRY_BYTES)
            .map(IndexEntry::read)
            .collect::<Result<_, _>>()
            .map_err(|error| ReadError::new(first, error))?;
        let bounds = Bounds { partition: stretch.partition, from: stretch.log_start, end: Offset(u64::MAX) };
        for entry in entries {
            let bytes = reader.bytes_near(&mut windows.1, entry.position, entry.bytes as usize).await?;
            let piece = Piece { bytes, position: entry.position };
            let mut batches = Vec::new();
            cut_piece(&piece, &bounds, &mut batches)
                .map_err(|flaw| ReadError::new(flaw.position, flaw.reason))?;
            for batch in batches {
                visit(batch).await?;
            }
        }
        Ok(())
    }
}

/// Whether the new segments cover what the old ones did: nothing may be deleted otherwise.
fn covers(stretches: &[Stretch], built: &[Built]) -> Result<(), MaintainError> {
    let mut runs: Vec<_> = built.iter().flat_map(|built| &built.runs).collect();
    runs.sort_unstable_by_key(|run| (run.partition, run.base_offset));
    let mut runs = runs.into_iter();
    for stretch in stretches {
        let (Some(first), Some(last)) = (stretch.runs.first(), stretch.runs.last()) else { continue };
        // The log start offset may lie inside the first batch that is kept.
        let starts = first.base_offset..=first.base_offset.max(stretch.log_start);
        let mut end = None;
        while end.is_none_or(|end| end < last.end_offset) {
            let follows = |run: &&Run| {
                run.partition == stretch.partition
                    && end.map_or(starts.contains(&run.base_offset), |end| run.base_offset == end)
                    && end.is_none_or(|end| run.end_offset > end)
            };
            let Some(run) = runs.next().filter(follows) else { break };
            end = Some(run.end_offset);
        }
        let matches = end == Some(last.end_offset);
        if !matches {
            let reason = format!("the merge of partition {} does not cover its inputs", stretch.partition);
            return Err(ReadError::new(0, reason).into());
        }
    }
    Ok(())
}
