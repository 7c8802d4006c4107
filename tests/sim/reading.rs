//! Readers: those that read to the end, and those that wait there and hold what they read.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use thalweg::{BatchView, FetchError, Offset, ReadFrom, ReadLevel, Reader};
use thalweg_io::sim::{Effect, FaultRule, OpKind};
use thalweg_tests::{Found, Row, Truth, in_order};

use crate::promises::unread::Held;
use crate::promises::{self, answered, keep};
use crate::world::World;

/// Batches that a waiting reader takes at a time.
const TAKEN_MAX: usize = 8;
/// How long a slow read takes, ns of virtual time, and bursts meanwhile: enough for files to come round.
const SLOW_NS: u64 = 1_000_000_000;
const SLOW_BURSTS: u32 = 4;
/// Batches that it holds at most.
const HELD_MAX: usize = 32;

/// A reader that waits at the end.
pub(crate) struct Watcher {
    name: String,
    reader: Reader,
    level: ReadLevel,
    /// Where it goes on, once it has begun.
    next: Option<u64>,
    skipped: u64,
    held: VecDeque<Held>,
}

fn rows(batch: &BatchView) -> Vec<Row> {
    let records = batch.records().map(|record| record.expect("I14: a checked batch has records"));
    records.map(|record| Row { offset: record.offset.0, record: record.to_owned() }).collect()
}

