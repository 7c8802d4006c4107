//! Operations that fail.

use thalweg::{Ack, AppendError, AppendOptions, FetchError, Offset, OwnedShard, PartitionConfig, ReadFrom};
use thalweg_io::sim::{Effect, FaultRule, OpKind, SimDisk, SimOptions};
use thalweg_tests::{Host, HostExt, Sim, block_on, small};

use crate::{EIO, check, fill, on_disks, value};

#[test]
fn a_failed_write_stops_the_shard_and_nothing_is_acknowledged_after() {
    on_disks(async |mut host| {
        host.open().await;
        let p = host.create("p").await;
        let end = fill(&mut host, &p, 0, 20).await;
        let mut waiting = p.read(ReadFrom::Offset(Offset(end)));
        assert!(host.drive(futures_lite::future::poll_once(waiting.next_batch())).await.is_none());
        host.disk.fail_next(OpKind::Write, ".log", EIO);
        let tickets: Vec<_> = (0..50).map(|n| p.append(value(end + n))).collect();
        for ticket in tickets {
            let error = host.drive(ticket).await.unwrap_err();
            assert!(matches!(error, AppendError::Halted { .. }), "{error}");
            assert!(error.needs_reopen() && error.to_string().contains("did not reach the disk"), "{error}");
        }
        host.disk.clear_faults();
        let later = host.try_append(&p, "later").await.unwrap_err();
        assert!(matches!(later, AppendError::Halted { .. }), "{later}");
        assert!(host.log().ended().is_some());
        assert!(host.create_with("q", PartitionConfig::default()).await.is_err());
        assert!(host.drive(p.trim(Offset(1))).await.is_err());
        let ended = host.next(&mut waiting).await.unwrap().unwrap_err();
        assert!(matches!(ended, FetchError::Ended(AppendError::Halted { .. })), "{ended}");
        host.reopen().await;
        let p = host.partition("p");
        let found = host.values(&p).await.1.len() as u64;
        assert!((end..=end + 50).contains(&found), "{found} of {end} acknowledged records");
        check(&mut host, 0, found).await;
        assert_eq!(host.append(&p, value(found)).await, found);
    });
}

#[test]
fn files_that_an_edit_replaced_stay_until_that_edit_is_stored() {
    let mut refused = 0;
    for (seed, skip) in (0..4).flat_map(|seed| (0..16).map(move |skip| (seed, skip))) {
        let mut config = small();
        (config.segment.merge_fan_in, config.segment.promote_partitions_max) = (2, 0);
        let mut host = Sim::new(config, seed);
        block_on(async {
            host.open().await;
            // Several partitions, so that segments are shared, and merged.
            let others = [host.create("q").await, host.create("r").await];
            let p = host.create("p").await;
            // The edit is read from the page cache from now on, and is not on the disk.
            host.disk.plan(FaultRule::new(OpKind::Sync, Effect::Error(EIO)).on("MANIFEST").skip(skip));
            let mut end = 0;
            while let Ok(at) = host.try_append(&p, value(end)).await {
                end = at.base_offset.0 + 1;
                let _ = host.try_append(&others[end as usize % 2], value(0)).await;
                if end % 20 == 0 && host.log().ended().is_none() {
                    host.pause(2).await;
                }
            }
            drop(host.take());
            // What was read is to be stored again, and can't be.
            host.disk.plan(FaultRule::new(OpKind::Open, Effect::Error(EIO)).on("MANIFEST").skip(1));
            refused += u64::from(host.try_open().await.is_err());
            drop(host.take());
            host.disk.clear_faults();
            host.disk.crash();
            host.reopen().await;
            let p = host.partition("p");
            let found = host.values(&p).await.1.len() as u64;
            assert!((end..=end + 1).contains(&found), "seed {seed}, skip {skip}: {found} of {end}");
            check(&mut host, 0, found).await;
        });
    }
    assert!(refused > 40, "{refused}");
}

#[test]
fn what_is_dropped_is_said_once_and_recorded_or_the_log_does_not_open() {
    let (mut said, mut failed) = (0, 0);
    for seed in 0..40 {
        let mut host = Sim::new(small(), seed);
        block_on(async {
            host.open().await;
            let p = host.create("p").await;
            let end = fill(&mut host, &p, 0, 3).await;
            host.disk.fail_next(OpKind::Write, ".log", EIO);
            host.try_append(&p, value(end)).await.unwrap_err();
            drop(host.take());
            // What the failed write has left is recorded by another write, which fails, too.
            host.disk.fail_next(OpKind::Write, ".log", EIO);
            failed += u64::from(host.try_open().await.is_err());
            host.disk.clear_faults();
            host.reopen().await;
            said += u64::from(host.shard().recovery().dropped.is_some());
            host.reopen().await;
            assert_eq!(host.shard().recovery().dropped, None, "seed {seed}");
            let p = host.partition("p");
            let found = host.values(&p).await.1.len() as u64;
            assert!((end..=end + 1).contains(&found), "seed {seed}: {found} of {end}");
            for offset in found..found + 5 {
                assert_eq!(host.append(&p, value(offset)).await, offset);
            }
            host.reopen().await;
            check(&mut host, 0, found + 5).await;
        });
    }
    assert!(said > 0 && failed > 0, "{said} said, {failed} failed");
}

