//! Keeps background I/O out of the way of commits.
//!
//! Everything that is not a commit asks here before it reads or writes: [`Governor`] is a shard's
//! way to ask, [`Pace`] what all shards on one device share. While commits are under way requests
//! are small, few are in flight, and their rate follows what they do to the commits: each commit
//! that took longer than nearly all do without company lowers it, each that did not raises it a
//! little. Without commits the device is theirs, nor is sealing held back when the WAL has no spare
//! file left: it is then what the appends wait for.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;

use event_listener::Event;
use thalweg_io::{BLOCK, Backend, Nanos, Reactor};

/// Largest request of background I/O, bytes: where devices stop gaining.
pub(crate) const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Largest read and write while commits are under way. What hurts a commit is the length of the
/// request in front of it: at 80 MB/s reads of 32 KiB made the commits' p99 1.3 times as long, reads
/// of 8 KiB did not show. Upkeep has more to carry.
const BUSY_REQUEST_BYTES_MAX: (usize, usize) = (8 << 10, 16 << 10);
/// Largest request of upkeep that has to keep up with the appends.
const URGENT_REQUEST_BYTES_MAX: usize = 128 << 10;
/// Requests in flight on the device while commits are under way.
const BUSY_DEPTH_MAX: u32 = 1;
/// Requests in flight on the device without commits.
const QUIET_DEPTH_MAX: u32 = 8;
/// Commits count as under way for so many times their usual distance after the last one.
const QUIET_AFTER_INTERVALS: u64 = 4;
/// Bounds on that time, ns.
const QUIET_AFTER_NS: (u64, u64) = (10_000_000, 1_000_000_000);
/// Upkeep is never slower than this, bytes/s, or sealing would stop the appends it makes room for.
const UPKEEP_RATE_MIN: f64 = 32.0 * 1024.0 * 1024.0;
/// Nor is a reader, bytes/s: it has to get to the end some day.
const READ_RATE_MIN: f64 = 4.0 * 1024.0 * 1024.0;
/// The fastest rate that is tried, bytes/s.
const RATE_MAX: f64 = 4e9;
/// The rate before anything is known, bytes/s.
const RATE_FIRST: f64 = 32.0 * 1024.0 * 1024.0;
/// A commit beside background work is slow if it takes so many times as long as 99 % do without.
const SLOW: f64 = 1.15;
/// What a slow commit takes off the rate.
const LOWER: f64 = 0.05;
/// Slow commits beside background work that are accepted: so many times the part that is slow without,
/// and this part. The rate then stands still.
const SLOW_MORE: f64 = 1.25;
const SLOW_PART: f64 = 0.002;
/// How fast the estimate of that part follows.
const FOLLOW_SLOW: f64 = 0.001;
/// How fast the estimate of the slowest commits alone follows them.
const FOLLOW: f64 = 0.02;
/// Longest wait for somebody else's request to end before looking again, µs.
const LOOK_AGAIN_US: u64 = 100;
/// So many looks a shard leaves a free place to others that wait.
const POLITE_LOOKS_MAX: u32 = 10;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A reader waits for it.
    Read,
    /// Sealing, merging, preparing files: appends may come to wait for it.
    Upkeep,
}

/// The pace of background I/O on one device. Every value may be a moment old: nothing here is
/// locked, least of all for a commit.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When a commit was last completed, ns; 0 is never.
    last_commit: AtomicU64,
    /// Usual distance of two commits, ns.
    interval: AtomicU64,
    /// Background requests in flight.
    in_flight: AtomicU32,
    /// Those that wait for one of them to end.
    waiting: AtomicU32,
    /// The shard whose request entered last, and who comes next to be told from others.
    entered_last: AtomicU32,
    shards: AtomicU32,
    reads: Lane,
    upkeep: Lane,
}

/// The pace of one kind of work, and what it does to commits.
#[derive(Debug)]
struct Lane {
    /// 99 % of the commits without such work beside them took no longer, ns; 0 before the first.
    without: AtomicU64,
    /// How many of those were slow all the same, in 1,000,000.
    slow_without: AtomicU64,
    /// Bytes per second at present.
    rate: AtomicU64,
    /// When the next request may start, ns.
    next: AtomicU64,
    /// Requests in flight.
    in_flight: AtomicU32,
    /// When one of them last ended, ns; 0 is never.
    last_ended: AtomicU64,
}

