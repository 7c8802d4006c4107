//! One turn of a shard: the whole of its life is this, in a loop.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use thalweg_io::{Backend, Nanos};

use crate::append::admit::admit;
use crate::append::group::Assigned;
use crate::append::persist::{Formed, InFlight};
use crate::append::request::{AppendReply, Arrival, Queued};
use crate::append::{AppendError, Appended};
use crate::mailbox::{Mailbox, Request};
use crate::planted::{Planted, planted};
use crate::shard::core::Core;
use crate::shard::patience::{Look, Patience};
use crate::shard::polling::Polling;

/// Requests taken from the mailbox in one turn.
const DRAIN_MAX: usize = 1024;
/// Steps of background tasks in one turn; a step is at most a few tens of microseconds.
const TASK_STEPS_MAX: usize = 4;
/// Bytes waiting that are worth a second group in flight.
const PIPELINE_BYTES_MIN: u64 = 64 << 10;

/// A shard, owned by whoever calls [`turn`](Shard::turn).
pub(crate) struct Shard<B: Backend> {
    pub(crate) core: Rc<Core<B>>,
    pub(crate) in_flight: VecDeque<InFlight<B>>,
    /// Durable, and waiting for the other parts of joint appends.
    pub(crate) durable: VecDeque<Formed>,
    /// When the last group became durable.
    pub(crate) last_durable: Nanos,
    /// Whether the last group is an idle marker, so that all before it is provably durable.
    pub(crate) witnessed: bool,
    /// Whether a group waits for a WAL file, and maintenance has been told.
    pub(crate) starved: bool,
    /// Whether the next group waits for room.
    pub(crate) held_up: bool,
    /// Whether the manifest has been told, or is being told, that the log is closed.
    pub(crate) closed_noted: bool,
    pub(crate) polling: RefCell<Polling>,
    pub(crate) patience: Patience,
    /// Kept to be used again.
    pub(crate) assigned: Vec<Assigned>,
    pub(crate) formed_pool: Vec<Formed>,
}

impl<B: Backend> Shard<B> {
    pub(crate) fn new(core: Rc<Core<B>>) -> Shard<B> {
        let last_durable = core.reactor.now();
        let polling = RefCell::new(Polling::new(core.config.threads.poll_us));
        let patience = Patience::new(core.config.commit.stuck_ms);
        Shard {
            core,
            in_flight: VecDeque::new(),
            durable: VecDeque::new(),
            last_durable,
            witnessed: true,
            starved: false,
            held_up: false,
            closed_noted: false,
            polling,
            patience,
            assigned: Vec::new(),
            formed_pool: Vec::new(),
        }
    }

    /// Takes what has arrived, moves everything one step on, hands the kernel what is new. Never
    /// blocks. Returns whether there was anything to do.
    pub(crate) fn turn(&mut self) -> bool {
        let mut busy = self.core.reactor.poll_io();
        let now = self.core.reactor.now();
        let moved = self.reap() | self.drain(now) | self.wait_for_the_device(now);
        if moved {
            self.awake();
        }
        busy |= moved;
        if self.start_group() {
            self.polling.borrow_mut().sent();
            busy = true;
        }
        busy |= self.core.reactor.run_tasks(TASK_STEPS_MAX) > 0;
        busy |= self.core.reactor.poll_io();
        busy
    }

    /// Moves requests from the mailbox to where they wait.
    fn drain(&mut self, now: Nanos) -> bool {
        let core = self.core.clone();
        let mut drained = 0;
        while drained < DRAIN_MAX && self.takes_arrivals() {
            let Some(request) = core.mailbox.receive() else { break };
            drained += 1;
            self.take(request, now);
        }
        for _ in 0..DRAIN_MAX {
            let Some(request) = core.mailbox.receive_read() else { break };
            drained += 1;
            self.take(request, now);
        }
        if drained > 0 {
            core.mailbox.release(0);
        }
        drained > 0
    }

    /// Stops the shard if the device has not answered for `commit.stuck_ms`. What is on its way may be
    /// stored or not: its callers are told so, instead of waiting for ever.
    fn wait_for_the_device(&mut self, now: Nanos) -> bool {
        let Some(oldest) = self.in_flight.front() else { return false };
        let group = oldest.formed.number;
        match self.patience.look(group, now) {
            Look::Waits => false,
            Look::Overdue => {
                self.core.metrics.borrow_mut().groups_overdue += 1;
                let (shard, ms) = (self.core.shard.0, self.patience.overdue_ms());
                tracing::warn!(shard, %group, ms, "the device has not answered for a group");
                false
            }
            Look::Stuck => {
                let Some(InFlight { formed, .. }) = self.in_flight.pop_front() else { return false };
                let ms = self.core.config.commit.stuck_ms;
                self.stop(
                    formed,
                    &format!("group {group}: no answer from the device for {ms} ms (commit.stuck_ms)"),
                );
                true
            }
        }
    }

