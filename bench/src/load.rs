//! Loads: closed loops, where throughput is measured, and open loops, where latency is.
//!
//! A closed loop sends the next append when an earlier one is answered: a stall stops the load with
//! it, so its latencies flatter whoever stalls, and it measures throughput. An open loop sends by a
//! schedule whatever the answers do, and counts from the moment an append was due: a stall is paid
//! for by every append that was due meanwhile.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thalweg::{AppendResult, Batch, OwnedShard, Partition, Record, Ticket};

use crate::Result;

/// Bytes of a record's value, unless said otherwise.
pub const RECORD_BYTES: usize = 1024;

/// A histogram for nanoseconds: three digits, growing with its values.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are a valid precision")
}

/// Notes a latency.
pub fn note(histogram: &mut Histogram<u64>, latency: Duration) {
    // It grows with its values up to 2^63, so nothing is out of its range.
    let _ = histogram.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1));
}

/// What a load came to.
pub struct Loaded {
    /// Records acknowledged.
    pub records: u64,
    /// From the first append to the last acknowledgement.
    pub time: Duration,
    /// Latencies, ns: from the call (closed) or from when it was due (open).
    pub latency: Histogram<u64>,
}

impl Loaded {
    /// Records a second.
    #[must_use]
    pub fn per_s(&self) -> f64 {
        self.records as f64 / self.time.as_secs_f64()
    }
}

/// How a producer waits for an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Looks for it, giving the core to whoever else wants it.
    Spin,
    /// Sleeps until it is woken.
    Park,
}

impl Waiting {
    fn wait(self, ticket: Ticket<AppendResult>) -> AppendResult {
        match self {
            Waiting::Spin => ticket.spin(),
            Waiting::Park => ticket.wait(),
        }
    }
}

/// A record to send again and again: cloning shares the bytes.
#[must_use]
pub fn record() -> Record {
    Record::new(vec![b'x'; RECORD_BYTES])
}

/// One append at a time.
///
/// # Errors
/// The append's.
pub fn one_by_one(partition: &Partition, waiting: Waiting, time: Duration) -> Result<Loaded> {
    let (record, mut latency) = (record(), histogram());
    let begin = Instant::now();
    let mut last = begin;
    while last.duration_since(begin) < time {
        waiting.wait(partition.append(record.clone()))?;
        let now = Instant::now();
        note(&mut latency, now.duration_since(last));
        last = now;
    }
    Ok(Loaded { records: latency.len(), time: begin.elapsed(), latency })
}

/// Keeps `in_flight` appends in flight, to `partitions` in turn.
///
/// # Errors
/// The first append's that fails.
pub fn closed(
    partitions: &[Partition],
    in_flight: usize,
    waiting: Waiting,
    time: Duration,
) -> Result<Loaded> {
    let (record, mut latency) = (record(), histogram());
    let mut flying: VecDeque<(Instant, Ticket<AppendResult>)> = VecDeque::with_capacity(in_flight);
    let (mut next, mut records) = (0, 0);
    let begin = Instant::now();
    let mut now = begin;
    while now.duration_since(begin) < time || !flying.is_empty() {
        let sending = now.duration_since(begin) < time;
        while sending && flying.len() < in_flight {
            flying.push_back((now, partitions[next].append(record.clone())));
            next = (next + 1) % partitions.len();
        }
        let Some((since, ticket)) = flying.pop_front() else { break };
        waiting.wait(ticket)?;
        now = Instant::now();
        note(&mut latency, now.duration_since(since));
        records += 1;
        // All that came with it: one look at the clock for a group.
        while flying.front().is_some_and(|(_, ticket)| ticket.is_ready()) {
            let Some((since, ticket)) = flying.pop_front() else { break };
            waiting.wait(ticket)?;
            note(&mut latency, now.duration_since(since));
            records += 1;
        }
    }
    Ok(Loaded { records, time: begin.elapsed(), latency })
}

