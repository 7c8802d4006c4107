//! Power cuts by the hundred thousand: short random lives, cut after every turn that submitted
//! something, in several ways each, and now and then once more while recovering.
//!
//! `THALWEG_POINTS` says how many cuts (default 300,000; the long run is 20,000,000); a failure prints
//! the seed of its life, which `THALWEG_POINTS_SEED` runs alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use thalweg::{Config, PartitionConfig};
use thalweg_io::sim::{SimDisk, SimOptions, SimRandom};
use thalweg_tests::scoreboard;

use crate::world::{Life, Model, SURVIVALS, check, config, open};

/// Ways in which each cut is survived: all unsynced lost, all kept, and by the seed.
const WAYS: u64 = 4;
/// One cut in so many is followed by another one while recovering.
const NESTED_EVERY: u64 = 16;
const THREADS: u64 = 2;
const STEPS: u64 = 30;

/// A life that is cut after each of its turns.
struct Cut<'a> {
    life: Life<'a>,
    config: Config,
    random: SimRandom,
    seen_ops: u64,
    points: u64,
}

/// Small WAL files, so that a short life fills and seals some.
fn short_config(random: &mut SimRandom) -> Config {
    let mut config = config();
    config.wal.file_bytes = 112 << 10;
    config.group.in_flight_max = 1 + random.below(3) as u32;
    config.segment.promote_partitions_max = random.below(3) as u32;
    config.segment.own_bytes_min = [4 << 10, 64 << 10][random.below(2) as usize];
    config.wal.witness_after_us = [100, 2_000, 1_000_000][random.below(3) as usize];
    config
}

impl Cut<'_> {
    /// Turns until the answers are there, or so long; cuts a copy of the disk after each turn.
    fn turns(&mut self, most: u64) {
        for _ in 0..most {
            if !self.life.shard.turn() {
                self.life.shard.park();
            }
            let quiet = self.life.collect();
            if self.life.disk.op_count() > self.seen_ops {
                self.seen_ops = self.life.disk.op_count();
                (0..WAYS).for_each(|way| self.cut(way));
            }
            if quiet && most > 100 {
                return;
            }
        }
    }

    fn cut(&mut self, way: u64) {
        let disk = self.life.disk.snapshot();
        let options = SURVIVALS.get(way as usize).copied().unwrap_or(SimOptions::random as _);
        disk.set_options(options());
        disk.reseed(self.random.draw());
        disk.crash();
        self.points += 1;
        if self.random.below(NESTED_EVERY) == 0 {
            disk.crash_after(self.random.below(40));
            drop(open(&disk, &self.config));
            disk.crash();
            self.points += 1;
        }
        let what = format!("way {way}, after operation {}", self.seen_ops);
        let mut shard = open(&disk, &self.config).unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut model = self.life.model.clone();
        check(&mut shard, &mut model).unwrap_or_else(|error| panic!("{what}: {error}"));
        disk.kill();
    }
}

/// One life; returns its cuts.
fn life(seed: u64) -> u64 {
    let mut random = SimRandom::new(seed, "points");
    let config = short_config(&mut random);
    let disk = SimDisk::with_options(seed, SimOptions::random());
    let (mut model, mut next_id) = (Model::new(), 1);
    let life = Life::open(&disk, &config, &mut model, &mut next_id).expect("nothing goes wrong");
    let mut cut = Cut { life, config, random, seen_ops: 0, points: 0 };
    cut.seen_ops = disk.op_count();
    ["a", "b"].iter().for_each(|name| cut.life.create(name, PartitionConfig::default()));
    cut.turns(10_000);
    for step in 0..STEPS {
        let name = ["a", "b"][cut.random.below(2) as usize];
        match cut.random.below(12) {
            0..=4 => cut.life.append(name, 1 + step as usize % 3, 60),
            5..=7 => cut.life.append("a", 2, 3900),
            8 => {
                let end = cut.life.acked_end(name);
                let to = cut.random.below(end + 1);
                cut.life.trim(name, to);
            }
            9 => cut.life.create(&format!("c{step}"), PartitionConfig::default()),
            10 => cut.life.delete(&format!("c{}", step.saturating_sub(4))),
            _ => cut.turns(20),
        }
        let most = if cut.random.below(3) == 0 { 10_000 } else { 2 };
        cut.turns(most);
    }
    cut.turns(10_000);
    cut.points
}

#[test]
fn a_cut_at_every_turn_of_many_short_lives_loses_nothing_acknowledged() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("THALWEG_POINTS_SEED") {
        println!("{} power cuts", life(seed));
        return;
    }
    let wanted = number("THALWEG_POINTS").unwrap_or(300_000);
    let (points, next) = (AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while points.load(Ordering::Relaxed) < wanted {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let lived = std::panic::catch_unwind(|| life(seed));
                    let cuts = lived.unwrap_or_else(|panic| {
                        let command = "cargo test -p thalweg-tests --test recovery points";
                        eprintln!("again: THALWEG_POINTS_SEED={seed} {command}");
                        std::panic::resume_unwind(panic)
                    });
                    points.fetch_add(cuts, Ordering::Relaxed);
                }
            });
        }
    });
    let (points, lives) = (points.into_inner(), next.into_inner());
    println!(
        "{points} power cuts in {lives} lives, {:.0}/s",
        points as f64 / started.elapsed().as_secs_f64()
    );
    scoreboard::count("crash points", &[("cuts", points), ("lives", lives)], 0);
}
