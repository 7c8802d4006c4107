//! Step 2, from disk: the bytes of what was planned, in one piece for each entry of the index.

use std::rc::Rc;

use thalweg_io::{BLOCK, Backend, View};

use crate::governor::Work;
use crate::ids::{FileNumber, Offset};
use crate::partitions::{RunRef, TailEntry};
use crate::read::cut::{Bounds, Expected, Flaw, Piece, cut_expected};
use crate::read::locate::Target;
use crate::read::request::{FetchRequest, Unchecked};
use crate::record::BatchView;
use crate::segment::{IndexEntry, ReadError, SegmentReader};
use crate::shard::Core;

/// Bytes between two entries that are worth reading over.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// What was read, and where to go on.
pub(crate) struct Read {
    pub pieces: Vec<Unchecked>,
    pub next: Offset,
    pub file: FileNumber,
}

impl<B: Backend> Core<B> {
    /// Reads entries of the tail from their WAL file. It may get another life meanwhile, in which
    /// whole batches of the same partition lie at the same places: each has to be the one wanted.
    pub(super) async fn read_wal(
        self: &Rc<Self>,
        request: &FetchRequest,
        entries: &[TailEntry],
        bounds: &Bounds,
    ) -> Result<Read, (FileNumber, Flaw)> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err((FileNumber(0), Flaw { position: 0, reason: "nothing to read".to_owned() }));
        };
        let found = self.state().wal.locate(first.position).map(|(file, byte)| (file.number, file.id, byte));
        let Some((file, id, byte)) = found else {
            let (_, position) = first.position.split(self.state().wal.file_bytes);
            return Err((FileNumber(0), Flaw { position, reason: "the WAL file is gone".to_owned() }));
        };
        request.promise(last.end_offset().min(bounds.end));
        let start = byte / BLOCK as u64 * BLOCK as u64;
        let end = byte + (last.position.0 - first.position.0) + u64::from(last.len);
        let len = (end - start) as usize;
        let _lease = self.leases.take(id);
        let read = self.governor.read(Work::Read, id, start, self.buffers.take(len)).await;
        let buf = read.map_err(|(position, error)| (file, Flaw { position, reason: error.to_string() }))?;
        let bytes = View::of(buf, len);
        let piece = |entry: &TailEntry| {
            let at = (byte - start + entry.position.0 - first.position.0) as usize;
            let bytes = bytes.slice(at..at + entry.len as usize);
            Unchecked {
                piece: Piece { bytes, position: start + at as u64 },
                expected: Expected { base: entry.base_offset, end: entry.end_offset(), batches: 1 },
                bounds: *bounds,
            }
        };
        Ok(Read { pieces: entries.iter().map(piece).collect(), next: last.end_offset(), file })
    }

    /// Reads from a run of a segment.
    pub(super) async fn read_run(
        self: &Rc<Self>,
        request: &FetchRequest,
        run: &RunRef,
        target: Target,
        bounds: &Bounds,
    ) -> Result<Read, (FileNumber, Flaw)> {
        let flaw = |error: ReadError| (run.file, Flaw { position: error.position, reason: error.reason });
        let opened = self.files.open(self.path(run.file), run.file).await.map_err(flaw)?;
        let reader = SegmentReader::new(&self.governor, Work::Read, opened.id(), opened.len())
            .into_buffers_of(&self.buffers);
        let entries = self.files.index(&opened, &reader, run).await.map_err(flaw)?;
        let near = near(&entries[target.first_of(&entries)..], self.fetch_bytes(request));
        let next = near.last().map_or(bounds.from, |entry| entry.end_offset);
        // Behind the last entry the run may have lost records to compaction.
        let exhausted = entries.last().is_none_or(|entry| entry.end_offset <= next);
        let next = if exhausted { run.end_offset } else { next };
        let (Some(first), Some(last)) = (near.first(), near.last()) else {
            return Ok(Read { pieces: Vec::new(), next, file: run.file });
        };
        request.promise(next.min(bounds.end));
        let len = last.position + u64::from(last.bytes) - first.position;
        let bytes = reader.bytes(first.position, len as usize).await.map_err(flaw)?;
        let piece = |entry: &IndexEntry| {
            let at = (entry.position - first.position) as usize;
            let bytes = bytes.slice(at..at + entry.bytes as usize);
            Unchecked {
                piece: Piece { bytes, position: entry.position },
                expected: Expected {
                    base: entry.base_offset,
                    end: entry.end_offset,
                    batches: entry.batches as usize,
                },
                bounds: *bounds,
            }
        };
        Ok(Read { pieces: near.iter().map(piece).collect(), next, file: run.file })
    }

    /// Bytes that a fetch may gather now: large ones only where no commits are under way.
    pub(super) fn fetch_bytes(&self, request: &FetchRequest) -> u32 {
        if self.governor.is_quiet() {
            return request.bytes_max;
        }
        request.bytes_max.min(self.config.read.fetch_bytes_max)
    }

    /// Checks what was read and cuts it into batches, a step at a time.
    pub(super) async fn check_pieces(
        &self,
        read: &Read,
        target: Option<Target>,
    ) -> Result<Vec<BatchView>, (FileNumber, Flaw)> {
        let mut batches = Vec::new();
        for unchecked in &read.pieces {
            let mut found = unchecked.cut().map_err(|flaw| (read.file, flaw))?;
            if let Some(Target::Timestamp(wanted, _)) = target
                && batches.is_empty()
            {
                found.retain(|batch| batch.header().max_timestamp_ms >= wanted);
            }
            batches.append(&mut found);
            self.reactor.yield_now().await;
        }
        Ok(batches)
    }
}

