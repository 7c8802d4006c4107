//! Reading a segment past its first damage.

use thalweg_io::{BLOCK, Backend, FileId, Reactor};

use crate::governor::{Governor, Work};
use crate::ids::{Offset, PartitionId};
use crate::inspect::salvage::Pool;
use crate::manifest::{SegmentKind, SegmentMeta};
use crate::record::{BatchHeader, check_batch};
use crate::segment::{Footer, IndexEntry, ReadError, Run, SegmentReader, Trailer, Window, read_trailer};
use crate::shard::recover::ShardPlace;

/// What reading a whole segment found.
#[derive(Default)]
pub(super) struct Examined {
    pub trailer: Option<Trailer>,
    /// Its index, if that is whole.
    pub footer: Option<Footer>,
    /// Whole batches.
    pub batches: u64,
    /// Everything that is wrong, as far as it can be told apart.
    pub flaws: Vec<ReadError>,
}

/// Reads every run and entry of a segment, past what is damaged. `named` is what the manifest says
/// of it, if the manifest knows it.
pub(super) async fn examine<B: Backend>(
    reactor: &Reactor<B>,
    place: &ShardPlace,
    named: Option<&SegmentMeta>,
    file: FileId,
    len: u64,
) -> Examined {
    let mut examined = Examined::default();
    let trailer = match read_trailer(reactor, file, len).await {
        Ok(trailer) => trailer,
        Err(error) => {
            examined.flaws.push(first_only(error));
            return examined;
        }
    };
    let ours = (trailer.directory, trailer.shard) == (place.superblock.directory, place.shard);
    let the_one = named.is_none_or(|meta| {
        (trailer.file, trailer.footer_crc, len) == (meta.file, meta.footer_crc, meta.file_bytes)
    });
    if !ours || !the_one {
        let foreign = ReadError::new(len, "is not the segment that the manifest names");
        examined.flaws.push(first_only(foreign));
        return examined;
    }
    examined.trailer = Some(trailer);
    let governor = Governor::alone(reactor.clone());
    let reader = SegmentReader::new(&governor, Work::Upkeep, file, len);
    let footer = match reader.footer(&trailer).await {
        Ok(footer) => footer,
        Err(error) => {
            examined.flaws.push(first_only(error));
            return examined;
        }
    };
    let mut window = Window::default();
    for run in &footer.runs {
        for entry in entries(&footer, run) {
            match reader.bytes_near(&mut window, entry.position, entry.bytes as usize).await {
                Ok(bytes) => {
                    let mut whole = |_: usize, _: &BatchHeader| examined.batches += 1;
                    let flaws = walk_entry(&bytes, run, entry, &mut whole);
                    examined.flaws.extend(flaws);
                }
                Err(error) => examined.flaws.push(error),
            }
        }
    }
    examined.footer = Some(footer);
    examined
}

/// Without its index nothing says what else should be in a segment.
fn first_only(error: ReadError) -> ReadError {
    let ReadError { position, reason } = error;
    ReadError { position, reason: format!("{reason} (the first damage of this file; the rest was not read)") }
}

pub(super) fn entries<'a>(footer: &'a Footer, run: &Run) -> &'a [IndexEntry] {
    let first = run.first_entry as usize;
    footer.entries.get(first..first + run.entry_count as usize).unwrap_or_default()
}

/// Gives every whole batch of an entry to `whole`, with its byte in the entry; returns what is wrong.
/// Behind a broken batch it goes on where that batch says it ends, if a whole one starts there.
pub(super) fn walk_entry(
    bytes: &[u8],
    run: &Run,
    entry: &IndexEntry,
    whole: &mut dyn FnMut(usize, &BatchHeader),
) -> Vec<ReadError> {
    let mut flaws = Vec::new();
    let flaw = |at: usize, reason: String| ReadError { position: entry.position + at as u64, reason };
    let (mut at, mut found) = (0, 0);
    let mut next = entry.base_offset;
    while at < bytes.len() {
        match check_batch(&bytes[at..]) {
            Ok(header) if header.partition == run.partition && header.base_offset >= next => {
                whole(at, &header);
                (next, found) = (header.end_offset(), found + 1);
                at += header.stride();
            }
            Ok(header) => {
                let BatchHeader { partition, base_offset, .. } = header;
                let reason = format!("found a batch of partition {partition} at offset {base_offset}");
                flaws.push(flaw(at, format!("{reason}, not expected here")));
                at += header.stride();
            }
            Err(error) => {
                flaws.push(flaw(at, error.to_string()));
                let behind = BatchHeader::read(&bytes[at..]).map(|claims| at + claims.stride());
                let Ok(behind) = behind else { break };
                if behind < bytes.len() && check_batch(&bytes[behind..]).is_err() {
                    break;
                }
                at = behind;
            }
        }
    }
    if flaws.is_empty() && (found != entry.batches || next != entry.end_offset) {
        flaws.push(flaw(0, "the index entry does not match its batches".to_owned()));
    }
    flaws
}

/// Offsets of a partition, from the first up to the second.
pub(super) type Range = (PartitionId, Offset, Offset);

/// What a damaged segment left.
#[derive(Default)]
pub(super) struct Salvaged {
    /// Bytes of batches that are missing without a trace: with an index it tells what they were.
    pub missing: u64,
    /// With an index: all that its runs cover but what damaged entries held. It was never in the
    /// segment, as compaction and earlier repairs leave it, or is still there.
    pub accounted: Vec<Range>,
}

/// Puts what can be read of a damaged segment into the pool.
pub(super) fn salvage(pool: &mut Pool, bytes: Vec<u8>, examined: &Examined, meta: &SegmentMeta) -> Salvaged {
    if let Some(footer) = &examined.footer {
        return Salvaged { missing: 0, accounted: pool.search_entries(bytes, footer) };
    }
    let missing = match meta.kind {
        SegmentKind::Promoted => {
            let end = examined.trailer.map_or(meta.file_bytes, |trailer| trailer.footer_position);
            let room = end.saturating_sub(BLOCK as u64);
            room.saturating_sub(pool.search_promoted(bytes)).min(meta.batch_bytes)
        }
        _ => meta.batch_bytes.saturating_sub(pool.search_segment(bytes)),
    };
    Salvaged { missing, accounted: Vec::new() }
}