#[test]
fn a_device_that_does_not_answer_stops_the_shard_and_one_that_is_slow_does_not() {
    const STUCK_MS: u64 = 30_000;
    on_disks(async |mut host| {
        host.open().await;
        let p = host.create("p").await;
        let mut end = fill(&mut host, &p, 0, 20).await;
        let slow = |ms: u64| FaultRule::new(OpKind::Write, Effect::Delay(ms * 1_000_000)).on(".log");
        host.disk.plan(slow(STUCK_MS - 2000));
        end = fill(&mut host, &p, end, 1).await;
        assert_eq!(host.stats().await.groups_overdue, 1);
        host.disk.plan(slow(100 * STUCK_MS));
        let tickets: Vec<_> = (0..50).map(|n| p.append(value(end + n))).collect();
        for ticket in tickets {
            let error = host.drive(ticket).await.unwrap_err();
            assert!(matches!(error, AppendError::Halted { .. }), "{error}");
            assert!(error.needs_reopen() && error.to_string().contains("for 30000 ms"), "{error}");
        }
        assert!(matches!(host.try_append(&p, "later").await, Err(AppendError::Halted { .. })));
        host.disk.clear_faults();
        host.reopen().await;
        let p = host.partition("p");
        let found = host.values(&p).await.1.len() as u64;
        assert!((end..=end + 50).contains(&found), "{found} of {end} acknowledged records");
        check(&mut host, 0, found).await;
        assert_eq!(host.append(&p, value(found)).await, found);
    });
}

#[test]
fn a_wal_file_that_can_not_be_filled_is_replaced_before_it_is_used() {
    for kind in [OpKind::Write, OpKind::Sync] {
        on_disks(async |mut host| {
            host.open().await;
            let p = host.create("p").await;
            // The first file made after formatting, while the log is still busy with those it has.
            host.disk.fail_next(kind, "0000000000000002.log", EIO);
            let mut end = 0;
            while host.disk.faults_fired() == 0 {
                end = fill(&mut host, &p, end, 10).await;
                host.pause(1).await;
                assert!(end < 100_000, "no file is made");
            }
            end = fill(&mut host, &p, end, 2000).await;
            assert!(host.stats().await.background_errors > 0);
            check(&mut host, 0, end).await;
            host.reopen().await;
            check(&mut host, 0, end).await;
        });
    }
}

#[test]
fn a_failed_manifest_stops_the_shard_and_reopening_finds_everything() {
    for (kind, what) in [(OpKind::Write, "MANIFEST"), (OpKind::Sync, "MANIFEST")] {
        on_disks(async |mut host| {
            host.open().await;
            let p = host.create("p").await;
            host.disk.fail_next(kind, what, EIO);
            let mut end = 0;
            let error = loop {
                match host.try_append(&p, value(end)).await {
                    Ok(at) => assert_eq!(at.base_offset.0, end),
                    Err(error) => break error,
                }
                end += 1;
                assert!(end < 100_000, "the manifest is never written");
            };
            assert!(matches!(error, AppendError::Halted { .. }), "{error}");
            assert!(error.to_string().contains("anifest"), "{error}");
            for clean in [false, true] {
                host.end_and_open(clean).await;
                let p = host.partition("p");
                let found = host.values(&p).await.1.len() as u64;
                assert!(found == end || found == end + 1, "{found} records, {end} were acknowledged");
                check(&mut host, 0, found).await;
            }
        });
    }
}

/// On a full disk the log goes on in the manifest that is there, whose last edit may be in the page cache
/// alone: behind it nothing may be stored before it is.
#[test]
fn an_edit_whose_sync_failed_is_stored_before_another_follows_it() {
    on_disks(async |mut host| {
        host.open().await;
        host.create("p").await;
        host.disk.fail_next(OpKind::Sync, "MANIFEST", EIO);
        let p = host.partition("p");
        let (end, _) = crate::append_until_refused(&mut host, &p, 0).await;
        host.disk.kill();
        drop(host.take());
        let used = (1 << 40) - host.disk.free_bytes();
        host.disk.set_capacity(used);
        host.open().await;
        // Sealing leaves an edit in the manifest.
        host.until("sealed", |stats| stats.files_sealed + stats.background_errors > 0).await;
        let p = host.partition("p");
        host.drive(p.trim(Offset(end / 2))).await.unwrap();
        host.disk.set_capacity(1 << 40);
        host.until("sealed", |stats| stats.files_sealed > 0).await;
        host.crash().await;
        host.open().await;
        let found = host.describe(&host.partition("p")).await;
        assert!(found.log_end.0 >= end, "{found:?}, {end} were acknowledged");
        check(&mut host, end / 2, found.log_end.0).await;
    });
}

