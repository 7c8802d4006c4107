//! Plays that a life goes through: what is asked of the log, in which order.

use thalweg::{PartitionConfig, Retention};
use thalweg_io::sim::SimRandom;

use crate::work::{Life, Stopped};

/// Small appends to several partitions, joint ones, and changes of the catalog.
pub(crate) fn mixed(life: &mut Life<'_>, seed: u64, rounds: u64) -> Result<(), Stopped> {
    let mut random = SimRandom::new(seed, "mixed");
    let short = format!("short-{seed}");
    ["a", "b", "c", &short].iter().for_each(|name| life.create(name));
    life.pump()?;
    for round in 0..rounds {
        let mut len = || 20 + random.below(1400) as usize;
        life.append("a", 1 + round % 4, len());
        life.append("b", 1, len() / 8);
        if round % 3 == 1 {
            life.joint(["a", "c"], 2, len());
        }
        if round < rounds / 2 {
            life.append(&short, 2, len());
        }
        match (round * 12) / rounds.max(1) {
            4 => life.trim("a", 5),
            6 => life.delete(&short),
            9 => life.trim("b", 2),
            _ => {}
        }
        // Two groups in flight, now and then.
        if random.chance(0.7) {
            life.pump()?;
        }
        if random.chance(0.15) {
            life.pump()?;
            life.settle(4);
        }
    }
    life.pump()
}

/// Large batches of one partition: full files that are then promoted to segments.
pub(crate) fn large(life: &mut Life<'_>, batches: u64) -> Result<(), Stopped> {
    life.create("a");
    life.pump()?;
    for batch in 0..batches {
        life.append("a", 2, 7000);
        if batch % 3 == 0 {
            life.pump()?;
        }
    }
    life.pump()
}

/// Partitions that retention and compaction take from.
pub(crate) fn keeping(life: &mut Life<'_>, rounds: u64) -> Result<(), Stopped> {
    let with = |bytes_max, age_max_ms| PartitionConfig {
        retention: Retention { bytes_max, age_max_ms },
        ..PartitionConfig::default()
    };
    life.create_with("kept", with(Some(20 << 10), None));
    life.create_with("aged", with(None, Some(10)));
    life.create_with("keyed", PartitionConfig { compact: true, ..PartitionConfig::default() });
    life.pump()?;
    for round in 0..rounds {
        life.append("kept", 4, 1500);
        life.append("keyed", 6, 600);
        life.append("aged", 2, 900);
        if round % 2 == 1 {
            life.pump()?;
        }
        if round % 6 == 5 {
            life.pump()?;
            life.settle(4);
        }
    }
    life.pump()
}
