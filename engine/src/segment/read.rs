//! Reading a segment: trailer, index entries, batches. Everything is checked on the way in.

use std::io;

use thalweg_io::{AlignedBuf, BLOCK, Backend, FileId, Reactor, View};

use crate::governor::{Governor, REQUEST_BYTES_MAX};
use crate::read::cut::Piece;
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
    reactor: &'a Reactor<B>,
    governor: &'a Governor<B>,
    file: FileId,
    len: u64,
}

impl<'a, B: Backend> SegmentReader<'a, B> {
    /// Reads from `file` of `len` bytes, at the governor's pace.
    pub(crate) fn new(reactor: &'a Reactor<B>, governor: &'a Governor<B>, file: FileId, len: u64) -> Self {
        SegmentReader { reactor, governor, file, len }
    }

    /// Reads `len` bytes at `position`, in small requests.
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
        if total <= REQUEST_BYTES_MAX {
            self.governor.permit(total as u64).await;
            let buf = self.request(start, AlignedBuf::zeroed(total)).await?;
            return Ok(View::of(buf, lead + len).slice(lead..lead + len));
        }
        let mut whole = AlignedBuf::zeroed(total);
        let mut at = 0;
        while at < total {
            let size = REQUEST_BYTES_MAX.min(total - at);
            self.governor.permit(size as u64).await;
            let buf = self.request(start + at as u64, AlignedBuf::zeroed(size)).await?;
            whole[at..at + size].copy_from_slice(&buf);
            at += size;
        }
        Ok(View::of(whole, lead + len).slice(lead..lead + len))
    }

    async fn request(&self, position: u64, buf: AlignedBuf) -> Result<AlignedBuf, ReadError> {
        let want = buf.len();
        let (buf, read) = self.reactor.read(self.file, position, buf).await;
        let read = read.map_err(|error| ReadError::new(position, error))?;
        if read < want {
            return Err(ReadError::new(position, format!("the file ends after {read} of {want} B")));
        }
        Ok(buf)
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
            want.max(REQUEST_BYTES_MAX).min(usize::try_from(self.len - start.min(self.len)).unwrap_or(want));
        if size < want {
            return self.bytes(position, len).await; // which says what is wrong
        }
        window.bytes = Some((start, self.bytes(start, size).await?));
        window.find(position, len).ok_or_else(|| ReadError::new(position, "the window is too small"))
    }

    /// The batches of an entry.
    ///
    /// # Errors
    /// [`ReadError`] if the disk refuses.
    pub(crate) async fn read(&self, entry: &IndexEntry) -> Result<Piece, ReadError> {
        let bytes = self.bytes(entry.position, entry.bytes as usize).await?;
        Ok(Piece { bytes, position: entry.position })
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
