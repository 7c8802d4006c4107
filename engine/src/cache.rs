//! The tail cache: the newest part of a shard's WAL, in the memory it was written from.
//!
//! A record is copied once, from the caller into a chunk; the kernel writes the group from there
//! and readers look at it there. When chunks run out the oldest is let go. A view keeps its chunk
//! from being reused, so views are granted on at most half of the chunks: the writer always finds
//! one, however slow readers are.

use std::collections::VecDeque;
use std::sync::Arc;

use thalweg_io::{ChunkView, ChunkWriter, Region, View};

use crate::ids::WalPosition;
use crate::planted::{Planted, planted};

/// A chunk that is full, or was left when its WAL file ended.
struct Kept {
    start: WalPosition,
    bytes: ChunkView,
}

/// The chunk being filled.
struct Current {
    start: WalPosition,
    writer: ChunkWriter,
}

/// The tail cache of one shard.
pub(crate) struct TailCache {
    region: Arc<Region>,
    kept: VecDeque<Kept>,
    current: Option<Current>,
    pinned_max: usize,
}

impl TailCache {
    pub(crate) fn new(region: Arc<Region>) -> TailCache {
        let pinned_max = region.chunks() / 2;
        TailCache { region, kept: VecDeque::new(), current: None, pinned_max }
    }

    /// Makes sure that `len` bytes can be written at `position`, in one piece. Lets the oldest
    /// chunks go for it. Returns false if every chunk is held by somebody else just now.
    pub(crate) fn reserve(&mut self, position: WalPosition, len: usize) -> bool {
        if let Some(current) = &self.current {
            let next = current.start.0 + current.writer.published() as u64;
            if next == position.0 && current.writer.remaining() >= len {
                return true;
            }
        }
        self.retire();
        debug_assert!(len <= self.region.chunk_bytes());
        loop {
            if let Some(writer) = self.region.take() {
                self.current = Some(Current { start: position, writer });
                return true;
            }
            let Some(oldest) = self.kept.pop_front() else { return false };
            oldest.bytes.release();
        }
    }

    /// The most bytes one group can take.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.region.chunk_bytes()
    }

    fn retire(&mut self) {
        if let Some(Current { start, writer }) = self.current.take()
            && writer.published() > 0
        {
            self.kept.push_back(Kept { start, bytes: writer.view() });
        }
    }

    /// The bytes behind the last published one. Call after `reserve`.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        match &mut self.current {
            Some(current) => current.writer.spare(),
            None => &mut [],
        }
    }

    /// Publishes the next `len` bytes; returns a view of them for the write.
    pub(crate) fn publish(&mut self, len: usize) -> Option<ChunkView> {
        self.current.as_mut().map(|current| current.writer.publish(len))
    }

    /// The first position that is still cached; everything from there on is.
    pub(crate) fn start(&self) -> Option<WalPosition> {
        self.kept.front().map(|kept| kept.start).or(self.current.as_ref().map(|current| current.start))
    }

    fn find(&self, position: WalPosition, len: usize) -> Option<ChunkView> {
        let part = |start: WalPosition, view: &dyn Fn() -> ChunkView, held: usize| {
            let at = usize::try_from(position.0.checked_sub(start.0)?).ok()?;
            (at + len <= held).then(|| view().slice(at..at + len))
        };
        if let Some(current) = &self.current
            && position >= current.start
        {
            return part(current.start, &|| current.writer.view(), current.writer.published());
        }
        let index = self.kept.partition_point(|kept| kept.start <= position).checked_sub(1)?;
        let kept = &self.kept[index];
        part(kept.start, &|| kept.bytes.clone(), kept.bytes.len())
    }

    /// A view of `len` bytes at `position`, for the shard's own use within a turn or a write.
    pub(crate) fn peek(&self, position: WalPosition, len: usize) -> Option<ChunkView> {
        self.find(position, len)
    }

    /// A view of `len` bytes at `position` for a reader, who may keep it; a copy when too many
    /// chunks are held already.
    pub(crate) fn lend(&self, position: WalPosition, len: usize) -> Option<View> {
        let view = self.find(position, len)?;
        // `view` itself counts where the chunk was held by the cache alone until now.
        if self.pinned() <= self.pinned_max || planted(Planted::ViewsUnbounded) {
            return Some(View::Cache(view));
        }
        let mut copy = thalweg_io::AlignedBuf::zeroed(len);
        copy[..len].copy_from_slice(&view);
        Some(View::of(copy, len))
    }

    fn pinned(&self) -> usize {
        let free = self.region.free_chunks();
        let kept_alone = self.kept.iter().filter(|kept| kept.bytes.holders() == 1).count();
        let current = usize::from(self.current.is_some());
        self.region.chunks() - free - kept_alone - current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 4096;

    fn cache(chunks: usize) -> TailCache {
        TailCache::new(Region::new(BLOCK, chunks).unwrap())
    }

    fn write(cache: &mut TailCache, position: u64, byte: u8) {
        assert!(cache.reserve(WalPosition(position), BLOCK));
        cache.spare()[..BLOCK].fill(byte);
        cache.publish(BLOCK).unwrap();
    }

    #[test]
    fn the_newest_bytes_are_found_and_the_oldest_let_go() {
        let mut cache = cache(4);
        for block in 0..6u64 {
            write(&mut cache, block * BLOCK as u64, block as u8);
        }
        assert_eq!(cache.start(), Some(WalPosition(2 * BLOCK as u64)));
        assert!(cache.lend(WalPosition(BLOCK as u64), 10).is_none());
        let view = cache.lend(WalPosition(5 * BLOCK as u64 + 7), 10).unwrap();
        assert!(view.iter().all(|byte| *byte == 5));
    }

    #[test]
    fn readers_that_hold_on_never_stop_the_writer() {
        let mut cache = cache(8);
        let mut held = Vec::new();
        for block in 0..100u64 {
            write(&mut cache, block * BLOCK as u64, block as u8);
            held.push((block as u8, cache.lend(WalPosition(block * BLOCK as u64), BLOCK).unwrap()));
        }
        for (byte, view) in held {
            assert!(view.iter().all(|found| *found == byte));
        }
    }

    #[test]
    fn a_jump_in_position_starts_a_chunk() {
        let mut cache = cache(4);
        write(&mut cache, 0, 1);
        write(&mut cache, 1 << 30, 2);
        assert_eq!(cache.lend(WalPosition(0), 1).unwrap()[0], 1);
        assert_eq!(cache.lend(WalPosition(1 << 30), 1).unwrap()[0], 2);
        assert!(cache.lend(WalPosition(BLOCK as u64), 1).is_none());
    }
}
