//! Writing a segment: from batches in order, or from a WAL file where it lies.

use std::path::PathBuf;

use thalweg_io::{AlignedBuf, BLOCK, Backend, FileId, Op, OpenMode};

use crate::governor::{Governor, Work};
use crate::ids::{FileNumber, Offset, PartitionId, ShardId};
use crate::manifest::{SegmentKind, SegmentMeta};
use crate::planted::{Planted, planted};
use crate::read::cut::{Bounds, Expected, Piece, cut_expected};
use crate::record::BatchHeader;
use crate::segment::encode::Steps;
use crate::segment::footer::{Footer, IndexEntry, Run, Trailer};
use crate::segment::read::{ReadError, SegmentReader, Window, read_trailer};

/// An index entry covers about so many bytes: one read finds a batch.
const ENTRY_BYTES_MIN: u32 = 64 << 10;

/// Bytes that a writer gathers before it asks for a request.
const BUFFER_BYTES: usize = 128 << 10;

/// A segment that is whole, durable and checked, and not yet in the manifest.
#[derive(Clone, Debug)]
pub struct Built {
    /// For the manifest.
    pub meta: SegmentMeta,
    /// For the partitions.
    pub runs: Vec<Run>,
}

/// Collects a segment's index while its batches pass by.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    footer: Footer,
    open: bool,
}

impl IndexBuilder {
    /// Starts the run of a partition; partitions come in ascending order.
    pub(crate) fn begin_run(&mut self, partition: PartitionId, base_offset: Offset) {
        self.footer.runs.push(Run {
            partition,
            entry_count: 0,
            first_entry: self.footer.entries.len() as u32,
            compacted: false,
            base_offset,
            end_offset: base_offset,
            min_timestamp_ms: i64::MAX,
            max_timestamp_ms: i64::MIN,
            bytes: 0,
            records: 0,
        });
        self.open = false;
    }

    /// Adds the next batch of the run, which lies at `position`.
    pub(crate) fn add(&mut self, header: &BatchHeader, position: u64) {
        let Some(run) = self.footer.runs.last_mut() else { return };
        let stride = header.stride() as u32;
        // A log start offset inside a batch keeps all of it.
        run.base_offset = run.base_offset.min(header.base_offset);
        run.end_offset = header.end_offset();
        run.min_timestamp_ms = run.min_timestamp_ms.min(header.base_timestamp_ms);
        run.max_timestamp_ms = run.max_timestamp_ms.max(header.max_timestamp_ms);
        run.bytes += u64::from(stride);
        run.records += u64::from(header.record_count);
        if let Some(entry) = self.footer.entries.last_mut()
            && self.open
            && entry.bytes < ENTRY_BYTES_MIN
            && entry.position + u64::from(entry.bytes) == position
        {
            entry.end_offset = header.end_offset();
            entry.max_timestamp_ms = run.max_timestamp_ms;
            entry.bytes += stride;
            entry.batches += 1;
            return;
        }
        self.open = true;
        run.entry_count += 1;
        self.footer.entries.push(IndexEntry {
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            position,
            max_timestamp_ms: run.max_timestamp_ms,
            bytes: stride,
            batches: 1,
        });
    }

    /// Ends the run: it covers offsets up to `end_offset`, whether their records are kept or not.
    pub(crate) fn end_run(&mut self, end_offset: Offset, compacted: bool) {
        let Some(run) = self.footer.runs.last_mut() else { return };
        run.end_offset = run.end_offset.max(end_offset);
        run.compacted = compacted;
        if run.entry_count == 0 {
            (run.min_timestamp_ms, run.max_timestamp_ms) = (0, i64::MIN);
        }
    }
}

/// Who a segment belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentIdentity {
    pub file: FileNumber,
    pub directory: u128,
    pub shard: ShardId,
    pub kind: SegmentKind,
    pub created_ms: i64,
    pub sequence_end: u64,
}

impl SegmentIdentity {
    fn trailer(&self, footer_position: u64, batch_bytes: u64) -> Trailer {
        Trailer {
            footer_crc: 0,
            footer_position,
            entry_count: 0,
            run_count: 0,
            file: self.file,
            directory: self.directory,
            shard: self.shard,
            kind: self.kind,
            created_ms: self.created_ms,
            batch_bytes,
            sequence_end: self.sequence_end,
        }
    }
}

