//! I16: when nothing goes wrong any more everything goes on by itself: what was asked for is answered,
//! everything can be appended to and read, the background comes to rest, and a close leaves nothing to
//! recover (I20).

use thalweg::{AppendOptions, ShardStats};

use crate::faults::ROOMY;
use crate::world::{End, World};

/// How long the background gets to come to rest, ms of virtual time.
const REST_MS: u64 = 60_000;
const LOOK_MS: u64 = 100;

/// The liveness phase.
pub(crate) fn all_goes_on(world: &mut World<'_>) {
    world.events.note("nothing goes wrong any more".to_owned());
    world.calm();
    world.host.disk.set_capacity(ROOMY);
    world.full = false;
    if world.ended() || world.may_be_doomed() {
        world.restart(End::Close);
        world.calm();
    }
    // What waits for room is refused until some is made.
    world.pause(2000);
    world.answer_all();
    let acked = world.oracle.acked;
    let names: Vec<String> = world.oracle.there.keys().cloned().collect();
    for name in &names {
        world.append_to(name, AppendOptions::default());
    }
    world.answer_all();
    assert!(!world.ended(), "I16: the shard ends by itself: {:?}", world.log().ended());
    assert!(world.oracle.acked >= acked + names.len() as u64, "I16: appends are refused");
    at_rest(world);
    nothing_left_over(world);
    world.restart(End::Close);
    world.calm();
    let dropped = world.host.shard().recovery().dropped.clone();
    assert_eq!(dropped, None, "I20: a close leaves something to recover");
}

fn stats(world: &mut World<'_>) -> ShardStats {
    let ticket = world.log().stats(0);
    world.drive(ticket).flatten().expect("I16: a shard that runs has counters")
}

/// The background comes to rest, and fails at nothing.
fn at_rest(world: &mut World<'_>) {
    let key = |stats: &ShardStats| {
        (stats.files_sealed, stats.segments_merged, stats.segments_removed, stats.files_recycled)
    };
    let (mut before, mut quiet) = (stats(world), 0);
    for _ in 0..REST_MS / LOOK_MS {
        world.pause(LOOK_MS);
        let after = stats(world);
        quiet = if key(&before) == key(&after) { quiet + 1 } else { 0 };
        if quiet > 10 {
            assert_eq!(before.background_errors, after.background_errors, "I16: the background fails");
            return;
        }
        before = after;
    }
    panic!("I16: the background never rests: {before:?}");
}

/// Every file is one that the manifest knows.
fn nothing_left_over(world: &mut World<'_>) {
    let stats = stats(world);
    let files = world.host.disk.files().into_iter().filter(|(path, _)| {
        let name = path.to_string_lossy();
        !name.contains("quarantine") && (name.ends_with(".log") || name.ends_with(".tmp"))
    });
    let (files, known) = (files.count() as u64, stats.wal_files + stats.segments);
    assert!(files <= known, "I15: {files} files, the manifest knows {known}: {:?}", world.host.disk.files());
}