    /// What has arrived waits in the mailbox, whose bound its senders feel, rather than in here.
    pub(crate) fn takes_arrivals(&self) -> bool {
        self.core.state().arrival_bytes < u64::from(self.core.config.group.bytes_max) * 2
    }

    fn take(&mut self, request: Request, now: Nanos) {
        match request {
            Request::Append(request) => self.arrive(Arrival::Append(request), now),
            Request::Control(request) => self.arrive(Arrival::Control(request), now),
            Request::Fetch(request) => self.core.fetch(request),
            Request::Query(request) => self.core.answer(request),
        }
    }

    /// Queues something for the next group.
    pub(crate) fn arrive(&mut self, arrival: Arrival, now: Nanos) {
        let mut state = self.core.state_mut();
        if let Some(error) = state.halt_error() {
            drop(state);
            let budget = arrival.refuse(error);
            self.core.mailbox.release(budget);
            return;
        }
        state.arrival_bytes += arrival.bytes_max();
        state.arrivals.push_back(Queued { arrival, since: now });
    }

    /// Forms and sends the next group, if it is time.
    fn start_group(&mut self) -> bool {
        let core = self.core.clone();
        let config = &core.config.group;
        let (waiting, oldest, halted) = {
            let state = core.state();
            (state.arrival_bytes, state.arrivals.front().map(|queued| queued.since), state.halted.is_some())
        };
        if halted {
            return false;
        }
        if core.state().roll_wanted && self.in_flight.is_empty() && self.durable.is_empty() {
            self.roll_by_age();
        }
        let Some(oldest) = oldest else { return self.witness() };
        if self.in_flight.len() >= config.in_flight_max as usize {
            return false;
        }
        if let Some(last) = self.in_flight.back() {
            // The file's header travels with its first group; nothing may overtake it.
            if last.formed.opens_file || waiting < PIPELINE_BYTES_MIN {
                return false;
            }
        }
        let lingering = core.reactor.now().since(oldest) < u64::from(config.linger_us) * 1000;
        if lingering && waiting < u64::from(config.bytes_max) {
            self.held_up = false;
            return false;
        }
        let (first, is_control) = {
            let state = core.state();
            let front = state.arrivals.front().map(|queued| &queued.arrival);
            (front.map_or(0, Arrival::bytes_max), matches!(front, Some(Arrival::Control(_))))
        };
        let room = self.make_room(first, waiting, is_control);
        self.held_up = !matches!(room, Room::Yes);
        match room {
            Room::Yes => self.form_and_send(),
            Room::Later => false,
            Room::None(error) => self.refuse_for_room(&error),
        }
    }

    /// Leaves the active WAL file, so that what is in it can be sealed.
    fn roll_by_age(&self) {
        let (salt, now_ms) = (self.core.reactor.random(), self.core.reactor.wall_ms());
        let mut state = self.core.state_mut();
        state.roll_wanted = false;
        // A file that nothing was written to since is not worth a new life.
        let due = state.wal.active.as_ref().is_some_and(|active| active.batch_bytes > 0);
        // Without a spare that is ready it is asked for again: nobody is woken to ask at once.
        if due && state.wal.roll(salt, now_ms) {
            self.core.maintain.notify(usize::MAX);
        }
    }

    /// Steps 1 to 4 for as much of what waits as one group takes.
    fn form_and_send(&mut self) -> bool {
        let core = self.core.clone();
        let mut formed = self.formed_pool.pop().unwrap_or_default();
        formed.started_at = core.reactor.now();
        let mut assigned = std::mem::take(&mut self.assigned);
        let room = self.group_room();
        let mut refused_budget = 0;
        let mut taken = 0u32;
        loop {
            let mut state = core.state_mut();
            let Some(queued) = state.arrivals.front() else { break };
            let bytes = queued.arrival.bytes_max();
            // A group that is cut for one joint append would take another with it.
            let second =
                queued.arrival.is_joint() && formed.spans_shards() && !planted(Planted::PartsShareGroup);
            if second || (taken > 0 && formed.bytes_max + bytes > room) {
                break;
            }
            let Some(queued) = state.arrivals.pop_front() else { break };
            state.arrival_bytes -= bytes;
            drop(state);
            taken += 1;
            formed.oldest.get_or_insert(queued.since);
            match queued.arrival {
                Arrival::Control(request) => {
                    formed.bytes_max += bytes;
                    self.take_control(request, &mut formed);
                }
                Arrival::Append(request) => {
                    // Other shards may have stored their parts already: this one can't refuse.
                    let spans =
                        matches!(&request.reply, AppendReply::Joint(part) if part.joint.spans_shards());
                    let admitted = if spans { Ok(()) } else { admit(&core.state().partitions, &request) };
                    match admitted {
                        Ok(()) => {
                            formed.bytes_max += bytes;
                            self.take_append(request, &mut assigned, &mut formed);
                        }
                        Err(error) => {
                            refused_budget += request.budget;
                            request.refuse(error);
                        }
                    }
                }
            }
        }
        if refused_budget > 0 {
            core.mailbox.release(refused_budget);
        }
        if formed.is_empty() {
            self.formed_pool.push(formed.recycle());
        } else {
            self.group_and_send(&mut assigned, formed);
        }
        assigned.clear();
        self.assigned = assigned;
        taken > 0
    }

