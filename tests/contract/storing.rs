//! Storing: the same records, wherever they lie by now.

use std::collections::BTreeMap;

use thalweg::{AppendError, AppendResult, Offset, Partition, PartitionConfig, ReadFrom, Record, Ticket};
use thalweg_tests::{Host, HostExt};

/// Bytes of a record's value here.
const VALUE: usize = 2000;

/// The value at an offset, different everywhere.
pub(crate) fn value(partition: &str, offset: u64) -> String {
    let mut value = format!("{partition}@{offset};");
    while value.len() < VALUE {
        let letter = char::from(b'a' + ((offset as usize * 31 + value.len()) % 26) as u8);
        value.push(letter);
    }
    value
}

/// Appends `batches` batches of 10 records to each partition in turn, several in flight.
pub(crate) async fn fill<H: Host>(host: &mut H, partitions: &[Partition], from: u64, batches: u64) {
    let mut tickets: Vec<(u64, Ticket<AppendResult>)> = Vec::new();
    for batch in 0..batches {
        for partition in partitions {
            let base = from + batch * 10;
            let records = (base..base + 10).map(|at| Record::new(value(partition.name(), at)));
            tickets.push((base, partition.append(records.collect::<Vec<_>>())));
        }
        if tickets.len() > 32 {
            settle(host, &mut tickets).await;
        }
    }
    settle(host, &mut tickets).await;
}

async fn settle<H: Host>(host: &mut H, tickets: &mut Vec<(u64, Ticket<AppendResult>)>) {
    for (base, ticket) in tickets.drain(..) {
        assert_eq!(host.drive(ticket).await.unwrap().base_offset, Offset(base));
    }
}

/// The partition holds exactly what [`fill`] put there, from `start` to `end`.
pub(crate) async fn check_filled<H: Host>(host: &mut H, name: &str, start: u64, end: u64) {
    let p = host.partition(name);
    let rows = host.read(&p, ReadFrom::Offset(Offset(start))).await;
    assert_eq!(rows.len() as u64, end - start, "{name}: all of {start}..{end}");
    for (at, row) in (start..).zip(rows) {
        assert_eq!(row.offset, at, "{name}: offsets are dense");
        assert_eq!(row.record.value.as_deref(), Some(value(name, at).as_bytes()), "{name}@{at}");
    }
}

/// Reads from places all over the log, each a little.
async fn check_samples<H: Host>(host: &mut H, name: &str, end: u64) {
    let p = host.partition(name);
    for start in (0..end).step_by(37) {
        let mut reader = p.read(ReadFrom::Offset(Offset(start))).to_end();
        let batch = host.next(&mut reader).await.unwrap().unwrap();
        assert!(batch.base_offset() <= Offset(start) && batch.end_offset() > Offset(start));
        let record = batch.records().map(Result::unwrap).find(|record| record.offset == Offset(start));
        assert_eq!(record.unwrap().value(), Some(value(name, start).as_bytes()));
    }
}

pub(crate) async fn reading_crosses_cache_wal_and_segments_without_a_seam(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    for round in 0..12 {
        fill(&mut host, std::slice::from_ref(&p), round * 100, 10).await;
        check_filled(&mut host, "p", 0, (round + 1) * 100).await;
    }
    let stats = host.until("sealed", |stats| stats.segments > 3).await;
    assert!(stats.unsealed_bytes > 0, "the end is in the WAL: {stats:?}");
    check_filled(&mut host, "p", 0, 1200).await;
    check_samples(&mut host, "p", 1200).await;
    host.reopen().await;
    check_filled(&mut host, "p", 0, 1200).await;
    check_samples(&mut host, "p", 1200).await;
}

pub(crate) async fn a_full_wal_file_of_one_partition_becomes_a_segment_in_place(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    fill(&mut host, &[p], 0, 100).await;
    let stats = host.until("promoted", |stats| stats.files_promoted > 2).await;
    assert_eq!(stats.background_errors, 0);
    check_filled(&mut host, "p", 0, 1000).await;
    host.reopen().await;
    check_filled(&mut host, "p", 0, 1000).await;
}