/// Writes a new segment file.
pub struct SegmentWriter<'a, B: Backend> {
    governor: &'a Governor<B>,
    identity: SegmentIdentity,
    temporary: PathBuf,
    path: PathBuf,
    file: FileId,
    buf: AlignedBuf,
    filled: usize,
    written: u64,
    index: IndexBuilder,
}

impl<'a, B: Backend> SegmentWriter<'a, B> {
    /// Starts a segment under a temporary name beside `path`.
    ///
    /// # Errors
    /// The host's.
    pub(crate) async fn create(
        governor: &'a Governor<B>,
        path: PathBuf,
        identity: SegmentIdentity,
    ) -> std::io::Result<Self> {
        let reactor = governor.reactor();
        let temporary = path.with_extension("tmp");
        let (file, _) = reactor.open(&temporary, OpenMode::CreateNew).await?;
        Ok(SegmentWriter {
            governor,
            identity,
            temporary,
            path,
            file,
            buf: AlignedBuf::zeroed(BUFFER_BYTES),
            filled: 0,
            written: 0,
            index: IndexBuilder::default(),
        })
    }

    /// Starts the run of a partition; partitions come in ascending order.
    pub(crate) fn begin_run(&mut self, partition: PartitionId, base_offset: Offset) {
        self.index.begin_run(partition, base_offset);
    }

    /// Ends the run.
    pub(crate) fn end_run(&mut self, end_offset: Offset, compacted: bool) {
        self.index.end_run(end_offset, compacted);
    }

    /// Bytes of batches so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// Appends a checked batch of the current run.
    ///
    /// # Errors
    /// The host's.
    pub(crate) async fn add(&mut self, header: &BatchHeader, batch: &[u8]) -> std::io::Result<()> {
        self.index.add(header, self.bytes());
        let mut rest = batch;
        while !rest.is_empty() {
            let take = rest.len().min(self.buf.len() - self.filled);
            self.buf[self.filled..self.filled + take].copy_from_slice(&rest[..take]);
            self.filled += take;
            rest = &rest[take..];
            self.flush_full().await?;
        }
        let padding = header.stride() - batch.len();
        // Batches are padded to 8 and the buffer's length is a multiple of 8, so padding never splits.
        self.buf[self.filled..self.filled + padding].fill(0);
        self.filled += padding;
        self.flush_full().await
    }

    async fn flush_full(&mut self) -> std::io::Result<()> {
        if self.filled == self.buf.len() { self.flush(BUFFER_BYTES).await } else { Ok(()) }
    }

    async fn flush(&mut self, len: usize) -> std::io::Result<()> {
        self.governor.write(Work::Upkeep, self.file, self.written, &self.buf[..len]).await?;
        (self.written, self.filled) = (self.written + len as u64, 0);
        Ok(())
    }

    /// Writes the footer, makes the file durable under its name, and reads it back to check it.
    ///
    /// # Errors
    /// The host's, or that what was read back is not what was written.
    pub(crate) async fn finish(mut self) -> std::io::Result<Built> {
        match self.write_footer().await {
            Ok(trailer) => Ok(built(&trailer, self.index.footer)),
            Err(error) => {
                self.abandon().await;
                Err(error)
            }
        }
    }

    async fn write_footer(&mut self) -> std::io::Result<Trailer> {
        let batch_bytes = self.bytes();
        let len = self.filled.next_multiple_of(BLOCK);
        if len > 0 {
            self.flush(len).await?;
        }
        let mut trailer = self.identity.trailer(self.written, batch_bytes);
        write_footer(self.governor, self.file, &self.index.footer, &mut trailer).await?;
        let reactor = self.governor.reactor();
        if !planted(Planted::SegmentNotSynced) {
            reactor.run(Op::Sync { file: self.file }).await?;
        }
        let checked = check(self.governor, self.file, &trailer, &self.index.footer).await;
        let checked = if planted(Planted::SegmentNotReadBack) { Ok(()) } else { checked };
        checked.map_err(|error| std::io::Error::other(format!("reading it back: {error}")))?;
        let (from, to) = (self.temporary.clone(), self.path.clone());
        match planted(Planted::NoDirectorySyncOfSegment) {
            true => reactor.run(Op::Rename { from, to }).await?,
            false => self.governor.put(from, to).await?,
        }
        reactor.run(Op::Close { file: self.file }).await?;
        Ok(trailer)
    }

    /// Gives up: removes what was written. Errors do not matter, opening tidies as well.
    pub(crate) async fn abandon(self) {
        let reactor = self.governor.reactor();
        let _ = reactor.run(Op::Close { file: self.file }).await;
        let _ = reactor.run(Op::Remove { path: self.temporary }).await;
        // It has this name if finishing failed late; nobody refers to it yet.
        let _ = reactor.run(Op::Remove { path: self.path }).await;
    }
}

