//! Memory the kernel writes from and reads into.
//!
//! [`AlignedBuf`] is one buffer (`buffer.rs`). [`Region`] is the tail cache's memory: an anonymous
//! map cut into equal [`Chunk`]s. A [`ChunkWriter`] fills a chunk from its start and publishes what
//! it has filled; a [`ChunkView`] reads a published part and keeps the chunk alive. The writer can
//! only reach bytes it has not published, so views and writer never touch the same byte.
//!
//! The map is anonymous and never a log file: a bad sector under a file mapping is SIGBUS, which
//! would end every shard of the process.

use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::backend::BLOCK;
pub use crate::buffer::{AlignedBuf, BufferPool};
use crate::planted::{Planted, planted};

/// The tail cache's memory: `chunks` pieces of `chunk_bytes`, handed out and taken back.
pub struct Region {
    map: MmapRaw,
    chunk_bytes: usize,
    chunks: usize,
    free: ArrayQueue<u32>,
    /// Holds on each chunk; 0 for those that are free.
    holds: Box<[AtomicU32]>,
    huge_pages: bool,
}

impl Region {
    /// Maps `chunks` pieces of `chunk_bytes` (a multiple of [`BLOCK`]), on huge pages where the
    /// host grants them.
    ///
    /// # Errors
    /// The host would not map so much memory.
    ///
    /// # Panics
    /// If `chunk_bytes` is not a multiple of [`BLOCK`], or nothing is asked for.
    pub fn new(chunk_bytes: usize, chunks: usize) -> io::Result<Arc<Region>> {
        assert!(chunk_bytes > 0 && chunk_bytes.is_multiple_of(BLOCK) && chunks > 0);
        let len = chunk_bytes
            .checked_mul(chunks)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "tail cache larger than memory"))?;
        let map = MmapRaw::from(MmapOptions::new().len(len).map_anon()?);
        let huge_pages = map.advise(Advice::HugePage).is_ok();
        let free = ArrayQueue::new(chunks);
        for index in 0..chunks {
            let index = u32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
            let _ = free.push(index);
        }
        let holds = (0..chunks).map(|_| AtomicU32::new(0)).collect();
        Ok(Arc::new(Region { map, chunk_bytes, chunks, free, holds, huge_pages }))
    }

    /// Takes a free chunk, if there is one.
    #[must_use]
    pub fn take(self: &Arc<Region>) -> Option<ChunkWriter> {
        let index = self.free.pop()?;
        self.holds[index as usize].store(1, Ordering::Relaxed);
        let chunk = Chunk { region: self.clone(), index };
        Some(ChunkWriter { chunk, published: 0 })
    }

    /// Bytes in one chunk.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Chunks in the region, free or not.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// Chunks nobody holds.
    #[must_use]
    pub fn free_chunks(&self) -> usize {
        self.free.len()
    }

    /// Whether the kernel took the advice to use huge pages.
    #[must_use]
    pub fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// Address and length of the whole map, for registering it with a ring.
    pub(crate) fn span(&self) -> (*mut u8, usize) {
        (self.map.as_mut_ptr(), self.map.len())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} × {} B)", self.chunks, self.chunk_bytes)
    }
}

/// A hold on one piece of a [`Region`], which goes back to it with its last hold. The count lies in
/// the region: taking a chunk allocates nothing.
#[derive(Debug)]
pub struct Chunk {
    region: Arc<Region>,
    index: u32,
}

impl Chunk {
    fn base(&self) -> *mut u8 {
        let at = self.index as usize * self.region.chunk_bytes;
        // SAFETY: `index < chunks`, so `at` is inside the map, which `region` keeps alive.
        unsafe { self.region.map.as_mut_ptr().add(at) }
    }

    fn count(&self) -> &AtomicU32 {
        &self.region.holds[self.index as usize]
    }

    /// The region the chunk belongs to.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

impl Clone for Chunk {
    fn clone(&self) -> Chunk {
        // As `Arc` counts: whoever clones has a hold, so nothing has to be seen in order here. Half of
        // the numbers are out of reach of anything but a leak in a loop.
        let before = self.count().fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX / 2, "a chunk is held {before} times");
        Chunk { region: self.region.clone(), index: self.index }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // What every holder did with the bytes comes before whatever their next owner does.
        if self.count().fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // The queue holds as many slots as there are chunks, so there is always room.
            let _ = self.region.free.push(self.index);
        }
    }
}

/// The only writer of a chunk: fills it from the start and publishes as it goes.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk: Chunk,
    published: usize,
}

