//! Bounds: what is over them is told so, and nothing else suffers.

use thalweg::{
    AppendError, AppendOptions, Batch, ControlError, PartitionConfig, ReadFrom, Record, TryAppendError,
};
use thalweg_tests::{Host, HostExt};

pub(crate) async fn a_batch_over_the_limit_is_refused(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let limit = host.config().limits.batch_bytes_max;
    let large = Batch::One(Record::new(vec![0; limit as usize]));
    let size = large.encoded_len_max();
    let error = AppendError::BatchTooLarge { partition: p.id(), size, limit };
    assert_eq!(host.try_append(&p, large.clone()).await, Err(error.clone()));
    let tried = p.try_append(large, AppendOptions::default());
    assert_eq!(tried.err(), Some(TryAppendError::Append(error)));
    assert_eq!(host.append(&p, "small").await, 0);
}

pub(crate) async fn a_batch_at_the_limit_is_taken(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let limit = u64::from(host.config().limits.batch_bytes_max);
    let bare = Batch::One(Record::new(vec![0; 20_000])).encoded_len_max() - 20_000;
    let largest = Record::new(vec![9; (limit - bare) as usize]).at_ms(0);
    assert_eq!(Batch::One(largest.clone()).encoded_len_max(), limit);
    for n in 0..40 {
        assert_eq!(host.append(&p, largest.clone()).await, n);
    }
    let rows = host.read(&p, ReadFrom::Earliest).await;
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row.record == largest));
}

pub(crate) async fn an_empty_batch_is_refused(mut host: impl Host) {
    host.open().await;
    let p = host.create("p").await;
    let none = Batch::Opaque { bytes: "no offsets".into(), count: 0, max_timestamp_ms: 0 };
    for empty in [Batch::Many(Vec::new()), none] {
        assert_eq!(host.try_append(&p, empty).await, Err(AppendError::EmptyBatch(p.id())));
    }
    assert_eq!(host.append(&p, "").await, 0);
}

pub(crate) async fn a_compacted_partition_wants_keys(mut host: impl Host) {
    host.open().await;
    let config = PartitionConfig { compact: true, ..PartitionConfig::default() };
    let p = host.create_with("p", config).await.unwrap();
    let refused = Err(AppendError::KeyRequired(p.id()));
    assert_eq!(host.try_append(&p, "no key").await, refused);
    let mixed = vec![Record::new("1").with_key("k"), Record::new("2")];
    assert_eq!(host.try_append(&p, mixed).await, refused);
    let opaque = Batch::Opaque { bytes: "bytes".into(), count: 1, max_timestamp_ms: 0 };
    assert_eq!(host.try_append(&p, opaque).await, refused);
    assert_eq!(host.append(&p, Record::new("1").with_key("k")).await, 0);
}

pub(crate) async fn a_full_queue_gives_the_batch_back_and_then_goes_on(mut host: impl Host) {
    host.config().limits.queue_bytes_max = 32 << 10;
    host.open().await;
    let p = host.create("p").await;
    let mut tickets = Vec::new();
    let mut tried = 0u64;
    let back = loop {
        let record = Record::new(vec![tried as u8; 9000]);
        match p.try_append(record.clone(), AppendOptions::default()) {
            Ok(ticket) => tickets.push(ticket),
            Err(TryAppendError::WouldBlock(back)) => {
                assert_eq!(*back, Batch::One(record));
                break back;
            }
            Err(error) => panic!("{error}"),
        }
        tried += 1;
        assert!(tried < 10_000, "the queue is never full");
    };
    // These wait for room by themselves.
    tickets.extend((0..50).map(|_| p.append(back.clone().records()[0].clone())));
    for (offset, ticket) in (0..).zip(tickets) {
        assert_eq!(host.drive(ticket).await.unwrap().base_offset.0, offset);
    }
    assert!(p.try_append(*back, AppendOptions::default()).is_ok(), "there is room again");
    assert_eq!(host.append(&p, "last").await, tried + 51);
}

pub(crate) async fn appends_past_a_full_queue_keep_their_order(mut host: impl Host) {
    host.config().limits.queue_requests_max = 16;
    host.config().limits.queue_bytes_max = 32 << 10;
    host.open().await;
    let (p, q) = (host.create("p").await, host.create("q").await);
    let tickets: Vec<_> =
        (0..1500).map(|n| (n, if n % 3 == 0 { &q } else { &p }.append(n.to_string()))).collect();
    // Whoever is waited for first, the order is that of asking.
    for (n, ticket) in tickets.into_iter().rev() {
        let offset = host.drive(ticket).await.unwrap().base_offset.0;
        assert_eq!(offset, if n % 3 == 0 { n / 3 } else { n - n / 3 - 1 });
    }
    let (_, values) = host.values(&q).await;
    assert!(values.iter().enumerate().all(|(at, value)| *value == (at * 3).to_string()));
}

pub(crate) async fn a_ticket_dropped_in_line_takes_its_append_back(mut host: impl Host) {
    host.config().limits.queue_requests_max = 16;
    host.open().await;
    let p = host.create("p").await;
    let mut kept = Vec::new();
    for n in 0..600 {
        let ticket = p.append(n.to_string());
        if n % 2 == 0 {
            kept.push((n, ticket));
        }
    }
    let mut previous = None;
    let mut offsets = Vec::new();
    for (n, ticket) in kept {
        let offset = host.drive(ticket).await.unwrap().base_offset;
        assert!(previous < Some(offset), "{n}");
        previous = Some(offset);
        offsets.push((n, offset.0));
    }
    let (first, values) = host.values(&p).await;
    assert_eq!(first, 0);
    assert!(offsets.iter().all(|(n, offset)| values[*offset as usize] == n.to_string()));
    assert!((300..=600).contains(&values.len()), "{} of 600", values.len());
    let order: Vec<u64> = values.iter().map(|value| value.parse().unwrap()).collect();
    assert!(order.is_sorted());
}

pub(crate) async fn there_are_only_so_many_partitions(mut host: impl Host) {
    host.config().limits.partitions_max = 5;
    host.open().await;
    let shards = host.log().shards();
    for n in 0..5 * shards {
        host.create(&format!("p{n}")).await;
    }
    let refused = host.create_with("over", PartitionConfig::default()).await.unwrap_err();
    assert_eq!(refused, ControlError::TooMany(5));
    assert_eq!(host.log().partitions().len(), 5 * shards);
    host.delete("p0").await.unwrap();
    host.create("p0 again").await;
}
