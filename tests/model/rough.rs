//! What may go wrong in a life, and the settings it is lived with.

use thalweg::Config;
use thalweg_io::sim::SimRandom;
use thalweg_tests::{Host, Owned, Sim, small};

/// A host that can be ended in more than one way.
#[allow(async_fn_in_trait, reason = "a story is told on one thread")]
pub(crate) trait Rough: Host {
    /// Something is about to go wrong.
    fn threaten(&mut self, random: &mut SimRandom);
    /// Ends the log; whether its power is cut or it is only killed.
    async fn end(&mut self, random: &mut SimRandom);
    /// Nothing goes wrong from here on; whether nothing has since the last opening.
    async fn calm(&mut self) -> bool;
}

impl Rough for Sim {
    fn threaten(&mut self, random: &mut SimRandom) {
        self.disk.crash_after(random.below(60));
    }

    async fn end(&mut self, random: &mut SimRandom) {
        if random.chance(0.3) && !self.disk.is_off() {
            self.disk.kill();
        }
        self.crash().await;
        self.disk.crash_after(u64::MAX);
    }

    async fn calm(&mut self) -> bool {
        let on = !self.disk.is_off();
        if !on {
            self.crash().await;
        }
        self.disk.crash_after(u64::MAX);
        on
    }
}

impl Rough for Owned {
    fn threaten(&mut self, _random: &mut SimRandom) {}

    async fn end(&mut self, _random: &mut SimRandom) {
        self.crash().await;
    }

    async fn calm(&mut self) -> bool {
        true
    }
}

/// Settings drawn from a seed: small files, so that everything happens; up to three sealed as one.
pub(crate) fn settings(seed: u64) -> Config {
    let mut random = SimRandom::new(seed, "sealing");
    let mut config = settings_of_one_file(seed);
    config.segment.seal_files_max = 1 + random.below(3) as u32;
    if config.segment.seal_files_max > 1 {
        config.cache.bytes = (u64::from(config.segment.seal_files_max) + 1) * config.wal.file_bytes;
    }
    config.segment.run_bytes_min = [0, 2 << 10, 1 << 20][random.below(3) as usize];
    config
}

/// As `settings`, with files sealed one by one.
pub(crate) fn settings_of_one_file(seed: u64) -> Config {
    let mut random = SimRandom::new(seed, "settings");
    let mut config = small();
    config.group.bytes_max = 4096 << random.below(3);
    config.limits.batch_bytes_max = 8 << 10;
    config.group.in_flight_max = 1 + random.below(3) as u32;
    config.group.linger_us = if random.chance(0.3) { 200 } else { 0 };
    config.cache.bytes = 256 << 10;
    config.wal.file_bytes = [112 << 10, 192 << 10][random.below(2) as usize];
    config.wal.witness_after_us = [200, 20_000][random.below(2) as usize];
    config.segment.own_bytes_min = [8 << 10, 64 << 10][random.below(2) as usize];
    config.segment.promote_partitions_max = random.below(5) as u32;
    config.segment.merge_fan_in = 2 + random.below(4) as u32;
    config.segment.check_interval_ms = 1 + random.below(20);
    config.segment.seal_age_max_ms = [5, 100, 600_000][random.below(3) as usize];
    config.read.fetch_bytes_max = 4096 << random.below(5);
    config.read.open_files_max = 4;
    config.read.disk_fetches_max = 1 + random.below(4) as u32;
    config
}
