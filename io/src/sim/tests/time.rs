//! Virtual time and the order of completions.

use super::super::{POLL_NS, SimDisk, SimOptions};
use super::{Life, strict};
use crate::backend::{Backend, Nanos, Op, Tag};

/// The order in which 50 operations complete, and when the last did.
fn order(options: SimOptions) -> (Vec<u64>, Nanos) {
    let disk = SimDisk::with_options(4, options);
    let mut backend = disk.backend();
    for tag in 0..50 {
        backend.submit(Op::List { path: "".into() }, Tag(tag));
    }
    let mut done = Vec::new();
    while backend.in_flight() > 0 {
        backend.park(None);
        backend.poll(&mut done);
    }
    (done.into_iter().map(|completion| completion.tag.0).collect(), disk.now())
}

#[test]
fn completions_overtake_each_other_unless_told_not_to() {
    let sorted: Vec<u64> = (0..50).collect();
    let (reordered, _) = order(SimOptions::random());
    assert_ne!(reordered, sorted);
    let (in_order, at) = order(SimOptions { reorder: false, ..SimOptions::random() });
    assert_eq!(in_order, sorted);
    assert!(at >= Nanos(5_000) && at <= Nanos(100_000 + 50 * POLL_NS), "{at:?}");
}

#[test]
fn parking_jumps_to_the_next_completion_or_the_deadline() {
    let options = SimOptions { latency_ns_min: 1_000, latency_ns_max: 1_000, ..SimOptions::strict() };
    let disk = SimDisk::with_options(1, options);
    let mut backend = disk.backend();
    backend.park(None);
    assert_eq!(disk.now(), Nanos(0));
    backend.park(Some(Nanos(700)));
    assert_eq!(disk.now(), Nanos(700));
    backend.submit(Op::List { path: "".into() }, Tag(1));
    backend.park(Some(Nanos(900)));
    assert_eq!((disk.now(), backend.poll(&mut Vec::new())), (Nanos(900), 0));
    backend.park(Some(Nanos(5_000)));
    assert_eq!((disk.now(), backend.poll(&mut Vec::new())), (Nanos(1_700), 1));
}

#[test]
fn polling_alone_gets_on() {
    let disk = strict();
    let mut backend = disk.backend();
    backend.submit(Op::List { path: "".into() }, Tag(1));
    let mut done = Vec::new();
    let polls = (1..).find(|_| backend.poll(&mut done) > 0).unwrap();
    assert_eq!(disk.now(), Nanos(polls * POLL_NS));
}

#[test]
fn a_backend_that_does_not_poll_holds_up_nobody() {
    let disk = strict();
    let mut idle = disk.backend();
    idle.submit(Op::List { path: "".into() }, Tag(1));
    let life = Life::new(&disk);
    life.0.block_on(life.0.sleep_us(10_000));
    assert!(disk.now() >= Nanos(10_000_000));
    assert_eq!((idle.in_flight(), idle.poll(&mut Vec::new())), (1, 1));
}
