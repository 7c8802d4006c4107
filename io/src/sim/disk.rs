//! The disk itself: what a test holds on to while processes come and go.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::backend::Nanos;

use super::backend::SimBackend;
use super::crash::Undecided;
use super::fault::{Effect, FaultRule, OpKind};
use super::file::FileKey;
use super::options::SimOptions;
use super::state::State;
use super::trace::{Event, content_hash};

/// A simulated disk. Clones share it; [`snapshot`](SimDisk::snapshot) makes an independent copy.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

impl SimDisk {
    /// An empty disk that does everything [at random](SimOptions::random), drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::with_options(seed, SimOptions::random())
    }

    /// An empty disk.
    #[must_use]
    pub fn with_options(seed: u64, options: SimOptions) -> SimDisk {
        SimDisk { state: Rc::new(RefCell::new(State::new(seed, options))) }
    }

    /// A backend for one shard of the present life.
    ///
    /// # Panics
    /// If the host has no event descriptor left.
    #[must_use]
    pub fn backend(&self) -> SimBackend {
        SimBackend::new(self.state.clone())
    }

    /// Cuts the power, decides by the seed what is left, and switches it on again.
    pub fn crash(&self) {
        self.state.borrow_mut().crash(None);
    }

    /// As [`crash`](Self::crash), with `keep` in the place of the seed: it is asked for every
    /// thing undecided, in a fixed order, and answers whether it survives.
    pub fn crash_choosing(&self, mut keep: impl FnMut(Undecided<'_>) -> bool) {
        self.state.borrow_mut().crash(Some(&mut keep));
    }

    /// Ends the process and leaves the host up: what had completed stays readable and unsynced,
    /// what was in flight may have happened or not. Backends are then as after a power cut.
    pub fn kill(&self) {
        self.state.borrow_mut().kill();
    }

    /// Cuts the power in the middle: `ops` more operations are submitted as usual, the one after
    /// them is caught in flight. From then on every operation ends with an error of kind
    /// [`BrokenPipe`](std::io::ErrorKind::BrokenPipe), until [`crash`](Self::crash) decides what is
    /// left.
    pub fn crash_after(&self, ops: u64) {
        self.state.borrow_mut().cut_after = Some(ops);
    }

    /// Whether [`crash_after`](Self::crash_after) has switched the power off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state.borrow().is_off()
    }

    /// An independent copy, as it would be on another host: no backends, but everything unsynced
    /// still unsynced. What is in flight is decided when the copy [crashes](Self::crash), or
    /// happens when it gets its first backend.
    #[must_use]
    pub fn snapshot(&self) -> SimDisk {
        SimDisk { state: Rc::new(RefCell::new(self.state.borrow().snapshot())) }
    }

    /// Draws what is decided from here on from another seed: latencies, faults and power cuts.
    pub fn reseed(&self, seed: u64) {
        self.state.borrow_mut().reseed(seed);
    }

    /// Replaces the options.
    pub fn set_options(&self, options: SimOptions) {
        self.state.borrow_mut().options = options;
    }

    /// Changes how much fits. Files that are there already stay.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.borrow_mut().options.capacity_bytes = bytes;
    }

    /// Moves the wall clock, and not the monotonic one.
    pub fn shift_wall_ms(&self, delta: i64) {
        self.state.borrow_mut().wall_shift_ms += delta;
    }

    /// Lets virtual time pass.
    pub fn advance_us(&self, micros: u64) {
        let mut state = self.state.borrow_mut();
        state.now = Nanos(state.now).plus_us(micros).0;
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Nanos {
        Nanos(self.state.borrow().now)
    }

    /// Which life it is: the number of power cuts and kills so far.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.state.borrow().incarnation
    }
}

/// Faults.
impl SimDisk {
    /// Adds a fault. The first rule that fits an operation takes it.
    pub fn plan(&self, rule: FaultRule) {
        self.state.borrow_mut().rules.push(rule);
    }

    /// The next operation of a kind, on a path that contains `path_contains`, fails with `errno`.
    pub fn fail_next(&self, op: OpKind, path_contains: &str, errno: i32) {
        self.plan(FaultRule::new(op, Effect::Error(errno)).on(path_contains));
    }

    /// Forgets the faults that have not hit yet.
    pub fn clear_faults(&self) {
        self.state.borrow_mut().rules.clear();
    }

