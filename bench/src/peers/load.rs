//! The load: the records, three workloads, and the loops that measure a call.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Result;

/// Bytes of a record's value.
pub(super) const RECORD_BYTES: usize = 1024;
/// Threads, or tickets, that keep one append each in flight in [`Workload::Many`].
pub(super) const WRITERS: usize = 64;
/// Records of a batch in [`Workload::Batch`].
pub(super) const BATCH_RECORDS: usize = 64;

/// Different records; more than a batch holds, few enough for the processor's cache.
const RECORDS: usize = 512;
const SEED: u64 = 0x7468_616c_7765_6721;

/// What is done to each subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// One append of one record in flight.
    One,
    /// [`WRITERS`] appends of one record in flight.
    Many,
    /// One batch of [`BATCH_RECORDS`] records in flight.
    Batch,
}

impl Workload {
    pub(crate) const ALL: [Workload; 3] = [Workload::One, Workload::Many, Workload::Batch];

    /// The workload of that name.
    pub(crate) fn named(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    /// One word, for `--workload` and JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::One => "one",
            Workload::Many => "many",
            Workload::Batch => "batch",
        }
    }
}

/// One measurement of one subject.
pub(super) struct Sample {
    /// Records acknowledged.
    pub records: u64,
    pub took: Duration,
    /// From the call to the acknowledgement, ns.
    pub latency: Histogram<u64>,
}

/// The records, and how long to append them.
pub(super) struct Load {
    records: Vec<[u8; RECORD_BYTES]>,
    duration: Duration,
}

impl Load {
    pub(super) fn new(duration: Duration) -> Load {
        let mut state = SEED;
        let mut records = vec![[0; RECORD_BYTES]; RECORDS];
        for word in records.iter_mut().flat_map(|record| record.chunks_exact_mut(8)) {
            word.copy_from_slice(&split_mix(&mut state).to_le_bytes());
        }
        Load { records, duration }
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
        Instant::now() + self.duration
    }

    /// One caller, one record at a time.
    pub(super) fn one_by_one(&self, mut append: impl FnMut(&[u8]) -> Result<()>) -> Result<Sample> {
        self.repeat(1, |n| append(self.record(n)))
    }

    /// One caller, one batch at a time. Collecting it is not counted.
    pub(super) fn in_batches(&self, mut append: impl FnMut(&[&[u8]]) -> Result<()>) -> Result<Sample> {
        let batches: Vec<_> = (0..RECORDS / BATCH_RECORDS).map(|n| self.batch(n)).collect();
        self.repeat(BATCH_RECORDS as u64, |n| append(&batches[n % batches.len()]))
    }

    /// [`WRITERS`] threads, each one record at a time.
    pub(super) fn by_threads(&self, append: impl Fn(usize, &[u8]) -> Result<()> + Sync) -> Result<Sample> {
        let ready = Barrier::new(WRITERS + 1);
        let (append, ready) = (&append, &ready);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn(move || {
                        ready.wait();
                        self.repeat(1, |n| append(writer, self.record(writer + n)))
                    })
                })
                .collect();
            ready.wait();
            let start = Instant::now();
            let mut all = Sample { records: 0, took: Duration::ZERO, latency: Histogram::new(3)? };
            for writer in writers {
                let part = writer.join().map_err(|_| "a writer panicked")??;
                all.records += part.records;
                all.latency.add(part.latency)?;
            }
            all.took = start.elapsed();
            Ok(all)
        })
    }

    fn repeat(&self, records: u64, mut call: impl FnMut(usize) -> Result<()>) -> Result<Sample> {
        let mut latency = Histogram::new(3)?;
        let (start, deadline) = (Instant::now(), self.deadline());
        let mut called = start;
        while called < deadline {
            call(latency.len() as usize)?;
            let answered = Instant::now();
            latency.record((answered - called).as_nanos() as u64)?;
            called = answered;
        }
        Ok(Sample { records: latency.len() * records, took: called - start, latency })
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
