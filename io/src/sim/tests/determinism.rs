//! The same seed and the same calls give the same run.

use std::time::Instant;

use super::super::{Effect, FaultRule, OpKind, SimDisk, SimOptions, SimRandom};
use super::{Life, filled};
use crate::backend::{BLOCK, Buffer, Durability, Op, OpenMode};

/// About `ops` operations of every kind, with several in flight, faults and power cuts.
fn run(seed: u64, ops: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let mut random = SimRandom::new(seed, "workload");
    disk.plan(FaultRule::new(OpKind::Write, Effect::FlipBit).skip(20));
    disk.plan(FaultRule::new(OpKind::Sync, Effect::Error(5)).skip(20));
    while disk.op_count() < ops {
        let life = Life::new(&disk);
        let names = ["a", "b", "c"].map(|name| {
            life.open(name, OpenMode::ReadWrite).or_else(|_| life.open(name, OpenMode::CreateNew)).unwrap().0
        });
        let mut pending = Vec::new();
        for _ in 0..200 {
            let file = names[random.below(3) as usize];
            let position = random.below(32) * BLOCK as u64;
            let fill = random.draw() as u8;
            let op = match random.below(8) {
                0 => Op::Sync { file },
                1 => Op::Read { file, position, buf: filled(2, 0) },
                2 => Op::SyncDir { path: "".into() },
                3 => Op::Truncate { file, len: position },
                nth => {
                    let durability = if nth == 4 { Durability::Durable } else { Durability::Volatile };
                    Op::Write { file, position, buf: Buffer::Aligned(filled(1, fill)), durability }
                }
            };
            pending.push(life.0.start(op));
            if pending.len() == 4 {
                for done in pending.drain(..) {
                    let _ = life.0.block_on(done).result;
                }
            }
        }
        drop(pending);
        disk.crash();
    }
    disk
}

/// A disk in the middle of a life, its process gone without a word.
fn busy(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let mut random = SimRandom::new(seed, "workload");
    let life = Life::new(&disk);
    let mut pending = Vec::new();
    for nth in 0..40 {
        let name = ["a", "b", "c"][random.below(3) as usize];
        let position = random.below(8) * BLOCK as u64;
        let Ok((file, _)) = life.open(name, OpenMode::ReadWrite) else {
            // A rename in flight may be faster.
            let _ = life.open(name, OpenMode::CreateNew);
            continue;
        };
        let other = ["a", "b", "c"][random.below(3) as usize];
        pending.push(life.0.start(match random.below(7) {
            0 => Op::Sync { file },
            1 => Op::SyncDir { path: "".into() },
            2 => Op::Truncate { file, len: position },
            3 => Op::Rename { from: name.into(), to: other.into() },
            4 => Op::Remove { path: name.into() },
            nth => {
                let durability = if nth == 5 { Durability::Durable } else { Durability::Volatile };
                Op::Write { file, position, buf: Buffer::Aligned(filled(2, nth as u8)), durability }
            }
        }));
        if nth % 5 == 0 {
            pending.drain(..).for_each(|done| drop(life.0.block_on(done)));
        }
    }
    disk.snapshot()
}

#[test]
fn a_seed_reproduces_a_run_and_its_disk() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (first, second) = (run(seed, 500), run(seed, 500));
        assert_eq!(first.trace_hash(), second.trace_hash());
        assert_eq!(first.last_events(), second.last_events());
        assert_eq!(first.files(), second.files());
        for (path, _) in first.files() {
            assert_eq!(first.contents(&path), second.contents(&path));
        }
        hashes.insert(first.trace_hash());
    }
    assert_eq!(hashes.len(), 20);
}

#[test]
fn the_trace_notices_one_different_byte() {
    let hash = |fill| {
        let disk = SimDisk::new(1);
        let life = Life::new(&disk);
        let file = life.create("wal");
        life.write(file, 0, 1, fill, Durability::Durable).unwrap();
        disk.trace_hash()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn the_kindest_and_the_strictest_power_cut_leave_what_was_foretold() {
    for seed in 0..200 {
        // The copies have operations in flight, and files that are open and have no name.
        let (strict, kind) = (busy(seed), busy(seed).snapshot());
        strict.set_options(SimOptions::strict());
        kind.set_options(SimOptions::kind());
        let durable = strict.files().into_iter().map(|(path, _)| (strict.durable(&path), path));
        let durable: Vec<_> = durable.filter_map(|(content, path)| Some((path, content?))).collect();
        strict.crash();
        for (path, content) in durable {
            assert_eq!(strict.contents(&path), Some(content), "seed {seed}: {path:?}");
        }
        drop(kind.backend());
        let read: Vec<_> = kind.files().into_iter().map(|(path, _)| (kind.contents(&path), path)).collect();
        kind.crash();
        for (content, path) in read {
            assert_eq!(kind.contents(&path), content, "seed {seed}: {path:?}");
        }
    }
}

#[test]
fn a_copy_of_a_disk_is_independent() {
    let disk = run(3, 100);
    let copy = disk.snapshot();
    let before = disk.files();
    let life = Life::new(&copy);
    life.create("only here");
    assert_eq!(disk.files(), before);
    assert_ne!(copy.files(), before);
}

#[test]
fn a_thousand_operations_take_a_moment() {
    let started = Instant::now();
    let disk = run(9, 1000);
    assert!(disk.op_count() >= 1000);
    // Far above what it takes in a debug build, far below what a mistake in the model would cost.
    assert!(started.elapsed().as_millis() < 2000, "{:?}", started.elapsed());
}
