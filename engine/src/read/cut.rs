//! Step 3: only whole, checked batches of the right partition, up to the visible end.

use thalweg_io::View;

use crate::ids::{Offset, PartitionId};
use crate::planted::{Planted, planted};
use crate::record::{BatchHeader, BatchView, check_batch};

/// A piece of stored bytes that holds batches one behind the other.
#[derive(Debug)]
pub(crate) struct Piece {
    pub bytes: View,
    /// Byte in the file at which the piece starts, for messages.
    pub position: u64,
}

/// What is wrong with stored bytes, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub position: u64,
    pub reason: String,
}

/// What a reader may see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub partition: PartitionId,
    /// Batches that end at or before it are left out.
    pub from: Offset,
    /// Batches that start at or behind it are left out.
    pub end: Offset,
}

/// Appends the batches of `piece` that lie in `bounds` to `out`.
///
/// # Errors
/// [`Flaw`] at the first batch that is damaged, foreign or out of order. Batches before it stay in
/// `out`.
pub(crate) fn cut_piece(piece: &Piece, bounds: &Bounds, out: &mut Vec<BatchView>) -> Result<(), Flaw> {
    let mut at = 0;
    let mut next = out.last().map_or(Offset(0), BatchView::end_offset);
    while at < piece.bytes.len() {
        let flaw = |reason: String| Flaw { position: piece.position + at as u64, reason };
        let checked = if planted(Planted::BatchUnchecked) {
            BatchHeader::read(&piece.bytes[at..])
        } else {
            check_batch(&piece.bytes[at..])
        };
        let header = checked.map_err(|error| flaw(error.to_string()))?;
        if header.partition != bounds.partition || header.base_offset < next {
            let (partition, base) = (header.partition, header.base_offset);
            return Err(flaw(format!(
                "found a batch of partition {partition} at offset {base}, not expected here"
            )));
        }
        next = header.end_offset();
        if wanted(&header, bounds) {
            let bytes = piece.bytes.slice(at..at + header.len as usize);
            out.push(BatchView::checked(header, bytes));
        }
        at += header.stride();
    }
    Ok(())
}

/// What the index says a piece holds.
#[derive(Debug)]
pub(crate) struct Expected {
    pub base: Offset,
    pub end: Offset,
    pub batches: usize,
}

/// As [`cut_piece`], if the piece holds what it should: whole batches of another time or place are a
/// flaw too, not something to leave out.
///
/// # Errors
/// [`Flaw`].
pub(crate) fn cut_expected(
    piece: &Piece,
    expected: &Expected,
    bounds: &Bounds,
    out: &mut Vec<BatchView>,
) -> Result<(), Flaw> {
    let all = Bounds { partition: bounds.partition, from: Offset(0), end: Offset(u64::MAX) };
    let mut found = Vec::new();
    cut_piece(piece, &all, &mut found)?;
    let first = found.first().map(BatchView::base_offset);
    let last = found.last().map(BatchView::end_offset);
    if (first, last, found.len()) != (Some(expected.base), Some(expected.end), expected.batches)
        && !planted(Planted::PlaceUnchecked)
        && !planted(Planted::IndexUnchecked)
    {
        let reason = format!("holds other batches than those of offsets {}..{}", expected.base, expected.end);
        return Err(Flaw { position: piece.position, reason });
    }
    out.extend(found.into_iter().filter(|batch| wanted(batch.header(), bounds)));
    Ok(())
}

fn wanted(header: &BatchHeader, bounds: &Bounds) -> bool {
    header.end_offset() > bounds.from && header.base_offset < bounds.end
}
