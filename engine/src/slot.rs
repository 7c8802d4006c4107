//! A place for one answer: filled by a shard, taken by whoever asked. Needs no runtime.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::thread::ThreadId;

use crossbeam_queue::ArrayQueue;

struct Inside<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// One answer, on its way from a shard.
pub(crate) struct Slot<T> {
    ready: AtomicBool,
    inside: Mutex<Inside<T>>,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Slot<T> {
        Slot { ready: AtomicBool::new(false), inside: Mutex::new(Inside { value: None, waker: None }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inside<T>> {
        // Nothing panics while it holds the lock, and what is inside is whole at any time.
        self.inside.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Gives the answer. Called once per life.
    pub(crate) fn fill(&self, value: T) {
        let mut inside = self.lock();
        debug_assert!(inside.value.is_none(), "a slot is filled once");
        inside.value = Some(value);
        let waker = inside.waker.take();
        drop(inside);
        self.ready.store(true, Ordering::Release);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the answer is there.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Takes the answer, or registers who is to be woken for it.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<T> {
        let mut inside = self.lock();
        match inside.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                inside.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn reset(&mut self) {
        *self.ready.get_mut() = false;
        let inside = self.inside.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        (inside.value, inside.waker) = (None, None);
    }
}

/// Slots to use again, so that an append allocates nothing in the long run.
pub(crate) struct SlotPool<T>(ArrayQueue<Arc<Slot<T>>>);

impl<T> SlotPool<T> {
    pub(crate) fn new(kept_max: usize) -> SlotPool<T> {
        SlotPool(ArrayQueue::new(kept_max))
    }

    pub(crate) fn take(&self) -> Arc<Slot<T>> {
        self.0.pop().unwrap_or_else(|| Arc::new(Slot::new()))
    }

    pub(crate) fn give_back(&self, mut slot: Arc<Slot<T>>) {
        if let Some(unshared) = Arc::get_mut(&mut slot) {
            unshared.reset();
            let _ = self.0.push(slot);
        }
    }
}

/// Who asks.
pub(crate) fn this_thread() -> ThreadId {
    std::thread::current().id()
}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static PARKED: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Runs a future on this thread, which sleeps while there is nothing to do. No runtime is needed.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = PARKED.with_borrow_mut(|waker| {
        waker.get_or_insert_with(|| Waker::from(Arc::new(Parked(std::thread::current())))).clone()
    });
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match Pin::as_mut(&mut future).poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_a_sleeping_thread() {
        let slot = Arc::new(Slot::new());
        let filler = slot.clone();
        let thread = std::thread::spawn(move || filler.fill(7));
        assert_eq!(block_on(std::future::poll_fn(|context| slot.poll(context))), 7);
        thread.join().unwrap();
    }

    #[test]
    fn a_pooled_slot_starts_anew_and_a_shared_one_is_not_pooled() {
        let pool = SlotPool::new(4);
        let slot = pool.take();
        slot.fill(1);
        assert!(slot.is_ready());
        let shared = slot.clone();
        pool.give_back(slot);
        pool.give_back(shared);
        let again = pool.take();
        assert!(!again.is_ready());
    }
}
