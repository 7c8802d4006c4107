//! Bytes that come back other than they were written.

use thalweg::record::check_batch;
use thalweg::{FetchError, Offset, Partition, ReadFrom};
use thalweg_io::sim::{Effect, FaultRule, OpKind, SimRandom};
use thalweg_tests::{Host, HostExt, Sim, block_on, small};

use crate::{EIO, append_until_refused, check, fill, on_disks, value};

/// A log with most of its records in segments and nothing in the cache, and where it ends.
async fn sealed(host: &mut Sim) -> (Partition, u64) {
    host.open().await;
    let p = host.create("p").await;
    let end = fill(host, &p, 0, 400).await;
    host.until("sealed", |stats| stats.segments >= 2).await;
    host.settled().await;
    host.reopen().await;
    (host.partition("p"), end)
}

#[test]
fn a_read_that_lies_is_never_served() {
    for effect in [Effect::FlipBit, Effect::Misdirect, Effect::Short] {
        on_disks(async |mut host| {
            let (p, end) = sealed(&mut host).await;
            let mut refused = 0;
            for offset in (0..end).step_by(30) {
                host.disk.plan(FaultRule::new(OpKind::Read, effect.clone()).on(".log").always());
                let mut reader = p.read(ReadFrom::Offset(Offset(offset)));
                match host.next(&mut reader).await.unwrap() {
                    Ok(batch) => {
                        for record in batch.records().map(Result::unwrap) {
                            assert_eq!(record.value(), Some(value(record.offset.0).as_bytes()));
                        }
                    }
                    Err(error) => {
                        assert!(matches!(error, FetchError::Storage { .. }), "{error}");
                        refused += 1;
                    }
                }
                host.disk.clear_faults();
            }
            assert!(refused > 0, "{effect:?} was never noticed");
            check(&mut host, 0, end).await;
        });
    }
}

#[test]
fn a_bit_that_rots_in_a_segment_is_told_and_not_served() {
    on_disks(async |mut host| {
        let (p, end) = sealed(&mut host).await;
        let mut random = SimRandom::new(end, "rot");
        let files: Vec<_> =
            host.disk.files().into_iter().filter(|(path, _)| path.extension().is_some()).collect();
        for (path, len) in files {
            let bit = random.below(len * 8);
            host.disk.flip_bit(&path, bit);
            for offset in (0..end).step_by(100) {
                let mut reader = p.read(ReadFrom::Offset(Offset(offset))).to_end();
                while let Some(batch) = host.next(&mut reader).await {
                    let batch = match batch {
                        Ok(batch) => batch,
                        Err(error) => {
                            assert!(matches!(error, FetchError::Storage { .. }), "{error}");
                            break;
                        }
                    };
                    for record in batch.records().map(Result::unwrap) {
                        assert_eq!(record.value(), Some(value(record.offset.0).as_bytes()));
                    }
                }
            }
            host.disk.flip_bit(&path, bit);
        }
        check(&mut host, 0, end).await;
    });
}

/// The first batch of a partition in a file that holds it: its place and bytes.
fn batch_of(bytes: &[u8], partition: &Partition) -> (usize, Vec<u8>) {
    let found = (0..bytes.len() - 64).step_by(8).find_map(|at| {
        let header = check_batch(&bytes[at..]).ok()?;
        let ours = header.partition == partition.id() && header.record_count > 0;
        ours.then(|| (at, bytes[at..at + header.len as usize].to_vec()))
    });
    found.expect("a batch of the partition")
}

/// A whole batch in another's place is damage, though its checksum is right.
#[test]
fn the_batch_of_another_partition_is_never_sealed() {
    for others_bytes in [2000, 1000, 500] {
        let mut config = small();
        config.cache.bytes = 1 << 19;
        config.segment.promote_partitions_max = 0;
        let mut host = Sim::new(config, 1);
        block_on(async {
            host.open().await;
            let (p, a, b) = (host.create("p").await, host.create("a").await, host.create("b").await);
            // Nothing is sealed, and the WAL does not grow, until the cache has let go of the first file.
            host.disk.plan(FaultRule::new(OpKind::Open, Effect::Error(EIO)).on(".tmp").always());
            host.append(&b, "b".repeat(others_bytes)).await;
            host.append(&a, "a".repeat(1000)).await;
            let end = fill(&mut host, &p, 0, 150).await;
            let (end, _) = append_until_refused(&mut host, &p, end).await;
            let (name, bytes) = host
                .disk
                .files()
                .into_iter()
                .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "log"))
                .map(|(path, _)| (path.clone(), host.disk.contents(&path).unwrap()))
                .min_by(|(one, _), (other, _)| one.cmp(other))
                .unwrap();
            let ((at, right), (_, wrong)) = (batch_of(&bytes, &a), batch_of(&bytes, &b));
            host.disk.patch(&name, at as u64, &wrong);
            host.disk.clear_faults();
            host.pause(2000).await;
            let stats = host.stats().await;
            assert!(stats.background_errors > 0 && stats.files_sealed == 0, "{stats:?}");
            let mut reader = a.read(ReadFrom::Earliest);
            assert!(matches!(host.next(&mut reader).await, Some(Err(FetchError::Storage { .. }))));
            // What follows is as it was: the groups are there, whatever their first batches say.
            host.disk.patch(&name, at as u64, &bytes[at..at + right.len().max(wrong.len())]);
            host.until("sealed", |stats| stats.files_sealed > 0).await;
            check(&mut host, 0, end).await;
            assert_eq!(host.values(&a).await, (0, vec!["a".repeat(1000)]));
            host.close().await;
        });
    }
}
