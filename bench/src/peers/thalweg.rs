//! Thalweg itself, in its own styles. All of them are one commit: a group in one O_DIRECT write into a
//! WAL file whose blocks were written before, made durable as `commit.strategy` says or the device wants.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use thalweg::{Config, Engine, OwnedShard, Partition, PartitionConfig, Record};

use super::load::{Load, WRITERS, Workload};
use super::{About, Driven, Peer, Result, Subject};
use crate::bench::Bench;
use crate::load::{Loaded, histogram, note};

const PACKAGE: Option<&str> = Some("thalweg");

/// The row that ratios are taken to: callers share groups and sleep in `wait()`.
pub(super) const WAIT: About = About { name: "thalweg", package: PACKAGE };
/// As thalweg; the caller polls.
const SPIN: About = About { name: "thalweg spin", package: PACKAGE };
/// As thalweg; the caller's thread runs the shard: no hand-over.
const TURN: About = About { name: "thalweg turn", package: PACKAGE };
/// As thalweg; one thread keeps 64 tickets in flight, its natural style.
const TICKETS: About = About { name: "thalweg tickets", package: PACKAGE };

/// Opens all styles. Those of the engine share one, and one partition.
pub(super) fn open(bench: &Bench<'_>) -> Result<Vec<Box<dyn Subject>>> {
    let engine = bench.engine("thalweg", |_| {})?;
    let partition = engine.create("log", PartitionConfig::default())?;
    let (spin, tickets) = (Spin(partition.clone()), Tickets(partition.clone()));
    let wait = Driven(Wait { partition, _engine: engine });
    Ok(vec![Box::new(wait), Box::new(spin), Box::new(tickets), Box::new(Turn::open(bench)?)])
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

    fn run(&mut self, _: Workload, load: &Load) -> Result<Loaded> {
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
    fn open(bench: &Bench<'_>) -> Result<Turn> {
        let mut shard = OwnedShard::open(Config { shards: None, ..bench.config("thalweg-turn") })?;
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

    fn run(&mut self, workload: Workload, load: &Load) -> Result<Loaded> {
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
    fn run(&mut self, _: Workload, load: &Load) -> Result<Loaded> {
        let mut loaded = Loaded { records: 0, time: Duration::ZERO, latency: histogram() };
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
            note(&mut loaded.latency, answered - called);
            if answered < deadline {
                in_flight.push_back(append());
            }
        }
        loaded.records = loaded.latency.len();
        loaded.time = start.elapsed();
        Ok(loaded)
    }
}

/// The record as the engine takes it: one copy, as of any caller that keeps its buffer.
fn owned(record: &[u8]) -> Record {
    Record::new(record.to_vec())
}
