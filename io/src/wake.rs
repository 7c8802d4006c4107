//! Waking a shard from another thread, at no cost while it is awake.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Waker;

use atomic_waker::AtomicWaker;
use rustix::event::{EventfdFlags, eventfd};

/// Ends a shard's sleep.
///
/// The shard calls [`prepare`](Wake::prepare), looks at its queues once more, parks, and calls
/// [`finish`](Wake::finish). A sender pushes to the queue and calls [`notify`](Wake::notify): an
/// atomic load while the shard is awake, one `write(2)` when it sleeps.
#[derive(Debug)]
pub struct Wake {
    asleep: AtomicBool,
    eventfd: OwnedFd,
    executor: AtomicWaker,
}

impl Wake {
    /// A new handle.
    ///
    /// # Errors
    /// `eventfd2(2)` failed: too many open files, or out of memory.
    pub fn new() -> std::io::Result<Wake> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Wake { asleep: AtomicBool::new(false), eventfd, executor: AtomicWaker::new() })
    }

    /// The shard is about to sleep: from here on `notify` rings.
    pub fn prepare(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `notify`: either the sender sees `asleep`, or the shard's second
        // look at its queues sees what was pushed.
        fence(Ordering::SeqCst);
    }

    /// The shard is awake again.
    pub fn finish(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the shard if it sleeps. Call after the work is visible to it.
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            // EAGAIN means the counter is at its limit, so the sleeper is being woken anyway.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
            self.executor.wake();
        }
    }

    /// Registers the task that `notify` wakes, for a shard that lives in an executor.
    pub fn register(&self, waker: &Waker) {
        self.executor.register(waker);
    }

    /// Empties the event counter, so that it can ring again.
    pub fn drain(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.eventfd, &mut count);
    }

    /// The descriptor that becomes readable on `notify`.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