    /// How many operations a planned fault has hit.
    #[must_use]
    pub fn faults_fired(&self) -> u64 {
        self.state.borrow().faults_fired
    }

    /// How many syncs have failed and lost something: it is read until the power cut, and never stored.
    #[must_use]
    pub fn syncs_lost(&self) -> u64 {
        self.state.borrow().syncs_lost
    }
}

/// Looking at the disk, and changing it behind everybody's back.
impl SimDisk {
    /// Every file with its length, as a process sees them, in path order.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state.borrow();
        state.names.walk().into_iter().map(|(path, file)| (path, state.file(file).len())).collect()
    }

    /// A file as a process reads it.
    #[must_use]
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        Some(state.file(state.names.file(path.as_ref()).ok()?).contents())
    }

    /// A file as the worst power cut would leave it: everything lost that may be lost. `None` if
    /// its name would be gone.
    #[must_use]
    pub fn durable(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        Some(state.file(state.names.durable_file(path.as_ref())?).durable())
    }

    /// Replaces stored bytes, in every version of them.
    ///
    /// # Panics
    /// If there is no such file, or it is shorter.
    pub fn patch(&self, path: impl AsRef<Path>, position: u64, bytes: &[u8]) {
        let (mut state, file) = self.named(path.as_ref());
        let end = position + bytes.len() as u64;
        assert!(end <= state.file(file).len(), "{} ends before {end}", path.as_ref().display());
        state.touched(path.as_ref(), content_hash(bytes) ^ position);
        state.file_mut(file).patch(position, bytes);
    }

    /// Flips one stored bit, in every version of it: bit 0 is the lowest of byte 0.
    ///
    /// # Panics
    /// If there is no such file, or it is shorter.
    pub fn flip_bit(&self, path: impl AsRef<Path>, bit: u64) {
        let mut byte = [0];
        let (state, file) = self.named(path.as_ref());
        state.file(file).read(bit / 8, &mut byte);
        drop(state);
        self.patch(path, bit / 8, &[byte[0] ^ (1 << (bit % 8))]);
    }

    /// Puts a file there, durably: its name, its content and its length.
    ///
    /// # Panics
    /// If its directory does not exist, or a directory has its name.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path = path.as_ref();
        self.remove(path);
        let mut state = self.state.borrow_mut();
        let file = state.create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        state.names.force(path, Some(file)).expect("its place was there a moment ago");
        let stored = state.file_mut(file);
        stored.patch(0, bytes);
        stored.settle(bytes.len() as u64);
        state.touched(path, content_hash(bytes));
    }

    /// Removes a file, durably. Returns whether there was one.
    pub fn remove(&self, path: impl AsRef<Path>) -> bool {
        let mut state = self.state.borrow_mut();
        let Ok(file) = state.names.file(path.as_ref()) else { return false };
        state.names.force(path.as_ref(), None).expect("its place was there a moment ago");
        state.file_mut(file).links -= 1;
        state.forget_unreachable();
        state.touched(path.as_ref(), 0);
        true
    }

    /// Sets a file's length, durably, and makes its present content durable.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn truncate(&self, path: impl AsRef<Path>, len: u64) {
        let (mut state, file) = self.named(path.as_ref());
        state.touched(path.as_ref(), len);
        state.file_mut(file).settle(len);
    }

    fn named(&self, path: &Path) -> (std::cell::RefMut<'_, State>, FileKey) {
        let state = self.state.borrow_mut();
        let file = state.names.file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (state, file)
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.state.borrow().free_bytes()
    }

    /// Files that backends of the present life have open: descriptors, on a real host.
    #[must_use]
    pub fn open_files(&self) -> usize {
        let state = self.state.borrow();
        state.files.values().map(|file| file.opens as usize).sum()
    }

    /// Operations submitted so far.
    #[must_use]
    pub fn op_count(&self) -> u64 {
        self.count(OpKind::Any)
    }

    /// Operations of one kind submitted so far.
    #[must_use]
    pub fn count(&self, kind: OpKind) -> u64 {
        self.state.borrow().counts[kind as usize]
    }

    /// A hash over everything that has happened, in order. The same seed and the same calls give
    /// the same hash.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.state.borrow().trace.hash()
    }

    /// The last completed operations, oldest first: what a failed test prints.
    #[must_use]
    pub fn last_events(&self) -> Vec<Event> {
        self.state.borrow().trace.last()
    }
}
