//! The disk's state, and the life of an operation: submitted, due, completed or cut off.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use crate::backend::{Completion, Durability, FileId, Op, Tag};

use super::backend::POLL_NS;
use super::client::{Client, ClientKey, Flight, Handle};
use super::crash::Judge;
use super::fault::{Effect, FaultRule, KINDS, OpKind};
use super::file::{File, FileKey};
use super::names::Names;
use super::options::{Fate, SimOptions};
use super::random::SimRandom;
use super::trace::Trace;

/// What the wall clock shows when the disk is made, ms since the Unix epoch.
const WALL_MS_START: i64 = 1_700_000_000_000;

/// Words of the trace for what is no operation.
const CRASHED: u64 = u64::MAX;
const KILLED: u64 = u64::MAX - 1;

/// Everything behind a [`SimDisk`](super::SimDisk).
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SimOptions,
    /// Virtual time, ns.
    pub(super) now: u64,
    pub(super) wall_shift_ms: i64,
    pub(super) files: BTreeMap<FileKey, File>,
    pub(super) next_file: FileKey,
    pub(super) names: Names,
    pub(super) clients: BTreeMap<ClientKey, Client>,
    next_client: ClientKey,
    /// Which life of the process it is.
    pub(super) incarnation: u64,
    /// Operations cut off in flight; the power cut decides whether they happened.
    stranded: VecDeque<Flight>,
    powered: bool,
    /// So many more operations are submitted before the power goes off.
    pub(super) cut_after: Option<u64>,
    /// Changes completed so far.
    seq: u64,
    last_due: u64,
    pub(super) rules: Vec<FaultRule>,
    pub(super) faults_fired: u64,
    /// Syncs that failed and lost something.
    pub(super) syncs_lost: u64,
    pub(super) counts: [u64; KINDS],
    pub(super) trace: Trace,
    pub(super) entropy: SimRandom,
    pub(super) fault_random: SimRandom,
    pub(super) read_random: SimRandom,
    latency_random: SimRandom,
    crash_random: SimRandom,
}

impl State {
    pub(super) fn new(seed: u64, options: SimOptions) -> State {
        State {
            options,
            now: 0,
            wall_shift_ms: 0,
            files: BTreeMap::new(),
            next_file: 1,
            names: Names::new(),
            clients: BTreeMap::new(),
            next_client: 0,
            incarnation: 0,
            stranded: VecDeque::new(),
            powered: true,
            cut_after: None,
            seq: 0,
            last_due: 0,
            rules: Vec::new(),
            faults_fired: 0,
            syncs_lost: 0,
            counts: [0; KINDS],
            trace: Trace::default(),
            entropy: SimRandom::new(seed, "entropy"),
            fault_random: SimRandom::new(seed, "fault"),
            read_random: SimRandom::new(seed, "read"),
            latency_random: SimRandom::new(seed, "latency"),
            crash_random: SimRandom::new(seed, "crash"),
        }
    }

    /// A copy without backends. What was in flight is cut off in it.
    pub(super) fn snapshot(&self) -> State {
        State {
            options: self.options.clone(),
            files: self.files.iter().map(|(key, file)| (*key, file.unopened())).collect(),
            names: self.names.clone(),
            clients: BTreeMap::new(),
            stranded: self.cut_off(),
            rules: self.rules.clone(),
            trace: self.trace.clone(),
            entropy: self.entropy.clone(),
            fault_random: self.fault_random.clone(),
            read_random: self.read_random.clone(),
            latency_random: self.latency_random.clone(),
            crash_random: self.crash_random.clone(),
            ..*self
        }
    }

