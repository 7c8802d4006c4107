//! Bytes that come back other than they were written.

use thalweg::{FetchError, Offset, Partition, ReadFrom};
use thalweg_io::sim::{Effect, FaultRule, OpKind, SimRandom};
use thalweg_tests::{HostExt, Sim};

use crate::{check, fill, on_disks, value};

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
