//! The front of a file in memory, for those who need all of it in another order than it lies.

use thalweg_io::{AlignedBuf, Backend, Reactor, View};

use crate::segment::read::{ReadError, SegmentReader};

/// One piece. Making memory for a whole WAL file at once takes the kernel 20 ms, during which the shard
/// does nothing else; for this much it takes a tenth of one.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces let go of in one step.
const STEP_PIECES: usize = 4;

/// Bytes of a file from its start on.
pub(crate) struct Pieces(Vec<View>);

impl Pieces {
    /// Reads the first `len` bytes.
    ///
    /// # Errors
    /// [`ReadError`] if the disk refuses or the file is shorter.
    pub(crate) async fn read<B: Backend>(
        reader: &SegmentReader<'_, B>,
        len: usize,
    ) -> Result<Pieces, ReadError> {
        let mut pieces = Vec::with_capacity(len.div_ceil(PIECE_BYTES));
        for at in (0..len).step_by(PIECE_BYTES) {
            pieces.push(reader.bytes(at as u64, PIECE_BYTES.min(len - at)).await?);
        }
        Ok(Pieces(pieces))
    }

    /// `len` bytes at `at`; a copy where they lie in several pieces. None if they reach beyond the end.
    pub(crate) fn slice(&self, at: usize, len: usize) -> Option<View> {
        let (first, lead) = (at / PIECE_BYTES, at % PIECE_BYTES);
        let piece = self.0.get(first)?;
        if lead + len <= piece.len() {
            return Some(piece.slice(lead..lead + len));
        }
        let mut copy = AlignedBuf::zeroed(len);
        let mut done = 0;
        while done < len {
            let (index, lead) = ((at + done) / PIECE_BYTES, (at + done) % PIECE_BYTES);
            let rest = self.0.get(index)?.get(lead..)?;
            let take = rest.len().min(len - done);
            if take == 0 {
                return None;
            }
            copy[done..done + take].copy_from_slice(&rest[..take]);
            done += take;
        }
        Some(View::of(copy, len))
    }

    /// Lets go of it, some at a time: that takes the kernel as long.
    pub(crate) async fn release<B: Backend>(mut self, reactor: &Reactor<B>) {
        while !self.0.is_empty() {
            self.0.truncate(self.0.len().saturating_sub(STEP_PIECES));
            reactor.yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_within_a_piece_and_across_pieces() {
        let byte = |at: usize| (at / 1000) as u8;
        let len = 2 * PIECE_BYTES + 5000;
        let piece = |from: usize| {
            let here = PIECE_BYTES.min(len - from);
            let mut buf = AlignedBuf::zeroed(here);
            (0..here).for_each(|n| buf[n] = byte(from + n));
            View::of(buf, here)
        };
        let pieces = Pieces((0..len).step_by(PIECE_BYTES).map(piece).collect());
        for (at, want) in [(0, 10), (PIECE_BYTES - 5, 10), (10, 2 * PIECE_BYTES), (0, len), (len - 7, 7)] {
            let found = pieces.slice(at, want).unwrap();
            assert!(found.len() == want && (0..want).all(|n| found[n] == byte(at + n)), "{want} at {at}");
        }
        assert!(pieces.slice(len - 7, 8).is_none());
        assert!(pieces.slice(len, 1).is_none());
    }
}
