//! What needs a real directory: several shards, the lock.

use std::path::{Path, PathBuf};

use thalweg::config::CommitSetting;
use thalweg::inspect::verify;
use thalweg::record::BatchKind;
use thalweg::wal::control::Control;
use thalweg::wal::file_header::FileHeader;
use thalweg::wal::group::{GROUP_HEADER_BYTES, GroupHeader, check_batches};
use thalweg::{Batch, Config, Engine, OpenError, Partition, PartitionConfig, ReadFrom, Record};
use thalweg_io::BLOCK;

fn config(dir: &Path, shards: u16) -> Config {
    let mut config = Config::new(dir);
    config.shards = Some(shards);
    config.threads.pin = false;
    config.commit.strategy = CommitSetting::Dsync;
    config.wal.file_bytes = 2 << 20;
    config.group.bytes_max = 64 << 10;
    config.limits.batch_bytes_max = 64 << 10;
    config.cache.bytes = 2 << 20;
    config
}

fn values(partition: &Partition) -> Vec<String> {
    let records = partition.read(ReadFrom::Earliest).to_end().records();
    records.map(|record| String::from_utf8(record.unwrap().1.value.unwrap().to_vec()).unwrap()).collect()
}

/// Where a shard's groups with a part of a joint append start, by file.
fn joint_groups(shard: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(shard).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        if FileHeader::read(&bytes).is_err() {
            continue;
        }
        let mut at = BLOCK;
        while let Some(Ok(group)) = bytes.get(at..).map(GroupHeader::read) {
            let mut joint = false;
            check_batches(&group, &bytes[at..], |position, batch| {
                let batch_bytes = &bytes[at + position..];
                joint |= batch.kind == BatchKind::Control
                    && matches!(Control::decode(batch, batch_bytes), Ok(Control::Joint { .. }));
            })
            .unwrap();
            assert!(group.len as usize >= GROUP_HEADER_BYTES);
            if joint {
                found.push((path.clone(), at as u64));
            }
            at += (group.len as usize).next_multiple_of(BLOCK);
        }
    }
    found
}

fn zero_from(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize..].fill(0);
    std::fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

#[test]
fn a_joint_append_whose_other_half_is_lost_is_cut_everywhere_and_stays_cut() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path(), 2)).unwrap();
    let left = engine.create("left", PartitionConfig::default()).unwrap();
    let right = engine.create("right", PartitionConfig::default()).unwrap();
    left.append("alone").wait().unwrap();
    right.append("alone").wait().unwrap();
    let both = vec![
        (left.clone(), Batch::from(Record::new("joint"))),
        (right.clone(), Batch::from(Record::new("joint"))),
    ];
    assert_eq!(engine.append_atomic(both).wait().unwrap().len(), 2);
    left.append("behind").wait().unwrap();
    // What a crash leaves: after a close the end of each shard is known, and losing it is damage.
    let crashed = tempfile::tempdir().unwrap();
    copy(dir.path(), crashed.path());
    engine.close().unwrap();
    let dir = crashed;

    let shard = (0..2).map(|shard| dir.path().join(format!("shard-{shard}")));
    let parts: Vec<_> = shard.map(|shard| joint_groups(&shard)).collect();
    assert!(parts.iter().all(|groups| groups.len() == 1), "{parts:?}");
    // As if the write of one half, and all behind it, had never happened.
    let (path, at) = &parts[1][0];
    zero_from(path, *at);
    // The half that is there will be dropped, and `verify` says so.
    let report = verify(dir.path(), &mut |_| ()).unwrap();
    let foretold = report.unfinished.iter().filter(|it| it.reason.contains("several shards")).count();
    assert_eq!((report.is_clean(), foretold), (true, 1), "{report:?}");

    let engine = Engine::open(config(dir.path(), 2)).unwrap();
    let (left, right) = (engine.partition("left").unwrap(), engine.partition("right").unwrap());
    assert_eq!((values(&left), values(&right)), (vec!["alone".to_owned()], vec!["alone".to_owned()]));
    let at = left.append("anew").wait().unwrap();
    assert_eq!(at.base_offset.0, 1);
    engine.close().unwrap();

    for _ in 0..2 {
        let engine = Engine::open(config(dir.path(), 2)).unwrap();
        let (left, right) = (engine.partition("left").unwrap(), engine.partition("right").unwrap());
        let want = vec!["alone".to_owned(), "anew".to_owned()];
        assert_eq!((values(&left), values(&right)), (want, vec!["alone".to_owned()]));
        engine.close().unwrap();
    }
}

#[test]
fn joint_appends_beside_a_close_are_whole_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path(), 2)).unwrap();
    engine.create("left", PartitionConfig::default()).unwrap();
    engine.create("right", PartitionConfig::default()).unwrap();
    engine.close().unwrap();
    let mut acknowledged = 0;
    for round in 0..20 {
        let engine = Engine::open(config(dir.path(), 2)).unwrap();
        let (left, right) = (engine.partition("left").unwrap(), engine.partition("right").unwrap());
        let (sure, never) = (values(&left).len(), values(&right).len());
        assert!(sure == never && sure >= acknowledged, "{sure} and {never} of {acknowledged}");
        let log = engine.log().clone();
        let appender = std::thread::spawn(move || {
            let mut tickets = Vec::new();
            loop {
                let both = vec![
                    (left.clone(), Batch::from(Record::new("joint"))),
                    (right.clone(), Batch::from(Record::new("joint"))),
                ];
                let ticket = log.append_atomic(both);
                if log.ended().is_some() || tickets.len() > 20_000 {
                    break;
                }
                tickets.push(ticket);
            }
            tickets.into_iter().map(|ticket| ticket.wait()).filter(|answer| answer.is_ok()).count()
        });
        std::thread::sleep(std::time::Duration::from_millis(round));
        engine.close().unwrap();
        acknowledged = sure + appender.join().unwrap();
    }
}

#[test]
fn a_shard_that_does_not_open_leaves_no_other_running() {
    let dir = tempfile::tempdir().unwrap();
    Engine::open(config(dir.path(), 2)).unwrap().close().unwrap();
    std::fs::write(dir.path().join("shard-1/quarantine"), b"in the way").unwrap();
    std::fs::write(dir.path().join("shard-1/00000000000000ff.log"), vec![0; BLOCK]).unwrap();
    for _ in 0..2 {
        let error = Engine::open(config(dir.path(), 2)).err().unwrap();
        assert!(matches!(error, OpenError::Shard { .. }), "{error}");
    }
    std::fs::remove_file(dir.path().join("shard-1/quarantine")).unwrap();
    Engine::open(config(dir.path(), 2)).unwrap().close().unwrap();
}

#[test]
fn a_directory_in_use_is_refused_and_the_owner_named() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path(), 1)).unwrap();
    let error = Engine::open(config(dir.path(), 1)).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Lock(_)), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    engine.close().unwrap();
    Engine::open(config(dir.path(), 1)).unwrap().close().unwrap();
}
