//! Step 2: get the bytes, from the tail cache, the WAL or a segment.

use std::rc::Rc;

use thalweg_io::{AlignedBuf, BLOCK, Backend, View};

use crate::ids::{FileNumber, Offset};
use crate::partitions::{RunRef, TailEntry};
use crate::read::cut::{Bounds, Expected, Flaw, Piece, cut_expected};
use crate::read::locate::{Located, Target, locate, visible_end};
use crate::read::request::{FetchError, FetchRequest, Fetched, ReadFrom};
use crate::record::{BatchHeader, BatchView};
use crate::segment::{ReadError, SegmentReader};
use crate::shard::Core;

/// Times a disk fetch looks again because the WAL moved on while it read.
const RETRIES_MAX: u32 = 8;

/// What a disk fetch is to read: taken from the state, so that nothing is borrowed while it reads.
enum Plan {
    /// Entries of the tail that lie close together in one WAL file.
    Wal(Vec<TailEntry>),
    /// A run of a segment.
    Run(RunRef, Target),
}

/// What looking in memory came to.
enum Look {
    Done(Result<Fetched, FetchError>),
    Wait(Offset),
    Disk(Plan, Bounds),
}

impl<B: Backend> Core<B> {
    /// Answers a fetch now, later from disk, or when there is more.
    pub(crate) fn fetch(self: &Rc<Self>, request: FetchRequest) {
        match self.look(&request) {
            Look::Done(answer) => request.slot.fill(answer),
            Look::Wait(end) => self.wait_at_end(request, end),
            Look::Disk(plan, bounds) => self.fetch_from_disk(request, plan, bounds),
        }
    }

    fn look(&self, request: &FetchRequest) -> Look {
        let state = self.state();
        let id = request.partition;
        let Some(partition) = state.partitions.get(id) else {
            return Look::Done(Err(FetchError::NoSuchPartition(id)));
        };
        let located = match locate(id, partition, request.from, request.level) {
            Ok(located) => located,
            Err(error) => return Look::Done(Err(error)),
        };
        let end = visible_end(partition, request.level);
        let from = match request.from {
            ReadFrom::Offset(offset) => offset,
            ReadFrom::Earliest | ReadFrom::Timestamp(_) => partition.log_start,
            ReadFrom::Latest => end,
        };
        let bounds = Bounds { partition: id, from, end };
        match located {
            Located::End if request.wait => Look::Wait(end),
            Located::End => {
                let log_start = partition.log_start;
                Look::Done(Ok(Fetched { batches: Vec::new(), next: end, log_start, end }))
            }
            Located::Run { index, target } => Look::Disk(Plan::Run(partition.runs[index], target), bounds),
            Located::Tail { index } => {
                let entries = partition.tail.range(index..).take_while(|entry| entry.base_offset < end);
                let batches = self.lend(entries.clone(), request.bytes_max, &state.cache);
                if let Some(last) = batches.last() {
                    let (next, log_start) = (last.end_offset(), partition.log_start);
                    return Look::Done(Ok(Fetched { batches, next, log_start, end }));
                }
                let first = partition.tail[index];
                if state.wal.locate(first.position).is_none() {
                    // Sealed and no longer cached: the segment has it.
                    let run = partition.runs.partition_point(|run| run.end_offset <= first.base_offset);
                    if let Some(run) = partition.runs.get(run) {
                        return Look::Disk(Plan::Run(*run, Target::Offset(first.base_offset)), bounds);
                    }
                }
                let file_bytes = state.wal.file_bytes;
                Look::Disk(Plan::Wal(close_entries(entries, request.bytes_max, file_bytes)), bounds)
            }
        }
    }

