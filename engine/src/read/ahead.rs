//! Reading ahead: how much readers far behind may have under way, and where the next fetch goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::Offset;

/// Bytes of one fetch of a reader that reads ahead: one request where no commits are under way.
pub(crate) const AHEAD_FETCH_BYTES: u32 = 1 << 20;
/// Its fetches under way at once.
pub(crate) const AHEAD_FETCHES_MAX: usize = 4;
/// Fetches that a reader holds in all: those under way, and the one it looks at.
const AHEAD_HELD: u64 = AHEAD_FETCHES_MAX as u64 + 1;

/// Bytes that a shard's readers may still use to read ahead.
#[derive(Debug)]
pub(crate) struct AheadBudget {
    free: AtomicU64,
    /// What one reader takes.
    each: u64,
}

impl AheadBudget {
    /// `bytes_max` for all readers, whose fetches bring up to `fetch_bytes` where that is more than
    /// they are made for.
    pub(crate) fn new(bytes_max: u64, fetch_bytes: u32) -> Arc<AheadBudget> {
        let each = AHEAD_HELD * u64::from(fetch_bytes.max(AHEAD_FETCH_BYTES));
        Arc::new(AheadBudget { free: AtomicU64::new(bytes_max), each })
    }

    /// One reader's part, if it is left.
    pub(crate) fn take(self: &Arc<AheadBudget>) -> Option<Ahead> {
        let less = |free: u64| free.checked_sub(self.each);
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        Some(Ahead(self.clone()))
    }
}

/// One reader's part of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ahead(Arc<AheadBudget>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.free.fetch_add(self.0.each, Ordering::Relaxed);
    }
}

/// Where a fetch will end, known before its bytes are there: the next one need not wait for them.
/// It is a guess, which the answer confirms.
#[derive(Debug)]
pub(crate) struct Promise(AtomicU64);

impl Promise {
    pub(crate) fn new() -> Promise {
        Promise(AtomicU64::new(u64::MAX))
    }

    pub(crate) fn set(&self, next: Offset) {
        self.0.store(next.0, Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<Offset> {
        Some(self.0.load(Ordering::Acquire)).filter(|next| *next != u64::MAX).map(Offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_given_back_with_the_reader() {
        let budget = AheadBudget::new(2 * AHEAD_HELD * u64::from(AHEAD_FETCH_BYTES) - 1, 4096);
        let first = budget.take().unwrap();
        assert!(budget.take().is_none());
        drop(first);
        assert!(budget.take().is_some());
    }

    #[test]
    fn larger_fetches_take_more_of_the_budget() {
        let budget = AheadBudget::new(5 * (64 << 20), 64 << 20);
        let first = budget.take().unwrap();
        assert!(budget.take().is_none());
        drop(first);
        assert!(budget.take().is_some());
    }
}