impl Default for Lane {
    fn default() -> Lane {
        let zero = || AtomicU64::new(0);
        let rate = AtomicU64::new(RATE_FIRST as u64);
        Lane {
            without: zero(),
            slow_without: zero(),
            rate,
            next: zero(),
            in_flight: AtomicU32::new(0),
            last_ended: zero(),
        }
    }
}

impl Lane {
    /// Whether such work was under way at any time since `start`.
    fn was_beside(&self, start: Nanos) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0 || self.last_ended.load(Ordering::Relaxed) >= start.0
    }

    /// A commit was in flight from `start` to `end`; `counts` if nothing else made it slow.
    fn committed(&self, start: Nanos, end: Nanos, counts: bool) {
        let took = end.since(start) as f64;
        let without = self.without.load(Ordering::Relaxed) as f64;
        let slow = took > without * SLOW;
        let natural = self.slow_without.load(Ordering::Relaxed) as f64 / 1e6;
        if self.was_beside(start) {
            if without > 0.0 {
                let accepted = natural * SLOW_MORE + SLOW_PART;
                let change = if slow { 1.0 - LOWER } else { 1.0 + LOWER * accepted };
                let rate = self.rate.load(Ordering::Relaxed) as f64 * change;
                self.rate.store(rate.clamp(READ_RATE_MIN, RATE_MAX).ceil() as u64, Ordering::Relaxed);
            }
        } else if counts {
            let natural = natural + (f64::from(u8::from(slow)) - natural) * FOLLOW_SLOW;
            self.slow_without.store((natural * 1e6).ceil() as u64, Ordering::Relaxed);
            self.without.store(follow(without, took) as u64, Ordering::Relaxed);
        }
    }
}

impl Pace {
    /// The pace of a device that nothing is known of.
    pub(crate) fn new() -> Arc<Pace> {
        Arc::new(Pace::default())
    }

