//! Planned faults.

use super::super::{Effect, FaultRule, OpKind, SECTOR, SimDisk};
use super::{Life, blocks, errno, strict};
use crate::backend::Durability::{Durable, Volatile};
use crate::backend::{BLOCK, FileId, Op, OpenMode};

/// A file of four durable blocks: 1, 2, 3, 4.
fn numbered(disk: &SimDisk, life: &Life, path: &str) -> FileId {
    let file = life.create(path);
    for (block, fill) in (0..).zip(1..=4) {
        life.write(file, block, 1, fill, Durable).unwrap();
    }
    assert_eq!(blocks(disk.durable(path)), Some(vec![1, 2, 3, 4]));
    file
}

#[test]
fn a_rule_waits_for_its_path_and_its_turn() {
    let disk = strict();
    let life = Life::new(&disk);
    let (wal, other) = (life.create("wal"), life.create("other"));
    disk.plan(FaultRule::new(OpKind::Sync, Effect::Error(5)).on("wal").skip(1).times(2));
    let sync = |file| life.run(Op::Sync { file });
    sync(wal).unwrap();
    sync(other).unwrap();
    assert_eq!([errno(sync(wal)), errno(sync(wal))], [5, 5]);
    sync(wal).unwrap();
    assert_eq!(disk.faults_fired(), 2);
}

#[test]
fn every_kind_of_operation_can_fail() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    let fail = |kind| disk.fail_next(kind, "", 5);
    fail(OpKind::Open);
    assert_eq!(errno(life.open("new", OpenMode::CreateNew)), 5);
    let ops = [
        (OpKind::Allocate, Op::Allocate { file, len: 8192 }),
        (OpKind::Truncate, Op::Truncate { file, len: 8192 }),
        (OpKind::Rename, Op::Rename { from: "wal".into(), to: "b".into() }),
        (OpKind::Remove, Op::Remove { path: "wal".into() }),
        (OpKind::CreateDir, Op::CreateDir { path: "dir".into() }),
        (OpKind::SyncDir, Op::SyncDir { path: "".into() }),
        (OpKind::List, Op::List { path: "".into() }),
    ];
    for (kind, op) in ops {
        fail(kind);
        assert_eq!(errno(life.run(op)), 5, "{kind:?}");
    }
    assert_eq!(disk.files(), [("wal".into(), 0)]);
    fail(OpKind::Read);
    assert_eq!(errno(life.read(file, 0, 1)), 5);
}

#[test]
fn a_sync_that_succeeds_after_one_that_failed_brings_nothing_back() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = numbered(&disk, &life, "wal");
    life.write(file, 0, 1, 7, Volatile).unwrap();
    life.write(file, 4, 1, 8, Volatile).unwrap();
    disk.fail_next(OpKind::Sync, "wal", 5);
    assert_eq!(errno(life.run(Op::Sync { file })), 5);
    life.run(Op::Sync { file }).unwrap();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![7, 2, 3, 4, 8]));
    disk.set_options(super::SimOptions::kind());
    disk.crash();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![1, 2, 3, 4]));
}

#[test]
fn a_directory_sync_that_failed_loses_the_names() {
    let disk = SimDisk::with_options(1, super::SimOptions::kind());
    let life = Life::new(&disk);
    life.create("old");
    life.open("wal", OpenMode::CreateNew).unwrap();
    life.run(Op::CreateDir { path: "dir".into() }).unwrap();
    life.run(Op::Rename { from: "old".into(), to: "new".into() }).unwrap();
    disk.fail_next(OpKind::SyncDir, "", 5);
    assert_eq!(errno(life.run(Op::SyncDir { path: "".into() })), 5);
    life.run(Op::SyncDir { path: "".into() }).unwrap();
    disk.crash();
    assert_eq!(disk.files(), [("old".into(), 0)]);
}

#[test]
fn a_failed_write_leaves_any_of_its_sectors() {
    let mut seen = [false; 3];
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let life = Life::new(&disk);
        let file = life.create("wal");
        life.write(file, 0, 1, 1, Durable).unwrap();
        disk.fail_next(OpKind::Write, "wal", 5);
        assert_eq!(errno(life.write(file, 0, 1, 2, Durable)), 5);
        let content = disk.contents("wal").unwrap();
        let new = content.iter().step_by(SECTOR).filter(|byte| **byte == 2).count();
        seen[usize::from(new > 3) + usize::from(new > 4)] = true;
        assert_eq!(blocks(disk.durable("wal")), Some(vec![1]));
    }
    assert_eq!(seen, [true; 3]);
}

