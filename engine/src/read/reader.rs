//! Reading a partition, from wherever on, for as long as one likes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::ids::{Offset, PartitionId};
use crate::mailbox::Request;
use crate::partition::ShardLink;
use crate::read::ahead::{AHEAD_FETCH_BYTES, AHEAD_FETCHES_MAX, Ahead, Promise};
use crate::read::request::{FetchError, FetchRequest, Fetched, ReadFrom, ReadLevel, Unchecked};
use crate::record::{BatchView, Record};
use crate::slot::{Slot, block_on};
use crate::ticket::Ticket;

/// Reads a partition batch by batch, in offset order, without a gap or a duplicate, and waits at
/// the end. An [`Iterator`] for blocking programs; [`stream`](Reader::stream) for async ones.
///
/// What is stored and checked is the batch, so batches are what a reader gives, without a copy. The
/// first may begin before the start that was asked for: [`BatchView::records`] leaves those records
/// out, the batch's own offsets do not.
///
/// One fetch is under way while the batches of the one before are looked at; several larger ones, for
/// a reader that has a long way to go from disk (`read.ahead_bytes_max`). A reader that is slower
/// than retention finds itself moved to the log start offset; [`skipped`](Reader::skipped)
/// counts what it missed.
pub struct Reader {
    partition: PartitionId,
    link: ShardLink,
    from: ReadFrom,
    level: ReadLevel,
    /// Stop at the end instead of waiting.
    to_end: bool,
    /// The time still looked for: batches before it are not shown.
    seeking: Option<i64>,
    /// Records before it are not shown: the first batch may begin earlier.
    start: Offset,
    buffered: VecDeque<BatchView>,
    /// Read from disk, and not looked at yet.
    unchecked: VecDeque<Unchecked>,
    /// Everything before it has been checked.
    checked_to: Offset,
    /// What was found is not what should be there: the shard looks for itself.
    careful: bool,
    /// Fetches under way, in order.
    pending: VecDeque<Sent>,
    /// Fetches in a row that came from disk.
    streak: u32,
    /// Leave to read far ahead.
    ahead: Option<Ahead>,
    skipped: u64,
    at_end: bool,
    failed: bool,
}

// As `docs/memory.md` says.
const _: () = assert!(size_of::<Reader>() <= 216);

/// A fetch under way.
struct Sent {
    from: ReadFrom,
    promise: Option<Arc<Promise>>,
    ticket: Ticket<Result<Fetched, FetchError>>,
}

/// Fetches in a row that come from disk before a reader reads far ahead.
const STREAK_MIN: u32 = 2;

impl Reader {
    pub(crate) fn new(partition: PartitionId, link: ShardLink, from: ReadFrom, level: ReadLevel) -> Reader {
        let start = if let ReadFrom::Offset(offset) = from { offset } else { Offset(0) };
        let seeking = if let ReadFrom::Timestamp(wanted) = from { Some(wanted) } else { None };
        Reader {
            partition,
            link,
            from,
            level,
            to_end: false,
            seeking,
            start,
            buffered: VecDeque::new(),
            unchecked: VecDeque::new(),
            checked_to: start,
            careful: false,
            pending: VecDeque::new(),
            streak: 0,
            ahead: None,
            skipped: 0,
            at_end: false,
            failed: false,
        }
    }

    /// Ends at the end of the log as it is when the reader gets there, instead of waiting.
    #[must_use]
    pub fn to_end(mut self) -> Reader {
        self.to_end = true;
        self
    }

    /// Offsets that were trimmed before this reader came to them.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Records one by one, copied out of their batches.
    #[must_use]
    pub fn records(self) -> Records {
        Records { reader: self, batch: VecDeque::new() }
    }

    /// The batches as a [`Stream`].
    #[must_use]
    pub fn stream(self) -> Streaming<Reader> {
        Streaming(self)
    }

    /// The next batch, for async programs. None at the end, if the reader stops there.
    ///
    /// # Errors
    /// [`FetchError`]; after it the reader ends.
    pub async fn next_batch(&mut self) -> Option<Result<BatchView, FetchError>> {
        poll_fn(|context| self.poll_batch(context)).await
    }

