//! Random lives of a log against a simple model of what it promised.
//!
//! `THALWEG_SEEDS=from..to` runs other seeds; a failing seed prints its number and its last steps.

#![forbid(unsafe_code)]

mod rough;
mod run;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg_io::sim::{Effect, FaultRule, OpKind};
use thalweg_tests::{Owned, Sim, block_on};

use rough::{settings, settings_of_one_file};
use run::Story;

/// Seeds of the test command.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let given = std::env::var("THALWEG_SEEDS").ok();
    let parsed = given.as_deref().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    parsed.unwrap_or(0..count)
}

fn tell(seed: u64, story: impl FnOnce(&mut Vec<String>)) {
    let mut steps = Vec::new();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| story(&mut steps))) {
        let last = steps.len().saturating_sub(40);
        eprintln!("seed {seed} failed; its last steps:\n  {}", steps[last..].join("\n  "));
        resume_unwind(panic);
    }
}

#[test]
fn what_was_acknowledged_is_kept_on_a_disk_that_loses_what_it_may() {
    for seed in seeds(2000) {
        tell(seed, |steps| {
            let host = Sim::new(settings(seed), seed);
            block_on(Story::new(host, seed, steps).tell(120));
        });
    }
}

/// Seeds that found something: a deletion on its way while its records were sealed, and a close
/// with appends waiting for a WAL file that nobody was going to prepare.
#[test]
fn seeds_that_once_failed() {
    for seed in [315, 448, 459, 1527, 2296] {
        tell(seed, |steps| {
            let host = Sim::new(settings_of_one_file(seed), seed);
            block_on(Story::new(host, seed, steps).tell(120));
        });
    }
}

/// A story that can't tell a disk that lies from one that does not is worth nothing.
#[test]
fn a_disk_that_lies_is_found_out() {
    let told = |effect: &Effect| {
        let lies = |seed| {
            let host = Sim::new(settings(seed), seed);
            host.disk.plan(FaultRule::new(OpKind::Write, effect.clone()).on(".log").always());
            catch_unwind(AssertUnwindSafe(|| block_on(Story::new(host, seed, &mut Vec::new()).tell(120))))
                .is_err()
        };
        (0..10).filter(|seed| lies(*seed)).count()
    };
    assert_eq!(told(&Effect::Lie), 10, "a durable write that is not");
    assert_eq!(told(&Effect::Drop), 10, "a write that never happens");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let hash = |seed| {
        let host = Sim::new(settings(seed), seed);
        let disk = host.disk.clone();
        block_on(Story::new(host, seed, &mut Vec::new()).tell(60));
        disk.trace_hash()
    };
    for seed in 0..5 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
}

#[test]
fn what_was_acknowledged_is_kept_on_a_real_file_system() {
    for seed in 0..6 {
        let (backend, commit) = match seed % 3 {
            0 => (BackendSetting::Blocking, CommitSetting::Dsync),
            1 => (BackendSetting::Blocking, CommitSetting::WriteThenSync),
            _ => (BackendSetting::Auto, CommitSetting::Dsync),
        };
        tell(seed, |steps| {
            let host = Owned::new(settings(seed), backend, commit);
            block_on(Story::new(host, seed, steps).tell(120));
        });
    }
}
