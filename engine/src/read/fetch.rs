//! Step 2: get the bytes, from the tail cache, the WAL or a segment.

use std::rc::Rc;

use thalweg_io::Backend;

use crate::ids::Offset;
use crate::partitions::{RunRef, TailEntry};
use crate::planted::{Planted, planted};
use crate::read::cut::Bounds;
use crate::read::locate::{Located, Target, locate, visible_end};
use crate::read::request::{FetchError, FetchRequest, Fetched, ReadFrom, Unchecked};
use crate::record::{BatchHeader, BatchView};
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
                Look::Done(Ok(Fetched { next: end, log_start, end, ..Fetched::default() }))
            }
            Located::Run { index, target } => Look::Disk(Plan::Run(partition.runs[index], target), bounds),
            Located::Tail { index } => {
                let entries = partition.tail.range(index..).take_while(|entry| entry.base_offset < end);
                let batches = self.lend(entries.clone(), request.bytes_max, &state.cache);
                if let Some(last) = batches.last() {
                    let (next, log_start) = (last.end_offset(), partition.log_start);
                    let unchecked = Vec::new();
                    return Look::Done(Ok(Fetched { batches, unchecked, next, log_start, end }));
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
                Look::Disk(Plan::Wal(close_entries(entries, self.fetch_bytes(request), file_bytes)), bounds)
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
                Err(_) if planted(Planted::ReadErrorIsEnd) => {
                    let Bounds { end, .. } = bounds;
                    request.slot.fill(Ok(Fetched { next: end, end, ..Fetched::default() }));
                }
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
            if next.is_wanted() {
                self.fetch(next);
            }
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
                Plan::Wal(entries) => self.read_wal(request, entries, &bounds).await,
                Plan::Run(run, target) => self.read_run(request, run, *target, &bounds).await,
            };
            let checked = match read {
                Ok(read) if !request.check => {
                    return Ok(self.answer_with(request, Vec::new(), read.pieces, read.next, &bounds));
                }
                Ok(read) => {
                    let target = if let Plan::Run(_, target) = &plan { Some(*target) } else { None };
                    self.check_pieces(&read, target).await.map(|batches| (batches, read.next))
                }
                Err(error) => Err(error),
            };
            let (file, flaw) = match checked {
                Ok((batches, next)) => {
                    return Ok(self.answer_with(request, batches, Vec::new(), next, &bounds));
                }
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
        unchecked: Vec<Unchecked>,
        next: Offset,
        bounds: &Bounds,
    ) -> Option<Fetched> {
        let state = self.state();
        let partition = state.partitions.get(request.partition)?;
        let next = next.min(bounds.end);
        let end = visible_end(partition, request.level);
        Some(Fetched { batches, unchecked, next, log_start: partition.log_start, end })
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
