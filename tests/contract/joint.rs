//! Appends over several partitions: all of it, or nothing.

use thalweg::{AppendError, Batch, Offset, ReadFrom, Record};
use thalweg_tests::{Host, HostExt};

fn batch(text: &str, records: u32) -> Batch {
    Batch::Many((0..records).map(|n| Record::new(format!("{text}.{n}"))).collect())
}

pub(crate) async fn an_append_over_partitions_is_answered_in_the_order_given(mut host: impl Host) {
    host.open().await;
    let (a, b) = (host.create("a").await, host.create("b").await);
    let c = host.create("c").await;
    host.append(&b, "first").await;
    let parts = vec![
        (c.clone(), batch("c", 2)),
        (a.clone(), batch("a", 3)),
        (b.clone(), batch("b", 1)),
        (a.clone(), batch("again", 1)),
    ];
    let log = host.log();
    let appended = host.drive(log.append_atomic(parts)).await.unwrap();
    let places: Vec<_> = appended.iter().map(|at| (at.base_offset.0, at.count)).collect();
    assert_eq!(places, [(0, 2), (0, 3), (1, 1), (3, 1)]);
    assert_eq!(host.values(&a).await.1, ["a.0", "a.1", "a.2", "again.0"]);
    assert_eq!(host.values(&b).await.1, ["first", "b.0"]);
    assert_eq!(host.values(&c).await.1, ["c.0", "c.1"]);
    assert_eq!(host.drive(log.append_atomic(Vec::new())).await, Ok(vec![]));
    let one = host.drive(log.append_atomic(vec![(c, batch("one", 1))])).await.unwrap();
    assert_eq!(one[0].base_offset, Offset(2));
}

pub(crate) async fn joint_appends_take_their_place_among_others(mut host: impl Host) {
    host.open().await;
    let mut partitions = Vec::new();
    for n in 0..6 {
        partitions.push(host.create(&format!("p{n}")).await);
    }
    let log = host.log();
    let mut ends = [0u64; 6];
    for round in 0..40usize {
        let mut singles = Vec::new();
        let mut joints = Vec::new();
        for n in 0..6 {
            if (round + n) % 3 == 0 {
                let other = (n + 1 + round % 5) % 6;
                let parts = vec![
                    (partitions[n].clone(), batch("joint", 1)),
                    (partitions[other].clone(), batch("joint", 2)),
                ];
                joints.push((n, other, log.append_atomic(parts)));
            } else {
                singles.push((n, partitions[n].append("single")));
            }
        }
        for (n, ticket) in singles {
            host.drive(ticket).await.unwrap();
            ends[n] += 1;
        }
        for (n, other, ticket) in joints {
            let places = host.drive(ticket).await.unwrap();
            assert_eq!((places[0].count, places[1].count), (1, 2));
            ends[n] += 1;
            ends[other] += 2;
            // Whoever hears of the append finds all of it.
            for (partition, at) in [(n, places[0]), (other, places[1])] {
                let info = host.describe(&partitions[partition]).await;
                assert!(info.flushed >= at.end_offset(), "{info:?} {at:?}");
            }
        }
    }
    for (partition, end) in partitions.iter().zip(ends) {
        assert_eq!(host.values(partition).await.1.len() as u64, end);
    }
}

pub(crate) async fn joint_appends_survive_reopening(mut host: impl Host) {
    host.open().await;
    for n in 0..4 {
        host.create(&format!("p{n}")).await;
    }
    for life in 0..4u64 {
        let parts: Vec<_> = (0..4).map(|n| host.partition(&format!("p{n}"))).collect();
        let log = host.log();
        for round in 0..60 {
            let each = parts.iter().map(|p| (p.clone(), batch(&format!("{round}"), 20)));
            let places = host.drive(log.append_atomic(each.collect())).await.unwrap();
            assert!(places.iter().all(|at| at.base_offset.0 == (life * 60 + round) * 20));
        }
        if life % 2 == 0 {
            host.close().await
        } else {
            host.crash().await
        }
        host.open().await;
        for n in 0..4 {
            let p = host.partition(&format!("p{n}"));
            assert_eq!(host.values(&p).await.1.len() as u64, (life + 1) * 1200);
        }
    }
}

pub(crate) async fn a_joint_append_that_can_not_be_is_refused_whole(mut host: impl Host) {
    host.open().await;
    let (a, b) = (host.create("a").await, host.create("b").await);
    let log = host.log();
    let empty =
        host.drive(log.append_atomic(vec![(a.clone(), batch("a", 1)), (b.clone(), batch("b", 0))])).await;
    assert_eq!(empty, Err(AppendError::EmptyBatch(b.id())));
    let half = || Batch::One(Record::new(vec![0; 20_000]));
    let large = host.drive(log.append_atomic(vec![(a.clone(), half()), (b.clone(), half())])).await;
    assert!(matches!(large, Err(AppendError::BatchTooLarge { .. })), "{large:?}");
    host.delete("b").await.unwrap();
    let gone =
        host.drive(log.append_atomic(vec![(a.clone(), batch("a", 1)), (b.clone(), batch("b", 1))])).await;
    assert_eq!(gone, Err(AppendError::NoSuchPartition(b.id())));
    assert_eq!(host.read(&a, ReadFrom::Earliest).await, []);
    assert_eq!(host.append(&a, "first").await, 0);
}

pub(crate) async fn joint_appends_past_a_full_queue_keep_their_order(mut host: impl Host) {
    host.config().limits.queue_requests_max = 16;
    host.open().await;
    let (a, b, c) = (host.create("a").await, host.create("b").await, host.create("c").await);
    let log = host.log();
    let mut tickets = Vec::new();
    for n in 0..300 {
        let other = if n % 2 == 0 { &b } else { &c };
        let parts = vec![(a.clone(), batch("part", 1)), (other.clone(), batch("part", 2))];
        tickets.push((n, log.append_atomic(parts)));
    }
    for (n, ticket) in tickets.into_iter().rev() {
        let places = host.drive(ticket).await.unwrap();
        assert_eq!((places[0].base_offset.0, places[1].base_offset.0), (n, n / 2 * 2));
    }
    // Whoever loses interest takes all parts back, or none.
    for _ in 0..300 {
        drop(log.append_atomic(vec![(b.clone(), batch("dropped", 1)), (c.clone(), batch("dropped", 1))]));
    }
    let end = host.append(&b, "end").await;
    assert_eq!(host.append(&c, "end").await, end);
    assert!((300..=600).contains(&end));
}