    /// The next batch, looked for without sleeping, giving the core to whoever else wants it: for
    /// programs that would rather burn a core than pay a wake-up. None at the end, if the reader
    /// stops there.
    ///
    /// # Errors
    /// [`FetchError`]; after it the reader ends.
    pub fn spin_next(&mut self) -> Option<Result<BatchView, FetchError>> {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(next) = self.poll_batch(&mut context) {
                return next;
            }
            while self.pending.front().is_some_and(|sent| !sent.ticket.is_ready()) {
                std::thread::yield_now();
            }
        }
    }

    fn send(&mut self, from: ReadFrom) {
        let slot = Arc::new(Slot::new());
        let least = self.link.fetch_bytes_max;
        let bytes_max = if self.ahead.is_some() { least.max(AHEAD_FETCH_BYTES) } else { least };
        let promise = (self.streak > 0).then(|| Arc::new(Promise::new()));
        let request = FetchRequest {
            partition: self.partition,
            from,
            bytes_max,
            level: self.level,
            wait: !self.to_end,
            check: self.careful || self.seeking.is_some() || !matches!(from, ReadFrom::Offset(_)),
            promise: promise.clone(),
            slot: slot.clone(),
        };
        let ticket = Ticket::send(&self.link.mailbox, slot, None, Request::Fetch(request));
        self.pending.push_back(Sent { from, promise, ticket });
    }

    /// Sends fetches behind those under way, as far as it is known where they go on.
    fn read_ahead(&mut self) {
        if self.streak < STREAK_MIN {
            return;
        }
        if self.ahead.is_none() {
            self.ahead = self.link.ahead.take();
        }
        while self.ahead.is_some() && self.pending.len() < AHEAD_FETCHES_MAX {
            let last = self.pending.back().and_then(|sent| sent.promise.as_ref());
            let Some(next) = last.and_then(|promise| promise.get()) else { return };
            self.send(ReadFrom::Offset(next));
        }
    }

    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<BatchView, FetchError>>> {
        loop {
            if let Some(batch) = self.buffered.pop_front() {
                self.read_ahead();
                return Poll::Ready(Some(Ok(batch.starting_at(self.start))));
            }
            if let Some(unchecked) = self.unchecked.pop_front() {
                self.check(&unchecked);
                continue;
            }
            if self.failed || (self.at_end && self.to_end && self.pending.is_empty()) {
                return Poll::Ready(None);
            }
            if self.pending.is_empty() {
                self.send(self.from);
            }
            self.read_ahead();
            let Some(first) = self.pending.front_mut() else { continue };
            let Poll::Ready(answer) = Pin::new(&mut first.ticket).poll(context) else { return Poll::Pending };
            self.pending.pop_front();
            match answer {
                Ok(fetched) => self.take(fetched),
                Err(FetchError::BelowLogStart { log_start, wanted, .. }) => {
                    self.skipped += log_start.0 - wanted.0;
                    (self.from, self.start) = (ReadFrom::Offset(log_start), log_start);
                    self.checked_to = log_start;
                    self.pending.clear();
                }
                Err(error) => {
                    self.failed = true;
                    self.pending.clear();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn take(&mut self, fetched: Fetched) {
        let from_disk = !fetched.unchecked.is_empty();
        self.at_end = fetched.batches.is_empty() && !from_disk && fetched.next >= fetched.end;
        let mut batches = fetched.batches;
        if !matches!(self.from, ReadFrom::Offset(_)) {
            self.start = self.start.max(fetched.log_start);
        }
        if let Some(wanted) = self.seeking {
            // The latest record of a batch may be one that was trimmed.
            let first = batches.iter().position(|batch| first_at(batch, wanted, self.start).is_some());
            batches.drain(..first.unwrap_or(batches.len()));
            if let Some(offset) = batches.first().and_then(|batch| first_at(batch, wanted, self.start)) {
                (self.start, self.seeking) = (offset, None);
            }
        }
        // A time that is still ahead is looked for anew when there is more.
        if !(self.at_end && matches!(self.from, ReadFrom::Timestamp(_))) {
            if let ReadFrom::Offset(from) = self.from {
                self.checked_to = from;
            }
            self.from = ReadFrom::Offset(fetched.next);
        }
        // What was promised was a guess.
        if self.pending.front().is_some_and(|next| next.from != self.from) {
            self.pending.clear();
        }
        self.careful = false;
        if from_disk {
            self.streak += 1;
        } else {
            (self.streak, self.ahead) = (0, None);
        }
        self.buffered.extend(batches);
        self.unchecked.extend(fetched.unchecked);
        if !self.at_end && self.pending.is_empty() && !(self.buffered.is_empty() && self.unchecked.is_empty())
        {
            self.send(self.from);
        }
    }

    /// Checks a piece, and takes its batches. Where it is not as it should be the place may have been
    /// given to somebody else meanwhile: from there on the shard is asked to look.
    fn check(&mut self, unchecked: &Unchecked) {
        match unchecked.cut() {
            Ok(batches) => {
                self.checked_to = self.checked_to.max(unchecked.expected.end.min(unchecked.bounds.end));
                self.buffered.extend(batches);
            }
            Err(_) => {
                self.unchecked.clear();
                self.pending.clear();
                (self.careful, self.at_end) = (true, false);
                self.from = ReadFrom::Offset(self.checked_to);
            }
        }
    }
}

/// Offset of the first record of `batch`, at or behind `start`, with this timestamp or a later one.
fn first_at(batch: &BatchView, wanted: i64, start: Offset) -> Option<Offset> {
    let mut records = batch.records().flatten();
    let found = records.find(|record| record.offset >= start && record.timestamp_ms >= wanted);
    found.map(|record| record.offset)
}

impl Iterator for Reader {
    type Item = Result<BatchView, FetchError>;

    fn next(&mut self) -> Option<Self::Item> {
        block_on(poll_fn(|context| self.poll_batch(context)))
    }
}

/// Records one by one, copied out of their batches. An [`Iterator`] for blocking programs;
/// [`stream`](Records::stream) for async ones.
pub struct Records {
    reader: Reader,
    batch: VecDeque<(Offset, Record)>,
}

impl Records {
    /// The records as a [`Stream`].
    #[must_use]
    pub fn stream(self) -> Streaming<Records> {
        Streaming(self)
    }

    /// Offsets that were trimmed before this reader came to them.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.reader.skipped()
    }

    fn unpack(&mut self, batch: &BatchView) -> Result<(), FetchError> {
        for record in batch.records() {
            let record = record.map_err(|error| FetchError::Malformed {
                partition: self.reader.partition,
                offset: batch.base_offset(),
                reason: error.to_string(),
            })?;
            self.batch.push_back((record.offset, record.to_owned()));
        }
        Ok(())
    }

    fn poll_record(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<(Offset, Record), FetchError>>> {
        loop {
            if let Some(record) = self.batch.pop_front() {
                return Poll::Ready(Some(Ok(record)));
            }
            let Poll::Ready(batch) = self.reader.poll_batch(context) else { return Poll::Pending };
            let Some(batch) = batch else { return Poll::Ready(None) };
            if let Err(error) = batch.and_then(|batch| self.unpack(&batch)) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<(Offset, Record), FetchError>;

    fn next(&mut self) -> Option<Self::Item> {
        block_on(poll_fn(|context| self.poll_record(context)))
    }
}

/// A [`Reader`] or its [`Records`] as a [`Stream`]. A type of its own, so that `next` means one thing.
pub struct Streaming<T>(T);

impl<T> Streaming<T> {
    /// What streams, to go on with otherwise.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl Stream for Streaming<Reader> {
    type Item = Result<BatchView, FetchError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_batch(context)
    }
}

impl Stream for Streaming<Records> {
    type Item = Result<(Offset, Record), FetchError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_record(context)
    }
}
