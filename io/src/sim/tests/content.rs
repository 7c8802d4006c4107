//! Bytes and lengths.

use std::collections::BTreeSet;

use super::super::{Effect, FaultRule, OpKind, SECTOR, SimDisk, SimOptions, Undecided};
use super::{Life, blocks, errno, filled, strict};
use crate::backend::Durability::{Durable, Volatile};
use crate::backend::{BLOCK, Backend, Buffer, Durability, Op, OpenMode, Tag};
use crate::memory::Region;

#[test]
fn a_volatile_write_is_lost_without_a_sync_and_kept_with_one() {
    for (synced, want) in [(false, vec![]), (true, vec![7])] {
        let disk = strict();
        let life = Life::new(&disk);
        let file = life.create("wal");
        life.write(file, 0, 1, 7, Volatile).unwrap();
        assert_eq!(blocks(disk.contents("wal")), Some(vec![7]));
        if synced {
            life.run(Op::Sync { file }).unwrap();
        }
        disk.crash();
        assert_eq!(blocks(disk.contents("wal")), Some(want));
    }
}

#[test]
fn a_durable_write_survives_and_says_nothing_about_others() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 2, 1, Volatile).unwrap();
    life.write(file, 1, 2, 2, Durable).unwrap();
    life.write(file, 4, 1, 3, Volatile).unwrap();
    assert_eq!(blocks(disk.durable("wal")), Some(vec![0, 2, 2]));
    disk.crash();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![0, 2, 2]));
}

#[test]
fn a_sync_covers_only_what_completed_before_it_was_submitted() {
    let disk = SimDisk::with_options(1, SimOptions { reorder: false, ..SimOptions::strict() });
    let mut backend = disk.backend();
    let mut done = Vec::new();
    backend.submit(Op::Open { path: "wal".into(), mode: OpenMode::CreateNew }, Tag(0));
    backend.park(None);
    backend.poll(&mut done);
    backend.submit(Op::SyncDir { path: "".into() }, Tag(0));
    backend.park(None);
    backend.poll(&mut done);
    let file = crate::FileId(0);
    let write = |at: u64, fill| Op::Write {
        file,
        position: at * BLOCK as u64,
        buf: Buffer::Aligned(filled(1, fill)),
        durability: Volatile,
    };
    let mut settle = |backend: &mut crate::sim::SimBackend| {
        while backend.in_flight() > 0 {
            backend.park(None);
            backend.poll(&mut done);
        }
    };
    backend.submit(write(0, 1), Tag(1));
    settle(&mut backend);
    backend.submit(write(1, 2), Tag(2)); // in flight when the sync is submitted
    backend.submit(Op::Sync { file }, Tag(3));
    backend.submit(write(2, 3), Tag(4)); // submitted after it
    settle(&mut backend);
    disk.crash();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![1]));
}

#[test]
fn length_and_bytes_are_lost_independently() {
    let cut = |keep_bytes: bool, keep_length: bool| {
        let disk = strict();
        let life = Life::new(&disk);
        let file = life.create("wal");
        life.write(file, 0, 1, 7, Volatile).unwrap();
        disk.crash_choosing(|item| match item {
            Undecided::Sector { .. } => keep_bytes,
            Undecided::Length { .. } => keep_length,
            other => panic!("{other:?} was certain"),
        });
        let left = blocks(disk.contents("wal")).unwrap();
        // Bytes past the end that was kept are gone, whatever the file grows to.
        let life = Life::new(&disk);
        let (file, len) = life.open("wal", OpenMode::ReadWrite).unwrap();
        life.run(Op::Allocate { file, len: 2 * BLOCK as u64 }).unwrap();
        assert_eq!(life.read(file, len / BLOCK as u64, 1).unwrap(), vec![0; BLOCK]);
        left
    };
    assert_eq!(cut(true, true), [7]);
    assert_eq!(cut(true, false), [] as [u8; 0]);
    assert_eq!(cut(false, true), [0]);
    assert_eq!(cut(false, false), [] as [u8; 0]);
}

#[test]
fn an_allocation_reads_as_zeros_and_needs_a_sync() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.run(Op::Allocate { file, len: 3 * BLOCK as u64 }).unwrap();
    life.run(Op::Allocate { file, len: BLOCK as u64 }).unwrap();
    assert_eq!(life.read(file, 0, 4).unwrap(), vec![0; 3 * BLOCK]);
    assert_eq!(disk.durable("wal"), Some(vec![]));
    life.run(Op::Sync { file }).unwrap();
    assert_eq!(disk.durable("wal"), Some(vec![0; 3 * BLOCK]));
}

#[test]
fn an_unsynced_truncation_comes_back_and_spares_later_durable_writes() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 4, 1, Durable).unwrap();
    life.run(Op::Truncate { file, len: BLOCK as u64 }).unwrap();
    life.write(file, 2, 1, 2, Durable).unwrap();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![1, 0, 2]));
    let kept = disk.snapshot();
    kept.crash_choosing(|_| true);
    assert_eq!(blocks(kept.contents("wal")), Some(vec![1, 0, 2]));
    disk.crash();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![1, 1, 2, 1]));
}

#[test]
fn a_durable_write_brings_the_length_that_reaches_it() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 4, 1, Durable).unwrap();
    life.run(Op::Truncate { file, len: BLOCK as u64 }).unwrap();
    life.write(file, 3, 1, 2, Volatile).unwrap();
    life.write(file, 2, 1, 3, Durable).unwrap();
    // The truncation survives, the growth after it does not.
    disk.crash_choosing(|item| matches!(item, Undecided::Length { len: 4096, .. }));
    assert_eq!(blocks(disk.contents("wal")), Some(vec![1, 0, 3]));
}

