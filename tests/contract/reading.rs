//! Reading: from where, in what order, and what happens at the end.

use thalweg::{FetchError, Offset, ReadFrom, Record};
use thalweg_tests::{Host, HostExt};

async fn ten<H: Host>(host: &mut H) -> thalweg::Partition {
    host.open().await;
    let p = host.create("p").await;
    for n in 0..10 {
        host.append(&p, Record::new(format!("{n}")).at_ms(1000 + n * 10)).await;
    }
    p
}

pub(crate) async fn reading_starts_where_it_is_told(mut host: impl Host) {
    let p = ten(&mut host).await;
    for start in 0..=10 {
        let rows = host.read(&p, ReadFrom::Offset(Offset(start))).await;
        let offsets: Vec<_> = rows.iter().map(|row| row.offset).collect();
        assert_eq!(offsets, (start..10).collect::<Vec<_>>());
    }
    assert_eq!(host.read(&p, ReadFrom::Earliest).await.len(), 10);
    assert_eq!(host.read(&p, ReadFrom::Latest).await, []);
}

pub(crate) async fn reading_by_time_finds_the_first_record_that_is_late_enough(mut host: impl Host) {
    let p = ten(&mut host).await;
    let batch: Vec<Record> = (0..10).map(|n| Record::new("b").at_ms(2000 + n * 10)).collect();
    host.append(&p, batch).await;
    let mut first = async |wanted| {
        let mut reader = p.read(ReadFrom::Timestamp(wanted)).to_end();
        let mut first = None;
        while let Some(batch) = host.next(&mut reader).await {
            let batch = batch.unwrap();
            let found = batch.records().map(Result::unwrap).find(|record| record.timestamp_ms >= wanted);
            first = first.or(found.map(|record| record.offset.0));
        }
        first
    };
    assert_eq!(first(0).await, Some(0));
    assert_eq!(first(1000).await, Some(0));
    assert_eq!(first(1001).await, Some(1));
    assert_eq!(first(1090).await, Some(9));
    assert_eq!(first(1091).await, Some(10));
    assert_eq!(first(2045).await, Some(15));
    assert_eq!(first(2090).await, Some(19));
    assert_eq!(first(2091).await, None);
}

pub(crate) async fn time_is_looked_for_at_or_behind_the_log_start(mut host: impl Host) {
    host.config().segment.seal_age_max_ms = 20;
    host.open().await;
    let p = host.create("p").await;
    let batch: Vec<Record> =
        [9000, 100, 200, 300].into_iter().map(|ms| Record::new(format!("{ms}")).at_ms(ms)).collect();
    host.append(&p, batch).await;
    host.drive(p.trim(Offset(1))).await.unwrap();
    host.append(&p, Record::new("50").at_ms(50)).await;
    host.append(&p, Record::new("400").at_ms(400)).await;
    for sealed in [false, true] {
        if sealed {
            host.until("sealed", |stats| stats.files_sealed > 0).await;
            host.reopen().await;
        }
        let p = host.partition("p");
        for (wanted, want) in [(250, Some(3)), (350, Some(5)), (1000, None)] {
            let mut reader = p.read(ReadFrom::Timestamp(wanted)).to_end();
            let mut offsets = Vec::new();
            while let Some(batch) = host.next(&mut reader).await {
                let batch = batch.unwrap();
                offsets.extend(batch.records().map(|record| record.unwrap()).filter_map(|record| {
                    (record.offset >= Offset(1) && record.timestamp_ms >= wanted).then_some(record.offset.0)
                }));
                assert!(want.is_some(), "sealed {sealed}: nothing is as late as {wanted}: {offsets:?}");
            }
            assert_eq!(offsets.first().copied(), want, "sealed {sealed}: from time {wanted}");
        }
    }
}

pub(crate) async fn a_reader_waits_at_the_end_and_wakes(mut host: impl Host) {
    let p = ten(&mut host).await;
    let mut reader = p.read(ReadFrom::Offset(Offset(8)));
    let mut seen = Vec::new();
    for n in 10..40 {
        while seen.last() != Some(&(n - 1)) {
            let batch = host.next(&mut reader).await.unwrap().unwrap();
            seen.extend(batch.records().map(|record| record.unwrap().offset.0).filter(|at| *at >= 8));
        }
        // The reader is asked before there is anything, and again after.
        assert!(host.drive(futures_lite::future::poll_once(reader.next_batch())).await.is_none());
        if n % 7 == 0 {
            host.pause(2).await;
        }
        host.append(&p, format!("{n}")).await;
    }
    assert_eq!(seen, (8..39).collect::<Vec<_>>());
}

