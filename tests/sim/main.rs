//! Whole lives of the engine in a world drawn from a seed: its own code on a simulated disk, in virtual
//! time, with everything that may go wrong and an oracle that knows what was promised.
//!
//! A world has a safety phase, in which faults, power cuts and kills come as the seed says, and a
//! liveness phase, in which nothing goes wrong any more and everything must go on. Each promise has its
//! file in `promises/`. A seed that fails is made smaller, and printed with the command that runs it.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `THALWEG_SIM_SEEDS` | worlds; `from..to` for others than the first | 1,000 |
//! | `THALWEG_SIM_SAME` | worlds that are lived twice, and compared | 200 |
//! | `THALWEG_SIM_THREADS` | threads | 2 |
//! | `THALWEG_SIM_SEED` | one world | |
//! | `THALWEG_SIM_WITHOUT`, `THALWEG_SIM_STEPS` | less of that one | |
//! | `THALWEG_PLANTED`, `THALWEG_PLANTED_SEEDS`, `THALWEG_PLANTED_SEED` | see `planted.rs` | |
//!
//! The long runs: `THALWEG_SIM_SEEDS=100000 THALWEG_SIM_SAME=5000 cargo test -p thalweg-tests --test sim`.
//! Planted bugs: `cargo test -p thalweg-tests --features planted --test sim -- planted`.
//! With `THALWEG_SCOREBOARD` naming a file, a line of what was counted is added to it.

#![forbid(unsafe_code)]

mod copy;
mod counted;
mod damage;
mod events;
mod faults;
mod holdups;
mod oracle;
#[cfg(feature = "planted")]
mod planted;
mod promises;
mod reading;
mod run;
mod shrink;
mod steps;
mod swarm;
mod waiting;
mod world;

use swarm::Swarm;

#[test]
fn every_promise_is_kept_in_every_world() {
    run::worlds("whole lives", &run::seeds("THALWEG_SIM_SEEDS", 1000), |seed| {
        shrink::live(&Swarm::draw(seed)).map(|lived| lived.counted)
    });
}

/// Worlds behind the first ones that something was found in.
const FOUND: [u64; 1] = [
    1998, // a shard that waited for a spare WAL file turned without rest, and a read did not end
];

#[test]
fn what_was_found_once_is_not_there_any_more() {
    for seed in FOUND {
        run::worlds("whole lives", &(seed..seed + 1), |seed| {
            shrink::live(&Swarm::draw(seed)).map(|lived| lived.counted)
        });
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    run::worlds("whole lives, twice", &run::seeds("THALWEG_SIM_SAME", 200), |seed| {
        let swarm = Swarm::draw(seed);
        let (first, second) = (shrink::live(&swarm)?, shrink::live(&swarm)?);
        if first == second { Ok(first.counted) } else { Err(shrink::two_worlds(&swarm, &first, &second)) }
    });
}

#[test]
fn one_seed() {
    let Some(swarm) = shrink::asked_for() else { return };
    run::worlds("one life", &(swarm.seed..swarm.seed + 1), |_| {
        println!("{swarm:?}");
        shrink::live(&swarm).map(|lived| lived.counted)
    });
}