    /// Draws everything from here on from another seed, except what backends draw for themselves.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.fault_random = SimRandom::new(seed, "fault");
        self.read_random = SimRandom::new(seed, "read");
        self.latency_random = SimRandom::new(seed, "latency");
        self.crash_random = SimRandom::new(seed, "crash");
    }

    pub(super) fn wall_ms(&self) -> i64 {
        WALL_MS_START + (self.now / 1_000_000) as i64 + self.wall_shift_ms
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let used = self.files.values().map(File::charged).sum();
        self.options.capacity_bytes.saturating_sub(used)
    }

    /// The next number in the order of changes.
    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub(super) fn file(&self, key: FileKey) -> &File {
        &self.files[&key]
    }

    pub(super) fn file_mut(&mut self, key: FileKey) -> &mut File {
        self.files.get_mut(&key).expect("a file with a name or a handle is kept")
    }

    /// Frees files that have neither a name, nor may get one back, nor are in use.
    pub(super) fn forget_unreachable(&mut self) {
        let mut reachable = self.names.reachable();
        reachable.extend(self.stranded.iter().filter_map(|flight| Some(flight.handle?.file)));
        self.files.retain(|key, file| file.opens > 0 || reachable.contains(key));
    }

    /// A backend of this life. On a copy, what was cut off in flight lands first.
    pub(super) fn connect(&mut self) -> ClientKey {
        if self.powered {
            while let Some(flight) = self.stranded.pop_front() {
                self.execute(flight);
            }
        }
        let key = self.next_client;
        self.next_client += 1;
        self.clients.insert(key, Client { incarnation: self.incarnation, ..Client::default() });
        key
    }

    /// Lets what is in flight land, and closes the backend's files.
    pub(super) fn disconnect(&mut self, key: ClientKey) {
        while let Some(((due, _), flight)) = self.client(key).flights.pop_first() {
            self.now = self.now.max(due);
            self.execute(flight);
        }
        let Some(client) = self.clients.remove(&key) else { return };
        for handle in client.handles.into_iter().flatten() {
            self.file_mut(handle.file).opens -= 1;
        }
        self.forget_unreachable();
    }

    fn client(&mut self, key: ClientKey) -> &mut Client {
        self.clients.get_mut(&key).expect("a backend stays connected until it is dropped")
    }

    pub(super) fn in_flight(&self, key: ClientKey) -> usize {
        self.clients.get(&key).map_or(0, Client::in_flight)
    }

    pub(super) fn submit(&mut self, key: ClientKey, op: Op, tag: Tag) {
        let (powered, incarnation) = (self.powered, self.incarnation);
        let kind = OpKind::of(&op);
        let covers = self.seq;
        let client = self.client(key);
        let file = file_of(&op);
        let handle = file.and_then(|file| client.handle(file));
        let mut flight = Flight { client: key, op, tag, kind, handle, covers, effect: None };
        if !powered || client.incarnation != incarnation {
            client.refused.push_back(flight.failed(power_is_off()));
            return;
        }
        let others = client.flights.values().filter(|other| file_of(&other.op) == file);
        let other = others.map(|other| other.kind).next().filter(|_| kind == OpKind::Close);
        assert!(other.is_none(), "{file:?} was closed with an operation in flight on it: {other:?}");
        flight.effect = self.planned(kind, &flight.op, handle);
        let due = self.due(flight.effect.as_ref());
        self.counts[OpKind::Any as usize] += 1;
        self.counts[kind as usize] += 1;
        self.trace.word(kind as u64 ^ (key << 8) ^ due.rotate_left(20));
        let order = self.counts[OpKind::Any as usize];
        self.client(key).flights.insert((due, order), flight);
        match &mut self.cut_after {
            Some(0) => self.cut_power(),
            Some(left) => *left -= 1,
            None => {}
        }
    }

    /// When an operation submitted now completes.
    fn due(&mut self, effect: Option<&Effect>) -> u64 {
        let spread = self.options.latency_ns_max.saturating_sub(self.options.latency_ns_min);
        let latency =
            self.options.latency_ns_min + self.latency_random.below(spread.saturating_add(1).max(1));
        let delay = if let Some(Effect::Delay(ns)) = effect { *ns } else { 0 };
        let mut due = self.now.saturating_add(latency).saturating_add(delay);
        if !self.options.reorder {
            due = due.max(self.last_due);
        }
        self.last_due = due;
        due
    }

    /// What a planned fault does to this operation.
    fn planned(&mut self, kind: OpKind, op: &Op, handle: Option<Handle>) -> Option<Effect> {
        if !self.rules.iter().any(|rule| rule.looks_at(kind)) {
            return None;
        }
        let paths = match op {
            Op::Rename { from, to } => vec![from.clone(), to.clone()],
            Op::Open { path, .. } | Op::Remove { path } | Op::CreateDir { path } => vec![path.clone()],
            Op::SyncDir { path } | Op::List { path } => vec![path.clone()],
            _ => handle.map_or(Vec::new(), |handle| self.paths_of(handle.file)),
        };
        let hit = |rule: &mut FaultRule| rule.looks_at(kind) && rule.hits(&paths);
        let effect = self.rules.iter_mut().find_map(|rule| hit(rule).then(|| rule.effect.clone()));
        self.faults_fired += u64::from(effect.is_some());
        self.rules.retain(|rule| rule.count > 0);
        effect
    }

    fn paths_of(&self, file: FileKey) -> Vec<PathBuf> {
        let named = self.names.walk().into_iter().filter(|(_, key)| *key == file);
        named.map(|(path, _)| path).collect()
    }

    pub(super) fn poll(&mut self, key: ClientKey, out: &mut Vec<Completion>) -> usize {
        self.now += POLL_NS;
        let before = out.len();
        let now = self.now;
        out.extend(self.client(key).refused.drain(..));
        while let Some(due) = self.client(key).flights.first_entry().filter(|entry| entry.key().0 <= now) {
            let flight = due.remove();
            out.push(self.execute(flight));
        }
        out.len() - before
    }

    pub(super) fn park(&mut self, key: ClientKey, deadline: Option<u64>) {
        if !self.client(key).refused.is_empty() {
            return;
        }
        // Another backend's completion that is already due is its own business: waiting for it
        // here would stop the clock.
        let now = self.now;
        let due = |(other, client): (&ClientKey, &Client)| {
            let (due, _) = *client.flights.first_key_value()?.0;
            (due > now || *other == key).then_some(due)
        };
        let next = self.clients.iter().filter_map(due).chain(deadline).min();
        self.now = next.map_or(now, |next| next.max(now));
    }

    /// Copies of what is in flight, in the order it would have completed in.
    fn cut_off(&self) -> VecDeque<Flight> {
        let mut flights: Vec<_> = self.clients.values().flat_map(|client| &client.flights).collect();
        flights.sort_by_key(|(due, _)| **due);
        self.stranded
            .iter()
            .chain(flights.into_iter().map(|(_, flight)| flight))
            .map(Flight::copied)
            .collect()
    }

    /// The power goes off: nothing completes any more, and backends get their buffers back with
    /// errors. What is left on the disk is decided by [`State::crash`].
    fn cut_power(&mut self) {
        self.stranded = self.cut_off();
        for client in self.clients.values_mut() {
            let flights = std::mem::take(&mut client.flights).into_values();
            client.refused.extend(flights.map(|flight| flight.failed(power_is_off())));
        }
        self.powered = false;
    }

    pub(super) fn is_off(&self) -> bool {
        !self.powered
    }

    /// Lets what was in flight happen or not, as `judge` says.
    fn land(&mut self, judge: &mut Judge<'_>) {
        while let Some(mut flight) = self.stranded.pop_front() {
            let fate = match flight.kind {
                OpKind::Read | OpKind::List | OpKind::Close => continue,
                kind => judge.in_flight(kind),
            };
            if let Op::Write { durability, .. } = &mut flight.op {
                *durability = Durability::Volatile;
                if fate == Fate::Tear {
                    flight.effect = Some(Effect::Error(rustix::io::Errno::IO.raw_os_error()));
                }
            }
            if fate != Fate::Lose {
                self.execute(flight);
            }
        }
    }

    /// A power cut. Afterwards the power is on again.
    pub(super) fn crash(&mut self, ask: Option<&mut dyn FnMut(super::Undecided<'_>) -> bool>) {
        self.trace.word(CRASHED);
        self.end_life(ask, |state, judge| {
            let paths: BTreeMap<FileKey, PathBuf> =
                state.names.walk().into_iter().map(|(path, file)| (file, path)).collect();
            for (key, file) in &mut state.files {
                file.crash(paths.get(key).map_or(Path::new(""), PathBuf::as_path), judge);
            }
            state.names.crash(judge);
        });
        let mut links: BTreeMap<FileKey, u32> = BTreeMap::new();
        for (_, file) in self.names.walk() {
            *links.entry(file).or_default() += 1;
        }
        for (key, file) in &mut self.files {
            file.links = links.get(key).copied().unwrap_or(0);
        }
    }

    /// The process dies and the host lives on.
    pub(super) fn kill(&mut self) {
        self.trace.word(KILLED);
        self.end_life(None, |_, _| {});
    }

    fn end_life(
        &mut self,
        ask: Option<&mut dyn FnMut(super::Undecided<'_>) -> bool>,
        loses: impl FnOnce(&mut State, &mut Judge<'_>),
    ) {
        self.cut_power();
        let mut random = self.crash_random.clone();
        let weights = self.options.weights(&mut random);
        let mut judge = match ask {
            Some(ask) => Judge::Asked(ask),
            None => Judge::Drawn { random: &mut random, weights },
        };
        self.land(&mut judge);
        loses(self, &mut judge);
        self.crash_random = random;
        for client in self.clients.values_mut() {
            client.handles.clear();
        }
        for file in self.files.values_mut() {
            file.opens = 0;
        }
        self.forget_unreachable();
        self.incarnation += 1;
        self.powered = true;
        self.cut_after = None;
    }

    /// A change from outside, for the trace.
    pub(super) fn touched(&mut self, path: &Path, what: u64) {
        let hash = super::trace::content_hash(path.as_os_str().as_encoded_bytes());
        self.trace.word(hash ^ what);
    }
}

/// The file an operation works on.
fn file_of(op: &Op) -> Option<FileId> {
    match op {
        Op::Close { file }
        | Op::Read { file, .. }
        | Op::Write { file, .. }
        | Op::Sync { file }
        | Op::Allocate { file, .. }
        | Op::Truncate { file, .. } => Some(*file),
        _ => None,
    }
}

fn power_is_off() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "power is off")
}
