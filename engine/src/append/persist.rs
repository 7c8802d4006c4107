//! Step 4: one write and one sync for the whole group, however many partitions it touches.

use thalweg_io::{BLOCK, Backend, Buffer, Nanos, Op, Pending};

use crate::append::assign::assign;
use crate::append::group::{Assigned, GroupBuilder, GroupStart, Placed};
use crate::append::joint::JointPart;
use crate::append::request::{
    AppendReply, AppendRequest, AppendSlot, ControlError, ControlReply, ControlRequest,
};
use crate::append::{Ack, AppendError, Appended};
use crate::config::GROUP_OVERHEAD;
use crate::ids::{GroupNumber, WalPosition};
use crate::planted::{self, Planted, planted};
use crate::shard::turn::{AppendedParts, Room, Shard};
use crate::wal::control::Control;
use crate::wal::file_header::FILE_HEADER_BYTES;

/// Bytes at the end of a WAL file that only changes of the catalog may use.
pub(crate) const CONTROL_RESERVE: u64 = 16 * BLOCK as u64;

/// A group from its forming to its publishing.
#[derive(Default)]
pub(crate) struct Formed {
    pub number: GroupNumber,
    /// Whether it carries the file's header, so that nothing may overtake it.
    pub opens_file: bool,
    pub placed: Vec<Placed>,
    pub controls: Vec<(Control, ControlReply)>,
    pub acks: Vec<(AppendSlot, Appended)>,
    pub joints: Vec<(JointPart, AppendedParts)>,
    /// Whether the other shards know that its part of a joint append will stay.
    pub announced: bool,
    /// Bytes of mailbox budget to give back.
    pub budget: u64,
    /// The most bytes the group can take.
    pub bytes_max: u64,
    /// When its first arrival was taken from the mailbox.
    pub oldest: Option<Nanos>,
    pub started_at: Nanos,
    pub formed_at: Nanos,
    pub records: u64,
    /// Bytes written, padding included.
    pub bytes: u64,
    pub marker: bool,
}

impl Formed {
    pub(crate) fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.controls.is_empty() && self.joints.is_empty() && self.records == 0
    }

    /// Whether it has a part of an append over several shards.
    pub(crate) fn spans_shards(&self) -> bool {
        self.joints.iter().any(|(part, _)| part.joint.spans_shards())
    }

    /// Tells the other shards, once, that its part of a joint append will stay.
    pub(crate) fn announce(&mut self) {
        if !std::mem::replace(&mut self.announced, true) {
            for (part, places) in &self.joints {
                part.durable(places.iter().copied());
            }
        }
    }

    /// Ends everything in it with an error.
    pub(crate) fn fail(self, error: &AppendError) {
        self.acks.into_iter().for_each(|(slot, _)| slot.fill(Err(error.clone())));
        self.joints.into_iter().for_each(|(part, _)| part.fail(error.clone()));
        for slot in self.controls.into_iter().filter_map(|(_, reply)| reply) {
            slot.fill(Err(error.clone().into()));
        }
    }

    /// Empties it for the next group, keeping its memory.
    pub(crate) fn recycle(mut self) -> Formed {
        self.placed.clear();
        self.controls.clear();
        self.acks.clear();
        self.joints.clear();
        Formed {
            placed: self.placed,
            controls: self.controls,
            acks: self.acks,
            joints: self.joints,
            ..Formed::default()
        }
    }
}

/// A group on its way to the disk.
pub(crate) struct InFlight<B: Backend> {
    pub pending: Pending<B>,
    pub formed: Formed,
}

impl<B: Backend> Shard<B> {
    /// The most bytes of batches the next group may take.
    pub(crate) fn group_room(&self) -> u64 {
        let state = self.core.state();
        let file = state.wal.active.as_ref().map_or(0, |active| {
            let end = active.position + GROUP_OVERHEAD + 2 * BLOCK as u64 + CONTROL_RESERVE;
            state.wal.file_bytes.saturating_sub(end)
        });
        u64::from(self.core.config.group.bytes_max).saturating_sub(GROUP_OVERHEAD).min(file)
    }