impl Unchecked {
    /// The batches in it that are wanted, all of it checked.
    ///
    /// # Errors
    /// [`Flaw`] if it holds anything else than the index says.
    pub(crate) fn cut(&self) -> Result<Vec<BatchView>, Flaw> {
        let mut batches = Vec::new();
        cut_expected(&self.piece, &self.expected, &self.bounds, &mut batches)?;
        Ok(batches)
    }
}

/// Entries from the first on that one read can get: whole blocks of `bytes_max` in all, without
/// wide gaps. One at least, if there is any.
fn near(entries: &[IndexEntry], bytes_max: u32) -> &[IndexEntry] {
    let Some(first) = entries.first() else { return entries };
    let start = first.position / BLOCK as u64 * BLOCK as u64;
    let mut end = first.position + u64::from(first.bytes);
    let mut count = 1;
    for entry in &entries[1..] {
        let gap = entry.position.checked_sub(end);
        let entry_end = entry.position + u64::from(entry.bytes);
        let total = entry_end.next_multiple_of(BLOCK as u64).saturating_sub(start);
        if gap.is_none_or(|gap| gap > GAP_BYTES_MAX) || total > u64::from(bytes_max) {
            break;
        }
        (end, count) = (entry_end, count + 1);
    }
    &entries[..count]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(places: &[(u64, u32)], bytes_max: u32, want: usize) {
        let entry = |(position, bytes): &(u64, u32)| IndexEntry {
            base_offset: Offset(*position),
            end_offset: Offset(position + 1),
            position: *position,
            max_timestamp_ms: 0,
            bytes: *bytes,
            batches: 1,
        };
        let entries: Vec<_> = places.iter().map(entry).collect();
        assert_eq!(near(&entries, bytes_max).len(), want, "{places:?}");
    }

    #[test]
    fn one_read_gets_what_lies_together() {
        check(&[], 4096, 0);
        check(&[(100, 1 << 20)], 4096, 1); // one at least, whatever its length
        check(&[(0, 4096), (4096, 4096), (8192, 1)], 8192, 2);
        check(&[(4000, 200), (8100, 100)], 8192, 1); // three blocks
        check(&[(0, 100), (65_636, 100), (131_273, 100)], 1 << 20, 2); // a gap of 64 KiB, and a wider one
        check(&[(8192, 100), (0, 100)], 1 << 20, 1); // never backwards
    }
}
