//! How far a read or write has come: the kernel may serve one request in several pieces.
//!
//! Direct I/O wants every piece to start at a block. After a piece that ends inside a block the
//! next one starts at that block again; it moves the same bytes of the same request once more.

use std::io;
use std::ops::Range;

use crate::backend::BLOCK;

/// Most bytes asked for at once. The kernel's own limit is a page less than 2 GiB.
const PIECE_BYTES_MAX: usize = 1 << 30;

/// Pieces in a row that may move nothing new before a write is given up.
const STALLS_MAX: u32 = 8;

/// A read or write of `len` bytes at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    position: u64,
    len: usize,
    done: usize,
    stalls: u32,
}

impl Transfer {
    /// Nothing moved yet.
    ///
    /// # Errors
    /// `InvalidInput` when `position` or `buf` is not in whole blocks, or the end is past what a
    /// file can hold.
    pub(crate) fn new(position: u64, buf: &[u8]) -> io::Result<Transfer> {
        let whole = position.is_multiple_of(BLOCK as u64)
            && buf.len().is_multiple_of(BLOCK)
            && (buf.is_empty() || (buf.as_ptr() as usize).is_multiple_of(BLOCK));
        let fits = position.checked_add(buf.len() as u64).is_some_and(|end| i64::try_from(end).is_ok());
        if whole && fits {
            return Ok(Transfer { position, len: buf.len(), done: 0, stalls: 0 });
        }
        let what = format!("{} B at byte {position}: not in whole blocks of {BLOCK} B", buf.len());
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    }

    /// The next piece: where in the file, and which part of the buffer.
    pub(crate) fn next(&self) -> (u64, Range<usize>) {
        let start = self.done / BLOCK * BLOCK;
        let end = self.len.min(start + PIECE_BYTES_MAX);
        (self.position + start as u64, start..end)
    }

    /// Where in the file it starts.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Counts a piece that moved `bytes`. Returns whether that was any progress.
    pub(crate) fn moved(&mut self, bytes: usize) -> bool {
        let (_, range) = self.next();
        assert!(bytes <= range.len(), "the kernel moved {bytes} of {} B", range.len());
        let progress = range.start + bytes > self.done;
        if progress {
            self.done = range.start + bytes;
            self.stalls = 0;
        } else {
            self.stalls += 1;
        }
        progress
    }

    /// Whether every byte has moved.
    pub(crate) fn complete(&self) -> bool {
        self.done == self.len
    }

    /// Bytes moved.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    /// Whether a write must be given up.
    pub(crate) fn stuck(&self) -> bool {
        self.stalls >= STALLS_MAX
    }

    /// The error of a write that is [`stuck`](Self::stuck).
    pub(crate) fn stuck_error(&self) -> io::Error {
        let what =
            format!("short write: {} of {} B at byte {} and no more", self.done, self.len, self.position);
        io::Error::new(io::ErrorKind::WriteZero, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::AlignedBuf;

    fn transfer(blocks: usize) -> Transfer {
        Transfer::new(BLOCK as u64, &AlignedBuf::zeroed(blocks * BLOCK)).unwrap()
    }

    #[test]
    fn a_piece_that_ends_inside_a_block_is_followed_from_that_block() {
        let mut transfer = transfer(4);
        assert_eq!(transfer.next(), (BLOCK as u64, 0..4 * BLOCK));
        assert!(transfer.moved(BLOCK + 512));
        assert_eq!(transfer.next(), (2 * BLOCK as u64, BLOCK..4 * BLOCK));
        assert!(transfer.moved(3 * BLOCK));
        assert!(transfer.complete());
    }

    #[test]
    fn the_same_bytes_again_are_no_progress_and_end_in_an_error() {
        let mut transfer = transfer(2);
        assert!(transfer.moved(512));
        for _ in 0..STALLS_MAX {
            assert!(!transfer.stuck());
            assert!(!transfer.moved(512));
        }
        assert!(transfer.stuck());
        assert_eq!(transfer.done(), 512);
        assert_eq!(transfer.stuck_error().kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn only_whole_blocks_are_accepted() {
        let buf = AlignedBuf::zeroed(2 * BLOCK);
        for bad in [Transfer::new(512, &buf), Transfer::new(0, &buf[..100]), Transfer::new(0, &buf[512..])] {
            assert_eq!(bad.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert!(Transfer::new(u64::MAX / BLOCK as u64 * BLOCK as u64, &buf).is_err());
        assert!(Transfer::new(0, &[]).unwrap().complete());
    }
}