    /// Makes sure that the next group, whose first arrival takes `first` bytes and all that waits
    /// `waiting`, has a place in a WAL file and in the tail cache.
    pub(crate) fn make_room(&mut self, first: u64, waiting: u64, is_control: bool) -> Room {
        // Changes of the catalog have room of their own: a trim is what makes space on a full disk.
        let reserve = if is_control { 0 } else { CONTROL_RESERVE };
        let first_len = first + GROUP_OVERHEAD + BLOCK as u64 + reserve;
        let now_ms = self.core.reactor.wall_ms();
        let mut state = self.core.state_mut();
        if !state.wal.fits(first_len) {
            if !self.in_flight.is_empty() {
                // The first group of a file travels alone; let those before it land.
                return Room::Later;
            }
            let salt = self.core.reactor.random();
            let rolled = state.wal.roll(salt, now_ms);
            self.core.governor.set_urgent(self.core.is_pressed(&state.wal));
            // Asked once: whoever waits for a file comes here every turn.
            if rolled || !self.starved {
                self.core.maintain.notify(usize::MAX);
            }
            self.starved = !rolled;
            if !rolled {
                return state.no_room().map_or(Room::Later, Room::None);
            }
        }
        let state = &mut *state;
        let Some(active) = &state.wal.active else { return Room::Later };
        let position = WalPosition::new(active.sequence, active.position, state.wal.file_bytes);
        let bytes = waiting.min(u64::from(self.core.config.group.bytes_max)).max(first);
        let len = (bytes + GROUP_OVERHEAD + BLOCK as u64).next_multiple_of(BLOCK as u64);
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(state.cache.chunk_bytes());
        if state.cache.reserve(position, len) { Room::Yes } else { Room::Later }
    }

    /// Takes a change of the catalog into the group, or refuses it.
    pub(crate) fn take_control(&mut self, request: ControlRequest, formed: &mut Formed) {
        let ControlRequest { mut control, mut reply } = request;
        let refuse = |error: ControlError| {
            if let Some(slot) = &reply {
                slot.fill(Err(error));
            }
        };
        let mut state = self.core.state_mut();
        match &mut control {
            Control::Create { partition, config, name } => {
                let limit = self.core.config.limits.partitions_max;
                if state.partitions.len() >= limit as usize {
                    return refuse(ControlError::TooMany(limit));
                }
                let Some(id) = state.take_partition_id(self.core.shards) else {
                    return refuse(ControlError::NoIdsLeft);
                };
                *partition = id;
                state.partitions.insert(*partition, name.as_str().into(), *config, crate::Offset(0));
            }
            Control::Delete { partition } => {
                let known = state.partitions.get_mut(*partition).filter(|known| !known.deleting);
                let Some(known) = known else {
                    return refuse(AppendError::NoSuchPartition(*partition).into());
                };
                known.deleting = true;
            }
            Control::Trim { partition, log_start } => {
                let Some(known) = state.partitions.get_open(*partition) else {
                    return refuse(AppendError::NoSuchPartition(*partition).into());
                };
                if *log_start > known.flushed {
                    let (partition, wanted, end) = (*partition, *log_start, known.flushed);
                    return refuse(ControlError::BeyondEnd { partition, wanted, end });
                }
                if planted(Planted::TrimNotDurable)
                    && let Some(slot) = reply.take()
                {
                    slot.fill(Ok(*partition));
                }
            }
            Control::Configure { partition, .. } => {
                if state.partitions.get_open(*partition).is_none() {
                    return refuse(AppendError::NoSuchPartition(*partition).into());
                }
            }
            Control::Joint { .. } => {}
        }
        formed.controls.push((control, reply));
    }