async fn make<H: Host>(host: &mut H, count: usize) -> Vec<Partition> {
    let mut partitions = Vec::new();
    for n in 0..count {
        partitions.push(host.create(&format!("p{n}")).await);
    }
    partitions
}

pub(crate) async fn small_partitions_share_segments_that_are_merged(mut host: impl Host) {
    host.open().await;
    let partitions = make(&mut host, 24).await;
    for round in 0..10 {
        fill(&mut host, &partitions, round * 30, 3).await;
    }
    let stats = host.until("merged", |stats| stats.segments_merged > 0).await;
    assert!(stats.files_promoted < stats.files_sealed, "{stats:?}");
    assert_eq!(stats.background_errors, 0);
    for partition in &partitions {
        check_filled(&mut host, partition.name(), 0, 300).await;
    }
    host.reopen().await;
    for partition in &partitions {
        check_filled(&mut host, partition.name(), 0, 300).await;
        check_samples(&mut host, partition.name(), 300).await;
    }
}

pub(crate) async fn a_large_partition_gets_segments_of_its_own(mut host: impl Host) {
    host.config().segment.merge_fan_in = 200;
    host.open().await;
    let partitions = make(&mut host, 21).await;
    let shards = host.log().shards();
    for round in 0..12 {
        fill(&mut host, &partitions[..1], round * 100, 10).await;
        fill(&mut host, &partitions[1..], round * 10, 1).await;
    }
    let sealed = host.until("sealed", |stats| stats.files_sealed > 3 * shards as u64).await;
    assert!(sealed.segments > sealed.files_sealed, "a file may become several segments: {sealed:?}");
    check_filled(&mut host, "p0", 0, 1200).await;
    host.reopen().await;
    check_filled(&mut host, "p0", 0, 1200).await;
    for partition in &partitions[1..] {
        check_filled(&mut host, partition.name(), 0, 120).await;
    }
}

pub(crate) async fn a_reader_follows_while_files_roll_seal_and_merge(mut host: impl Host) {
    host.open().await;
    let partitions = make(&mut host, 12).await;
    let mut readers: Vec<_> = partitions.iter().map(|p| (p.read(ReadFrom::Earliest), 0)).collect();
    for round in 0..15 {
        fill(&mut host, &partitions, round * 20, 2).await;
        // Readers are of different speed: some keep up with the cache, some come from far behind.
        for (index, (reader, next)) in readers.iter_mut().enumerate() {
            let goal = if index % 4 == 0 { (round + 1) * 20 } else { (round + 1) * 20 / (index as u64 + 1) };
            while *next < goal {
                let batch = host.next(reader).await.unwrap().unwrap();
                assert_eq!(batch.base_offset(), Offset(*next), "no gap and no duplicate");
                for record in batch.records().map(Result::unwrap) {
                    assert_eq!(record.offset, Offset(*next));
                    assert_eq!(record.value(), Some(value(partitions[index].name(), *next).as_bytes()));
                    *next += 1;
                }
            }
        }
    }
    for (partition, (reader, next)) in partitions.iter().zip(&mut readers) {
        while *next < 300 {
            let batch = host.next(reader).await.unwrap().unwrap();
            assert_eq!(batch.base_offset(), Offset(*next), "{partition:?}");
            *next = batch.end_offset().0;
        }
        assert_eq!(reader.skipped(), 0);
    }
}

pub(crate) async fn reopening_gives_the_same_bytes(mut host: impl Host) {
    host.open().await;
    let partitions = make(&mut host, 6).await;
    let mut images = BTreeMap::new();
    for life in 0..4 {
        let partitions: Vec<_> = partitions.iter().map(|p| host.partition(p.name())).collect();
        fill(&mut host, &partitions, life * 60, 6).await;
        for partition in host.log().partitions() {
            let mut reader = partition.read(ReadFrom::Earliest).to_end();
            let mut image = Vec::new();
            while let Some(batch) = host.next(&mut reader).await {
                image.extend_from_slice(batch.unwrap().bytes());
            }
            images.insert(partition.name().to_owned(), image);
        }
        host.reopen().await;
        for partition in host.log().partitions() {
            let mut reader = partition.read(ReadFrom::Earliest).to_end();
            let mut image = Vec::new();
            while let Some(batch) = host.next(&mut reader).await {
                image.extend_from_slice(batch.unwrap().bytes());
            }
            assert!(images[partition.name()] == image, "life {life}: {partition:?} has other bytes");
        }
    }
}

