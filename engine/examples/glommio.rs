//! Embedding, third way: inside a glommio executor, on its ring, beside its other tasks.
//!
//! `cargo run --release -p thalweg --features glommio --example glommio [DIR]`

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;

use thalweg::{Config, OwnedShard, PartitionConfig, ReadFrom, Record};
use thalweg_io::glommio::runtime::{LocalExecutorBuilder, Placement};
use thalweg_io::{GlommioBackend, boot};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("example-data"), PathBuf::from);
    boot::create_data_dir(&dir)?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound).ring_depth(128).io_memory(1 << 20);
    let records = executor.spawn(move || async move { run(dir).await.map_err(|error| error.to_string()) })?;
    println!("{} records", records.join()??);
    Ok(())
}

async fn run(dir: PathBuf) -> Result<usize, Box<dyn Error>> {
    let backend = GlommioBackend::open(&dir).await?;
    let mut shard = OwnedShard::open_within(backend, Config::new(dir)).await?;
    let name = format!("events-{}", shard.log().partitions().len());
    let creating = shard.log().start_create(&name, PartitionConfig::default());
    let events = shard.drive(creating).await?;
    for n in 0..100 {
        let ticket = events.append(Record::new(format!("event {n}")));
        shard.drive(ticket).await?;
    }
    let mut reader = events.read(ReadFrom::Earliest).to_end();
    let mut records = 0;
    while let Some(batch) = shard.drive(reader.next_batch()).await {
        records += batch?.records().count();
    }
    shard.close_within().await?;
    Ok(records)
}
