//! What an append gives back: a future that needs no runtime, and can be waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use event_listener::EventListener;

use crate::append::AppendError;
use crate::mailbox::{Mailbox, Refused, Request};
use crate::slot::{Slot, SlotPool, block_on};

/// An answer on its way. Resolves once; dropping it forgets the answer, not the request.
///
/// A request that found the queue full is sent as soon as there is room and the ticket is polled
/// or waited for. `try_append` refuses instead.
#[must_use = "what was asked for is done when the ticket resolves"]
pub struct Ticket<T> {
    slot: Option<Arc<Slot<T>>>,
    pool: Option<Arc<SlotPool<T>>>,
    unsent: Option<Unsent>,
    /// What to answer when the shard has ended before the request was sent.
    ended: fn(AppendError) -> T,
}

struct Unsent {
    mailbox: Arc<Mailbox>,
    request: Request,
    room: Option<EventListener>,
}

impl<T> Ticket<T> {
    /// Sends `request`, whose answer comes in `slot`.
    pub(crate) fn send(
        mailbox: &Arc<Mailbox>,
        slot: Arc<Slot<T>>,
        pool: Option<Arc<SlotPool<T>>>,
        request: Request,
        ended: fn(AppendError) -> T,
    ) -> Ticket<T> {
        let mut ticket = Ticket { slot: Some(slot), pool, unsent: None, ended };
        match mailbox.try_send(request) {
            Ok(()) => {}
            Err(Refused::Full(request)) => {
                ticket.unsent = Some(Unsent { mailbox: mailbox.clone(), request, room: None });
            }
            Err(Refused::Ended(request, error)) => ticket.refused(request, error),
        }
        ticket
    }

    /// A ticket for a request that is sent already.
    pub(crate) fn sent(slot: Arc<Slot<T>>, pool: Arc<SlotPool<T>>, ended: fn(AppendError) -> T) -> Ticket<T> {
        Ticket { slot: Some(slot), pool: Some(pool), unsent: None, ended }
    }

    /// A ticket whose answer others will give.
    pub(crate) fn waiting(slot: Arc<Slot<T>>, ended: fn(AppendError) -> T) -> Ticket<T> {
        Ticket { slot: Some(slot), pool: None, unsent: None, ended }
    }

    /// A ticket whose answer is known already.
    pub(crate) fn ready(value: T, ended: fn(AppendError) -> T) -> Ticket<T> {
        let slot = Arc::new(Slot::new());
        slot.fill(value);
        Ticket { slot: Some(slot), pool: None, unsent: None, ended }
    }

    fn refused(&mut self, request: Request, error: AppendError) {
        drop(request);
        if let Some(slot) = &self.slot {
            slot.fill((self.ended)(error));
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(mut unsent) = self.unsent.take() {
            // Listen before trying, so that room made in between is not missed.
            let mut room = unsent.room.take().unwrap_or_else(|| unsent.mailbox.listen());
            match unsent.mailbox.try_send(unsent.request) {
                Ok(()) => return Poll::Ready(()),
                Err(Refused::Ended(request, error)) => {
                    self.refused(request, error);
                    return Poll::Ready(());
                }
                Err(Refused::Full(request)) => {
                    let waiting = Pin::new(&mut room).poll(context).is_pending();
                    let room = waiting.then_some(room);
                    self.unsent = Some(Unsent { mailbox: unsent.mailbox, request, room });
                    if waiting {
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(())
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
            while self.unsent.is_none() && !self.is_ready() {
                std::thread::yield_now();
            }
            std::thread::yield_now();
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if self.poll_send(context).is_pending() {
            return Poll::Pending;
        }
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

impl<T> Unpin for Ticket<T> {}