    /// The pace of a device of this host, by its number: all engines of the process share it.
    pub(crate) fn of_device(device: u64) -> Arc<Pace> {
        static DEVICES: Mutex<BTreeMap<u64, Weak<Pace>>> = Mutex::new(BTreeMap::new());
        // Nothing panics while it holds the lock.
        let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|_, pace| pace.strong_count() > 0);
        if let Some(known) = devices.get(&device).and_then(Weak::upgrade) {
            return known;
        }
        let pace = Pace::new();
        devices.insert(device, Arc::downgrade(&pace));
        pace
    }

    /// A commit was in flight from `start` to `end`.
    fn committed(&self, start: Nanos, end: Nanos) {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let (last, interval) = (load(&self.last_commit), load(&self.interval));
        if last > 0 {
            let distance = end.since(Nanos(last)).min(QUIET_AFTER_NS.1 / QUIET_AFTER_INTERVALS);
            self.interval.store(interval - interval / 8 + distance / 8, Ordering::Relaxed);
        }
        self.last_commit.store(end.0, Ordering::Relaxed);
        self.reads.committed(start, end, true);
        self.upkeep.committed(start, end, !self.reads.was_beside(start));
    }

    fn lane(&self, work: Work) -> &Lane {
        match work {
            Work::Read => &self.reads,
            Work::Upkeep => &self.upkeep,
        }
    }

    /// Whether no commits are under way.
    fn is_quiet(&self, now: Nanos) -> bool {
        let (last, interval) =
            (self.last_commit.load(Ordering::Relaxed), self.interval.load(Ordering::Relaxed));
        let (least, most) = QUIET_AFTER_NS;
        last == 0 || now.since(Nanos(last)) > (interval * QUIET_AFTER_INTERVALS).clamp(least, most)
    }

    /// Takes the place of `bytes` in the line of its kind. Returns when it begins.
    fn reserve(&self, work: Work, bytes: usize, now: Nanos, rate_max: f64) -> Nanos {
        let least = if work == Work::Upkeep { UPKEEP_RATE_MIN } else { READ_RATE_MIN };
        let lane = self.lane(work);
        let rate = (lane.rate.load(Ordering::Relaxed) as f64).max(least).min(rate_max);
        let cost = (bytes as f64 / rate * 1e9) as u64;
        let take = |next: u64| Some(next.max(now.0) + cost);
        let before = lane.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        Nanos(before.unwrap_or(now.0).max(now.0))
    }

    /// One more request of `shard` in flight, if there may be. Where others wait too nobody has two turns
    /// in a row: a shard that goes on at once is always there first. `own` of those who wait are its.
    fn enter(&self, work: Work, depth_max: u32, shard: u32, own: u32) -> bool {
        let others_wait = self.waiting.load(Ordering::Relaxed) > own;
        if others_wait && self.entered_last.load(Ordering::Relaxed) == shard {
            return false;
        }
        let one_more = |depth: u32| (depth < depth_max).then_some(depth + 1);
        let entered = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if entered {
            self.entered_last.store(shard, Ordering::Relaxed);
            self.lane(work).in_flight.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    fn leave(&self, work: Work, now: Nanos) {
        let lane = self.lane(work);
        lane.last_ended.store(now.0, Ordering::Relaxed);
        lane.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Moves an estimate of what 99 % stay below.
fn follow(estimate: f64, took: f64) -> f64 {
    if estimate == 0.0 {
        return took;
    }
    if took > estimate { estimate * (1.0 + FOLLOW * 0.99) } else { estimate * (1.0 - FOLLOW * 0.01) }
}

/// A shard's way to ask for background I/O.
pub(crate) struct Governor<B: Backend> {
    reactor: Reactor<B>,
    pace: Arc<Pace>,
    rate_max: f64,
    /// Told from other shards on the device by this.
    shard: u32,
    /// Requests of it that wait for their turn.
    waiting: Cell<u32>,
    bytes: Cell<u64>,
    urgent: Cell<bool>,
    /// Rings when a request of this shard has ended.
    ended: Event,
    /// Held while a file comes to its name.
    naming: async_lock::Mutex<()>,
}

/// Leave for one request; given back when dropped.
pub(crate) struct Permit<'a, B: Backend> {
    governor: &'a Governor<B>,
    work: Work,
    bytes: usize,
}

/// A request that waits for its turn; no longer when dropped.
struct Waiting<'a> {
    pace: &'a Pace,
    own: &'a Cell<u32>,
}

impl<'a> Waiting<'a> {
    fn begin(pace: &'a Pace, own: &'a Cell<u32>) -> Waiting<'a> {
        pace.waiting.fetch_add(1, Ordering::Relaxed);
        own.set(own.get() + 1);
        Waiting { pace, own }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pace.waiting.fetch_sub(1, Ordering::Relaxed);
        self.own.set(self.own.get() - 1);
    }
}

impl<B: Backend> Permit<'_, B> {
    /// Bytes the request may have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<B: Backend> Drop for Permit<'_, B> {
    fn drop(&mut self) {
        self.governor.pace.leave(self.work, self.governor.reactor.now());
        self.governor.ended.notify(1);
    }
}

impl<B: Backend> Governor<B> {
    /// Asks at `pace`, for at most `bytes_per_s` while commits are under way.
    pub(crate) fn new(reactor: Reactor<B>, pace: Arc<Pace>, bytes_per_s: u64) -> Governor<B> {
        let shard = pace.shards.fetch_add(1, Ordering::Relaxed) + 1;
        Governor {
            reactor,
            pace,
            shard,
            waiting: Cell::new(0),
            rate_max: bytes_per_s as f64,
            bytes: Cell::new(0),
            urgent: Cell::new(false),
            ended: Event::new(),
            naming: async_lock::Mutex::new(()),
        }
    }

    /// Held while a file of the shard comes to its name, see [`names`](crate::names).
    pub(crate) fn naming(&self) -> &async_lock::Mutex<()> {
        &self.naming
    }

    /// For work on a log that is not open: there are no commits.
    pub(crate) fn alone(reactor: Reactor<B>) -> Governor<B> {
        Governor::new(reactor, Pace::new(), u64::MAX)
    }

    /// A commit was in flight from `start` to `end`.
    pub(crate) fn committed(&self, start: Nanos, end: Nanos) {
        self.pace.committed(start, end);
    }

    /// Appends would soon stop for want of a WAL file: no more holding back.
    pub(crate) fn set_urgent(&self, urgent: bool) {
        self.urgent.set(urgent);
    }

    /// Whether no commits are under way on the device.
    pub(crate) fn is_quiet(&self) -> bool {
        self.pace.is_quiet(self.reactor.now())
    }

