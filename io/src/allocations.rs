//! Counting heap allocations, to show that an append makes none.
//!
//! A program that wants the figure makes [`Counted`] its allocator. It is the system's, with one
//! relaxed load a call while nobody counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted while [`start`] is in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted;

fn note() {
    if ON.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is the system allocator's own; counting touches no memory of it and does not
// allocate.
unsafe impl GlobalAlloc for Counted {
    /// # Safety
    /// As for [`GlobalAlloc::alloc`].
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    /// # Safety
    /// As for [`GlobalAlloc::alloc_zeroed`].
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    /// # Safety
    /// As for [`GlobalAlloc::realloc`].
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    /// # Safety
    /// As for [`GlobalAlloc::dealloc`].
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Allocations of every thread of the process, until it is dropped.
#[derive(Debug)]
pub struct Counting(());

/// Starts to count; one count at a time. `None` if this program's allocator is not [`Counted`].
#[must_use]
pub fn start() -> Option<Counting> {
    COUNT.store(0, Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
    let counting = Counting(());
    drop(black_box(Box::new(black_box(0u64))));
    let counted = COUNT.swap(0, Ordering::Relaxed) > 0;
    counted.then_some(counting)
}

impl Counting {
    /// Allocations and reallocations so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        COUNT.load(Ordering::Relaxed)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        ON.store(false, Ordering::Relaxed);
    }
}
