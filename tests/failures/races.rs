//! What moves or goes away while somebody reads it.

use std::time::Duration;

use thalweg::{Offset, PartitionConfig, ReadFrom, Retention};
use thalweg_io::sim::{Effect, FaultRule, OpKind};
use thalweg_tests::{Host, HostExt, Sim, block_on, small};

use crate::{fill, value};

/// A reader that has just asked for its first batch, which comes from disk and takes its time.
async fn slow_reader(host: &mut Sim, from: u64, file: &str, nanos: u64) -> thalweg::Reader {
    host.disk.plan(FaultRule::new(OpKind::Read, Effect::Delay(nanos)).on(file));
    let mut reader = host.partition("p").read(ReadFrom::Offset(Offset(from))).to_end();
    assert!(host.drive(futures_lite::future::poll_once(reader.next_batch())).await.is_none());
    host.pause(1).await;
    assert_eq!(host.disk.faults_fired(), 1, "the read is under way");
    host.disk.clear_faults();
    reader
}

/// Everything from `from` to `end` comes, in order.
async fn check_rest(host: &mut Sim, reader: &mut thalweg::Reader, from: u64, end: u64) {
    let mut next = from;
    while let Some(batch) = host.next(reader).await {
        let batch = batch.unwrap();
        assert!(batch.base_offset().0 <= next, "a gap: {} follows {next}", batch.base_offset());
        for record in batch.records().map(Result::unwrap) {
            assert_eq!(record.value(), Some(value(record.offset.0).as_bytes()));
        }
        next = batch.end_offset().0;
    }
    assert!(next >= end, "ended at {next} of {end}");
}

#[test]
fn a_wal_file_that_gets_a_new_life_under_a_read_leaves_no_gap() {
    for seed in 0..6 {
        let mut config = small();
        config.cache.bytes = 256 << 10;
        config.segment.promote_partitions_max = 0;
        let mut host = Sim::new(config, seed);
        block_on(async {
            host.open().await;
            let p = host.create("p").await;
            let mut end = 0;
            while end < 100 {
                end = host.append(&p, value(end)).await + 1;
            }
            let mut reader = slow_reader(&mut host, 3, ".log", 5_000_000_000).await;
            while host.stats().await.files_sealed < 4 {
                end = host.append(&p, value(end)).await + 1;
            }
            check_rest(&mut host, &mut reader, 3, end).await;
        });
    }
}

#[test]
fn a_segment_that_is_recycled_while_it_is_opened_is_forgotten() {
    for seed in 0..8 {
        let mut config = small();
        config.segment.seal_age_max_ms = 600_000;
        config.cache.bytes = 256 << 10;
        let mut host = Sim::new(config, seed);
        block_on(async {
            host.open().await;
            let p = host.create("p").await;
            let old_end = fill(&mut host, &p, 0, 200).await;
            host.until("promoted", |stats| stats.files_promoted >= 1).await;
            host.settled().await;
            let reader = slow_reader(&mut host, 0, "0000000000000000.log", 300_000_000).await;
            let end = fill(&mut host, &p, old_end, 60 + seed * 20).await;
            host.drive(p.trim(Offset(old_end))).await.unwrap();
            let start = fill(&mut host, &p, end, 60).await;
            host.pause(300).await;
            drop(reader);
            let mut end = start;
            for _ in 0..10 {
                end = fill(&mut host, &p, end, 150 + seed * 7).await;
                host.pause(10).await;
            }
            host.settled().await;
            let mut reader = p.read(ReadFrom::Offset(Offset(start))).to_end();
            check_rest(&mut host, &mut reader, start, end).await;
        });
    }
}

#[test]
fn a_reader_that_waits_for_the_disk_hears_of_the_close() {
    let mut config = small();
    config.segment.seal_age_max_ms = 50;
    let mut host = Sim::new(config, 1);
    block_on(async {
        host.open().await;
        let p = host.create("p").await;
        fill(&mut host, &p, 0, 1000).await;
        host.until("sealed", |stats| stats.segments >= 3).await;
        let mut reader = slow_reader(&mut host, 0, ".log", 1 << 50).await;
        host.close().await;
        let (heard, hears) = std::sync::mpsc::channel();
        std::thread::spawn(move || heard.send(reader.next().map(|batch| batch.is_err())));
        assert!(hears.recv_timeout(Duration::from_secs(60)).is_ok(), "no answer");
    });
}

#[test]
fn a_segment_that_dies_goes_one_way_only() {
    for seed in 0..12 {
        let mut host = Sim::new(small(), seed);
        block_on(async {
            host.open().await;
            let p = host.create("p").await;
            for n in 0..1200u32 {
                // Each WAL file becomes a segment where it lies. Many die at once, while appends go on:
                // each of them is a WAL file again, or goes.
                if n == 600 {
                    let retention = Retention { bytes_max: Some(600 << 10), ..Retention::default() };
                    let config = PartitionConfig { retention, ..PartitionConfig::default() };
                    host.drive(p.configure(config)).await.unwrap();
                }
                let tickets: Vec<_> = (0..4).map(|_| p.append(vec![b'x'; 4000])).collect();
                for ticket in tickets {
                    host.drive(ticket).await.unwrap_or_else(|error| panic!("seed {seed}, {n}: {error}"));
                }
                if n % 100 == 99 {
                    host.pause(u64::from(n >= 700) * 30).await;
                }
            }
            let stats = host.stats().await;
            assert!(stats.files_promoted > 20 && stats.files_recycled > 2, "seed {seed}: {stats:?}");
            host.close().await;
        });
    }
}
