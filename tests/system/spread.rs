//! Appends records to many partitions, for the system call tests: `spread DIR PARTITIONS RECORDS
//! BACKEND STRATEGY`. Prints how many groups were written for the records.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::error::Error;

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg::{Config, Engine, PartitionConfig, Record};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, partitions, records, backend, strategy] = &args[..] else {
        return Err("usage: spread DIR PARTITIONS RECORDS BACKEND STRATEGY".into());
    };
    let mut config = Config::new(dir);
    config.threads.backend =
        if backend == "blocking" { BackendSetting::Blocking } else { BackendSetting::Uring };
    config.commit.strategy = match &strategy[..] {
        "dsync" => CommitSetting::Dsync,
        "write_then_sync" => CommitSetting::WriteThenSync,
        "hybrid" => CommitSetting::Hybrid,
        "blocking" => CommitSetting::Blocking,
        other => return Err(format!("{other}: no strategy").into()),
    };
    // Nothing but groups is to be written meanwhile.
    config.wal.witness_after_us = 60_000_000;
    config.segment.check_interval_ms = 60_000;
    let engine = Engine::open(config)?;
    let mut made = Vec::new();
    let mut making = VecDeque::new();
    for index in 0..partitions.parse()? {
        making.push_back(engine.start_create(&format!("partition {index}"), PartitionConfig::default()));
        if making.len() >= 4096 {
            made.extend(making.pop_front().map(thalweg::Creating::wait).transpose()?);
        }
    }
    for creating in making {
        made.push(creating.wait()?);
    }
    let groups = |engine: &Engine| engine.stats(0).wait().map_or(0, |stats| stats.groups);
    let before = groups(&engine);
    // Marks in the trace where the records begin and end: opening a file that is not there.
    let mark = |name: &str| drop(std::fs::File::open(format!("{dir}/mark-{name}")));
    mark("begin");
    let mut flying = VecDeque::new();
    for index in 0..records.parse::<usize>()? {
        let partition = &made[index * 7919 % made.len()];
        flying.push_back(partition.append(Record::new(format!("record {index}"))));
        if flying.len() >= 64 {
            flying.pop_front().map(thalweg::Ticket::wait).transpose()?;
        }
    }
    for ticket in flying {
        ticket.wait()?;
    }
    mark("end");
    println!("{}", groups(&engine) - before);
    engine.close().unwrap();
    Ok(())
}
