//! Appending: what is taken, where it goes, and when it counts.

use bytes::Bytes;
use thalweg::{Ack, AppendError, AppendOptions, Batch, Header, Offset, ReadFrom, ReadLevel, Record};
use thalweg_tests::{Host, HostExt, row};

pub(crate) async fn a_record_comes_back_as_it_was_appended(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let mut odd = Record::new("").with_key("").with_header("name", "").at_ms(i64::MIN);
    odd.headers.push(Header { name: Bytes::new(), value: None });
    odd.headers
        .push(Header { name: Bytes::from_static(b"name"), value: Some(Bytes::from_static(&[0, 255])) });
    let records = [
        Record::new("plain").at_ms(1),
        odd,
        Record::tombstone("gone").at_ms(i64::MAX),
        Record { timestamp_ms: Some(0), ..Record::default() },
        Record::new(vec![7; 10_000]).with_key(vec![8; 3000]).at_ms(-1),
    ];
    for (offset, record) in (0..).zip(&records) {
        assert_eq!(host.append(&p, record.clone()).await, offset);
    }
    let want: Vec<_> = (0..).zip(records).map(|(offset, record)| row(offset, record)).collect();
    assert_eq!(host.read(&p, ReadFrom::Earliest).await, want);
    host.append(&p, "no timestamp").await;
    let last = host.read(&p, ReadFrom::Offset(Offset(5))).await;
    assert!(last[0].record.timestamp_ms.unwrap() > 1_600_000_000_000, "the shard gives the time");
}

pub(crate) async fn a_batch_keeps_its_order_and_is_one_append(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let batch: Vec<Record> = (0..100).map(|n| Record::new(format!("{n}")).at_ms(1000 - n)).collect();
    let appended = host.try_append(&p, batch.clone()).await.unwrap();
    assert_eq!((appended.base_offset, appended.count, appended.end_offset()), (Offset(0), 100, Offset(100)));
    let again = host.try_append(&p, batch.clone()).await.unwrap();
    assert_eq!(again.base_offset, Offset(100));
    let want: Vec<_> = (0..).zip(batch.iter().chain(&batch)).map(|(at, one)| row(at, one.clone())).collect();
    assert_eq!(host.read(&p, ReadFrom::Earliest).await, want);
    assert_eq!(host.read(&p, ReadFrom::Offset(Offset(57))).await, want[57..]);
}

pub(crate) async fn opaque_bytes_come_back_untouched(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let opaque = |byte: u8, count| Batch::Opaque {
        bytes: vec![byte; 999].into(),
        count,
        max_timestamp_ms: i64::from(byte),
    };
    let first = p.append(opaque(1, 7));
    let second = p.append("between");
    let third = p.append(opaque(3, 1));
    let answers = host.drive(async { [first.await, second.await, third.await] }).await;
    let bases = answers.map(|answer| answer.unwrap().base_offset.0);
    assert_eq!(bases, [0, 7, 8]);
    let mut reader = p.read(ReadFrom::Earliest).to_end();
    let mut found = Vec::new();
    while let Some(batch) = host.next(&mut reader).await {
        let batch = batch.unwrap();
        found.push((batch.base_offset().0, batch.end_offset().0, batch.header().max_timestamp_ms));
        if batch.base_offset() != Offset(7) {
            assert_eq!(batch.body(), vec![if batch.base_offset().0 == 0 { 1 } else { 3 }; 999]);
        }
    }
    found[1].2 = 0;
    assert_eq!(found, [(0, 7, 1), (7, 8, 0), (8, 9, 3)]);
}

pub(crate) async fn offsets_are_dense_over_interleaved_appenders(mut host: impl Host) {
    host.open().await;
    let (p, q) = (host.create("p").await, host.create("q").await);
    let mut tickets = Vec::new();
    for n in 0..300u32 {
        let batch: Vec<Record> =
            (0..=n % 3).map(|part| Record::new(format!("{}.{n}.{part}", n % 4))).collect();
        let to = if n % 5 == 0 { &q } else { &p };
        tickets.push((n, batch.len(), to.append(batch)));
    }
    let mut ends = [0, 0];
    let answers = host
        .drive(async {
            let mut answers = Vec::new();
            for (n, len, ticket) in tickets {
                answers.push((n, len, ticket.await.unwrap()));
            }
            answers
        })
        .await;
    for (n, len, appended) in answers {
        let end = &mut ends[usize::from(n % 5 == 0)];
        assert_eq!(appended.base_offset.0, *end, "appends of one thread take offsets in order");
        *end = appended.end_offset().0;
        assert_eq!(appended.count as usize, len);
    }
    for (partition, end) in [(p, ends[0]), (q, ends[1])] {
        assert_eq!(host.values(&partition).await.1.len() as u64, end);
    }
}

pub(crate) async fn an_acknowledged_record_is_readable_at_once(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    for n in 0..50 {
        let record = Record::new(format!("{n}")).at_ms(n);
        let at = host.append(&p, record.clone()).await;
        let found = host.read(&p, ReadFrom::Offset(Offset(at))).await;
        assert_eq!(found, [row(at, record)]);
        let info = host.describe(&p).await;
        assert_eq!((info.log_start, info.flushed, info.log_end), (Offset(0), Offset(at + 1), Offset(at + 1)));
    }
}

