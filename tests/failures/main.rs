//! What the disk may do to a log, and what the log makes of it.

#![forbid(unsafe_code)]

mod compacting;
mod damage;
mod errors;
mod leaks;
mod misreads;
mod races;
mod space;

use thalweg::{AppendResult, Partition, Record, Ticket};
use thalweg_tests::{Host, HostExt, Sim, block_on, small};

const EIO: i32 = 5;

/// Tries a story on several disks.
fn on_disks<F: Future<Output = ()>>(story: impl Fn(Sim) -> F) {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut config = small();
        config.segment.seal_age_max_ms = 50;
        block_on(story(Sim::new(config, seed)));
    }
}

fn value(offset: u64) -> String {
    format!("{offset:0>1000}")
}

/// Appends one record at a time until one is refused. Returns the offset it would have had.
async fn append_until_refused(host: &mut Sim, p: &Partition, from: u64) -> (u64, thalweg::AppendError) {
    for offset in from..from + 100_000 {
        match host.try_append(p, value(offset)).await {
            Ok(at) => assert_eq!(at.base_offset.0, offset),
            Err(error) => return (offset, error),
        }
    }
    panic!("nothing is ever refused");
}

/// Appends `count` batches of four records, and waits for them.
async fn fill(host: &mut Sim, p: &Partition, from: u64, count: u64) -> u64 {
    let tickets: Vec<Ticket<AppendResult>> = (0..count)
        .map(|batch| {
            let base = from + batch * 4;
            p.append((base..base + 4).map(|at| Record::new(value(at))).collect::<Vec<_>>())
        })
        .collect();
    for ticket in tickets {
        host.drive(ticket).await.unwrap();
    }
    from + count * 4
}

/// The log holds exactly the records `start..end`.
async fn check(host: &mut Sim, start: u64, end: u64) {
    let p = host.partition("p");
    let (first, values) = host.values(&p).await;
    assert_eq!((if values.is_empty() { start } else { first }, values.len() as u64), (start, end - start));
    assert!((start..).zip(values).all(|(offset, found)| found == value(offset)));
}
