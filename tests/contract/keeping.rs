//! What is kept, and what goes: trimming, retention, compaction.

use std::collections::BTreeMap;

use thalweg::{ControlError, Offset, PartitionConfig, ReadFrom, Record, Retention};
use thalweg_tests::{Host, HostExt};

use crate::storing::{check_filled, fill};

async fn start<H: Host>(host: &mut H) -> u64 {
    let p = host.partition("p");
    host.describe(&p).await.log_start.0
}

pub(crate) async fn trimming_moves_only_forward(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    fill(&mut host, std::slice::from_ref(&p), 0, 10).await;
    for (to, want) in [(0, 0), (30, 30), (10, 30), (30, 30), (70, 70), (100, 100)] {
        host.drive(p.trim(Offset(to))).await.unwrap();
        assert_eq!(start(&mut host).await, want);
        check_filled(&mut host, "p", want, 100).await;
    }
    let beyond = host.drive(p.trim(Offset(101))).await.unwrap_err();
    let (partition, end) = (p.id(), Offset(100));
    assert_eq!(beyond, ControlError::BeyondEnd { partition, wanted: Offset(101), end });
    assert_eq!(host.append(&p, "on").await, 100);
}

pub(crate) async fn trimming_survives_a_restart(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    fill(&mut host, std::slice::from_ref(&p), 0, 60).await;
    host.drive(p.trim(Offset(250))).await.unwrap();
    for clean in [true, false, true] {
        host.end_and_open(clean).await;
        assert_eq!(start(&mut host).await, 250);
        check_filled(&mut host, "p", 250, 600).await;
    }
    // All of it: the next offset is remembered though no record is left.
    let p = host.partition("p");
    host.drive(p.trim(Offset(600))).await.unwrap();
    for clean in [true, false] {
        host.end_and_open(clean).await;
        assert_eq!(start(&mut host).await, 600);
        let p = host.partition("p");
        assert_eq!(host.values(&p).await, (0, vec![]));
    }
    let p = host.partition("p");
    assert_eq!(host.append(&p, "next").await, 600);
}

pub(crate) async fn a_trim_inside_a_batch_keeps_the_rest_of_it(mut host: impl Host) {
    host.config().segment.seal_age_max_ms = 200;
    host.open().await;
    let p = host.create("p").await;
    let other = host.create("other").await;
    fill(&mut host, std::slice::from_ref(&p), 0, 1).await;
    host.drive(p.trim(Offset(5))).await.unwrap();
    check_filled(&mut host, "p", 5, 10).await;
    assert_eq!(start(&mut host).await, 5);
    // The manifest hears of the trim while the batch is still in the WAL.
    host.drive(other.append("more")).await.unwrap();
    host.reopen().await;
    check_filled(&mut host, "p", 5, 10).await;
    host.until("sealed", |stats| stats.files_sealed > 0).await;
    check_filled(&mut host, "p", 5, 10).await;
    for clean in [true, false] {
        host.end_and_open(clean).await;
        check_filled(&mut host, "p", 5, 10).await;
    }
    let p = host.partition("p");
    fill(&mut host, std::slice::from_ref(&p), 10, 60).await;
    host.drive(p.trim(Offset(333))).await.unwrap();
    fill(&mut host, std::slice::from_ref(&p), 610, 60).await;
    host.until("sealed", |stats| stats.files_sealed > 2).await;
    check_filled(&mut host, "p", 333, 1210).await;
    host.reopen().await;
    check_filled(&mut host, "p", 333, 1210).await;
}

pub(crate) async fn a_merge_keeps_what_a_trim_left_of_a_batch(mut host: impl Host) {
    host.open().await;
    let mut partitions = Vec::new();
    for n in 0..12 {
        partitions.push(host.create(&format!("p{n}")).await);
    }
    // Each append of ten records is one batch; the trims cut through them. How many files become one
    // segment is a matter of time, so it goes on until a shard had enough of them.
    let mut end = 0;
    while end < 200 || (end < 2000 && host.stats().await.segments_merged == 0) {
        fill(&mut host, &partitions, end, 1).await;
        for (n, partition) in partitions.iter().enumerate() {
            let to = end * n as u64 / 12 + n as u64 % 7;
            host.drive(partition.trim(Offset(to.min(end + 10)))).await.unwrap();
        }
        end += 10;
    }
    let stats = host.until("merged", |stats| stats.segments_merged > 0).await;
    assert_eq!(stats.background_errors, 0);
    for reopened in [false, true] {
        if reopened {
            host.reopen().await;
        }
        for partition in &partitions {
            let p = host.partition(partition.name());
            let log_start = host.describe(&p).await.log_start.0;
            check_filled(&mut host, partition.name(), log_start, end).await;
        }
    }
}

