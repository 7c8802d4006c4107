//! Processes that own a data directory and are killed, stopped, or starved of what they need: what they
//! had acknowledged is there when the next one opens it, and that one does not start too early.
//!
//! `THALWEG_KILLS` says how many cycles each backend goes through (default 50); a cycle kills two to five
//! processes. `THALWEG_SEED` draws the moments of the kills (default 1); what the kernel does meanwhile
//! differs from run to run.

#![forbid(unsafe_code)]

mod cycle;
mod ledger;
mod limits;
mod process;
mod signals;
mod zombie;

use cycle::{Cycles, Seen};
use thalweg_tests::scoreboard;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
}

/// Goes through the cycles of one backend.
fn killed(backend: &str, method: &str) {
    let (cycles, seed) = (number("THALWEG_KILLS", 50), number("THALWEG_SEED", 1));
    let mut log = Cycles::new(backend, seed);
    for cycle in 0..cycles {
        if let Err(why) = log.cycle() {
            scoreboard::count(method, &counted(&log.seen), 1);
            panic!(
                "cycle {cycle}: {why}\nTHALWEG_SEED={seed} THALWEG_KILLS={cycles} \
                 cargo test -p thalweg-tests --test kills -- {backend}"
            );
        }
    }
    let seen = &log.seen;
    scoreboard::count(method, &counted(seen), 0);
    println!(
        "{backend}: most WAL read {} KiB, longest opening {} ms",
        seen.wal_bytes_max >> 10,
        seen.open_us_max / 1000
    );
    assert!(seen.records > 0 && seen.kills_while_opening > 0, "{seen:?}: nothing was put to the test");
}

fn counted(seen: &Seen) -> [(&'static str, u64); 6] {
    [
        ("kills", seen.kills),
        ("kills while opening", seen.kills_while_opening),
        ("openings checked", seen.looks),
        ("second owners refused", seen.refused_while_alive),
        ("waits for a dead owner", seen.waits_for_the_dead),
        ("records acknowledged or read", seen.records),
    ]
}

#[test]
fn what_was_acknowledged_survives_kills_on_uring() {
    killed("uring", "kill -9, uring");
}

#[test]
fn what_was_acknowledged_survives_kills_on_blocking() {
    killed("blocking", "kill -9, blocking");
}
