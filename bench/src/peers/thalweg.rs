//! Thalweg itself, in its own styles. All of them are one commit: a group in an O_DIRECT write with
//! `RWF_DSYNC` into a WAL file whose blocks were written before.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thalweg::{Config, Engine, OwnedShard, Partition, PartitionConfig, Record};

use super::load::{Load, Sample, WRITERS, Workload};
use super::{About, Driven, Peer, Result, Subject};

const PACKAGE: Option<&str> = Some("thalweg");

/// The row that ratios are taken to.
pub(super) const WAIT: About = About {
    name: "thalweg",
    package: PACKAGE,
    syncs: "one O_DIRECT write with `RWF_DSYNC` for a group, into a WAL file zero-filled before: no file \
            system metadata changes; callers sleep in `wait()`",
};
const SPIN: About = About { name: "thalweg spin", package: PACKAGE, syncs: "as thalweg; the caller polls" };
const TURN: About = About {
    name: "thalweg turn",
    package: PACKAGE,
    syncs: "as thalweg; the caller's thread runs the shard: no hand-over",
};
const TICKETS: About = About {
    name: "thalweg tickets",
    package: PACKAGE,
    syncs: "as thalweg; one thread keeps 64 tickets in flight, its natural style",
};

/// Opens the styles that are wanted. Those of the engine share one, and one partition.
pub(super) fn open(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<Box<dyn Subject>>> {
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    if [WAIT, SPIN, TICKETS].iter().any(|about| wanted(about.name)) {
        let engine = Engine::open(Config::new(dir.join("thalweg")))?;
        let partition = engine.create("log", PartitionConfig::default())?;
        let (spin, tickets) = (Spin(partition.clone()), Tickets(partition.clone()));
        subjects.push(Box::new(Driven(Wait { partition, _engine: engine })));
        subjects.push(Box::new(spin));
        subjects.push(Box::new(tickets));
    }
    if wanted(TURN.name) {
        subjects.push(Box::new(Turn::open(dir)?));
    }
    subjects.retain(|subject| wanted(subject.about().name));
    Ok(subjects)
}

/// Any thread appends, and sleeps until the answer is there.
struct Wait {
    partition: Partition,
    _engine: Engine,
}

impl Peer for Wait {
    fn about(&self) -> About {
        WAIT
    }

    fn append(&self, _: usize, record: &[u8]) -> Result<()> {
        self.partition.append(owned(record)).wait()?;
        Ok(())
    }

    fn append_batch(&self, _: usize, records: &[&[u8]]) -> Result<()> {
        let records: Vec<Record> = records.iter().map(|record| owned(record)).collect();
        self.partition.append(records).wait()?;
        Ok(())
    }
}

struct Spin(Partition);

impl Subject for Spin {
    fn about(&self) -> About {
        SPIN
    }

    fn takes(&self, workload: Workload) -> bool {
        workload == Workload::One
    }

    fn run(&mut self, _: Workload, load: &Load) -> Result<Sample> {
        load.one_by_one(|record| {
            self.0.append(owned(record)).spin()?;
            Ok(())
        })
    }
}

struct Turn {
    shard: OwnedShard,
    partition: Partition,
}

impl Turn {
    fn open(dir: &Path) -> Result<Turn> {
        let mut shard = OwnedShard::open(Config::new(dir.join("thalweg-turn")))?;
        let creating = shard.log().start_create("log", PartitionConfig::default());
        let partition = shard.block_on(creating)?;
        Ok(Turn { shard, partition })
    }
}

impl Subject for Turn {
    fn about(&self) -> About {
        TURN
    }

    fn takes(&self, workload: Workload) -> bool {
        workload != Workload::Many
    }

    fn run(&mut self, workload: Workload, load: &Load) -> Result<Sample> {
        let Turn { shard, partition } = self;
        let mut drive = |ticket: thalweg::Ticket<thalweg::AppendResult>| {
            while !ticket.is_ready() {
                if !shard.turn() {
                    shard.park();
                }
            }
            ticket.wait()?;
            Ok(())
        };
        if workload == Workload::One {
            return load.one_by_one(|record| drive(partition.append(owned(record))));
        }
        load.in_batches(|records| {
            let records: Vec<Record> = records.iter().map(|record| owned(record)).collect();
            drive(partition.append(records))
        })
    }
}

struct Tickets(Partition);

impl Subject for Tickets {
    fn about(&self) -> About {
        TICKETS
    }

    fn takes(&self, workload: Workload) -> bool {
        workload == Workload::Many
    }

    /// A window of [`WRITERS`] tickets: the oldest is waited for, and a new append takes its place.
    fn run(&mut self, _: Workload, load: &Load) -> Result<Sample> {
        let mut sample = Sample { records: 0, took: Duration::ZERO, latency: Histogram::new(3)? };
        let sent = Cell::new(0);
        let append = || {
            sent.set(sent.get() + 1);
            (Instant::now(), self.0.append(owned(load.record(sent.get()))))
        };
        let (start, deadline) = (Instant::now(), load.deadline());
        let mut in_flight: VecDeque<_> = (0..WRITERS).map(|_| append()).collect();
        while let Some((called, ticket)) = in_flight.pop_front() {
            ticket.wait()?;
            let answered = Instant::now();
            sample.latency.record((answered - called).as_nanos() as u64)?;
            if answered < deadline {
                in_flight.push_back(append());
            }
        }
        sample.records = sample.latency.len();
        sample.took = start.elapsed();
        Ok(sample)
    }
}

/// The record as the engine takes it: one copy, as of any caller that keeps its buffer.
fn owned(record: &[u8]) -> Record {
    Record::new(record.to_vec())
}