#[test]
fn a_segment_that_can_not_be_read_hides_only_its_own_records() {
    on_disks(async |mut host| {
        host.config().segment.merge_fan_in = 100;
        host.open().await;
        let p = host.create("p").await;
        let end = fill(&mut host, &p, 0, 700).await;
        host.until("sealed", |stats| stats.segments >= 4).await;
        host.reopen().await;
        let p = host.partition("p");
        // The first segment by name, whatever it became by.
        let first = host.files().into_iter().find(|(name, _)| name.ends_with(".log")).unwrap().0;
        host.disk.plan(FaultRule::new(OpKind::Read, Effect::Error(EIO)).on(first.clone()).always());
        let (mut served, mut refused) = (0, 0);
        for offset in (0..end).step_by(50) {
            let mut reader = p.read(ReadFrom::Offset(Offset(offset)));
            match host.next(&mut reader).await.unwrap() {
                Ok(batch) => {
                    assert!(batch.base_offset().0 <= offset && batch.end_offset().0 > offset);
                    served += 1;
                }
                Err(FetchError::Storage { partition, offset: at, .. }) => {
                    assert_eq!((partition, at), (p.id(), Offset(offset)));
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 0 && served > refused, "{served} served, {refused} refused by {first}");
        assert_eq!(host.append(&p, value(end)).await, end, "appends do not mind");
        host.disk.clear_faults();
        check(&mut host, 0, end + 1).await;
    });
}

#[test]
fn failing_background_work_is_tried_again() {
    let kinds = [OpKind::Write, OpKind::Sync, OpKind::Rename, OpKind::Open, OpKind::Read, OpKind::Allocate];
    let files_at_once = [1, 3].into_iter();
    for (kind, files) in files_at_once.flat_map(|files| kinds.map(|kind| (kind, files))) {
        on_disks(async |mut host| {
            let config = host.config();
            config.segment.seal_files_max = files;
            config.cache.bytes = (u64::from(files) + 1) * config.wal.file_bytes;
            host.open().await;
            let (p, q) = (host.create("p").await, host.create("q").await);
            for n in 0..8 {
                host.create(&format!("other {n}")).await;
            }
            let mut end = 0;
            for round in 0..6 {
                host.disk.plan(FaultRule::new(kind, Effect::Error(EIO)).on(".tmp").skip(round % 3));
                end = fill(&mut host, &p, end, 60).await;
                for n in 0..8 {
                    let other = host.partition(&format!("other {n}"));
                    host.append(&other, "more").await;
                }
                host.append(&q, "more").await;
            }
            host.pause(5000).await;
            let stats = host.stats().await;
            assert!(stats.background_errors > 0 || kind == OpKind::Read, "{kind:?}: {stats:?}");
            assert!(stats.files_sealed > 2, "{kind:?}: {stats:?}");
            check(&mut host, 0, end).await;
            host.crash().await;
            host.disk.clear_faults();
            host.open().await;
            check(&mut host, 0, end).await;
        });
    }
}

#[test]
fn a_log_that_can_not_be_read_does_not_open_and_is_not_changed() {
    on_disks(async |mut host| {
        host.open().await;
        let p = host.create("p").await;
        let end = fill(&mut host, &p, 0, 200).await;
        host.crash().await;
        let before: Vec<_> = host.disk.files();
        for file in before.iter().map(|(path, _)| path.to_string_lossy().into_owned()) {
            host.disk.plan(FaultRule::new(OpKind::Read, Effect::Error(EIO)).on(file.clone()).always());
            let opened = host.try_open().await;
            host.disk.clear_faults();
            match opened {
                Ok(()) => {
                    check(&mut host, 0, end).await;
                    host.close().await;
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        host.open().await;
        check(&mut host, 0, end).await;
    });
}

#[test]
fn a_manifest_that_may_have_changed_names_only_files_that_are_there() {
    for kind in [OpKind::Write, OpKind::Sync, OpKind::SyncDir] {
        for seed in 0..40 {
            let mut config = small();
            config.segment.seal_age_max_ms = 50;
            let mut host = Sim::new(config, seed);
            block_on(async {
                host.disk.set_options(SimOptions::kind());
                host.open().await;
                let p = host.create("p").await;
                let rule = FaultRule::new(kind, Effect::Error(EIO)).on("MANIFEST").skip(seed % 4);
                host.disk.plan(rule);
                let mut end = 0;
                while end < 4000 && host.try_append(&p, value(end)).await.is_ok() {
                    end += 1;
                }
                host.close().await;
                host.disk.clear_faults();
                host.open().await;
                let found = host.values(&host.partition("p")).await.1.len() as u64;
                assert!(found >= end, "{kind:?}, seed {seed}: {found} of {end}");
            });
        }
    }
}

#[test]
fn a_wal_file_that_can_not_be_sealed_stops_appends_with_its_reason() {
    let mut config = small();
    config.cache.bytes = 1 << 19;
    config.segment.promote_partitions_max = 0;
    let mut host = Sim::new(config, 1);
    block_on(async {
        host.open().await;
        let p = host.create("p").await;
        host.disk.plan(FaultRule::new(OpKind::Read, Effect::Error(EIO)).on(".log").always());
        let (end, error) = crate::append_until_refused(&mut host, &p, 0).await;
        assert!(matches!(error, AppendError::WalFull { .. }), "{error}");
        assert!(error.is_retryable(), "{error}");
        host.disk.clear_faults();
        host.pause(2000).await;
        assert_eq!(host.append(&p, value(end)).await, end, "it goes on when it can");
        check(&mut host, 0, end + 1).await;
        host.disk.plan(FaultRule::new(OpKind::Read, Effect::Error(EIO)).on(".log").always());
        crate::append_until_refused(&mut host, &p, end + 1).await;
        let _unanswered = p.append("refused");
        host.close().await;
    });
}

/// How many files are sealed when two wait, of which only what is in `readable` can be read back.
async fn sealed_of_two(readable: Option<usize>) -> (u64, usize) {
    let mut config = small();
    config.cache.bytes = 4 * config.wal.file_bytes;
    let waiting = config.wal.file_bytes;
    let mut host = Sim::new(config, 1);
    host.open().await;
    let p = host.create("p").await;
    for n in 0..8 {
        host.create(&format!("other {n}")).await;
    }
    let mut end = 0;
    loop {
        end = fill(&mut host, &p, end, 10).await;
        for n in 0..8 {
            let other = host.partition(&format!("other {n}"));
            host.append(&other, "more").await;
        }
        host.pause(50).await;
        let stats = host.stats().await;
        if stats.files_sealed > 0 && stats.unsealed_bytes > 2 * waiting {
            break;
        }
        assert!(end < 10_000, "nothing waits: {stats:?}");
    }
    host.config().segment.seal_age_max_ms = 1;
    host.reopen().await;
    let logs: Vec<_> = host.files().into_iter().filter(|(name, _)| name.ends_with(".log")).collect();
    for (index, (name, _)) in logs.iter().enumerate() {
        if readable != Some(index) {
            let rule = FaultRule::new(OpKind::Read, Effect::Error(EIO)).on(name.clone());
            host.disk.plan(rule.always());
        }
    }
    host.pause(5000).await;
    let stats = host.stats().await;
    assert!(stats.background_errors > 0, "{stats:?}");
    host.disk.clear_faults();
    host.until("sealed", |stats| stats.unsealed_bytes < 64 << 10).await;
    check(&mut host, 0, end).await;
    (stats.files_sealed, logs.len())
}

#[test]
fn a_file_that_can_not_be_read_does_not_hold_up_those_before_it() {
    block_on(async {
        let (sealed, files) = sealed_of_two(None).await;
        assert_eq!(sealed, 0);
        let mut each = Vec::new();
        for index in 0..files {
            each.push(sealed_of_two(Some(index)).await.0);
        }
        each.sort_unstable();
        // The oldest of the waiting files is sealed alone where it can be read.
        assert_eq!(each.pop(), Some(1), "of {files}");
        assert!(each.iter().all(|sealed| *sealed == 0), "{each:?}");
    });
}

#[test]
fn closing_a_log_that_has_stopped_says_so() {
    let disk = SimDisk::new(1);
    let mut shard = OwnedShard::open_on(disk.backend(), small(), None).unwrap();
    let creating = shard.log().start_create("p", PartitionConfig::default());
    let p = shard.block_on(creating).unwrap();
    disk.fail_next(OpKind::Write, ".log", EIO);
    let accepted = AppendOptions { ack: Ack::Accepted, ..AppendOptions::default() };
    let ticket = p.append_with("accepted, and not stored", accepted);
    shard.block_on(ticket).unwrap();
    assert!(matches!(shard.close(), Err(AppendError::Halted { .. })));
    let shard = OwnedShard::open_on(disk.backend(), small(), None).unwrap();
    assert_eq!(shard.close(), Ok(()));
}