fn built(trailer: &Trailer, footer: Footer) -> Built {
    let meta = SegmentMeta {
        file: trailer.file,
        file_bytes: trailer.file_bytes(),
        footer_crc: trailer.footer_crc,
        runs: trailer.run_count,
        kind: trailer.kind,
        batch_bytes: trailer.batch_bytes,
    };
    Built { meta, runs: footer.runs }
}

/// Writes footer and trailer at `trailer.footer_position`.
async fn write_footer<B: Backend>(
    governor: &Governor<B>,
    file: FileId,
    footer: &Footer,
    trailer: &mut Trailer,
) -> std::io::Result<()> {
    let mut position = trailer.footer_position;
    for step in Steps::new(footer, trailer) {
        governor.write(Work::Upkeep, file, position, &step).await?;
        position += step.len() as u64;
    }
    Ok(())
}

/// Reads a segment's trailer and footer, and checks that they are the ones written.
async fn check_footer<B: Backend>(
    governor: &Governor<B>,
    file: FileId,
    trailer: &Trailer,
) -> Result<(), ReadError> {
    let len = trailer.file_bytes();
    let found = read_trailer(governor.reactor(), file, len).await?;
    if found != *trailer {
        return Err(ReadError::new(len, "the trailer is not the one written"));
    }
    let reader = SegmentReader::new(governor, Work::Upkeep, file, len);
    let (mut at, end) = (trailer.footer_position, trailer.footer_position + trailer.footer_bytes());
    let mut crc = 0;
    while at < end {
        let step = (end - at).min(BUFFER_BYTES as u64);
        crc = crc32c::crc32c_append(crc, &reader.bytes(at, step as usize).await?);
        at += step;
    }
    if crc != trailer.footer_crc {
        return Err(ReadError::new(trailer.footer_position, "the footer is not the one written"));
    }
    Ok(())
}

/// Reads a whole segment and checks every batch against the index.
///
/// # Errors
/// [`ReadError`] at the first thing that is wrong.
async fn check<B: Backend>(
    governor: &Governor<B>,
    file: FileId,
    trailer: &Trailer,
    footer: &Footer,
) -> Result<(), ReadError> {
    check_footer(governor, file, trailer).await?;
    let reader = SegmentReader::new(governor, Work::Upkeep, file, trailer.file_bytes());
    let mut window = Window::default();
    for run in &footer.runs {
        let entries = &footer.entries[run.first_entry as usize..(run.first_entry + run.entry_count) as usize];
        let bounds = Bounds { partition: run.partition, from: Offset(0), end: Offset(u64::MAX) };
        for entry in entries {
            let bytes = reader.bytes_near(&mut window, entry.position, entry.bytes as usize).await?;
            let piece = Piece { bytes, position: entry.position };
            let expected =
                Expected { base: entry.base_offset, end: entry.end_offset, batches: entry.batches as usize };
            cut_expected(&piece, &expected, &bounds, &mut Vec::new())
                .map_err(|flaw| ReadError::new(flaw.position, flaw.reason))?;
        }
    }
    Ok(())
}

/// Turns a sealed WAL file into a segment where it lies: writes the footer behind its last group
/// and cuts off the rest. The groups stay as they are, and nothing is deleted: only what was written
/// is read back.
///
/// # Errors
/// The host's, or that what was read back is not what was written.
pub(crate) async fn promote<B: Backend>(
    governor: &Governor<B>,
    file: FileId,
    end: u64,
    identity: SegmentIdentity,
    index: IndexBuilder,
) -> std::io::Result<Built> {
    let batch_bytes = index.footer.runs.iter().map(|run| run.bytes).sum();
    let mut trailer = identity.trailer(end, batch_bytes);
    write_footer(governor, file, &index.footer, &mut trailer).await?;
    let reactor = governor.reactor();
    // A WAL file that is shorter than it was made has a whole trailer at its end, or is damaged.
    reactor.run(Op::Sync { file }).await?;
    reactor.run(Op::Truncate { file, len: trailer.file_bytes() }).await?;
    reactor.run(Op::Sync { file }).await?;
    let checked = check_footer(governor, file, &trailer).await;
    checked.map_err(|error| std::io::Error::other(format!("reading it back: {error}")))?;
    Ok(built(&trailer, index.footer))
}
