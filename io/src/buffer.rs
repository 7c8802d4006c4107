//! Buffers of their own that the kernel reads into and writes from, and a pool to use them again.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::backend::BLOCK;

/// A buffer whose address and length are multiples of [`BLOCK`], zeroed when made.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    len: usize,
    /// Bytes allocated, `len` or more.
    capacity: usize,
    /// Where it goes when nobody wants it any more.
    home: Option<Arc<BufferPool>>,
}

// SAFETY: the buffer owns its memory and hands out references only through `&self`/`&mut self`.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access is read-only.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// At least `len` zeroed bytes, rounded up to a multiple of [`BLOCK`] (one block at least).
    #[must_use]
    pub fn zeroed(len: usize) -> AlignedBuf {
        let layout = AlignedBuf::layout(len.max(1).next_multiple_of(BLOCK));
        // SAFETY: the layout's size is at least one block, so not zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        let ptr = NonNull::new(ptr).unwrap_or_else(|| handle_alloc_error(layout));
        AlignedBuf { ptr, len: layout.size(), capacity: layout.size(), home: None }
    }

    /// A buffer holding `bytes`, zero-padded to a multiple of [`BLOCK`].
    #[must_use]
    pub fn padded(bytes: &[u8]) -> AlignedBuf {
        let mut buf = AlignedBuf::zeroed(bytes.len());
        buf[..bytes.len()].copy_from_slice(bytes);
        buf
    }

    /// Makes it `len` bytes long, the first of those it was made with.
    ///
    /// # Panics
    /// If `len` is no multiple of [`BLOCK`], none, or more than it was made with.
    pub fn set_len(&mut self, len: usize) {
        assert!(len > 0 && len.is_multiple_of(BLOCK) && len <= self.capacity);
        self.len = len;
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK).expect("a buffer is smaller than the address space")
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // From here on the memory is the other one's, who frees it if the pool is full.
            let unused =
                AlignedBuf { ptr: self.ptr, len: self.capacity, capacity: self.capacity, home: None };
            return home.keep(unused);
        }
        // SAFETY: `ptr` came from `alloc_zeroed` with this very layout and is freed once: a buffer
        // that is given to a pool returns above.
        unsafe { dealloc(self.ptr.as_ptr(), AlignedBuf::layout(self.capacity)) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `ptr` owns `len` initialised bytes until drop; an operation in flight owns the
        // whole buffer by value, so the kernel is not writing here.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} B)", self.len)
    }
}

/// Buffers to be read into again once nobody looks at what is in them: making a new one costs as
/// much memory bandwidth as reading into it.
pub struct BufferPool {
    /// Unused buffers, by the power of two that they hold.
    classes: [ArrayQueue<AlignedBuf>; POOL_CLASSES],
    kept_bytes: AtomicUsize,
    kept_bytes_max: usize,
}

/// Bytes of the smallest buffers of a pool.
const POOL_BYTES_MIN: usize = 16 << 10;
/// Sizes of a pool's buffers, each twice the one before: up to 1 MiB.
const POOL_CLASSES: usize = 7;
/// Unused buffers of one size that a pool keeps.
const POOL_KEPT_MAX: usize = 64;

impl BufferPool {
    /// A pool that keeps at most `kept_bytes_max` of unused buffers.
    #[must_use]
    pub fn new(kept_bytes_max: usize) -> Arc<BufferPool> {
        let classes = std::array::from_fn(|_| ArrayQueue::new(POOL_KEPT_MAX));
        Arc::new(BufferPool { classes, kept_bytes: AtomicUsize::new(0), kept_bytes_max })
    }

    /// A buffer of at least `len` bytes, rounded up to a multiple of [`BLOCK`]. Its content is
    /// whatever an earlier use left. It comes back when it is dropped.
    #[must_use]
    pub fn take(self: &Arc<BufferPool>, len: usize) -> AlignedBuf {
        let len = len.max(1).next_multiple_of(BLOCK);
        let Some((class, capacity)) = class_of(len) else { return AlignedBuf::zeroed(len) };
        let kept = self.classes[class].pop();
        if kept.is_some() {
            self.kept_bytes.fetch_sub(capacity, Ordering::Relaxed);
        }
        let mut buf = kept.unwrap_or_else(|| AlignedBuf::zeroed(capacity));
        buf.home = Some(self.clone());
        buf.set_len(len);
        buf
    }

    /// Bytes of unused buffers.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    fn keep(&self, buf: AlignedBuf) {
        let bytes = buf.capacity;
        let Some((class, capacity)) = class_of(bytes) else { return };
        debug_assert_eq!(bytes, capacity);
        if self.kept_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.kept_bytes_max
            || self.classes[class].push(buf).is_err()
        {
            self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// The class of buffers that hold `len` bytes, and what they hold. None is that large otherwise.
fn class_of(len: usize) -> Option<(usize, usize)> {
    let capacity = len.next_power_of_two().max(POOL_BYTES_MIN);
    let class = (capacity / POOL_BYTES_MIN).trailing_zeros() as usize;
    (class < POOL_CLASSES).then_some((class, capacity))
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferPool({} B unused)", self.kept_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::View;

    #[test]
    fn buffers_are_aligned_zeroed_and_whole_blocks() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let buf = AlignedBuf::zeroed(len);
            assert_eq!(buf.as_ptr() as usize % BLOCK, 0);
            assert_eq!(buf.len(), len.max(1).next_multiple_of(BLOCK));
            assert!(buf.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_buffer_comes_back_to_its_pool_when_the_last_view_is_gone() {
        let pool = BufferPool::new(1 << 20);
        let mut buf = pool.take(5 * BLOCK);
        assert_eq!(buf.len(), 5 * BLOCK);
        buf.fill(7);
        let at = buf.as_ptr();
        let view = View::of(buf, 10);
        let part = view.slice(3..4);
        drop(view);
        assert_eq!((pool.kept_bytes(), part[0]), (0, 7));
        drop(part);
        assert_eq!(pool.kept_bytes(), 8 * BLOCK);
        let again = pool.take(8 * BLOCK);
        assert_eq!((again.as_ptr(), again.len(), pool.kept_bytes()), (at, 8 * BLOCK, 0));
    }

    #[test]
    fn a_pool_keeps_no_more_than_it_is_told() {
        let pool = BufferPool::new(40 << 10);
        drop([pool.take(16 << 10), pool.take(16 << 10), pool.take(16 << 10), pool.take(2 << 20)]);
        assert_eq!(pool.kept_bytes(), 32 << 10);
    }
}