impl ChunkWriter {
    /// The bytes not yet published. Their content is whatever an earlier life left.
    pub fn spare(&mut self) -> &mut [u8] {
        let len = self.chunk.region.chunk_bytes - self.published;
        // SAFETY: there is one `ChunkWriter` per chunk (`Region::take` hands an index out once until
        // its last hold is gone), views only reach bytes below `published`, and `&mut self` makes this
        // the only reference above it. Anonymous memory is initialised.
        unsafe { slice::from_raw_parts_mut(self.chunk.base().add(self.published), len) }
    }

    /// Publishes the next `len` bytes and returns a view of them. They never change again while
    /// anybody holds the chunk.
    ///
    /// # Panics
    /// If `len` is more than is left.
    pub fn publish(&mut self, len: usize) -> ChunkView {
        assert!(len <= self.remaining());
        let start = self.published;
        self.published += len;
        ChunkView { chunk: self.chunk.clone(), start, end: self.published }
    }

    /// Bytes not yet published.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.chunk.region.chunk_bytes - self.published
    }

    /// Bytes published so far.
    #[must_use]
    pub fn published(&self) -> usize {
        self.published
    }

    /// A view of everything published so far.
    #[must_use]
    pub fn view(&self) -> ChunkView {
        ChunkView { chunk: self.chunk.clone(), start: 0, end: self.published }
    }
}

/// A published, immutable part of a chunk. Cloning it counts a reference and copies nothing.
#[derive(Clone)]
pub struct ChunkView {
    chunk: Chunk,
    start: usize,
    end: usize,
}

impl ChunkView {
    /// A part of this view.
    ///
    /// # Panics
    /// If `range` is not inside the view.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> ChunkView {
        assert!(range.start <= range.end && range.end <= self.len());
        ChunkView { chunk: self.chunk.clone(), start: self.start + range.start, end: self.start + range.end }
    }

    /// The chunk that the view keeps alive.
    #[must_use]
    pub fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// Lets go of the chunk, as dropping the view does.
    pub fn release(self) {
        if planted(Planted::ChunkRecycledWhileHeld) && self.holders() > 1 {
            let _ = self.chunk.region.free.push(self.chunk.index);
        }
    }

    /// How many views, writers and caches hold the chunk.
    #[must_use]
    pub fn holders(&self) -> usize {
        self.chunk.count().load(Ordering::Relaxed) as usize
    }
}

impl Deref for ChunkView {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range was published, so the writer no longer reaches it, and `chunk` keeps
        // the memory from being handed out again.
        unsafe { slice::from_raw_parts(self.chunk.base().add(self.start), self.end - self.start) }
    }
}

impl fmt::Debug for ChunkView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkView(chunk {}, {}..{})", self.chunk.index, self.start, self.end)
    }
}

/// Bytes a reader holds: a part of the tail cache, or of a buffer read from a file.
///
/// Cloning and slicing count a reference and copy nothing.
#[derive(Clone, Debug)]
pub enum View {
    /// In the tail cache; keeps its chunk from being reused.
    Cache(ChunkView),
    /// Read from a file, or copied.
    Buffer {
        /// The whole buffer.
        buf: Arc<AlignedBuf>,
        /// First byte of the view in it.
        start: usize,
        /// The byte after the last.
        end: usize,
    },
}

impl View {
    /// A view of the first `len` bytes of `buf`.
    ///
    /// # Panics
    /// If `buf` is shorter.
    #[must_use]
    pub fn of(buf: AlignedBuf, len: usize) -> View {
        assert!(len <= buf.len());
        View::Buffer { buf: Arc::new(buf), start: 0, end: len }
    }

    /// A part of this view.
    ///
    /// # Panics
    /// If `range` is not inside the view.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> View {
        assert!(range.start <= range.end && range.end <= self.len());
        match self {
            View::Cache(view) => View::Cache(view.slice(range)),
            View::Buffer { buf, start, .. } => {
                View::Buffer { buf: buf.clone(), start: start + range.start, end: start + range.end }
            }
        }
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            View::Cache(view) => view,
            View::Buffer { buf, start, end } => &buf[*start..*end],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_only_when_its_last_view_is_gone() {
        let region = Region::new(BLOCK, 1).unwrap();
        let mut writer = region.take().unwrap();
        assert!(region.take().is_none());
        writer.spare()[..3].copy_from_slice(b"abc");
        let view = writer.publish(3);
        drop(writer);
        assert_eq!(&view[1..], b"bc");
        assert!(region.take().is_none());
        let part = View::Cache(view).slice(1..2);
        assert_eq!(&*part, b"b");
        drop(part);
        assert!(region.take().is_some());
    }

    #[test]
    fn the_writer_reaches_only_what_is_not_published() {
        let region = Region::new(BLOCK, 1).unwrap();
        let mut writer = region.take().unwrap();
        writer.spare().fill(7);
        let view = writer.publish(100);
        writer.spare().fill(9);
        assert!(view.iter().all(|byte| *byte == 7));
        assert_eq!(writer.spare().len(), BLOCK - 100);
    }
}