    /// Waits until there may be a request of `want` bytes, or of fewer: a multiple of [`BLOCK`],
    /// unless it is `want` itself.
    pub(crate) async fn permit(&self, work: Work, want: usize) -> Permit<'_, B> {
        self.permit_if(work, want, false).await
    }

    /// Leave for upkeep that appends would wait for: at once, but in requests that they get past.
    pub(crate) async fn permit_urgent(&self, want: usize) -> Permit<'_, B> {
        self.permit_if(Work::Upkeep, want.min(URGENT_REQUEST_BYTES_MAX), true).await
    }

    /// Whether a request need not be held back just now: commits are not under way, or about to stop
    /// for want of what it does.
    fn is_free(&self, work: Work) -> bool {
        (work == Work::Upkeep && self.urgent.get()) || self.is_quiet()
    }

    async fn permit_if(&self, work: Work, want: usize, awaited: bool) -> Permit<'_, B> {
        let now = self.reactor.now();
        let free = awaited || self.is_free(work);
        let bytes_max = match work {
            _ if free => REQUEST_BYTES_MAX,
            Work::Read => BUSY_REQUEST_BYTES_MAX.0,
            Work::Upkeep => BUSY_REQUEST_BYTES_MAX.1,
        };
        let bytes = want.min(bytes_max);
        debug_assert!(bytes == want || bytes.is_multiple_of(BLOCK));
        let wait_us =
            if free { 0 } else { self.pace.reserve(work, bytes, now, self.rate_max).since(now) / 1000 };
        if wait_us > 0 {
            self.reactor.sleep_us(wait_us).await;
        } else {
            // Let the shard turn between two requests all the same.
            self.reactor.yield_now().await;
        }
        // Looked at anew each time: commits may have stopped meanwhile, for want of this very request.
        let depth_max = || if awaited || self.is_free(work) { QUIET_DEPTH_MAX } else { BUSY_DEPTH_MAX };
        let enter = |own| self.pace.enter(work, depth_max(), self.shard, own);
        if !enter(self.waiting.get()) {
            let _waiting = Waiting::begin(&self.pace, &self.waiting);
            let mut looks = 0;
            // Whoever waits may be a shard that nobody turns: others are let go first for a while only.
            while !enter(if looks < POLITE_LOOKS_MAX { self.waiting.get() } else { u32::MAX }) {
                self.wait_for_end().await;
                looks += 1;
            }
        }
        self.bytes.set(self.bytes.get() + bytes as u64);
        Permit { governor: self, work, bytes }
    }

    /// Waits for a request to end: our own rings, another shard's is looked for.
    async fn wait_for_end(&self) {
        let mut ended = Box::pin(self.ended.listen());
        let mut sleep = Box::pin(self.reactor.sleep_us(LOOK_AGAIN_US));
        std::future::poll_fn(|context| {
            if ended.as_mut().poll(context).is_ready() || sleep.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// What the requests are made with.
    pub(crate) fn reactor(&self) -> &Reactor<B> {
        &self.reactor
    }

    /// Bytes permitted so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_that_wait_have_turns_one_after_the_other() {
        let pace = Pace::new();
        let enter = |shard, own| pace.enter(Work::Upkeep, BUSY_DEPTH_MAX, shard, own);
        assert!(enter(1, 0));
        assert!(!enter(2, 0));
        let own = Cell::new(0);
        let waits = Waiting::begin(&pace, &own);
        pace.leave(Work::Upkeep, Nanos(1));
        // The first one is there again before the second has looked.
        assert!(!enter(1, 0));
        assert!(enter(2, own.get()));
        drop(waits);
        pace.leave(Work::Upkeep, Nanos(2));
        // It does not wait for itself.
        let _two = [Waiting::begin(&pace, &own), Waiting::begin(&pace, &own)];
        assert!(enter(2, own.get()));
    }

    #[test]
    fn the_rate_asked_for_bounds_the_least_rate_too() {
        let pace = Pace::new();
        let second = 1_000_000_000;
        pace.reserve(Work::Upkeep, 1 << 20, Nanos(0), (1 << 20) as f64);
        let next = pace.reserve(Work::Upkeep, 1 << 20, Nanos(0), (1 << 20) as f64);
        assert_eq!(next, Nanos(second));
    }
}
