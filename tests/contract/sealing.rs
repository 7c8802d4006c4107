//! Sealing several full WAL files as one.

use thalweg::{Partition, ShardStats};
use thalweg_tests::{Host, HostExt};

use crate::storing::{check_filled, fill};

/// Partitions that share the WAL here.
const SHARING: usize = 24;
/// Times that a case fills the log until it has what it waits for.
const ROUNDS_MAX: u64 = 60;

/// Three files are sealed as one, and segments stay as they are.
fn together(host: &mut impl Host) {
    let config = host.config();
    config.cache.bytes = 4 * config.wal.file_bytes;
    config.segment.seal_files_max = 3;
    config.segment.own_bytes_min = u64::MAX;
    config.segment.run_bytes_min = 0;
}

async fn make<H: Host>(host: &mut H, count: usize) -> Vec<Partition> {
    let mut partitions = Vec::new();
    for n in 0..count {
        partitions.push(host.create(&format!("p{n}")).await);
    }
    partitions
}

/// Fills all partitions alike until the log is as wanted. Returns where they end then.
async fn fill_until<H: Host>(
    host: &mut H,
    partitions: &[Partition],
    from: u64,
    wanted: impl Fn(&ShardStats) -> bool,
) -> u64 {
    for round in 0..ROUNDS_MAX {
        fill(host, partitions, from + round * 10, 1).await;
        host.pause(20).await;
        if wanted(&host.stats().await) {
            return from + (round + 1) * 10;
        }
    }
    panic!("filled in vain: {:?}", host.stats().await);
}

pub(crate) async fn several_full_files_become_one_segment(mut host: impl Host) {
    together(&mut host);
    host.open().await;
    let partitions = make(&mut host, SHARING).await;
    // Every file becomes one segment, or a part of one.
    let joint = |stats: &ShardStats| stats.files_sealed >= stats.segments + 4;
    let end = fill_until(&mut host, &partitions, 0, joint).await;
    let stats = host.stats().await;
    assert_eq!((stats.background_errors, stats.segments_merged), (0, 0), "{stats:?}");
    for reopened in [false, true] {
        if reopened {
            host.reopen().await;
        }
        for partition in &partitions {
            check_filled(&mut host, partition.name(), 0, end).await;
        }
    }
    let partitions: Vec<_> = partitions.iter().map(|p| host.partition(p.name())).collect();
    fill(&mut host, &partitions, end, 3).await;
    for partition in &partitions {
        check_filled(&mut host, partition.name(), 0, end + 30).await;
    }
}

pub(crate) async fn full_files_that_wait_are_sealed_when_they_are_old(mut host: impl Host) {
    together(&mut host);
    host.open().await;
    let partitions = make(&mut host, SHARING).await;
    let waiting = host.config().wal.file_bytes * 2;
    let end = fill_until(&mut host, &partitions, 0, |stats| {
        stats.files_sealed > 0 && stats.unsealed_bytes > waiting
    })
    .await;
    // Nothing of it is cached after reopening: each file is read back.
    host.config().segment.seal_age_max_ms = 1;
    host.reopen().await;
    host.until("sealed by age", |stats| stats.unsealed_bytes < 64 << 10).await;
    for reopened in [false, true] {
        if reopened {
            host.crash().await;
            host.open().await;
        }
        for partition in &partitions {
            check_filled(&mut host, partition.name(), 0, end).await;
        }
    }
}

pub(crate) async fn a_file_to_promote_takes_those_before_it_along(mut host: impl Host) {
    together(&mut host);
    host.open().await;
    let partitions = make(&mut host, SHARING).await;
    let shared = fill_until(&mut host, &partitions, 0, |stats| stats.files_sealed > 0).await;
    fill(&mut host, &partitions, shared, 2).await;
    // The shard of the first partition fills files with it alone.
    let alone = &partitions[..1];
    let mut end = shared + 20;
    for _ in 0..8 {
        fill(&mut host, alone, end, 10).await;
        end += 100;
    }
    let stats = host.until("promoted", |stats| stats.files_promoted > 1).await;
    assert!(stats.files_sealed > stats.files_promoted, "{stats:?}");
    assert!(stats.segments <= stats.files_sealed, "{stats:?}");
    for reopened in [false, true] {
        if reopened {
            host.reopen().await;
        }
        check_filled(&mut host, "p0", 0, end).await;
        for partition in &partitions[1..] {
            check_filled(&mut host, partition.name(), 0, shared + 20).await;
        }
    }
}
