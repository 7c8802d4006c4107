//! The load: the records, three workloads, and the loops that measure a call.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::Result;
use crate::load::{Loaded, histogram, note};

pub(super) use crate::load::RECORD_BYTES;

/// Threads, or tickets, that keep one append each in flight in [`Workload::Many`].
pub(super) const WRITERS: usize = 64;
/// Records of a batch in [`Workload::Batch`].
pub(super) const BATCH_RECORDS: usize = 64;

/// Different records; more than a batch holds, few enough for the processor's cache.
const RECORDS: usize = 512;
const SEED: u64 = 0x7468_616c_7765_6721;

/// What is done to each subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// One append of one record in flight.
    One,
    /// [`WRITERS`] appends of one record in flight.
    Many,
    /// One batch of [`BATCH_RECORDS`] records in flight.
    Batch,
}

impl Workload {
    pub(super) const ALL: [Workload; 3] = [Workload::One, Workload::Many, Workload::Batch];

    /// A word for the names of figures.
    pub(super) fn id(self) -> &'static str {
        match self {
            Workload::One => "one",
            Workload::Many => "many",
            Workload::Batch => "batch",
        }
    }

    /// Records that one append carries.
    pub(super) fn records_an_append(self) -> usize {
        if self == Workload::Batch { BATCH_RECORDS } else { 1 }
    }

    /// The same for people.
    pub(super) fn what(self) -> &'static str {
        match self {
            Workload::One => "1 in flight",
            Workload::Many => "64 in flight",
            Workload::Batch => "a batch of 64",
        }
    }
}

const _: () = assert!(WRITERS == 64 && BATCH_RECORDS == 64, "as `what` says");

/// The records, and how long to append them.
pub(super) struct Load {
    records: Vec<[u8; RECORD_BYTES]>,
    /// Of one measurement.
    pub(super) time: Duration,
}

impl Load {
    pub(super) fn new(time: Duration) -> Load {
        let mut state = SEED;
        let mut records = vec![[0; RECORD_BYTES]; RECORDS];
        for word in records.iter_mut().flat_map(|record| record.chunks_exact_mut(8)) {
            word.copy_from_slice(&split_mix(&mut state).to_le_bytes());
        }
        Load { records, time }
    }

    /// The `n`-th record; they repeat.
    pub(super) fn record(&self, n: usize) -> &[u8] {
        &self.records[n % RECORDS]
    }

    /// The `n`-th batch.
    pub(super) fn batch(&self, n: usize) -> Vec<&[u8]> {
        (0..BATCH_RECORDS).map(|at| self.record(n * BATCH_RECORDS + at)).collect()
    }

    /// When a loop that begins now ends.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.time
    }

    /// One caller, one record at a time.
    pub(super) fn one_by_one(&self, mut append: impl FnMut(&[u8]) -> Result<()>) -> Result<Loaded> {
        self.repeat(1, |n| append(self.record(n)))
    }

    /// One caller, one batch at a time. Collecting it is not counted.
    pub(super) fn in_batches(&self, mut append: impl FnMut(&[&[u8]]) -> Result<()>) -> Result<Loaded> {
        let batches: Vec<_> = (0..RECORDS / BATCH_RECORDS).map(|n| self.batch(n)).collect();
        self.repeat(BATCH_RECORDS as u64, |n| append(&batches[n % batches.len()]))
    }

    /// [`WRITERS`] threads, each one record at a time.
    pub(super) fn by_threads(&self, append: impl Fn(usize, &[u8]) -> Result<()> + Sync) -> Result<Loaded> {
        let ready = Barrier::new(WRITERS);
        let (append, ready) = (&append, &ready);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn(move || {
                        ready.wait();
                        let start = Instant::now();
                        let part = self.repeat(1, |n| append(writer, self.record(writer + n)))?;
                        Ok::<_, crate::Error>((start, Instant::now(), part))
                    })
                })
                .collect();
            let mut all = Loaded { records: 0, time: Duration::ZERO, latency: histogram() };
            // From the first to start to the last to end: this thread may get a core long after them.
            let mut span: Option<(Instant, Instant)> = None;
            for writer in writers {
                let (start, end, part) = writer.join().map_err(|_| "a writer panicked")??;
                all.records += part.records;
                all.latency.add(part.latency)?;
                span = Some(span.map_or((start, end), |span| (span.0.min(start), span.1.max(end))));
            }
            all.time = span.map_or(Duration::ZERO, |(start, end)| end - start);
            Ok(all)
        })
    }

    fn repeat(&self, records: u64, mut call: impl FnMut(usize) -> Result<()>) -> Result<Loaded> {
        let mut latency = histogram();
        let (start, deadline) = (Instant::now(), self.deadline());
        let mut called = start;
        while called < deadline {
            call(latency.len() as usize)?;
            let answered = Instant::now();
            note(&mut latency, answered - called);
            called = answered;
        }
        Ok(Loaded { records: latency.len() * records, time: called - start, latency })
    }
}

/// The next number of a sequence that no compressor shortens.
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
