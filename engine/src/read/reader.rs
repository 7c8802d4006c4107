//! Reading a partition, from wherever on, for as long as one likes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::ids::{Offset, PartitionId};
use crate::mailbox::Request;
use crate::partition::ShardLink;
use crate::read::request::{FetchError, FetchRequest, Fetched, ReadFrom, ReadLevel};
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
/// One fetch is under way while the batches of the one before are looked at. A reader that is
/// slower than retention finds itself moved to the log start offset; [`skipped`](Reader::skipped)
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
    pending: Option<Ticket<Result<Fetched, FetchError>>>,
    skipped: u64,
    at_end: bool,
    failed: bool,
}

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
            pending: None,
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

    fn send(&mut self) {
        let slot = Arc::new(Slot::new());
        let request = FetchRequest {
            partition: self.partition,
            from: self.from,
            bytes_max: self.link.fetch_bytes_max,
            level: self.level,
            wait: !self.to_end,
            slot: slot.clone(),
        };
        self.pending = Some(Ticket::send(&self.link.mailbox, slot, None, Request::Fetch(request)));
    }

    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<BatchView, FetchError>>> {
        loop {
            if let Some(batch) = self.buffered.pop_front() {
                return Poll::Ready(Some(Ok(batch.starting_at(self.start))));
            }
            if self.failed || (self.at_end && self.to_end && self.pending.is_none()) {
                return Poll::Ready(None);
            }
            if self.pending.is_none() {
                self.send();
            }
            let Some(pending) = &mut self.pending else { continue };
            let Poll::Ready(answer) = Pin::new(pending).poll(context) else { return Poll::Pending };
            self.pending = None;
            match answer {
                Ok(fetched) => self.take(fetched),
                Err(FetchError::BelowLogStart { log_start, wanted, .. }) => {
                    self.skipped += log_start.0 - wanted.0;
                    (self.from, self.start) = (ReadFrom::Offset(log_start), log_start);
                }
                Err(error) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn take(&mut self, fetched: Fetched) {
        self.at_end = fetched.batches.is_empty() && fetched.next >= fetched.end;
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
            self.from = ReadFrom::Offset(fetched.next);
        }
        self.buffered.extend(batches);
        if !self.at_end && !self.buffered.is_empty() {
            self.send();
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