pub(crate) async fn a_reader_from_the_end_sees_only_what_is_new(mut host: impl Host) {
    let p = ten(&mut host).await;
    let mut reader = p.read(ReadFrom::Latest);
    assert!(host.drive(futures_lite::future::poll_once(reader.next_batch())).await.is_none());
    host.describe(&p).await; // asked after the reader, so the reader has its place by now
    host.append(&p, "new").await;
    assert_eq!(host.next(&mut reader).await.unwrap().unwrap().base_offset(), Offset(10));
    let mut by_time = p.read(ReadFrom::Timestamp(i64::MAX));
    assert!(host.drive(futures_lite::future::poll_once(by_time.next_batch())).await.is_none());
    host.append(&p, "too early").await;
    host.append(&p, Record::new("late enough").at_ms(i64::MAX)).await;
    assert_eq!(host.next(&mut by_time).await.unwrap().unwrap().end_offset(), Offset(13));
}

pub(crate) async fn a_reader_is_a_stream(mut host: impl Host) {
    let p = ten(&mut host).await;
    let stream = p.read(ReadFrom::Offset(Offset(3))).to_end().stream();
    let batches: Vec<_> = host.drive(futures_lite::StreamExt::collect::<Vec<_>>(stream)).await;
    assert_eq!(batches.into_iter().map(|batch| batch.unwrap().base_offset().0).min(), Some(3));
    let records = p.read(ReadFrom::Offset(Offset(3))).to_end().records().stream();
    let records: Vec<_> = host.drive(futures_lite::StreamExt::collect::<Vec<_>>(records)).await;
    assert_eq!(
        records.into_iter().map(|record| record.unwrap().0.0).collect::<Vec<_>>(),
        [3, 4, 5, 6, 7, 8, 9]
    );
}

pub(crate) async fn records_begin_where_the_reader_does(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    host.append(&p, (0..10).map(|n| Record::new("v").at_ms(n)).collect::<Vec<_>>()).await;
    host.append(&p, Record::new("v").at_ms(10)).await;
    host.drive(p.trim(Offset(2))).await.unwrap();
    for (from, first) in [
        (ReadFrom::Offset(Offset(5)), 5),
        (ReadFrom::Earliest, 2),
        (ReadFrom::Timestamp(7), 7),
        (ReadFrom::Timestamp(0), 2),
    ] {
        let mut reader = p.read(from).to_end();
        let mut offsets = Vec::new();
        while let Some(batch) = host.next(&mut reader).await {
            offsets.extend(batch.unwrap().records().map(|record| record.unwrap().offset.0));
        }
        assert_eq!(offsets, (first..11).collect::<Vec<_>>(), "{from:?}");
    }
}

pub(crate) async fn the_tail_is_lent_without_a_copy(mut host: impl Host) {
    let p = ten(&mut host).await;
    let mut reader = p.read(ReadFrom::Earliest).to_end();
    while let Some(batch) = host.next(&mut reader).await {
        assert!(batch.unwrap().is_cached());
    }
    // What lies only on disk is no view of the cache, and the same bytes.
    host.reopen().await;
    let p = host.partition("p");
    let mut reader = p.read(ReadFrom::Earliest).to_end();
    while let Some(batch) = host.next(&mut reader).await {
        assert!(!batch.unwrap().is_cached());
    }
}

pub(crate) async fn an_offset_not_given_out_yet_is_refused(mut host: impl Host) {
    let p = ten(&mut host).await;
    let mut reader = p.read(ReadFrom::Offset(Offset(11)));
    let error = host.next(&mut reader).await.unwrap().unwrap_err();
    assert_eq!(error, FetchError::BeyondEnd { partition: p.id(), wanted: Offset(11), end: Offset(10) });
    assert!(host.next(&mut reader).await.is_none(), "an error ends the reader");
}
