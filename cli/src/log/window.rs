//! Appends in flight: many at once, in order, none after one that failed.

use std::collections::VecDeque;
use std::time::Duration;

use thalweg::{
    AppendError, AppendOptions, AppendResult, Appended, Batch, Offset, Partition, Ticket, TryAppendError,
};

/// Appends in flight at once. Some megabytes keep any device busy.
const APPENDS_IN_FLIGHT_MAX: usize = 64;
/// Pause before trying again when somebody else has filled the shard's queue.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// What has been acknowledged so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acked {
    /// Offset of the first record.
    pub base: Offset,
    /// The offset after the last acknowledged one.
    pub end: Offset,
    /// Bytes of the input.
    pub source_bytes: u64,
}

impl Acked {
    /// Records.
    pub(crate) fn records(&self) -> u64 {
        self.end.0 - self.base.0
    }

    /// The last acknowledged offset.
    pub(crate) fn last(&self) -> Option<Offset> {
        (self.end > self.base).then(|| Offset(self.end.0 - 1))
    }
}

/// A window of appends to one partition.
///
/// Each append names the offset it must get. So if one fails, those behind it fail too, and what
/// is acknowledged is always the first part of the input, without a gap.
pub(crate) struct Window<'a> {
    partition: &'a Partition,
    /// Offset of the next record to be sent.
    next: Offset,
    in_flight: VecDeque<(Ticket<AppendResult>, u64)>,
    acked: Acked,
}

impl<'a> Window<'a> {
    /// A window over the end of a partition that nobody else appends to.
    pub(crate) fn new(partition: &'a Partition, log_end: Offset) -> Window<'a> {
        let acked = Acked { base: log_end, end: log_end, source_bytes: 0 };
        Window { partition, next: log_end, in_flight: VecDeque::new(), acked }
    }

    /// What has been acknowledged so far.
    pub(crate) fn acked(&self) -> Acked {
        self.acked
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Sends a batch that took `source_bytes` of the input, when there is room for it.
    ///
    /// # Errors
    /// That of the first append that failed.
    pub(crate) fn send(&mut self, mut batch: Batch, source_bytes: u64) -> Result<(), AppendError> {
        while self.in_flight.len() >= APPENDS_IN_FLIGHT_MAX {
            self.settle_oldest()?;
        }
        let count = u64::from(batch.count());
        let options = AppendOptions { expected_offset: Some(self.next), ..AppendOptions::default() };
        let ticket = loop {
            match self.partition.try_append(batch, options) {
                Ok(ticket) => break ticket,
                Err(TryAppendError::Append(error)) => return Err(error),
                Err(TryAppendError::WouldBlock(back)) => batch = *back,
            }
            if self.is_empty() {
                std::thread::sleep(QUEUE_FULL_PAUSE);
            } else {
                self.settle_oldest()?;
            }
        };
        self.next = self.next.plus(count);
        self.in_flight.push_back((ticket, source_bytes));
        self.settle_ready()
    }

    /// Takes the answers that are there.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) fn settle_ready(&mut self) -> Result<(), AppendError> {
        while self.in_flight.front().is_some_and(|(ticket, _)| ticket.is_ready()) {
            self.settle_oldest()?;
        }
        Ok(())
    }

    /// Waits for the oldest answer.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) fn settle_oldest(&mut self) -> Result<(), AppendError> {
        let Some((ticket, source_bytes)) = self.in_flight.pop_front() else { return Ok(()) };
        let appended: Appended = ticket.wait()?;
        assert_eq!(appended.base_offset, self.acked.end, "an append is acknowledged where it was sent");
        self.acked.end = appended.end_offset();
        self.acked.source_bytes += source_bytes;
        Ok(())
    }
}
