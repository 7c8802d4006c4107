//! Embedding, second way: the shard in the program's own loop. No second thread, no hand-over;
//! the fastest way to a durable record.
//!
//! `cargo run --release -p thalweg --example turn [DIR]`

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use thalweg::{Config, OwnedShard, PartitionConfig, ReadFrom, Record};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("example-data"), PathBuf::from);
    let mut shard = OwnedShard::open(Config::new(dir))?;
    let name = format!("orders-{}", shard.log().partitions().len());
    let creating = shard.log().start_create(&name, PartitionConfig::default());
    let orders = shard.block_on(creating)?;

    let mut took = Vec::new();
    for n in 0..1000 {
        let start = Instant::now();
        let ticket = orders.append(Record::new(format!("order {n}")));
        // The program's own loop: turn, and do whatever else there is to do.
        while !ticket.is_ready() {
            if !shard.turn() {
                shard.park();
            }
        }
        took.push(start.elapsed());
    }
    took.sort_unstable();
    println!("1,000 durable appends, one at a time: median {:?}", took[took.len() / 2]);

    let mut reader = orders.read(ReadFrom::Earliest).to_end();
    let mut records = 0;
    while let Some(batch) = shard.block_on(reader.next_batch()) {
        records += batch?.records().count();
    }
    println!("{records} records in {name}");
    shard.close()?;
    Ok(())
}
