//! Reading a segment: trailer, index entries, batches. Everything is checked on the way in.

use std::io;
use std::sync::Arc;

use thalweg_io::{AlignedBuf, BLOCK, Backend, BufferPool, FileId, Reactor, View};

use crate::governor::{Governor, Work};
use crate::segment::footer::{ENTRY_BYTES, Footer, IndexEntry, TRAILER_BYTES, Trailer, decode_footer};

/// A segment that can't be read as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {position}: {reason}")]
pub struct ReadError {
    /// Byte in the file.
    pub position: u64,
    /// What is wrong.
    pub reason: String,
}

impl ReadError {
    pub(crate) fn new(position: u64, reason: impl ToString) -> ReadError {
        ReadError { position, reason: reason.to_string() }
    }
}

/// Reads and checks the trailer of a file of `len` bytes.
///
/// # Errors
/// [`ReadError`] if it is no whole segment.
pub async fn read_trailer<B: Backend>(
    reactor: &Reactor<B>,
    file: FileId,
    len: u64,
) -> Result<Trailer, ReadError> {
    if len < BLOCK as u64 || !len.is_multiple_of(BLOCK as u64) {
        return Err(ReadError::new(0, format!("{len} B is no length for a segment")));
    }
    let position = len - BLOCK as u64;
    let (buf, read) = reactor.read(file, position, AlignedBuf::zeroed(BLOCK)).await;
    let whole =
        read.and_then(|read| if read == BLOCK { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
    whole.map_err(|error| ReadError::new(position, error))?;
    let trailer = Trailer::read(&buf[BLOCK - TRAILER_BYTES..])
        .map_err(|error| ReadError::new(len - TRAILER_BYTES as u64, error))?;
    if trailer.file_bytes() != len {
        let reason = format!("the file has {len} B, its trailer says {}", trailer.file_bytes());
        return Err(ReadError::new(len - TRAILER_BYTES as u64, reason));
    }
    Ok(trailer)
}

/// Bytes that are read at a time from places that mostly follow each other.
const WINDOW_BYTES: usize = 128 << 10;

/// Bytes around the place that was read last.
#[derive(Debug, Default)]
pub(crate) struct Window {
    bytes: Option<(u64, View)>,
}

impl Window {
    fn find(&self, position: u64, len: usize) -> Option<View> {
        let (start, bytes) = self.bytes.as_ref()?;
        let at = usize::try_from(position.checked_sub(*start)?).ok()?;
        (at + len <= bytes.len()).then(|| bytes.slice(at..at + len))
    }
}

/// Reads from one open segment.
pub struct SegmentReader<'a, B: Backend> {
    governor: &'a Governor<B>,
    work: Work,
    file: FileId,
    len: u64,
    buffers: Option<&'a Arc<BufferPool>>,
}

impl<'a, B: Backend> SegmentReader<'a, B> {
    /// Reads from `file` of `len` bytes, at the governor's pace.
    pub(crate) fn new(governor: &'a Governor<B>, work: Work, file: FileId, len: u64) -> Self {
        SegmentReader { governor, work, file, len, buffers: None }
    }

    /// Reads into buffers of `pool`, which come back to it.
    pub(crate) fn into_buffers_of(self, pool: &'a Arc<BufferPool>) -> Self {
        SegmentReader { buffers: Some(pool), ..self }
    }

    /// Reads `len` bytes at `position`, in requests as large as may be.
    ///
    /// # Errors
    /// [`ReadError`] if the disk refuses or the file is shorter.
    pub async fn bytes(&self, position: u64, len: usize) -> Result<View, ReadError> {
        let start = position / BLOCK as u64 * BLOCK as u64;
        let lead = (position - start) as usize;
        if position.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(ReadError::new(position, format!("{len} B reach beyond the end, {}", self.len)));
        }
        let total = (lead + len).next_multiple_of(BLOCK);
        let buf = self.buffers.map_or_else(|| AlignedBuf::zeroed(total), |pool| pool.take(total));
        let read = self.governor.read(self.work, self.file, start, buf).await;
        let buf = read.map_err(|(position, error)| ReadError::new(position, error))?;
        Ok(View::of(buf, lead + len).slice(lead..lead + len))
    }

    /// As [`bytes`](Self::bytes), for places that mostly follow each other: `window` keeps what was
    /// read around the last one.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub(crate) async fn bytes_near(
        &self,
        window: &mut Window,
        position: u64,
        len: usize,
    ) -> Result<View, ReadError> {
        if let Some(found) = window.find(position, len) {
            return Ok(found);
        }
        let start = position / BLOCK as u64 * BLOCK as u64;
        let want = (position - start) as usize + len;
        let size =
            want.max(WINDOW_BYTES).min(usize::try_from(self.len - start.min(self.len)).unwrap_or(want));
        if size < want {
            return self.bytes(position, len).await; // which says what is wrong
        }
        window.bytes = Some((start, self.bytes(start, size).await?));
        window.find(position, len).ok_or_else(|| ReadError::new(position, "the window is too small"))
    }

    /// Some entries of the index, each checked by itself.
    ///
    /// # Errors
    /// [`ReadError`] if the disk refuses or an entry is damaged.
    pub async fn entries(
        &self,
        trailer: &Trailer,
        first: u32,
        count: u32,
    ) -> Result<Vec<IndexEntry>, ReadError> {
        if u64::from(first) + u64::from(count) > u64::from(trailer.entry_count) {
            return Err(ReadError::new(trailer.footer_position, "the index has fewer entries"));
        }
        let position = trailer.footer_position + u64::from(first) * ENTRY_BYTES as u64;
        let bytes = self.bytes(position, count as usize * ENTRY_BYTES).await?;
        let each = bytes.chunks_exact(ENTRY_BYTES).map(IndexEntry::read);
        each.collect::<Result<_, _>>().map_err(|error| ReadError::new(position, error))
    }

    /// The whole footer.
    ///
    /// # Errors
    /// [`ReadError`] if the disk refuses or it is damaged.
    pub async fn footer(&self, trailer: &Trailer) -> Result<Footer, ReadError> {
        let len = usize::try_from(trailer.footer_bytes())
            .map_err(|error| ReadError::new(trailer.footer_position, error))?;
        let bytes = self.bytes(trailer.footer_position, len).await?;
        decode_footer(&bytes, trailer).map_err(|error| ReadError::new(trailer.footer_position, error))
    }
}