    /// Takes an admitted append into the group: gives offsets, and remembers whom to answer.
    pub(crate) fn take_append(
        &mut self,
        request: AppendRequest,
        assigned: &mut Vec<Assigned>,
        formed: &mut Formed,
    ) {
        let AppendRequest { parts, ack, reply, budget } = request;
        let mut places = AppendedParts::new();
        let mut state = self.core.state_mut();
        for part in parts {
            let Some(at) = assign(&mut state.partitions, &part) else {
                // Deleted meanwhile: its part of a joint append went with it.
                places.push(Appended { base_offset: crate::Offset(0), count: 0 });
                continue;
            };
            formed.records += u64::from(at.count);
            places.push(at);
            assigned.push(Assigned { part, at, arrival: assigned.len() as u32 });
        }
        formed.budget += budget;
        match reply {
            AppendReply::One(slot) => {
                let Some(at) = places.first().copied() else { return };
                match ack {
                    Ack::Flushed => formed.acks.push((slot, at)),
                    Ack::Accepted => slot.fill(Ok(at)),
                }
            }
            AppendReply::Joint(part) => {
                if part.joint.spans_shards() {
                    let joint = &part.joint;
                    let control =
                        Control::Joint { transaction: joint.transaction, shards: joint.shards.clone() };
                    formed.controls.push((control, None));
                }
                formed.joints.push((part, places));
            }
        }
    }

    /// Steps 3 and 4: lays the group out in the tail cache and sends it to the disk.
    pub(crate) fn group_and_send(&mut self, assigned: &mut [Assigned], mut formed: Formed) {
        let core = self.core.clone();
        let assigned = self.tear_joint(assigned, &formed);
        let now_ms = core.reactor.wall_ms();
        let mut state = core.state_mut();
        let state = &mut *state;
        // Arrivals are sorted by partition only where there is more than one: stable by arrival.
        if assigned.windows(2).any(|pair| pair[0].part.partition != pair[1].part.partition) {
            assigned.sort_unstable_by_key(|each| (each.part.partition, each.arrival));
        }
        let wal = &mut state.wal;
        // `make_room` was asked first.
        let Some(active) = &mut wal.active else { unreachable!("a group has a WAL file") };
        formed.opens_file = active.position == 0;
        let lead = if formed.opens_file { BLOCK } else { 0 };
        let out = state.cache.spare();
        if formed.opens_file {
            out[..BLOCK].fill(0);
        }
        let byte = active.position + lead as u64;
        let start = GroupStart {
            number: wal.next_group,
            sequence: active.sequence,
            salt: active.salt,
            byte,
            position: WalPosition::new(active.sequence, byte, wal.file_bytes),
            durable: planted::proven(wal.durable, wal.next_group),
            shard: wal.shard,
            previous: wal.previous,
            now_ms,
            directory: wal.directory as u64,
            revision: core.revision.get(),
        };
        let mut builder = GroupBuilder::new(&mut out[lead..], start);
        formed.controls.iter().for_each(|(control, _)| builder.add_encoded(&control.encode()));
        for parts in assigned.chunk_by(|a, b| a.part.partition == b.part.partition) {
            builder.add_partition(parts, &mut formed.placed);
        }
        let (padded, crc) = builder.finish(BLOCK);
        let total = lead + padded;
        if formed.opens_file {
            let Some(active) = &wal.active else { unreachable!("looked at above") };
            wal.file_header(active, now_ms).seal(&mut out[..FILE_HEADER_BYTES]);
        }
        let Some(active) = &mut wal.active else { unreachable!("looked at above") };
        let at = active.position;
        active.position += total as u64;
        (formed.number, wal.previous) = (wal.next_group, crc);
        wal.next_group = wal.next_group.next();
        for joint in formed.joints.iter().filter(|(part, _)| part.joint.spans_shards()) {
            active.joint = active.joint.max(joint.0.joint.transaction);
        }
        let file = active.id;
        state.note_placed(&formed.placed);
        let Some(view) = state.cache.publish(total) else { unreachable!("reserved above") };
        formed.bytes = total as u64;
        formed.formed_at = core.reactor.now();
        let (buf, durability) = (Buffer::View(view), planted::group_durability());
        let pending = core.reactor.start(Op::Write { file, position: at, buf, durability });
        if planted(Planted::SyncBeforeWriteEnds) {
            drop(core.reactor.start(Op::Sync { file }));
        }
        if planted(Planted::AckBeforeSync) {
            formed.acks.drain(..).for_each(|(slot, at)| slot.fill(Ok(at)));
        }
        self.witnessed = formed.marker;
        self.in_flight.push_back(InFlight { pending, formed });
    }

