//! Power cuts, kills, and lives that follow one another.

use std::io::{self, ErrorKind};

use super::super::{SimDisk, SimOptions, Undecided};
use super::{Life, blocks, filled, strict};
use crate::backend::Durability::{Durable, Volatile};
use crate::backend::{Backend, Buffer, Op, OpenMode};

#[test]
fn an_earlier_life_can_change_nothing() {
    let disk = strict();
    let old = Life::new(&disk);
    let file = old.create("wal");
    old.write(file, 0, 1, 1, Durable).unwrap();
    let flying =
        old.0.start(Op::Write { file, position: 0, buf: Buffer::Aligned(filled(1, 2)), durability: Durable });
    disk.crash();
    assert_eq!(disk.incarnation(), 1);
    let new = Life::new(&disk);
    let done = old.0.block_on(flying);
    assert_eq!(done.result.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(matches!(done.buffer, Some(Buffer::Aligned(buf)) if buf[0] == 2));
    let late = old.write(file, 0, 1, 3, Durable).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::BrokenPipe);
    drop(old);
    let (file, _) = new.open("wal", OpenMode::Read).unwrap();
    assert_eq!(new.read(file, 0, 1).unwrap()[0], 1);
}

#[test]
fn dropping_a_backend_waits_for_what_is_in_flight() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    let buf = Buffer::Aligned(filled(1, 2));
    drop(life.0.start(Op::Write { file, position: 0, buf, durability: Durable }));
    drop(life);
    assert_eq!(blocks(disk.durable("wal")), Some(vec![2]));
}

#[test]
fn a_kill_keeps_what_had_completed_and_leaves_it_unsynced() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 1, 1, Volatile).unwrap();
    disk.kill();
    assert_eq!(life.write(file, 0, 1, 3, Durable).unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(blocks(disk.contents("wal")), Some(vec![1]));
    disk.crash();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![]));
}

#[test]
fn a_write_in_flight_may_leave_any_of_its_sectors() {
    let start = || {
        let disk = strict();
        let life = Life::new(&disk);
        let file = life.create("wal");
        life.write(file, 0, 1, 1, Durable).unwrap();
        drop(life.0.start(Op::Write {
            file,
            position: 0,
            buf: Buffer::Aligned(filled(1, 2)),
            durability: Durable,
        }));
        (disk, life)
    };
    let (disk, _life) = start();
    disk.crash_choosing(|item| match item {
        Undecided::Sector { position, .. } => position < 1024,
        _ => true,
    });
    let content = disk.contents("wal").unwrap();
    assert_eq!((content[1023], content[1024]), (2, 1));
    let (disk, _life) = start();
    disk.crash();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![1]));
    let (disk, _life) = start();
    disk.set_options(SimOptions::kind());
    disk.crash();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![2]));
}

#[test]
fn a_file_without_a_name_is_kept_for_what_is_in_flight_on_it() {
    let disk = SimDisk::with_options(1, SimOptions { reorder: false, ..SimOptions::kind() });
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.run(Op::Remove { path: "wal".into() }).unwrap();
    drop(life.0.start(Op::SyncDir { path: "".into() }));
    drop(life.0.start(Op::Truncate { file, len: 4096 }));
    drop(disk.snapshot().backend());
    disk.crash();
    assert_eq!(disk.files(), []);
}

/// Replaces `current` by a file with `fill`, as every manifest in the world is replaced.
fn replace(life: &Life, fill: u8, sync_file: bool, sync_dir: bool) -> io::Result<()> {
    let _ = life.run(Op::Remove { path: "temp".into() });
    let (file, _) = life.open("temp", OpenMode::CreateNew)?;
    life.write(file, 0, 2, fill, Volatile)?;
    if sync_file {
        life.run(Op::Sync { file })?;
    }
    life.run(Op::Close { file })?;
    life.run(Op::Rename { from: "temp".into(), to: "current".into() })?;
    if sync_dir {
        life.run(Op::SyncDir { path: "".into() })?;
    }
    Ok(())
}

/// Cuts the power at every operation of three replacements; returns how many cuts left something
/// else than a whole file, at least as new as the last acknowledged one.
fn sweep(sync_file: bool, sync_dir: bool) -> (u64, u64) {
    let (mut cuts, mut broken) = (0, 0);
    for seed in 0..20 {
        for ops in 0.. {
            let disk = SimDisk::new(seed);
            let life = Life::new(&disk);
            disk.crash_after(ops);
            let acked = (1..=3).take_while(|fill| replace(&life, *fill, sync_file, sync_dir).is_ok()).count();
            if !disk.is_off() {
                break;
            }
            disk.crash();
            let content = disk.contents("current").unwrap_or_default();
            let fill = content.first().copied().unwrap_or(0);
            let whole = content.is_empty() || content == vec![fill; 8192];
            cuts += 1;
            broken += u64::from(!whole || usize::from(fill) < acked);
        }
    }
    (cuts, broken)
}

#[test]
fn a_power_cut_at_every_operation_breaks_only_what_forgot_a_sync() {
    let (cuts, broken) = sweep(true, true);
    assert!(cuts >= 20 * 3 * 6, "{cuts}");
    assert_eq!(broken, 0);
    assert!(sweep(false, true).1 > 20);
    assert!(sweep(true, false).1 > 20);
}

#[test]
fn several_backends_share_one_disk() {
    let disk = strict();
    let (first, second) = (Life::new(&disk), Life::new(&disk));
    let file = first.create("wal");
    first.write(file, 0, 1, 1, Durable).unwrap();
    let (file, len) = second.open("wal", OpenMode::ReadWrite).unwrap();
    assert_eq!((len, second.read(file, 0, 1).unwrap()[0]), (4096, 1));
    drop(first);
    second.write(file, 0, 1, 2, Durable).unwrap();
    assert_eq!(blocks(disk.durable("wal")), Some(vec![2]));
}

#[test]
#[should_panic(expected = "in flight")]
fn closing_a_file_that_is_in_use_is_a_mistake() {
    let life = Life::new(&strict());
    let file = life.create("wal");
    let _sync = life.0.start(Op::Sync { file });
    drop(life.0.start(Op::Close { file }));
}

#[test]
fn free_space_and_the_clock_are_the_disks() {
    let disk = strict();
    let mut backend = disk.backend();
    let before = (backend.now(), backend.wall_ms());
    disk.shift_wall_ms(-5_000);
    disk.advance_us(2_000);
    assert_eq!(backend.now().since(before.0), 2_000_000);
    assert_eq!(backend.wall_ms(), before.1 - 4_998);
    assert_ne!(backend.random(), backend.random());
}