    /// Views of as many entries as are cached, from the first on. They were checked when written.
    fn lend<'a>(
        &self,
        entries: impl Iterator<Item = &'a TailEntry>,
        bytes_max: u32,
        cache: &crate::cache::TailCache,
    ) -> Vec<BatchView> {
        let mut batches: Vec<BatchView> = Vec::new();
        let mut bytes = 0;
        for entry in entries {
            if !batches.is_empty() && bytes + entry.len > bytes_max {
                break;
            }
            let Some(view) = cache.lend(entry.position, entry.len as usize) else { break };
            let Ok(header) = BatchHeader::read(&view) else { break };
            bytes += entry.len;
            batches.push(BatchView::checked(header, view));
        }
        batches
    }

    fn fetch_from_disk(self: &Rc<Self>, request: FetchRequest, plan: Plan, bounds: Bounds) {
        let mut state = self.state_mut();
        if state.disk_fetches >= self.config.read.disk_fetches_max {
            state.disk_queue.push_back(request);
            return;
        }
        state.disk_fetches += 1;
        drop(state);
        let core = self.clone();
        self.reactor.spawn(async move {
            let answer = core.read_plan(&request, plan, bounds).await;
            match answer {
                Ok(Some(fetched)) => request.slot.fill(Ok(fetched)),
                Err(error) => request.slot.fill(Err(error)),
                // The records moved or went away: look again from the start.
                Ok(None) => core.state_mut().disk_queue.push_front(request),
            }
            core.state_mut().disk_fetches -= 1;
            core.fetch_queued();
        });
    }

    /// Lets queued fetches have the disk, as many as may.
    fn fetch_queued(self: &Rc<Self>) {
        loop {
            let mut state = self.state_mut();
            if state.disk_fetches >= self.config.read.disk_fetches_max {
                return;
            }
            let Some(next) = state.disk_queue.pop_front() else { return };
            drop(state);
            self.fetch(next);
        }
    }

    /// Reads what was planned. Answers `None` if there is nothing left of it.
    async fn read_plan(
        self: &Rc<Self>,
        request: &FetchRequest,
        mut plan: Plan,
        bounds: Bounds,
    ) -> Result<Option<Fetched>, FetchError> {
        for _ in 0..RETRIES_MAX {
            let read = match &plan {
                Plan::Wal(entries) => self.read_wal(entries, &bounds).await,
                Plan::Run(run, target) => self.read_run(run, *target, request.bytes_max, &bounds).await,
            };
            let (file, flaw) = match read {
                Ok((batches, next)) => return Ok(self.answer_with(request, batches, next, &bounds)),
                Err(error) => error,
            };
            // The place may have been recycled while we read it. If the records are elsewhere by
            // now, read them there; if they should still be here, they are damaged.
            match self.look(request) {
                Look::Done(answer) => return answer.map(Some),
                Look::Wait(_) => return Ok(None),
                Look::Disk(again, _) if again.is(&plan) => {
                    return Err(FetchError::Storage {
                        partition: request.partition,
                        offset: bounds.from,
                        file,
                        position: flaw.position,
                        reason: flaw.reason,
                    });
                }
                Look::Disk(again, _) => plan = again,
            }
        }
        Ok(None)
    }

    fn answer_with(
        &self,
        request: &FetchRequest,
        batches: Vec<BatchView>,
        next: Offset,
        bounds: &Bounds,
    ) -> Option<Fetched> {
        let state = self.state();
        let partition = state.partitions.get(request.partition)?;
        let next = batches.last().map_or(next, |last| last.end_offset().max(next)).min(bounds.end);
        let end = visible_end(partition, request.level);
        Some(Fetched { batches, next, log_start: partition.log_start, end })
    }

    /// Reads entries of the tail from their WAL file. It may get another life meanwhile, in which
    /// whole batches of the same partition lie at the same places: each has to be the one wanted.
    async fn read_wal(
        self: &Rc<Self>,
        entries: &[TailEntry],
        bounds: &Bounds,
    ) -> Result<(Vec<BatchView>, Offset), (FileNumber, Flaw)> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err((FileNumber(0), Flaw { position: 0, reason: "nothing to read".to_owned() }));
        };
        let found = self.state().wal.locate(first.position).map(|(file, byte)| (file.number, file.id, byte));
        let Some((file, id, byte)) = found else {
            let (_, position) = first.position.split(self.state().wal.file_bytes);
            return Err((FileNumber(0), Flaw { position, reason: "the WAL file is gone".to_owned() }));
        };
        let start = byte / BLOCK as u64 * BLOCK as u64;
        let end = byte + (last.position.0 - first.position.0) + u64::from(last.len);
        let len = (end - start) as usize;
        self.governor.permit(len as u64).await;
        let (buf, read) = self.reactor.read(id, start, AlignedBuf::zeroed(len)).await;
        let flaw = |position, reason: String| (file, Flaw { position, reason });
        let read = read.map_err(|error| flaw(start, error.to_string()))?;
        if read < len {
            return Err(flaw(start, format!("the file ends after {read} of {len} B")));
        }
        let bytes = View::of(buf, len);
        let mut batches = Vec::new();
        for entry in entries {
            let at = (byte - start + entry.position.0 - first.position.0) as usize;
            let piece =
                Piece { bytes: bytes.slice(at..at + entry.len as usize), position: start + at as u64 };
            let expected = Expected { base: entry.base_offset, end: entry.end_offset(), batches: 1 };
            cut_expected(&piece, &expected, bounds, &mut batches).map_err(|found| (file, found))?;
        }
        Ok((batches, last.end_offset()))
    }

    /// Reads from a run of a segment.
    async fn read_run(
        self: &Rc<Self>,
        run: &RunRef,
        target: Target,
        bytes_max: u32,
        bounds: &Bounds,
    ) -> Result<(Vec<BatchView>, Offset), (FileNumber, Flaw)> {
        let flaw = |error: ReadError| (run.file, Flaw { position: error.position, reason: error.reason });
        let opened = self.files.open(self.path(run.file), run.file).await.map_err(flaw)?;
        let reader = SegmentReader::new(&self.reactor, &self.governor, opened.id(), opened.len());
        let entries =
            reader.entries(opened.trailer(), run.first_entry, run.entry_count).await.map_err(flaw)?;
        let index = match target {
            Target::Offset(wanted) => entries.partition_point(|entry| entry.end_offset <= wanted),
            Target::Timestamp(wanted, from) => {
                entries.partition_point(|entry| entry.max_timestamp_ms < wanted || entry.end_offset <= from)
            }
        };
        let mut batches = Vec::new();
        let mut next = bounds.from;
        let mut bytes = 0;
        for entry in &entries[index.min(entries.len())..] {
            if !batches.is_empty() && bytes + entry.bytes > bytes_max {
                break;
            }
            bytes += entry.bytes;
            let piece = reader.read(entry).await.map_err(flaw)?;
            let mut found = Vec::new();
            let expected =
                Expected { base: entry.base_offset, end: entry.end_offset, batches: entry.batches as usize };
            cut_expected(&piece, &expected, bounds, &mut found).map_err(|found| (run.file, found))?;
            if let Target::Timestamp(wanted, _) = target
                && batches.is_empty()
            {
                found.retain(|batch| batch.header().max_timestamp_ms >= wanted);
            }
            batches.append(&mut found);
            next = entry.end_offset;
        }
        // Behind the last entry the run may have lost records to compaction.
        let last = batches.last().map_or(next, BatchView::end_offset);
        let exhausted = entries.last().is_none_or(|entry| entry.end_offset <= last.max(next));
        Ok((batches, if exhausted { run.end_offset } else { last.max(next) }))
    }
}

impl Plan {
    fn is(&self, other: &Plan) -> bool {
        match (self, other) {
            (Plan::Wal(a), Plan::Wal(b)) => a.first() == b.first(),
            (Plan::Run(a, _), Plan::Run(b, _)) => a == b,
            _ => false,
        }
    }
}

/// Entries from the first on that one read can get: in one WAL file, not too far apart.
fn close_entries<'a>(
    entries: impl Iterator<Item = &'a TailEntry>,
    bytes_max: u32,
    file_bytes: u64,
) -> Vec<TailEntry> {
    let mut close: Vec<TailEntry> = Vec::new();
    for entry in entries {
        if let Some(first) = close.first() {
            let span = entry.position.0 + u64::from(entry.len) - first.position.0;
            let same_file = entry.position.split(file_bytes).0 == first.position.split(file_bytes).0;
            if span > u64::from(bytes_max) || !same_file {
                break;
            }
        }
        close.push(*entry);
    }
    close
}