    /// Whether nothing shows yet that the last group was durable.
    pub(crate) fn unproven(&self) -> bool {
        !self.witnessed && !planted(Planted::IdleMarkerSkipped)
    }

    /// Writes a marker once the shard has been idle for a while: it proves that the last group was
    /// durable, so that damage to it can be told from a torn write.
    pub(crate) fn witness(&mut self) -> bool {
        let idle = self.core.reactor.now().since(self.last_durable);
        let due = idle >= u64::from(self.core.config.wal.witness_after_us) * 1000;
        if !self.unproven() || !due || !self.in_flight.is_empty() {
            return false;
        }
        self.mark()
    }

    /// Sends a marker, if there is a file to write it to.
    fn mark(&mut self) -> bool {
        let core = self.core.clone();
        {
            let mut state = core.state_mut();
            let state = &mut *state;
            let wal = &state.wal;
            // Every group leaves one block for the marker behind it. A fresh file has room for its
            // header too.
            let place = wal.active.as_ref().and_then(|active| {
                let len = if active.position == 0 { 2 * BLOCK } else { BLOCK };
                let fits = active.position + len as u64 <= wal.file_bytes;
                let position = WalPosition::new(active.sequence, active.position, wal.file_bytes);
                fits.then_some((position, len))
            });
            if !place.is_some_and(|(position, len)| state.cache.reserve(position, len)) {
                self.witnessed = true;
                return false;
            }
        }
        let mut formed = self.formed_pool.pop().unwrap_or_default();
        formed.marker = true;
        self.group_and_send(&mut [], formed);
        true
    }

    /// Writes a marker and waits until it is durable: what recovery cut off is then on record. Returns
    /// whether there was room for it.
    ///
    /// # Errors
    /// The host's. The shard must not go on: the marker has a number, and is not there.
    pub(crate) async fn record_cut(&mut self) -> std::io::Result<bool> {
        self.mark();
        let Some(flight) = self.in_flight.pop_front() else { return Ok(false) };
        flight.pending.await.result?;
        self.flushed(flight.formed);
        self.publish_decided();
        Ok(true)
    }

    /// Takes completed writes, in order, and publishes what they made durable.
    pub(crate) fn reap(&mut self) -> bool {
        let mut busy = false;
        if planted(Planted::GroupsAckedOutOfOrder) {
            self.in_flight.rotate_left(usize::from(self.in_flight.len() > 1));
        }
        while let Some(flight) = self.in_flight.front_mut() {
            let Some(completion) = flight.pending.try_take() else { break };
            let Some(InFlight { formed, .. }) = self.in_flight.pop_front() else { break };
            busy = true;
            if let Err(error) = completion.result {
                let Some(formed) = self.overlook(formed) else { continue };
                let reason = format!("group {} did not reach the disk: {error}", formed.number);
                self.stop(formed, &reason);
                return true;
            }
            self.flushed(formed);
        }
        busy | self.publish_decided()
    }

    /// A group is durable: mark it.
    pub(crate) fn flushed(&mut self, mut formed: Formed) {
        self.core.state_mut().wal.durable = formed.number;
        self.last_durable = self.core.reactor.now();
        self.polling.borrow_mut().committed(self.last_durable.since(formed.formed_at));
        if !formed.marker {
            self.core.governor.committed(formed.formed_at, self.last_durable);
        }
        if planted(Planted::PartAnnouncedEarly) {
            formed.announce();
        }
        self.durable.push_back(formed);
    }

    /// Ends the shard and everything on its way.
    pub(crate) fn stop(&mut self, formed: Formed, reason: &str) {
        self.core.halt(reason);
        let Some(error) = self.core.state().halt_error() else { return };
        let mut budget = 0;
        let flying = self.in_flight.drain(..).map(|flight| flight.formed);
        for formed in std::iter::once(formed).chain(self.durable.drain(..)).chain(flying) {
            budget += formed.budget;
            formed.fail(&error);
        }
        self.core.mailbox.release(budget);
    }
}
