//! Compaction of more keys than are remembered.

use thalweg::{PartitionConfig, ReadFrom, Record};
use thalweg_tests::{Host, HostExt, Sim, block_on, small};

/// Large keys, so that few fill the memory of a compaction.
fn keys(from: u64) -> Vec<Record> {
    (from..from + 4).map(|key| Record::new("v").with_key(format!("{key:0>65000}"))).collect()
}

#[test]
fn a_deleted_key_stays_deleted_however_many_keys_are_between() {
    let mut config = small();
    config.wal.file_bytes = 4 << 20;
    config.limits.batch_bytes_max = 512 << 10;
    config.group.bytes_max = 512 << 10;
    config.limits.queue_bytes_max = 4 << 20;
    config.cache.bytes = 8 << 20;
    config.segment.merge_fan_in = 256;
    config.segment.seal_age_max_ms = 50;
    let mut host = Sim::new(config, 1);
    block_on(async {
        host.open().await;
        let p = host.create("p").await;
        host.append(&p, Record::new("old value").with_key("A")).await;
        for n in 0..280 {
            host.append(&p, keys(n * 4)).await;
        }
        host.append(&p, Record::tombstone("A")).await;
        let end = host.append(&p, Record::new("v").with_key("last")).await + 1;
        // Only now, so that all of it is compacted at once.
        let settings =
            PartitionConfig { compact: true, tombstone_age_ms: 1000, ..PartitionConfig::default() };
        host.drive(p.configure(settings)).await.unwrap();
        // More than once: what was behind the point where memory was full may come later.
        for _ in 0..3 {
            host.pause(60_000).await;
            host.reopen().await;
        }
        let p = host.partition("p");
        let mut reader = p.read(ReadFrom::Earliest).to_end();
        let (mut kept, mut next, mut deleted) = (0, 0, true);
        while let Some(batch) = host.next(&mut reader).await {
            let batch = batch.unwrap();
            next = batch.end_offset().0;
            for record in batch.records().map(Result::unwrap) {
                if record.key() == Some(b"A".as_slice()) {
                    // The old value may still be there, where memory ended before its deletion.
                    deleted = record.value().is_none();
                } else {
                    kept += 1;
                }
            }
        }
        assert!(deleted, "what was deleted came back");
        assert_eq!((kept, next), (280 * 4 + 1, end));
        assert!(host.stats().await.segments_merged < 1000, "it comes to an end");
    });
}
