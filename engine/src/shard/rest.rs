//! What a shard does when a turn found nothing to do: look again, or sleep.

use thalweg_io::{Backend, Nanos};

use crate::append::persist::Formed;
use crate::shard::turn::Shard;

impl<B: Backend> Shard<B> {
    /// Whether the mailbox holds something that can be taken now.
    fn has_mail(&self) -> bool {
        let mailbox = &self.core.mailbox;
        mailbox.has_reads() || (mailbox.has_arrivals() && self.takes_arrivals())
    }

    /// There was something to do.
    pub(crate) fn awake(&self) {
        let mut polling = self.polling.borrow_mut();
        if polling.is_idle() {
            polling.worked(self.core.reactor.now());
        }
    }

    /// Whether looking again is worth more than sleeping. If so, others had the core meanwhile.
    fn looks_again(&self) -> bool {
        let (reactor, mut polling) = (&self.core.reactor, self.polling.borrow_mut());
        let before = reactor.now();
        if !polling.pays(before, !self.in_flight.is_empty()) || !reactor.yield_core() {
            return false;
        }
        polling.yielded(before, reactor.now());
        true
    }

    /// The time at which a parked shard has to look again, apart from its tasks' timers.
    pub(crate) fn deadline(&self) -> Option<Nanos> {
        let state = self.core.state();
        if state.halted.is_some() {
            return None;
        }
        let linger = state.arrivals.front().filter(|_| self.in_flight.is_empty());
        let linger = linger.map(|queued| queued.since.plus_us(u64::from(self.core.config.group.linger_us)));
        // A group that waits for room is woken by whoever makes some.
        let linger = linger.filter(|_| !self.held_up);
        let idle = self.unproven() && self.in_flight.is_empty() && state.arrivals.is_empty();
        let witness =
            idle.then(|| self.last_durable.plus_us(u64::from(self.core.config.wal.witness_after_us)));
        let device = self.in_flight.front().map(|oldest| self.patience.next_look(oldest.formed.formed_at));
        linger.into_iter().chain(witness).chain(device).min()
    }

    /// Sleeps until there may be something to do, or returns at once to have the caller look again.
    pub(crate) fn park(&self) {
        self.park_unless(|| false);
    }

    /// As [`park`](Self::park), unless `woken` says that there is more to do: asked when whoever
    /// finds something to do from here on will wake the shard.
    pub(crate) fn park_unless(&self, woken: impl FnOnce() -> bool) {
        if self.looks_again() {
            return;
        }
        let wake = self.core.reactor.wake();
        wake.prepare();
        if !self.has_mail() && !self.can_publish() && !woken() {
            self.core.reactor.park(self.deadline());
        }
        wake.finish();
    }

    /// As [`park_unless`](Self::park_unless), in somebody's executor: gives it one round if there is
    /// more to do.
    pub(crate) async fn idle_unless(&self, woken: impl FnOnce() -> bool) {
        let wake = self.core.reactor.wake();
        wake.prepare();
        let more = self.has_mail() || self.can_publish() || woken();
        let deadline = if more { Some(Nanos(0)) } else { self.deadline() };
        self.core.reactor.idle(deadline).await;
        wake.finish();
    }

    /// Whether other shards have settled the joint appends that the next group waits for.
    fn can_publish(&self) -> bool {
        let settled = |formed: &Formed| formed.joints.iter().all(|(part, _)| part.joint.is_settled());
        self.durable.front().is_some_and(settled)
    }
}