    /// There is no room in the WAL, and none in sight: answer what waits, so that nobody hangs.
    fn refuse_for_room(&mut self, error: &AppendError) -> bool {
        let core = self.core.clone();
        let mut state = core.state_mut();
        let mut budget = 0;
        let before = state.arrivals.len();
        let was_control = matches!(state.arrivals.front(), Some(Queued { arrival: Arrival::Control(_), .. }));
        // Changes of the catalog have room of their own, and make more: they go first. A part of a
        // joint append may be durable elsewhere already: it waits.
        let (mut controls, mut joints) = (VecDeque::new(), VecDeque::new());
        while let Some(queued) = state.arrivals.pop_front() {
            match &queued.arrival {
                Arrival::Control(_) if !was_control => controls.push_back(queued),
                arrival if arrival.is_joint() => joints.push_back(queued),
                _ => {
                    state.arrival_bytes -= queued.arrival.bytes_max();
                    budget += queued.arrival.refuse(error.clone());
                }
            }
        }
        let stuck = controls.is_empty() && !joints.is_empty() && core.mailbox.is_closing();
        controls.append(&mut joints);
        state.arrivals = controls;
        let refused = before - state.arrivals.len();
        drop(state);
        core.mailbox.release(budget);
        if stuck {
            core.halt(&format!("closed while a part of a joint append had no room: {error}"));
        }
        refused > 0
    }

    /// Ends background work at its next step, and proves the last group durable. Returns whether
    /// the shard can be dropped without leaving anything undone.
    pub(crate) fn wind_down(&mut self) -> bool {
        if self.core.state().halted.is_some() {
            return true;
        }
        // What is queued may still need a WAL file, which maintenance prepares.
        if !self.is_quiet() && !planted(Planted::ClosedWhileWriting) {
            return false;
        }
        if !self.core.state().closing {
            self.core.state_mut().closing = true;
            self.core.maintain.notify(usize::MAX);
        }
        if self.core.maintenance_tasks.get() > 0 {
            return false;
        }
        if self.unproven() {
            self.last_durable = Nanos(0);
            self.witness();
        }
        self.in_flight.is_empty() && self.note_closed()
    }

    /// Notes in the manifest how far the log was durable, so that losing its end later is no torn
    /// write. Returns whether that is done.
    fn note_closed(&mut self) -> bool {
        if std::mem::replace(&mut self.closed_noted, true) || planted(Planted::ClosedNoteSkipped) {
            return true; // no maintenance task is left, this one included
        }
        let core = self.core.clone();
        let durable = core.state().wal.durable;
        core.maintenance_tasks.set(1);
        self.core.reactor.spawn(async move {
            core.note_durable(durable).await;
            core.maintenance_tasks.set(0);
        });
        false
    }

    /// The shard's mailbox.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.core.mailbox
    }

    /// Whether nothing is on its way to the disk.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty()
            && self.durable.is_empty()
            && self.core.state().arrivals.is_empty()
            && self.core.mailbox.is_empty()
    }
}

impl<B: Backend> Drop for Shard<B> {
    fn drop(&mut self) {
        self.core.mailbox.end(AppendError::Closed);
        for formed in self.in_flight.drain(..).map(|flight| flight.formed).chain(self.durable.drain(..)) {
            formed.fail(&AppendError::Closed);
        }
        let mut state = self.core.state_mut();
        let arrivals = std::mem::take(&mut state.arrivals);
        let waiting = std::mem::take(&mut state.waiting);
        let queued = std::mem::take(&mut state.disk_queue);
        drop(state);
        for queued in arrivals {
            queued.arrival.refuse(AppendError::Closed);
        }
        waiting.into_values().flatten().chain(queued).for_each(|fetch| fetch.refuse(&AppendError::Closed));
        // Tasks hold the core, which holds the reactor that holds the tasks.
        self.core.reactor.shutdown();
    }
}

/// Whether the next group has a place in the WAL and in the tail cache.
pub(crate) enum Room {
    Yes,
    /// A file is being prepared or sealed, or readers let go of a chunk soon.
    Later,
    /// No WAL file is free, and none will be for a while.
    None(AppendError),
}

/// The offsets of one request's parts.
pub(crate) type AppendedParts = smallvec::SmallVec<[Appended; 1]>;
