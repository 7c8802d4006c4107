//! What a seed's world is like: each kind of trouble is there or not, by the toss of a coin, and more
//! or less of it. A world with everything at once hides what a world with two things shows.

use std::collections::BTreeSet;

use thalweg::Config;
use thalweg_io::sim::{SimOptions, SimRandom};
use thalweg_tests::small;

/// What a world may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Unsynced changes are lost at a power cut.
    Lost,
    /// They are torn, sector by sector.
    Torn,
    /// Operations complete in another order than they were submitted in.
    Reordered,
    /// A lost sector of a torn write holds neither old nor new bytes.
    Garbage,
    /// Writes, and changes of names and lengths, fail.
    WriteErrors,
    /// Syncs fail, and what they should have covered is lost.
    SyncErrors,
    /// Reads fail.
    ReadErrors,
    /// Reads come back with a wrong bit, or from another place; a write to a new segment is lost.
    Rot,
    /// The disk is full for a while.
    Full,
    /// Operations take milliseconds.
    Slow,
    /// The wall clock jumps.
    Clock,
    /// The power goes off in the middle.
    Cuts,
    /// And again while recovering, up to three times.
    Nested,
    /// The process is killed.
    Kills,
    /// Copies of the directory are damaged, and must say so.
    Damage,
    /// A tail cache that holds little, so that reads come from disk.
    SmallCache,
    /// WAL files that are full soon.
    SmallWal,
    /// Several WAL files are sealed as one.
    JointSealing,
    /// Segments are merged early.
    Merges,
    /// Some partitions are compacted.
    Compaction,
    /// Some partitions have a retention.
    Retention,
    /// Partitions are trimmed.
    Trims,
    /// Partitions come, go and get other settings.
    Catalog,
    /// Appends over several partitions.
    Joints,
    /// Appends that are acknowledged before they are flushed.
    Accepted,
    /// Readers that wait at the end and hold what they read.
    Readers,
    /// Batches that nearly fill a group.
    Large,
    /// A group waits for company.
    Linger,
    /// More is asked for at once than groups in flight take.
    Bursts,
}

impl Kind {
    pub(crate) const ALL: [Kind; 29] = [
        Kind::Lost,
        Kind::Torn,
        Kind::Reordered,
        Kind::Garbage,
        Kind::WriteErrors,
        Kind::SyncErrors,
        Kind::ReadErrors,
        Kind::Rot,
        Kind::Full,
        Kind::Slow,
        Kind::Clock,
        Kind::Cuts,
        Kind::Nested,
        Kind::Kills,
        Kind::Damage,
        Kind::SmallCache,
        Kind::SmallWal,
        Kind::JointSealing,
        Kind::Merges,
        Kind::Compaction,
        Kind::Retention,
        Kind::Trims,
        Kind::Catalog,
        Kind::Joints,
        Kind::Accepted,
        Kind::Readers,
        Kind::Large,
        Kind::Linger,
        Kind::Bursts,
    ];

    /// The kind of this name.
    pub(crate) fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == name)
    }
}

/// One seed's world.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    pub(crate) seed: u64,
    pub(crate) on: BTreeSet<Kind>,
    /// Steps of the safety phase.
    pub(crate) steps: u32,
    levels: [f64; Kind::ALL.len()],
}

impl Swarm {
    /// Drawn from a seed.
    pub(crate) fn draw(seed: u64) -> Swarm {
        let mut random = SimRandom::new(seed, "swarm");
        let mut on = BTreeSet::new();
        let mut levels = [0.0; Kind::ALL.len()];
        for (kind, level) in Kind::ALL.into_iter().zip(&mut levels) {
            *level = random.unit();
            if random.chance(0.5) {
                on.insert(kind);
            }
        }
        Swarm { seed, on, steps: 60 + random.below(140) as u32, levels }
    }

    /// The same world without one kind.
    pub(crate) fn without(&self, kind: Kind) -> Swarm {
        let mut swarm = self.clone();
        swarm.on.remove(&kind);
        swarm
    }

    /// The same world with one kind.
    #[cfg(feature = "planted")]
    pub(crate) fn with(mut self, kind: Kind) -> Swarm {
        self.on.insert(kind);
        self
    }

    /// The same world with fewer steps.
    pub(crate) fn shorter(&self, steps: u32) -> Swarm {
        Swarm { steps, ..self.clone() }
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.on.contains(&kind)
    }

    /// How much of it there is, 0 to 1; 0 if there is none.
    pub(crate) fn level(&self, kind: Kind) -> f64 {
        if self.has(kind) { self.levels[kind as usize] } else { 0.0 }
    }

    /// How the disk behaves.
    pub(crate) fn disk(&self) -> SimOptions {
        let slowest = if self.has(Kind::Slow) { 400_000.0 } else { 100_000.0 };
        SimOptions {
            keep: 0.3,
            lose: self.level(Kind::Lost),
            tear: self.level(Kind::Torn),
            garbage: self.level(Kind::Garbage) * 0.5,
            reorder: self.has(Kind::Reordered),
            latency_ns_max: 20_000 + (slowest * self.levels[Kind::Slow as usize]) as u64,
            ..SimOptions::random()
        }
    }

    /// The engine's settings. What has no kind of its own is drawn all the same.
    pub(crate) fn config(&self) -> Config {
        let mut random = SimRandom::new(self.seed, "settings");
        let mut pick = |choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
        let mut config = small();
        config.group.bytes_max = pick(&[4, 8, 16]) as u32 * 1024;
        config.limits.batch_bytes_max = 8 << 10;
        config.group.in_flight_max = pick(&[1, 2, 3]) as u32;
        config.group.linger_us = if self.has(Kind::Linger) { 200 } else { 0 };
        config.limits.queue_bytes_max = pick(&[16, 64, 1024]) << 10;
        if self.has(Kind::Bursts) {
            // Twice that may wait at a time, which is enough for a group to begin beside another.
            (config.group.bytes_max, config.group.in_flight_max) = (32 << 10, 3);
            config.limits.queue_bytes_max = 1 << 20;
        }
        config.wal.file_bytes = if self.has(Kind::SmallWal) { 112 << 10 } else { 256 << 10 };
        config.wal.witness_after_us = pick(&[200, 2_000, 20_000]) as u32;
        config.wal.recovery_target_ms = pick(&[10, 1000]) as u32;
        config.segment.seal_files_max =
            if self.has(Kind::JointSealing) { pick(&[2, 3, 4]) as u32 } else { 1 };
        config.segment.own_bytes_min = pick(&[4, 16, 64]) << 10;
        config.segment.promote_partitions_max = pick(&[0, 1, 4]) as u32;
        config.segment.merge_fan_in = pick(&[2, 3, 5]) as u32;
        config.segment.run_bytes_min = if self.has(Kind::Merges) { 1 << 20 } else { 0 };
        config.segment.live_percent_min = pick(&[20, 50, 90]) as u32;
        config.segment.check_interval_ms = pick(&[1, 5, 20]);
        config.segment.seal_age_max_ms = pick(&[5, 100, 600_000]);
        config.read.fetch_bytes_max = pick(&[4, 16, 64]) as u32 * 1024;
        config.read.open_files_max = 4;
        config.read.disk_fetches_max = pick(&[1, 2, 4]) as u32;
        let least = config.cache_bytes_min();
        let ring = u64::from(config.segment.seal_files_max + 1) * config.wal.file_bytes;
        config.cache.bytes = if self.has(Kind::SmallCache) { least } else { least.max(ring) };
        config
    }
}