pub(crate) async fn append_if_takes_the_offset_or_refuses(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    assert_eq!(host.drive(p.append_if(Offset(0), "first")).await.unwrap().base_offset, Offset(0));
    for wrong in [0, 2, u64::MAX] {
        let refused = host.drive(p.append_if(Offset(wrong), "no")).await;
        let (partition, expected) = (p.id(), Offset(wrong));
        let error = AppendError::UnexpectedOffset { partition, expected, actual: Offset(1) };
        assert_eq!(refused, Err(error));
    }
    // Of two writers who want the same place, the first to arrive gets it.
    let (one, two) = (p.append_if(Offset(1), "one"), p.append_if(Offset(1), "two"));
    let three = p.append_if(Offset(2), "three");
    let answers = host.drive(async { [one.await, two.await, three.await] }).await;
    assert_eq!(answers.map(|answer| answer.is_ok()), [true, false, true]);
    assert_eq!(host.values(&p).await.1, ["first", "one", "three"]);
    host.reopen().await;
    let p = host.partition("p");
    assert!(host.drive(p.append_if(Offset(2), "no")).await.is_err());
    assert!(host.drive(p.append_if(Offset(3), "four")).await.is_ok());
}

pub(crate) async fn an_accepted_append_is_visible_to_those_who_ask(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let options = AppendOptions { ack: Ack::Accepted, ..AppendOptions::default() };
    for n in 0..20 {
        let appended = host.drive(p.append_with(format!("{n}"), options)).await.unwrap();
        assert_eq!(appended.base_offset, Offset(n));
        let mut reader = p.read_with(ReadFrom::Offset(Offset(n)), ReadLevel::Accepted);
        let batch = host.next(&mut reader).await.unwrap().unwrap();
        let record = batch.records().map(Result::unwrap).find(|record| record.offset == Offset(n)).unwrap();
        assert_eq!(record.value().unwrap(), format!("{n}").as_bytes());
    }
    // A flushed append behind them has them flushed too.
    host.append(&p, "20").await;
    assert_eq!(host.values(&p).await.1.len(), 21);
    host.reopen().await;
    let p = host.partition("p");
    assert_eq!(host.values(&p).await.1.len(), 21);
}

pub(crate) async fn lingering_gathers_appends_into_one_group(mut host: impl Host) {
    host.config().group.linger_us = 300_000;
    host.open().await;
    let p = host.create("p").await;
    let before = host.stats().await;
    let mut tickets = Vec::new();
    for n in 0..5 {
        tickets.push(p.append(format!("{n}")));
        host.pause(5).await;
    }
    for ticket in tickets {
        host.drive(ticket).await.unwrap();
    }
    let after = host.stats().await;
    let groups = (after.groups - after.markers) - (before.groups - before.markers);
    assert_eq!(groups, 1, "five appends within the linger time share a group");
}

pub(crate) async fn dropped_tickets_and_readers_harm_nobody(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let mut keep = p.read(ReadFrom::Earliest);
    for n in 0..100 {
        drop(p.append(format!("{n}")));
        drop(p.read(ReadFrom::Latest));
        let mut waiting = p.read(ReadFrom::Offset(Offset(0)));
        // Asked for, and never taken.
        host.drive(async { futures_lite::future::poll_once(waiting.next_batch()).await }).await;
        drop(host.log().start_create(&format!("dropped {n}"), thalweg::PartitionConfig::default()));
        drop(p.describe());
    }
    assert_eq!(host.append(&p, "last").await, 100);
    assert_eq!(host.values(&p).await.1.len(), 101);
    assert_eq!(host.next(&mut keep).await.unwrap().unwrap().base_offset(), Offset(0));
    host.reopen().await;
    assert_eq!(host.log().partitions().len(), 101, "what was asked for was done");
}

pub(crate) async fn counters_add_up(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let before = host.stats().await;
    for n in 0..40 {
        let batch: Vec<Record> = (0..5).map(|part| Record::new(format!("{n}.{part}"))).collect();
        host.append(&p, batch).await;
    }
    let after = host.stats().await;
    assert_eq!(after.records - before.records, 200);
    assert_eq!(after.partitions, 1);
    let groups = after.groups - before.groups;
    assert!((40..=80).contains(&groups), "one group for each append awaited, and markers: {groups}");
    assert!(after.group_bytes.is_multiple_of(4096) && after.group_bytes >= 4096 * 40);
    assert!(after.unsealed_bytes > 0 && after.wal_files >= 2);
    if host.log().shards() == 1 {
        for latency in [after.queue, after.group, after.device, after.publish] {
            assert!(latency.p50_ns <= latency.p99_ns && latency.p99_ns <= latency.p999_ns);
            assert!(latency.p999_ns <= latency.max_ns.next_power_of_two());
        }
        assert!(after.device.p50_ns > 0, "a durable write takes time");
    }
    assert_eq!(after.background_errors, 0);
}
