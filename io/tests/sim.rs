//! The contract on the simulated disk.

mod contract;

use contract::Case;
use thalweg_io::Reactor;
use thalweg_io::sim::{SimBackend, SimDisk, SimOptions};

fn run(case: Case<SimBackend>, options: &SimOptions) {
    for seed in 0..4 {
        let reactor = Reactor::new(SimDisk::with_options(seed, options.clone()).backend());
        reactor.block_on(case(reactor.clone()));
    }
}

fn reordered(case: Case<SimBackend>) {
    run(case, &SimOptions::random());
}

fn in_order(case: Case<SimBackend>) {
    run(case, &SimOptions { reorder: false, ..SimOptions::strict() });
}

contract!(reordered);
contract!(in_order);

/// What does not depend on a clock that goes on by itself, or on another thread.
mod without_a_real_clock {
    crate::contract!(@cases reordered:
        a_park_ends_at_its_deadline
        a_park_ends_when_an_operation_does
        completions_are_seen_without_parking
        paths_outside_the_data_directory_are_refused
        requests_that_are_not_in_blocks_are_refused
    );
}

#[test]
fn a_dropped_backend_waits_for_its_writes() {
    contract::dropped_with_writes_in_flight(SimDisk::new(1).backend());
}

#[test]
#[should_panic(expected = "what a task said")]
fn a_panic_in_a_task_reaches_whoever_runs_it() {
    let reactor = Reactor::new(SimDisk::new(1).backend());
    let sleeper = reactor.clone();
    reactor.spawn(async move {
        sleeper.sleep_us(10).await;
        panic!("what a task said");
    });
    reactor.block_on(reactor.sleep_us(1_000_000));
}