pub(crate) async fn a_reader_below_the_log_start_is_moved_and_told(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    fill(&mut host, std::slice::from_ref(&p), 0, 10).await;
    let mut slow = p.read(ReadFrom::Earliest);
    let first = host.next(&mut slow).await.unwrap().unwrap();
    assert_eq!(first.base_offset(), Offset(0));
    host.drive(p.trim(Offset(60))).await.unwrap();
    let mut moved = p.read(ReadFrom::Offset(Offset(20))).to_end();
    let mut seen = Vec::new();
    while let Some(batch) = host.next(&mut moved).await {
        seen.push(batch.unwrap().base_offset().0);
    }
    assert_eq!((seen.first(), moved.skipped()), (Some(&60), 40));
    // The slow one has fetched ahead a little; between them its batches and what it missed are all.
    let mut next = first.end_offset().0;
    while next < 100 {
        let batch = host.next(&mut slow).await.unwrap().unwrap();
        assert!(batch.base_offset().0 >= next);
        next = batch.end_offset().0;
    }
    let mut beyond = p.read(ReadFrom::Earliest).to_end();
    assert_eq!(host.next(&mut beyond).await.unwrap().unwrap().base_offset(), Offset(60));
    assert_eq!(beyond.skipped(), 0, "nothing was promised below the start");
}

async fn with_retention<H: Host>(host: &mut H, retention: Retention) -> thalweg::Partition {
    host.open().await;
    let config = PartitionConfig { retention, ..PartitionConfig::default() };
    host.create_with("p", config).await.unwrap()
}

pub(crate) async fn retention_by_bytes_deletes_whole_segments(mut host: impl Host) {
    let kept = 1200 << 10;
    let p = with_retention(&mut host, Retention { bytes_max: Some(kept), age_max_ms: None }).await;
    fill(&mut host, std::slice::from_ref(&p), 0, 300).await;
    for _ in 0..3000 {
        if host.describe(&p).await.bytes < 2 * kept {
            break;
        }
        host.pause(10).await;
    }
    host.settled().await;
    let info = host.describe(&p).await;
    assert!(info.bytes >= kept && info.bytes < 2 * kept, "{info:?}");
    let stats = host.until("files go", |stats| stats.segments <= info.segments).await;
    assert!(stats.files_recycled > 0, "promoted files serve the WAL again: {stats:?}");
    let on_disk: u64 =
        host.files().iter().filter(|(name, _)| name.ends_with(".log")).map(|(_, bytes)| bytes).sum();
    let wal = stats.wal_files * host.config().wal.file_bytes;
    assert!(on_disk < 3 * kept + wal, "{on_disk} B on disk for {info:?}, {stats:?}");
    assert!(stats.groups < 1000, "retention asks once for what it wants: {stats:?}");
    check_filled(&mut host, "p", info.log_start.0, 3000).await;
    host.reopen().await;
    assert!(start(&mut host).await >= info.log_start.0);
    let log_start = start(&mut host).await;
    check_filled(&mut host, "p", log_start, 3000).await;
}

pub(crate) async fn retention_by_age_goes_by_the_records_timestamps(mut host: impl Host) {
    let p = with_retention(&mut host, Retention { bytes_max: None, age_max_ms: Some(3_600_000) }).await;
    for n in 0..60 {
        let batch: Vec<Record> = (0..10).map(|at| Record::new(vec![n; 2000]).at_ms(1000 + at)).collect();
        host.append(&p, batch).await;
    }
    fill(&mut host, std::slice::from_ref(&p), 600, 60).await;
    for _ in 0..3000 {
        if start(&mut host).await > 100 {
            break;
        }
        host.pause(10).await;
    }
    host.pause(200).await;
    let log_start = start(&mut host).await;
    assert!((100..=600).contains(&log_start), "only records of 1970 go: {log_start}");
    check_filled(&mut host, "p", 600, 1200).await;
}

