//! Embedding, first way: an `Engine` with its own pinned threads, used from plain threads and from
//! any async runtime alike.
//!
//! `cargo run --release -p thalweg --example engine [DIR]`

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;

use thalweg::{AppendOptions, Config, Engine, PartitionConfig, ReadFrom, Record};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("example-data"), PathBuf::from);
    let engine = Engine::open(Config::new(dir))?;
    if let Some(reason) = &engine.backend().reason {
        eprintln!("blocking I/O: {reason}");
    }
    let name = format!("sensors-{}", engine.partitions().len());
    let sensors = engine.create(&name, PartitionConfig::default())?;

    // Threads share the handle. Appends that are in flight together share a write and a sync.
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sensors = &sensors;
            scope.spawn(move || {
                let tickets: Vec<_> = (0..250)
                    .map(|n| sensors.append(Record::new(format!("{n}")).with_key(format!("sensor-{thread}"))))
                    .collect();
                for ticket in tickets {
                    if let Err(error) = ticket.wait() {
                        eprintln!("not stored: {error}");
                    }
                }
            });
        }
    });

    // The same ticket is a future: await it in tokio, smol, or anything that polls.
    let end = sensors.describe().wait().map_or_else(Default::default, |info| info.log_end);
    let next = sensors.append_if(end, "only if nobody was faster").wait()?;
    println!("appended at {}", next.base_offset);

    // `try_append` never waits: it gives the batch back when the queue is full.
    if let Ok(ticket) = sensors.try_append("fire and remember", AppendOptions::default()) {
        ticket.wait()?;
    }

    // Readers wait at the end; this one stops there.
    let count = sensors.read(ReadFrom::Earliest).to_end().records().count();
    println!("{count} records in {name}");
    engine.close()?;
    Ok(())
}
