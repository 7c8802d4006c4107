//! Random runs with power cuts and kills in between, many of them. `THALWEG_SEEDS` says how many
//! (default 150), `THALWEG_SEED` runs one.

use thalweg::PartitionConfig;
use thalweg_io::sim::{SimDisk, SimOptions};

use crate::world::{Life, Model, check, config, open};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

fn step(life: &mut Life<'_>, dice: &mut Dice, cut: u64) -> bool {
    let name = format!("p{}", dice.roll(6));
    match dice.roll(40) {
        0..=3 => life.create(&format!("p{}-{cut}", dice.roll(3)), PartitionConfig::default()),
        4 => life.create(&name, PartitionConfig::default()),
        5 => life.delete(&format!("p{}-{}", dice.roll(3), dice.roll(cut + 1))),
        6..=7 => {
            let to = life.acked_end(&name);
            life.trim(&name, to - dice.roll(to + 1).min(to));
        }
        8..=10 => return life.settle(dice.roll(4000)),
        11..=16 => return life.pump(),
        17..=19 => {
            life.shard.turn();
        }
        20..=24 => life.append("p0", 2, 3900),
        25..=28 => life.append(&format!("p{}-{cut}", dice.roll(3)), 1, dice.roll(2000) as usize),
        _ => life.append(&name, 1 + dice.roll(3) as usize, dice.roll(2000) as usize),
    }
    true
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let options = [SimOptions::random, SimOptions::strict, SimOptions::kind][dice.roll(3) as usize]();
    let disk = SimDisk::with_options(seed, options);
    let mut config = config();
    config.group.in_flight_max = 1 + dice.roll(3) as u32;
    config.cache.bytes = [128 << 10, 512 << 10][dice.roll(2) as usize];
    config.wal.witness_after_us = [100, 2_000, 1_000_000][dice.roll(3) as usize];
    config.segment.promote_partitions_max = dice.roll(4) as u32;
    config.segment.own_bytes_min = [4 << 10, 64 << 10][dice.roll(2) as usize];
    let (mut model, mut next_id) = (Model::new(), 1);
    for cut in 0..6 {
        let what = format!("seed {seed}, life {cut}");
        disk.crash_after(dice.roll(700));
        if let Ok(mut life) = Life::open(&disk, &config, &mut model, &mut next_id) {
            for number in 0..6 {
                life.create(&format!("p{number}"), PartitionConfig::default());
            }
            while step(&mut life, &mut dice, cut) && !disk.is_off() {}
            if dice.roll(4) > 0 {
                life.pump();
            }
            life.forget();
        } else {
            assert!(disk.is_off(), "{what}: {:?}", open(&disk, &config).err());
        }
        disk.crash();
        for round in 0..2 {
            let mut shard = open(&disk, &config).unwrap_or_else(|error| panic!("{what}: {error}"));
            check(&mut shard, &mut model).unwrap_or_else(|error| panic!("{what}, {round}: {error}"));
            if dice.roll(2) == 0 { disk.kill() } else { disk.crash() }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_any_run() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("THALWEG_SEED") {
        return run(seed);
    }
    (0..number("THALWEG_SEEDS").unwrap_or(150)).for_each(run);
}
