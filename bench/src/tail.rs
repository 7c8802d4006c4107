//! From the acknowledgement to a waiting reader that holds the record.
//!
//! One thread turns a shard of its own and appends one record at a time; a second one reads at the end,
//! spinning or parked. The clock starts when the append's ticket is ready and stops when the reader
//! has the batch; a reader may well have it first. A wake-up of a parked thread by this one is measured
//! in the same rounds: that is what a parked reader can't be without.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thalweg::{Config, OwnedShard, Partition, PartitionConfig, ReadFrom, Record};

use crate::Result;
use crate::bench::{Bench, Place, run_at};
use crate::result::{Target, Unit};

/// Pause between two appends: the reader is back at the end, and asleep if it sleeps.
const PAUSE: Duration = Duration::from_micros(300);

/// Runs it all.
///
/// # Errors
/// The engine's and the host's.
pub fn run(bench: &Bench<'_>) -> Result<()> {
    (bench.progress)("reading at the end");
    let appends = if bench.effort.quick { 500 } else { 2000 };
    let options = Options { rounds: bench.effort.rounds, appends, ..Options::default() };
    let rounds = measure(Config { shards: None, ..bench.config("tail") }, &options)?;
    bench.clear("tail")?;
    let us = |ns: u64| ns as f64 / 1000.0;
    let of = |value: &dyn Fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<f64>>();
    let mut report = bench.report.borrow_mut();
    let what = "from ack to a spinning reader with the record, p50";
    report.row("tail.spin", what, Unit::Us, Target::AtMost(1.0), &of(&|round| us(round.spinning_ns)));
    let what = "from ack to a parked reader with the record, p50 - 1 wake-up";
    let over = |round: &Round| us(round.parked_ns) - us(round.wake_up_ns);
    report.row("tail.park.over", what, Unit::Us, Target::AtMost(3.0), &of(&over));
    let what = "from ack to a parked reader with the record, p50";
    report.figure("tail.park", what, Unit::Us, &of(&|round| us(round.parked_ns)));
    Ok(())
}

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds; at least 1.
    pub rounds: usize,
    /// Appends in one measurement.
    pub appends: u64,
    /// Bytes of a record's value.
    pub record_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { rounds: 5, appends: 2000, record_bytes: 1024 }
    }
}

/// Nanoseconds of one round, medians. A reader that has the record before its appender counts as 0.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// From the ready ticket to a spinning reader.
    pub spinning_ns: u64,
    /// From the ready ticket to a parked reader.
    pub parked_ns: u64,
    /// From an unpark to the thread running.
    pub wake_up_ns: u64,
}

/// Measures with these settings, of one shard and a directory that should be empty.
///
/// # Errors
/// The engine's and the host's.
pub fn measure(config: Config, options: &Options) -> Result<Vec<Round>> {
    let mut shard = OwnedShard::open(config)?;
    let creating = shard.log().start_create("tail", PartitionConfig::default());
    let partition = shard.block_on(creating)?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds.max(1) {
        let wake_up = wake_up(options.appends)?;
        let spinning = after_ack(&mut shard, &partition, true, options)?;
        let parked = after_ack(&mut shard, &partition, false, options)?;
        let median = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5);
        rounds.push(Round {
            spinning_ns: median(&spinning),
            parked_ns: median(&parked),
            wake_up_ns: median(&wake_up),
        });
    }
    shard.close()?;
    Ok(rounds)
}

fn after_ack(
    shard: &mut OwnedShard,
    partition: &Partition,
    spin: bool,
    options: &Options,
) -> Result<Histogram<u64>> {
    let clock = Instant::now();
    let (held, read, ended) = (AtomicI64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    // By offset: a reader that comes late to "the latest" would wait for a record that was already there.
    let info = shard.block_on(partition.describe()).ok_or("the shard is closed")?;
    thread::scope(|scope| {
        run_at(Place::Shard);
        let reading = scope.spawn(|| {
            run_at(Place::Caller);
            let mut reader = partition.read(ReadFrom::Offset(info.log_end));
            while !ended.load(Ordering::Relaxed) {
                let next = if spin { reader.spin_next() } else { reader.next() };
                held.store(clock.elapsed().as_nanos() as i64, Ordering::Relaxed);
                match next {
                    Some(Ok(_)) => read.fetch_add(1, Ordering::Release),
                    _ => break,
                };
            }
        });
        let mut histogram = Histogram::new(3)?;
        // The first only brings the reader to the end.
        for index in 0..=options.appends {
            let pause = Instant::now();
            while pause.elapsed() < PAUSE {
                shard.turn();
                thread::yield_now();
            }
            let ticket = partition.append(Record::new(vec![b'x'; options.record_bytes]));
            if index == options.appends {
                ended.store(true, Ordering::Relaxed);
            }
            while !ticket.is_ready() {
                shard.turn();
            }
            let acked = clock.elapsed().as_nanos() as i64;
            ticket.wait()?;
            while read.load(Ordering::Acquire) <= index {
                if reading.is_finished() && read.load(Ordering::Acquire) <= index {
                    return Err("the reader ended early".into());
                }
                // A reader that had no core meanwhile asks only now.
                if clock.elapsed().as_nanos() as i64 - acked > PAUSE.as_nanos() as i64 {
                    shard.turn();
                }
                thread::yield_now();
            }
            let after = held.load(Ordering::Relaxed) - acked;
            if index > 0 {
                histogram.record(after.max(0) as u64)?;
            }
        }
        reading.join().map_err(|_| "the reader panicked")?;
        Ok(histogram)
    })
}

/// How long a parked thread takes to run after an unpark.
fn wake_up(count: u64) -> Result<Histogram<u64>> {
    let clock = Instant::now();
    let (rung, woken, done) = (AtomicU64::new(0), AtomicI64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        run_at(Place::Shard);
        let sleeper = scope.spawn(|| {
            run_at(Place::Caller);
            for index in 1..=count {
                while rung.load(Ordering::Acquire) < index {
                    thread::park();
                }
                woken.store(clock.elapsed().as_nanos() as i64, Ordering::Relaxed);
                done.store(index, Ordering::Release);
            }
        });
        let mut histogram = Histogram::new(3)?;
        for index in 1..=count {
            let pause = Instant::now();
            while pause.elapsed() < PAUSE {
                thread::yield_now();
            }
            let start = clock.elapsed().as_nanos() as i64;
            rung.store(index, Ordering::Release);
            sleeper.thread().unpark();
            while done.load(Ordering::Acquire) < index {
                thread::yield_now();
            }
            histogram.record((woken.load(Ordering::Relaxed) - start).max(0) as u64)?;
        }
        Ok(histogram)
    })
}
