//! Readers far slower than the producer neither miss anything nor hold it up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use thalweg::config::BackendSetting;
use thalweg::{BatchView, Offset, Partition, ReadFrom, Record};
use thalweg_tests::{Host, HostExt, Threads, block_on, small};

use crate::{alone, timed};

const RECORD_BYTES: usize = 4 << 10;
/// Many times the tail cache of `small()`, 1 MiB.
const RECORDS: u64 = 48 << 10;
const IN_FLIGHT_MAX: usize = 64;
/// What a slow reader may get to while the producer runs. If it had to wait for readers, they would
/// have to read nearly everything first.
const READ_MEANWHILE_MAX: u64 = RECORDS / 10;
const PACE: Duration = Duration::from_millis(100);

fn value(offset: u64) -> Vec<u8> {
    let mut value = vec![offset as u8; RECORD_BYTES];
    value[..8].copy_from_slice(&offset.to_le_bytes());
    value
}

fn check(offset: Offset, found: Option<&[u8]>, expected: u64) {
    assert_eq!(offset, Offset(expected), "a gap");
    assert!(found == Some(&value(expected)[..]), "another value at {expected}");
}

/// Appends everything, as fast as it goes.
fn produce(partition: &Partition, done: &AtomicBool) {
    let mut flying = VecDeque::new();
    for offset in 0..RECORDS {
        flying.push_back(partition.append(Record::new(value(offset))));
        if flying.len() == IN_FLIGHT_MAX {
            flying.pop_front().expect("just counted").wait().expect("an acknowledged append");
        }
    }
    for ticket in flying {
        ticket.wait().expect("an acknowledged append");
    }
    done.store(true, Ordering::SeqCst);
}

/// Takes one record after the other, slowly until the producer has ended, and the rest at full speed.
/// Returns how many it took slowly.
fn read_records(partition: &Partition, done: &AtomicBool) -> u64 {
    let mut records = partition.read(ReadFrom::Earliest).records();
    let mut next = 0;
    let mut step = || {
        let (offset, record) = records.next().expect("it waits at the end").expect("a readable record");
        check(offset, record.value.as_deref(), next);
        next += 1;
        next
    };
    let mut slowly = 0;
    while !done.load(Ordering::SeqCst) && slowly < READ_MEANWHILE_MAX {
        slowly = step();
        thread::sleep(PACE);
    }
    while step() < RECORDS {}
    slowly
}

/// As [`read_records`], batch by batch, and holding on to every batch it took slowly.
fn hold_batches(partition: &Partition, done: &AtomicBool) -> u64 {
    let mut reader = partition.read(ReadFrom::Earliest);
    let mut held: Vec<BatchView> = Vec::new();
    let mut next = 0;
    let check_batch = |batch: &BatchView, mut next: u64| {
        for record in batch.records().map(|record| record.expect("a checked batch")) {
            check(record.offset, record.value(), next);
            next += 1;
        }
        next
    };
    while !done.load(Ordering::SeqCst) && next < READ_MEANWHILE_MAX {
        let batch = reader.next().expect("it waits at the end").expect("a readable batch");
        next = check_batch(&batch, next);
        held.push(batch);
        thread::sleep(PACE);
    }
    let slowly = next;
    while next < RECORDS {
        let batch = reader.next().expect("it waits at the end").expect("a readable batch");
        next = check_batch(&batch, next);
    }
    let again = held.iter().fold(0, |next, batch| check_batch(batch, next));
    assert_eq!(again, slowly, "a view does not change");
    slowly
}

#[test]
fn slow_readers_miss_nothing_and_hold_nobody_up() {
    let _alone = alone();
    let mut config = small();
    // Each fetch brings one batch: slow readers fetch again and again, from ever farther behind.
    config.read.fetch_bytes_max = 4 << 10;
    let mut host = Threads::new(config, 1, BackendSetting::Auto);
    block_on(async {
        host.open().await;
        let partition = host.create("p").await;
        let done = AtomicBool::new(false);
        let slowly = timed("produce and read", async {
            thread::scope(|scope| {
                let readers = [
                    scope.spawn(|| read_records(&partition, &done)),
                    scope.spawn(|| hold_batches(&partition, &done)),
                ];
                produce(&partition, &done);
                readers.map(|reader| reader.join().expect("a reader that misses nothing"))
            })
        })
        .await;
        println!("read while {RECORDS} records were appended: {slowly:?}");
        assert!(slowly.iter().all(|count| *count < READ_MEANWHILE_MAX), "{slowly:?} of {RECORDS}");
        let stats = host.stats().await;
        assert!(stats.group_bytes > 100 * host.config().cache.bytes, "the cache has long forgotten");
        assert_eq!((stats.records, stats.background_errors), (RECORDS, 0));
        host.close().await;
    });
}
