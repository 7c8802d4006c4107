//! Reads that come back wrong once: from another block, with a wrong bit, or short.

use thalweg::{OpenError, OwnedShard};
use thalweg_io::sim::{Effect, FaultRule, OpKind, SimRandom};
use thalweg_tests::{Host, HostExt, Sim, block_on, small};

use crate::{EIO, check, fill, on_disks, value};

const EFFECTS: [Effect; 3] = [Effect::FlipBit, Effect::Misdirect, Effect::Short];

/// Ends the process when the last group may have been acknowledged and nothing behind it says so.
fn kill(host: &mut Sim) {
    host.disk.kill();
    drop(host.take());
}

#[test]
fn a_misread_while_opening_drops_nothing() {
    for effect in EFFECTS {
        on_disks(async |mut host| {
            host.open().await;
            let p = host.create("p").await;
            let mut end = fill(&mut host, &p, 0, 40).await;
            for nth in 0.. {
                kill(&mut host);
                let before = host.disk.faults_fired();
                host.disk.plan(FaultRule::new(OpKind::Read, effect.clone()).skip(nth));
                host.open().await;
                if host.disk.faults_fired() == before {
                    assert!(nth > 8, "opening reads {nth} times only");
                    break;
                }
                check(&mut host, 0, end).await;
                let p = host.partition("p");
                end = fill(&mut host, &p, end, 1).await;
            }
        });
    }
}

#[test]
fn an_unreadable_header_of_the_last_wal_file_drops_nothing() {
    let mut refused = 0;
    for seed in 0..2 {
        let mut host = Sim::new(small(), seed);
        block_on(async {
            host.open().await;
            host.create("p").await;
        });
        // Sooner or later the last file holds one group, which nothing else proves.
        for end in (4..=240).step_by(4) {
            let p = host.partition("p");
            block_on(fill(&mut host, &p, end - 4, 1));
            for nth in 0..8 {
                let disk = host.disk.snapshot();
                disk.plan(FaultRule::new(OpKind::Read, Effect::Error(EIO)).on(".log").skip(nth));
                match OwnedShard::open_on(disk.backend(), small(), None) {
                    Ok(mut shard) => {
                        let describe = shard.log().partition("p").expect("it was made").describe();
                        let found = shard.block_on(describe).map(|info| info.log_end.0);
                        assert_eq!(found, Some(end), "seed {seed}, read {nth} failed");
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(refused > 100, "{refused} openings were refused");
}

#[test]
fn a_device_that_misreads_all_the_time_is_named_and_nothing_is_dropped() {
    on_disks(async |mut host| {
        host.open().await;
        let p = host.create("p").await;
        let end = fill(&mut host, &p, 0, 3).await;
        kill(&mut host);
        for file in ["SUPERBLOCK", "MANIFEST", ".log"] {
            host.disk.plan(FaultRule::new(OpKind::Read, Effect::FlipBit).on(file).always());
            let error = host.try_open().await.expect_err("nothing is certain");
            let told = error.to_string();
            assert!(matches!(error, OpenError::Io { .. } | OpenError::Shard { .. }), "{told}");
            // Of a WAL file a sound header behind the place may tell more.
            assert!(told.contains(file) && (file == ".log" || told.contains("misreads")), "{told}");
            kill(&mut host);
            host.disk.clear_faults();
        }
        host.open().await;
        check(&mut host, 0, end).await;
    });
}

#[test]
fn a_misread_while_sealing_puts_no_batch_in_anothers_place() {
    on_disks(async |mut host| {
        host.config().cache.bytes = host.config().cache_bytes_min();
        host.open().await;
        let (p, q) = (host.create("p").await, host.create("q").await);
        let mut random = SimRandom::new(host.disk.trace_hash(), "misreads");
        for batch in 0..400 {
            // Batches of both begin at the same byte of their blocks, with the same offsets.
            host.append(&q, value(batch * 4)).await;
            fill(&mut host, &p, batch * 4, 1).await;
            if random.chance(0.2) {
                host.disk.plan(FaultRule::new(OpKind::Read, Effect::Misdirect).on(".log"));
            }
        }
        host.disk.clear_faults();
        host.settled().await;
        check(&mut host, 0, 1600).await;
        let (_, values) = host.values(&q).await;
        assert!(values.into_iter().eq((0..400).map(|batch| value(batch * 4))));
    });
}
