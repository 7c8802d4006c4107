//! A hundred thousand partitions on one shard cost memory, and nothing else each.

use std::collections::VecDeque;

use futures_lite::future::poll_once;
use thalweg::config::{BackendSetting, CommitSetting};
use thalweg::{BatchView, Config, Offset, Partition, PartitionConfig, ReadFrom, Record};
use thalweg_tests::{Host, HostExt, Threads, block_on};

use crate::{alone, process, timed};

const PARTITIONS: usize = 100_000;
/// Well below `limits.queue_requests_max`: tickets that find the queue full are slow.
const IN_FLIGHT_MAX: usize = 4000;
/// `docs/memory.md` states what was measured; this is about twice that.
const BYTES_PER_PARTITION_MAX: u64 = 2560;
/// Descriptors and files beside the WAL's and the segments': the ring, locks, the manifest, streams.
const OTHER_FILES_MAX: usize = 32;
/// Files of the WAL ring (at most 64) and segments not merged yet. Nothing to do with `PARTITIONS`.
const FILES_MAX: usize = 64 + 32;

fn name(index: usize) -> String {
    format!("partition {index:06}")
}

fn value(index: usize) -> String {
    format!("the record of partition {index}")
}

/// Small WAL files, so that records get from there into shared segments soon.
fn config() -> Config {
    let mut config = Config::new("data");
    config.threads.pin = false;
    config.commit.strategy = CommitSetting::Dsync;
    config.wal.file_bytes = 8 << 20;
    config.cache.bytes = 8 << 20;
    config.segment.seal_age_max_ms = 500;
    config.segment.check_interval_ms = 50;
    config
}

/// Starts work on each partition's index, some of it at once, and finishes it in the same order.
async fn each<T>(mut start: impl AsyncFnMut(usize) -> T, mut finish: impl AsyncFnMut(usize, T)) {
    let mut flying = VecDeque::new();
    for index in 0..PARTITIONS {
        flying.push_back((index, start(index).await));
        if flying.len() == IN_FLIGHT_MAX {
            let (index, work) = flying.pop_front().expect("just counted");
            finish(index, work).await;
        }
    }
    for (index, work) in flying {
        finish(index, work).await;
    }
}

async fn create(host: &Threads) {
    let log = host.log();
    let start = async |index| log.start_create(&name(index), PartitionConfig::default());
    each(start, async |_, creating| drop(creating.await.expect("a new partition"))).await;
}

async fn append(host: &Threads) {
    let start = async |index| host.partition(&name(index)).append(Record::new(value(index)));
    each(start, async |_, ticket| {
        let at = ticket.await.expect("an acknowledged append");
        assert_eq!((at.base_offset, at.count), (Offset(0), 1));
    })
    .await;
}

/// Reads all of every partition, in an order that has nothing to do with where the records are.
async fn read(host: &Threads) {
    let partition = |index: usize| index * 7919 % PARTITIONS;
    let start = async |index| {
        let found: Partition = host.partition(&name(partition(index)));
        let mut reader = found.read(ReadFrom::Earliest).to_end();
        let first = poll_once(reader.next_batch()).await;
        (reader, first)
    };
    each(start, async |index, (mut reader, first)| {
        let first = match first {
            Some(first) => first,
            None => reader.next_batch().await,
        };
        check_only_batch(partition(index), &first.expect("a batch").expect("a readable one"));
        assert!(reader.next_batch().await.is_none(), "one batch was appended");
    })
    .await;
}

fn check_only_batch(index: usize, batch: &BatchView) {
    let records: Vec<_> = batch.records().map(|record| record.expect("a checked batch")).collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].offset, Offset(0));
    assert_eq!(records[0].value(), Some(value(index).as_bytes()));
}

/// Looks at what the process and the data directory have, beside `before` bytes of memory.
async fn check_bounds(host: &mut Threads, when: &str, before: u64) {
    let each = process::resident_bytes().saturating_sub(before) / PARTITIONS as u64;
    let (descriptors, files) = (process::open_files(), host.files().len());
    let stats = host.stats().await;
    let segments = stats.segments;
    println!("{when}: {each} B of memory a partition, {descriptors} open files, {files} files");
    println!("{when}: {} files in the WAL ring, {segments} segments", stats.wal_files);
    assert_eq!(stats.partitions as usize, PARTITIONS);
    assert!(each <= BYTES_PER_PARTITION_MAX, "{each} B a partition");
    let kept = (stats.wal_files + stats.open_segment_files) as usize;
    assert!(descriptors <= kept + OTHER_FILES_MAX, "{descriptors} open files, {stats:?}");
    assert!(descriptors <= FILES_MAX && files <= FILES_MAX, "{descriptors} open, {files} files");
}

#[test]
fn a_hundred_thousand_partitions_share_one_shard() {
    let _alone = alone();
    let mut host = Threads::new(config(), 1, BackendSetting::Auto);
    block_on(async {
        host.open().await;
        println!("backend {}", host.engine().backend().kind);
        let before = process::resident_bytes();
        timed("create", create(&host)).await;
        check_bounds(&mut host, "created", before).await;
        timed("append", append(&host)).await;
        check_bounds(&mut host, "appended", before).await;
        let sealed = host.until("all records are in segments", |stats| stats.unsealed_bytes < 64 << 10);
        timed("seal", sealed).await;
        check_bounds(&mut host, "sealed", before).await;
        timed("read", read(&host)).await;
        timed("close", host.close()).await;
        timed("open", host.open()).await;
        check_bounds(&mut host, "opened again", before).await;
        timed("read", read(&host)).await;
        check_bounds(&mut host, "read", before).await;
        host.close().await;
    });
}