#[test]
fn a_short_write_leaves_a_prefix_and_a_short_read_answers_less() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = numbered(&disk, &life, "wal");
    for _ in 0..20 {
        disk.plan(FaultRule::new(OpKind::Write, Effect::Short));
        assert_eq!(errno(life.write(file, 0, 3, 9, Durable)), 5);
        let content = disk.contents("wal").unwrap();
        let prefix = content.iter().take_while(|byte| **byte == 9).count();
        assert!(prefix < 3 * BLOCK && prefix.is_multiple_of(SECTOR), "{prefix}");
        assert!(!content[prefix..].contains(&9));
        life.write(file, 0, 3, 1, Durable).unwrap();
    }
    disk.plan(FaultRule::new(OpKind::Read, Effect::Short));
    assert!(life.read(file, 0, 4).unwrap().len() < 4 * BLOCK);
    assert_eq!(life.read(file, 0, 4).unwrap().len(), 4 * BLOCK);
}

#[test]
fn a_lie_is_found_out_by_the_power_cut() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = numbered(&disk, &life, "wal");
    let lie = |kind| disk.plan(FaultRule::new(kind, Effect::Lie));
    lie(OpKind::Write);
    life.write(file, 0, 1, 7, Durable).unwrap();
    life.write(file, 1, 1, 8, Volatile).unwrap();
    lie(OpKind::Sync);
    life.run(Op::Sync { file }).unwrap();
    life.open("new", OpenMode::CreateNew).unwrap();
    lie(OpKind::SyncDir);
    life.run(Op::SyncDir { path: "".into() }).unwrap();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![7, 8, 3, 4]));
    let honest = disk.snapshot();
    disk.crash();
    assert_eq!(disk.files(), [("wal".into(), 4 * BLOCK as u64)]);
    assert_eq!(blocks(disk.contents("wal")), Some(vec![1, 2, 3, 4]));
    // Unlike a failed sync, a lie is put right by the next honest one.
    let life = Life::new(&honest);
    let (file, _) = life.open("wal", OpenMode::ReadWrite).unwrap();
    life.run(Op::Sync { file }).unwrap();
    assert_eq!(blocks(honest.durable("wal")), Some(vec![7, 8, 3, 4]));
}

#[test]
fn a_dropped_write_is_acknowledged_and_nowhere() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = numbered(&disk, &life, "wal");
    disk.plan(FaultRule::new(OpKind::Write, Effect::Drop));
    life.write(file, 0, 1, 7, Durable).unwrap();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![1, 2, 3, 4]));
}

#[test]
fn one_bit_flips_on_the_way_in_or_out() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
    disk.plan(FaultRule::new(OpKind::Write, Effect::FlipBit));
    life.write(file, 0, 2, 0, Durable).unwrap();
    assert_eq!(ones(&disk.durable("wal").unwrap()), 1);
    life.write(file, 0, 2, 0, Durable).unwrap();
    disk.plan(FaultRule::new(OpKind::Read, Effect::FlipBit));
    assert_eq!(ones(&life.read(file, 0, 2).unwrap()), 1);
    assert_eq!(ones(&life.read(file, 0, 2).unwrap()), 0);
}

#[test]
fn misdirected_blocks_damage_the_place_they_hit_and_miss_their_own() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = numbered(&disk, &life, "wal");
    disk.plan(FaultRule::new(OpKind::Write, Effect::Misdirect));
    life.write(file, 1, 1, 9, Durable).unwrap();
    let hit = blocks(disk.durable("wal")).unwrap();
    assert_eq!((hit[1], hit.iter().filter(|fill| **fill == 9).count()), (2, 1), "{hit:?}");
    disk.plan(FaultRule::new(OpKind::Read, Effect::Misdirect));
    assert_ne!(life.read(file, 1, 1).unwrap()[0], 2);
    let other = numbered(&disk, &life, "other");
    disk.plan(FaultRule::new(OpKind::Write, Effect::MisdirectTo("wal".into())));
    life.write(other, 3, 1, 8, Durable).unwrap();
    assert_eq!(blocks(disk.durable("wal")).unwrap()[3], 8);
    assert_eq!(blocks(disk.durable("other")), Some(vec![1, 2, 3, 4]));
}

#[test]
fn a_delayed_write_is_overtaken() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = numbered(&disk, &life, "wal");
    disk.plan(FaultRule::new(OpKind::Write, Effect::Delay(4_000_000)));
    let before = disk.now();
    life.write(file, 0, 1, 9, Durable).unwrap();
    assert!(disk.now().since(before) >= 4_000_000);
}