impl World<'_> {
    /// Turns the shard until `future` is done. None if the power goes off or the shard ends first.
    pub(crate) fn drive<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut off = 0;
        for _ in 0..answered::TURNS_MAX {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Some(value);
            }
            off += u32::from(self.host.disk.is_off() || self.ended());
            if off > answered::OFF_TURNS_MAX {
                return None;
            }
            let shard = self.host.shard();
            if !shard.turn() {
                shard.park();
            }
        }
        panic!("I17: a call never ends");
    }

    /// Reads a partition from somewhere to the end.
    pub(crate) fn read(&mut self) {
        let Some(name) = self.pick_partition() else { return };
        let truth = &self.oracle.there[&name];
        if !truth.trims.is_empty() {
            return; // where it starts is not certain
        }
        let (start, end) = (truth.log_start, truth.end());
        let from = start + self.random.below(end - start + 1);
        let from = if self.random.chance(0.2) { start } else { from };
        self.events.note(format!("read {name} from {from}"));
        let partition = self.log().partition(&name).expect("it is there");
        let reader = partition.read(ReadFrom::Offset(Offset(from))).to_end();
        self.read_to_end(&name, from..end, reader, Vec::new());
    }

    /// Reads what was appended a while ago, and the disk takes long: the log goes on meanwhile, and its
    /// files get other lives, in which the like of it lies in the same places.
    pub(crate) fn read_slowly(&mut self) {
        let Some(name) = self.pick_partition() else { return };
        if !self.oracle.there[&name].trims.is_empty() {
            return;
        }
        let from = self.oracle.there[&name].end();
        self.burst_to(&name);
        self.answer_all();
        let Some(truth) = self.oracle.there.get(&name) else { return };
        let end = truth.end();
        if self.host.disk.is_off() || self.ended() {
            return;
        }
        self.events.note(format!("read {name} from {from}, slowly"));
        self.plan(FaultRule::new(OpKind::Read, Effect::Delay(SLOW_NS)).on(".log").times(2));
        let partition = self.log().partition(&name).expect("it is there");
        let mut reader = partition.read(ReadFrom::Offset(Offset(from))).to_end();
        let mut all = Vec::new();
        while let Poll::Ready(Some(Ok(batch))) =
            pin!(reader.next_batch()).poll(&mut Context::from_waker(Waker::noop()))
        {
            all.extend(rows(&batch));
        }
        for _ in 0..SLOW_BURSTS {
            self.burst_to(&name);
            self.answer_all();
        }
        if self.oracle.there.contains_key(&name) {
            self.read_to_end(&name, from..end, reader, all);
        }
    }

    /// Reads on to the end and compares: what was there in `asked` when the reader began must be.
    fn read_to_end(&mut self, name: &str, asked: Range<u64>, mut reader: Reader, mut all: Vec<Row>) {
        loop {
            match self.drive(reader.next_batch()) {
                None => return,
                Some(None) => break,
                Some(Some(Ok(batch))) => all.extend(rows(&batch)),
                Some(Some(Err(FetchError::Ended(_)))) => return,
                Some(Some(Err(error))) => {
                    assert!(self.reads_may_fail(), "I14: {name}: {error}");
                    return self.events.note(format!("read {name}: {error}"));
                }
            }
        }
        let Ok(partition) = self.log().partition(name) else { return };
        let Some(Some(info)) = self.drive(partition.describe()) else { return };
        self.take_answers();
        let found = keep("I2", in_order(name, all));
        self.counted.read += found.len() as u64;
        let Some(truth) = self.oracle.there.get_mut(name) else { return };
        keep("I1", truth.check_kept(name, asked, info.log_start.0, &found));
        // Retention may have overtaken the reader.
        let start = if truth.retained { info.log_start.0 } else { 0 };
        saw(name, truth, start, &found);
    }

    /// Starts a reader that waits, or ends one.
    pub(crate) fn watch(&mut self) {
        if self.watchers.len() >= 3 || (!self.watchers.is_empty() && self.random.chance(0.4)) {
            let index = self.random.below(self.watchers.len() as u64) as usize;
            let watcher = self.watchers.swap_remove(index);
            self.events.note(format!("a reader of {} ends", watcher.name));
            watcher.held.into_iter().for_each(Held::release);
            return;
        }
        let Some(name) = self.pick_partition() else { return };
        let partition = self.log().partition(&name).expect("it is there");
        let (start, end) = (self.oracle.there[&name].log_start, self.oracle.there[&name].end());
        let from = match self.random.below(3) {
            0 => ReadFrom::Earliest,
            1 => ReadFrom::Latest,
            _ => ReadFrom::Offset(Offset(start + self.random.below(end - start + 1))),
        };
        let level = if self.random.chance(0.3) { ReadLevel::Accepted } else { ReadLevel::Flushed };
        self.events.note(format!("a reader of {name} begins, {from:?}, {level:?}"));
        let reader = partition.read_with(from, level);
        let next = if let ReadFrom::Offset(offset) = from { Some(offset.0) } else { None };
        let held = VecDeque::new();
        self.watchers.push(Watcher { name, reader, level, next, skipped: 0, held });
    }

    /// Lets every waiting reader take what there is.
    pub(crate) fn poll_watchers(&mut self) {
        let watchers = std::mem::take(&mut self.watchers);
        for mut watcher in watchers {
            if self.oracle.there.contains_key(&watcher.name) && self.poll_watcher(&mut watcher) {
                self.watchers.push(watcher);
            } else {
                watcher.held.into_iter().for_each(Held::release);
            }
        }
    }

    /// Returns whether it goes on.
    fn poll_watcher(&mut self, watcher: &mut Watcher) -> bool {
        for _ in 0..TAKEN_MAX {
            let next = pin!(watcher.reader.next_batch()).poll(&mut Context::from_waker(Waker::noop()));
            let batch = match next {
                Poll::Pending => break,
                Poll::Ready(None) => panic!("I17: a reader that waits has ended"),
                Poll::Ready(Some(Ok(batch))) => batch,
                Poll::Ready(Some(Err(error))) => {
                    let ended = matches!(error, FetchError::Ended(_) | FetchError::NoSuchPartition(_));
                    let beyond = matches!(error, FetchError::BeyondEnd { .. });
                    let may =
                        ended || self.reads_may_fail() || (beyond && watcher.level == ReadLevel::Accepted);
                    assert!(may, "I14: {}: {error}", watcher.name);
                    return false;
                }
            };
            self.take_answers();
            self.watched(watcher, batch);
        }
        // Some are let go of at once, and some are held for long.
        let hold = self.random.below(HELD_MAX as u64) as usize;
        while watcher.held.len() > hold {
            let nth = self.random.below(watcher.held.len() as u64) as usize;
            watcher.held.swap_remove_back(nth).into_iter().for_each(Held::release);
        }
        true
    }

    fn watched(&mut self, watcher: &mut Watcher, batch: BatchView) {
        let name = &watcher.name;
        let skipped = watcher.reader.skipped() > watcher.skipped;
        watcher.skipped = watcher.reader.skipped();
        let Some(truth) = self.oracle.there.get_mut(name) else { return };
        let (base, end) = (batch.base_offset().0, batch.end_offset().0);
        let on = watcher.next.is_none_or(|next| base <= next && end > next || skipped || truth.compacted);
        assert!(on, "I2: {name}: {base}..{end} follows {:?}", watcher.next);
        watcher.next = Some(end);
        let found = keep("I2", in_order(name, rows(&batch)));
        self.counted.read += found.len() as u64;
        let known: Vec<u64> = found.keys().copied().collect();
        if let (Some(first), Some(last)) = (known.first(), known.last()) {
            keep("I4", truth.check_kept(name, *first..*last + 1, 0, &found));
        }
        if watcher.level == ReadLevel::Flushed {
            saw(name, truth, 0, &found);
        }
        watcher.held.push_back(Held::new(batch));
    }

    /// The shard has ended: its readers go, and what they hold is theirs until then.
    pub(crate) fn drop_watchers(&mut self) {
        let held = std::mem::take(&mut self.watchers).into_iter().flat_map(|watcher| watcher.held);
        held.for_each(Held::release);
    }
}

/// What was read of a partition from `start` on is what was promised, and is a promise from now on.
fn saw(name: &str, truth: &mut Truth, start: u64, found: &Found) {
    let start = start.max(truth.log_start);
    let found: Found = found.range(start..).map(|(offset, record)| (*offset, record.clone())).collect();
    promises::dense::in_a_row(name, truth, &found);
    let from = found.keys().next().copied().unwrap_or(0);
    let placed = promises::phantom::among(name, truth, from, &found);
    promises::unread::see(truth, &found, &placed);
}