/// Keeps `in_flight` appends in flight on a shard of the calling thread, which turns and sleeps as the
/// shard says.
///
/// # Errors
/// The first append's that fails.
pub fn turned(
    shard: &mut OwnedShard,
    partition: &Partition,
    in_flight: usize,
    time: Duration,
) -> Result<Loaded> {
    let (record, mut latency) = (record(), histogram());
    let mut flying: VecDeque<(Instant, Ticket<AppendResult>)> = VecDeque::with_capacity(in_flight);
    let begin = Instant::now();
    let mut now = begin;
    while now.duration_since(begin) < time || !flying.is_empty() {
        let sending = now.duration_since(begin) < time;
        while sending && flying.len() < in_flight {
            flying.push_back((now, partition.append(record.clone())));
        }
        while flying.front().is_some_and(|(_, ticket)| !ticket.is_ready()) {
            if !shard.turn() {
                shard.park();
            }
        }
        now = Instant::now();
        while flying.front().is_some_and(|(_, ticket)| ticket.is_ready()) {
            let Some((since, ticket)) = flying.pop_front() else { break };
            ticket.wait()?;
            note(&mut latency, now.duration_since(since));
        }
    }
    Ok(Loaded { records: latency.len(), time: begin.elapsed(), latency })
}

/// Appends `bytes` of records of `record_bytes`, `batch_records` an append, so many appends in flight
/// that the disk is what it waits for.
///
/// # Errors
/// The first append's that fails.
pub fn fill(partition: &Partition, bytes: u64, record_bytes: usize, batch_records: usize) -> Result<()> {
    let batch = Batch::from(vec![Record::new(vec![b'x'; record_bytes]); batch_records]);
    let mut flying: VecDeque<Ticket<AppendResult>> = VecDeque::with_capacity(FILL_IN_FLIGHT);
    for _ in 0..bytes.div_ceil((record_bytes * batch_records) as u64) {
        if flying.len() == FILL_IN_FLIGHT
            && let Some(ticket) = flying.pop_front()
        {
            ticket.wait()?;
        }
        flying.push_back(partition.append(batch.clone()));
    }
    Ok(flying.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?)
}

/// Appends in flight while a log is filled.
const FILL_IN_FLIGHT: usize = 64;

/// Sends `per_s` appends a second by the clock, to `partitions` in turn. Latency counts from when
/// an append was due.
///
/// # Errors
/// The first append's that fails.
pub fn open(partitions: &[Partition], per_s: f64, time: Duration) -> Result<Loaded> {
    let (record, mut latency) = (record(), histogram());
    let mut flying: VecDeque<(Instant, Ticket<AppendResult>)> = VecDeque::new();
    let total = (per_s * time.as_secs_f64()) as u64;
    let begin = Instant::now();
    let (mut sent, mut answered) = (0u64, 0u64);
    while answered < total {
        let now = Instant::now();
        while sent < total {
            let due = begin + Duration::from_secs_f64(sent as f64 / per_s);
            if due > now {
                break;
            }
            flying.push_back((due, partitions[sent as usize % partitions.len()].append(record.clone())));
            sent += 1;
        }
        let before = answered;
        let now = Instant::now();
        while flying.front().is_some_and(|(_, ticket)| ticket.is_ready()) {
            let Some((due, ticket)) = flying.pop_front() else { break };
            ticket.wait()?;
            note(&mut latency, now.duration_since(due));
            answered += 1;
        }
        if answered == before {
            std::thread::yield_now();
        }
    }
    Ok(Loaded { records: answered, time: begin.elapsed(), latency })
}

/// Appends in flight that are kept between two calls, so that a part of a run can be looked at by
/// itself.
pub struct Flying {
    record: Record,
    tickets: VecDeque<Ticket<AppendResult>>,
    in_flight: usize,
}

impl Flying {
    /// None yet; at most `in_flight`.
    #[must_use]
    pub fn new(in_flight: usize) -> Flying {
        Flying { record: record(), tickets: VecDeque::with_capacity(in_flight), in_flight }
    }

    /// Appends for `time`; returns how many were acknowledged.
    ///
    /// # Errors
    /// The first append's that fails.
    pub fn send(&mut self, partition: &Partition, time: Duration) -> Result<u64> {
        let (begin, mut answered) = (Instant::now(), 0);
        while begin.elapsed() < time {
            while self.tickets.len() < self.in_flight {
                self.tickets.push_back(partition.append(self.record.clone()));
            }
            if let Some(ticket) = self.tickets.pop_front() {
                ticket.spin()?;
                answered += 1;
            }
        }
        Ok(answered)
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// The first append's that fails.
    pub fn finish(&mut self) -> Result<()> {
        self.tickets.drain(..).try_for_each(|ticket| ticket.spin().map(drop))?;
        Ok(())
    }
}