#[test]
fn a_write_tears_at_sectors_and_every_subset_of_them_can_be_left() {
    let disk = SimDisk::with_options(3, SimOptions { lose: 0.0, tear: 1.0, ..SimOptions::strict() });
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 1, 1, Durable).unwrap();
    life.write(file, 0, 1, 2, Volatile).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..4000 {
        let copy = disk.snapshot();
        copy.reseed(seed);
        copy.crash();
        let content = copy.contents("wal").unwrap();
        let sectors: Vec<u8> = content
            .chunks(SECTOR)
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}: torn inside a sector");
                sector[0]
            })
            .collect();
        seen.insert(sectors);
    }
    assert_eq!(seen.len(), 256);
}

#[test]
fn the_older_of_two_unsynced_writes_may_be_the_one_that_survives() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let life = Life::new(&disk);
        let file = life.create("wal");
        life.write(file, 0, 1, 1, Durable).unwrap();
        life.write(file, 0, 1, 2, Volatile).unwrap();
        life.write(file, 0, 1, 3, Volatile).unwrap();
        disk.crash();
        seen.insert(disk.contents("wal").unwrap()[0]);
    }
    assert_eq!(seen, BTreeSet::from([1, 2, 3]));
}

#[test]
fn a_durable_write_hides_older_unsynced_bytes_for_good() {
    let disk = SimDisk::with_options(1, SimOptions::kind());
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 1, 1, Volatile).unwrap();
    life.write(file, 0, 1, 2, Durable).unwrap();
    disk.crash();
    assert_eq!(blocks(disk.contents("wal")), Some(vec![2]));
}

#[test]
fn a_read_beside_a_write_gets_old_or_new_bytes_by_sector() {
    let disk = SimDisk::with_options(
        5,
        SimOptions { latency_ns_min: 100, latency_ns_max: 100, ..SimOptions::strict() },
    );
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 1, 1, Durable).unwrap();
    disk.plan(FaultRule::new(OpKind::Write, Effect::Delay(10_000)));
    let buf = Buffer::Aligned(filled(1, 2));
    let slow = life.0.start(Op::Write { file, position: 0, buf, durability: Durable });
    let sectors: Vec<u8> = life.read(file, 0, 1).unwrap().into_iter().step_by(SECTOR).collect();
    assert!(sectors.contains(&1) && sectors.contains(&2), "{sectors:?}");
    life.0.block_on(slow).result.unwrap();
    assert_eq!(life.read(file, 0, 1).unwrap(), vec![2; BLOCK]);
}

#[test]
fn reads_end_where_the_file_ends() {
    let life = Life::new(&strict());
    let file = life.create("wal");
    life.write(file, 0, 2, 1, Durable).unwrap();
    assert_eq!(life.read(file, 1, 4).unwrap().len(), BLOCK);
    assert_eq!(life.read(file, 2, 1).unwrap().len(), 0);
    assert_eq!(life.read(file, 9, 1).unwrap().len(), 0);
}

#[test]
fn writes_come_whole_blocks_at_aligned_places_from_files_opened_for_writing() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    let write = |file, position, buf: Buffer, durability: Durability| {
        life.run(Op::Write { file, position, buf, durability })
    };
    assert_eq!(errno(write(file, 512, Buffer::Aligned(filled(1, 1)), Volatile)), 22);
    let region = Region::new(BLOCK, 1).unwrap();
    let mut chunk = region.take().unwrap();
    assert_eq!(errno(write(file, 0, Buffer::View(chunk.publish(100)), Volatile)), 22);
    let (reader, _) = life.open("wal", OpenMode::Read).unwrap();
    assert_eq!(errno(write(reader, 0, Buffer::Aligned(filled(1, 1)), Volatile)), 9);
    assert_eq!(errno(life.read(crate::FileId(99), 0, 1)), 9);
}

#[test]
fn a_full_disk_refuses_growth_and_takes_overwrites() {
    let disk = strict();
    disk.set_capacity(3 * BLOCK as u64);
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.run(Op::Allocate { file, len: 3 * BLOCK as u64 }).unwrap();
    assert_eq!(life.0.with_backend(|backend| backend.free_bytes()), Some(0));
    life.write(file, 2, 1, 1, Durable).unwrap();
    let full = life.write(file, 3, 1, 1, Durable).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(full.raw_os_error(), Some(28));
    assert_eq!(errno(life.run(Op::Allocate { file, len: 4 * BLOCK as u64 })), 28);
    disk.set_capacity(4 * BLOCK as u64);
    life.write(file, 3, 1, 1, Durable).unwrap();
    life.run(Op::Truncate { file, len: 0 }).unwrap();
    assert_eq!(disk.free_bytes(), 4 * BLOCK as u64);
}

#[test]
fn changes_from_outside_hold_in_every_version() {
    let disk = strict();
    let life = Life::new(&disk);
    let file = life.create("wal");
    life.write(file, 0, 1, 1, Durable).unwrap();
    life.write(file, 0, 1, 2, Volatile).unwrap();
    disk.patch("wal", 10, b"rot");
    disk.flip_bit("wal", 8);
    for keep in [false, true] {
        let copy = disk.snapshot();
        copy.crash_choosing(|_| keep);
        let content = copy.contents("wal").unwrap();
        assert_eq!((&content[10..13], content[0]), (&b"rot"[..], 1 + u8::from(keep)));
    }
    assert_eq!(disk.contents("wal").unwrap()[1], 3);
    disk.truncate("wal", 12);
    disk.put("other", b"abc");
    disk.crash();
    assert_eq!(disk.contents("wal").unwrap().len(), 12);
    assert_eq!(disk.durable("other"), Some(b"abc".to_vec()));
    assert!(disk.remove("other") && !disk.remove("other"));
    assert_eq!(disk.files(), [("wal".into(), 12)]);
}