pub(crate) async fn a_clean_close_leaves_nothing_to_drop(mut host: impl Host) {
    host.open().await;
    make(&mut host, 3).await;
    let mut end = 0;
    for life in 0..6 {
        let partitions: Vec<_> = (0..3).map(|n| host.partition(&format!("p{n}"))).collect();
        fill(&mut host, &partitions, end, 1 + life).await;
        end += 10 * (1 + life);
        let tickets: Vec<_> = partitions.iter().map(|p| p.append(value(p.name(), end))).collect();
        end += 1;
        host.close().await;
        for ticket in tickets {
            assert!(ticket.wait().is_ok(), "closing finishes what is queued");
        }
        for partition in &partitions {
            assert_eq!(partition.append("late").wait(), Err(AppendError::Closed));
        }
        host.open().await;
        for report in host.reports() {
            assert_eq!(report.dropped, None, "life {life}");
        }
        for partition in &partitions {
            check_filled(&mut host, partition.name(), 0, end).await;
        }
    }
}

pub(crate) async fn an_end_without_goodbye_loses_nothing_acknowledged(mut host: impl Host) {
    host.open().await;
    make(&mut host, 3).await;
    let mut end = 0;
    for life in 0..6 {
        let partitions: Vec<_> = (0..3).map(|n| host.partition(&format!("p{n}"))).collect();
        fill(&mut host, &partitions, end, 1 + life * 3).await;
        end += 10 * (1 + life * 3);
        host.crash().await;
        host.open().await;
        for partition in &partitions {
            check_filled(&mut host, partition.name(), 0, end).await;
        }
    }
}

pub(crate) async fn an_old_file_is_sealed_though_it_is_not_full(mut host: impl Host) {
    host.config().segment.seal_age_max_ms = 100;
    host.open().await;
    let p = host.create("p").await;
    fill(&mut host, std::slice::from_ref(&p), 0, 1).await;
    let sealed = host.until("sealed by age", |stats| stats.files_sealed > 0).await;
    assert_eq!(sealed.segments, 1);
    host.pause(500).await;
    let later = host.stats().await;
    assert_eq!(later.files_sealed, sealed.files_sealed, "a file nobody wrote to is left alone");
    check_filled(&mut host, "p", 0, 10).await;
    fill(&mut host, std::slice::from_ref(&p), 10, 1).await;
    check_filled(&mut host, "p", 0, 20).await;
    host.reopen().await;
    check_filled(&mut host, "p", 0, 20).await;
}

pub(crate) async fn a_thousand_partitions_interleave(mut host: impl Host) {
    host.open().await;
    let log = host.log();
    let creating: Vec<_> =
        (0..1000).map(|n| log.start_create(&format!("p{n}"), PartitionConfig::default())).collect();
    let mut partitions = Vec::new();
    for creating in creating {
        partitions.push(host.drive(creating).await.unwrap());
    }
    for round in 0..5 {
        let tickets: Vec<_> =
            partitions.iter().map(|p| p.append(Record::new(format!("{}:{round}", p.name())))).collect();
        for ticket in tickets {
            assert_eq!(host.drive(ticket).await.unwrap().base_offset, Offset(round));
        }
    }
    for reopened in [false, true] {
        if reopened {
            host.reopen().await;
        }
        let partitions = host.log().partitions();
        assert_eq!(partitions.len(), 1000);
        for p in partitions {
            let want: Vec<_> = (0..5).map(|round| format!("{}:{round}", p.name())).collect();
            assert_eq!(host.values(&p).await, (0, want));
        }
    }
    let stats = host.stats().await;
    assert!(stats.segments < 100, "many partitions share few files: {stats:?}");
}
