//! Background work that fails over and over leaves nothing behind.

use thalweg::record::BatchHeader;
use thalweg::{PartitionConfig, Record};
use thalweg_io::sim::{Effect, FaultRule, OpKind};
use thalweg_tests::{Host, HostExt, Sim, block_on, small};

use crate::{fill, value};

fn files(host: &Sim) -> usize {
    host.files().into_iter().filter(|(name, _)| name.ends_with(".tmp") || name.ends_with(".log")).count()
}

#[test]
fn a_segment_that_can_not_be_finished_leaves_no_file() {
    let mut config = small();
    config.segment.seal_age_max_ms = 50;
    config.segment.promote_partitions_max = 0;
    let mut host = Sim::new(config, 1);
    block_on(async {
        host.open().await;
        let p = host.create("p").await;
        fill(&mut host, &p, 0, 20).await;
        host.disk.plan(FaultRule::new(OpKind::Rename, Effect::Error(28)).on(".tmp").always());
        host.pause(5000).await;
        let before = files(&host);
        host.pause(20_000).await;
        assert!(host.stats().await.background_errors > 20);
        assert_eq!(files(&host), before);
        host.disk.clear_faults();
        host.until("sealed", |stats| stats.segments > 0).await;
    });
}

/// Turns a bit in the last batch of a partition in a file.
fn damage_last_batch(host: &Sim, name: &str, partition: u8) {
    let bytes = host.disk.contents(name).unwrap();
    let is_batch = |at: &usize| BatchHeader::read(&bytes[*at..]).is_ok_and(|batch| batch.len > 4000);
    let last = (0..bytes.len() - 4096).step_by(8).rev().filter(is_batch);
    let of = |at: &usize| BatchHeader::read(&bytes[*at..]).unwrap().partition.0 == u32::from(partition);
    let at = last.into_iter().find(of).unwrap();
    host.disk.flip_bit(name, (at as u64 + 200) * 8);
}

#[test]
fn a_merge_that_meets_damage_leaves_no_file() {
    let mut config = small();
    config.segment.seal_age_max_ms = 50;
    config.segment.live_percent_min = 90;
    config.segment.own_bytes_min = 32 << 10;
    let mut host = Sim::new(config, 1);
    block_on(async {
        host.open().await;
        let mut partitions = Vec::new();
        for n in 0..4 {
            partitions.push(host.create_with(&format!("p{n}"), PartitionConfig::default()).await.unwrap());
        }
        for round in 0..10u64 {
            let mut tickets = Vec::new();
            for batch in round * 32..(round + 1) * 32 {
                for p in &partitions {
                    let records: Vec<_> = (0..4).map(|n| Record::new(value(batch * 4 + n))).collect();
                    tickets.push(p.append(records));
                }
            }
            for ticket in tickets {
                host.drive(ticket).await.unwrap();
            }
        }
        host.settled().await;
        damage_last_batch(&host, "shard-0/0000000000000000.log", 3);
        host.delete("p0").await.unwrap();
        host.pause(3000).await;
        let before = files(&host);
        host.pause(10_000).await;
        let stats = host.stats().await;
        assert!(stats.background_errors > 3, "{stats:?}");
        assert_eq!(files(&host), before, "{:?}", host.files());
    });
}