fn compacted(tombstone_age_ms: u64) -> PartitionConfig {
    PartitionConfig { compact: true, tombstone_age_ms, ..PartitionConfig::default() }
}

/// Appends `rounds` times a record for each of `keys` keys; returns the newest offset of each.
async fn write_keys<H: Host>(host: &mut H, keys: u32, rounds: u32) -> BTreeMap<String, u64> {
    let p = host.partition("p");
    let mut newest = BTreeMap::new();
    for round in 0..rounds {
        let key = |n: u32| format!("key {}", (n * 7 + round) % keys);
        let records = (0..keys).map(|n| Record::new(vec![b'v'; 300]).with_key(key(n)));
        let records: Vec<_> = records.collect();
        for (index, batch) in records.chunks(10).enumerate() {
            let base = host.append(&p, batch.to_vec()).await;
            for at in 0..batch.len() as u64 {
                newest.insert(key(index as u32 * 10 + at as u32), base + at);
            }
        }
    }
    newest
}

pub(crate) async fn compaction_keeps_the_last_record_of_each_key(mut host: impl Host) {
    host.open().await;
    host.create_with("p", compacted(86_400_000)).await.unwrap();
    let newest = write_keys(&mut host, 60, 60).await;
    host.until("compacted", |stats| stats.segments_merged > 0).await;
    for reopened in [false, true] {
        if reopened {
            host.reopen().await;
        }
        let p = host.partition("p");
        host.settled().await;
        let rows = host.read(&p, ReadFrom::Earliest).await;
        assert!(rows.len() < 2400, "{} of 3600 records are left", rows.len());
        assert!(rows.windows(2).all(|pair| pair[0].offset < pair[1].offset));
        let mut last = BTreeMap::new();
        for row in &rows {
            let key = String::from_utf8(row.record.key.as_ref().unwrap().to_vec()).unwrap();
            last.insert(key, row.offset);
        }
        assert_eq!(last, newest);
        // A reader may start at an offset that is gone.
        for from in (0..3600).step_by(111) {
            let found = host.read(&p, ReadFrom::Offset(Offset(from))).await;
            let kept = &rows[rows.partition_point(|row| row.offset < from)..];
            // What is cached is shown whole.
            assert!(kept.iter().all(|row| found.contains(row)));
            assert!(found == kept || !reopened);
        }
    }
    let p = host.partition("p");
    assert_eq!(host.append(&p, Record::new("on").with_key("on")).await, 3600);
}

pub(crate) async fn tombstones_go_when_they_are_old(mut host: impl Host) {
    host.config().segment.seal_age_max_ms = 100;
    host.open().await;
    host.create_with("p", compacted(0)).await.unwrap();
    let p = host.partition("p");
    let keys: Vec<_> = (0..10).map(|n| format!("key {n}")).collect();
    host.append(&p, keys.iter().map(|key| Record::new("v").with_key(key.clone())).collect::<Vec<_>>()).await;
    host.until("sealed", |stats| stats.files_sealed > 0).await;
    host.append(
        &p,
        keys.iter()
            .map(|key| Record::tombstone(key.clone()).at_ms(1).with_header("why", vec![0; 99]))
            .collect::<Vec<_>>(),
    )
    .await;
    host.until("compacted", |stats| stats.files_sealed > 1 && stats.segments_merged > 1).await;
    host.pause(200).await;
    // What is cached may still be shown; what is stored is nothing.
    host.reopen().await;
    let p = host.partition("p");
    assert_eq!(host.read(&p, ReadFrom::Earliest).await, []);
    let info = host.describe(&p).await;
    assert_eq!((info.log_start, info.log_end), (Offset(0), Offset(20)));
    assert_eq!(host.append(&p, Record::new("v").with_key("key 0")).await, 20);
    let rows = host.read(&p, ReadFrom::Offset(Offset(3))).await;
    assert_eq!(rows.iter().map(|row| row.offset).collect::<Vec<_>>(), [20]);
}
