//! What an append gives back: a future that needs no runtime, and can be waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::mailbox::{Mailbox, Request, Waiting};
use crate::slot::{Slot, SlotPool, block_on};

/// An answer on its way. Resolves once; dropping it forgets the answer, not the request.
///
/// A request that finds the queue full stands in line, and is queued when its turn comes: requests
/// keep the order in which they were made. While it stands there it belongs to its ticket, and
/// dropping the ticket takes it back. `try_append` refuses instead.
#[must_use = "what was asked for is done when the ticket resolves"]
pub struct Ticket<T> {
    slot: Option<Arc<Slot<T>>>,
    pool: Option<Arc<SlotPool<T>>>,
    /// The parts of the request, if none of them was queued at once.
    waiting: Vec<Arc<Waiting>>,
}

impl<T> Ticket<T> {
    /// Sends `request`, whose answer comes in `slot`, also if it is that the shard has ended.
    pub(crate) fn send(
        mailbox: &Mailbox,
        slot: Arc<Slot<T>>,
        pool: Option<Arc<SlotPool<T>>>,
        request: Request,
    ) -> Ticket<T> {
        let waiting = mailbox.send(request).unwrap_or_else(|(request, error)| {
            request.refuse(error);
            None
        });
        Ticket { slot: Some(slot), pool, waiting: Vec::from_iter(waiting) }
    }

    /// A ticket for a request that is sent already.
    pub(crate) fn sent(slot: Arc<Slot<T>>, pool: Arc<SlotPool<T>>) -> Ticket<T> {
        Ticket { slot: Some(slot), pool: Some(pool), waiting: Vec::new() }
    }

    /// A ticket for a request in several parts; `waiting` is empty, or all of them.
    pub(crate) fn sent_in_parts(slot: Arc<Slot<T>>, waiting: Vec<Arc<Waiting>>) -> Ticket<T> {
        Ticket { slot: Some(slot), pool: None, waiting }
    }

    /// A ticket whose answer is known already.
    pub(crate) fn ready(value: T) -> Ticket<T> {
        let slot = Arc::new(Slot::new());
        slot.fill(value);
        Ticket { slot: Some(slot), pool: None, waiting: Vec::new() }
    }

    /// Whether the answer is there. Costs one atomic load.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.is_ready())
    }

    /// Sleeps until the answer is there.
    pub fn wait(self) -> T {
        block_on(self)
    }

    /// Looks for the answer without sleeping, giving the core to whoever else wants it: for
    /// programs that would rather burn a core than pay a wake-up.
    pub fn spin(mut self) -> T {
        let mut context = Context::from_waker(std::task::Waker::noop());
        loop {
            if let Poll::Ready(value) = Pin::new(&mut self).poll(&mut context) {
                return value;
            }
            std::thread::yield_now();
            while !self.is_ready() {
                std::thread::yield_now();
            }
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let slot = self.slot.as_ref().expect("a ticket is polled until it resolves, and not after");
        let answer = slot.poll(context);
        if answer.is_ready()
            && let (Some(pool), Some(slot)) = (self.pool.take(), self.slot.take())
        {
            pool.give_back(slot);
        }
        answer
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        Waiting::take_back(&self.waiting);
    }
}

impl<T> Unpin for Ticket<T> {}
