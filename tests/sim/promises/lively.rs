//! I16: when nothing goes wrong any more everything goes on by itself: what was asked for is answered,
//! everything can be appended to and read, the background comes to rest, and a close leaves nothing to
//! recover (I20).

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use thalweg::{AppendOptions, ReadFrom, Reader, ShardStats};

use crate::faults::ROOMY;
use crate::world::{End, World};

/// How long the background gets to come to rest, ms of virtual time.
const REST_MS: u64 = 60_000;
const LOOK_MS: u64 = 100;
/// Looks of a reader that waits, a ms apart, until it must have heard of everything.
const LOOKS_MAX: u32 = 1000;

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
    let mut waiting: Vec<_> = names.iter().map(|name| Waiting::new(world, name)).collect();
    world.pause(LOOK_MS);
    for name in &names {
        world.append_to(name, AppendOptions::default());
    }
    world.answer_all();
    assert!(!world.ended(), "I16: the shard ends by itself: {:?}", world.log().ended());
    assert!(world.oracle.acked >= acked + names.len() as u64, "I16: appends are refused");
    waiting.iter_mut().for_each(|waiting| waiting.hears_of_all(world));
    at_rest(world);
    nothing_left_over(world);
    world.restart(End::Close);
    world.calm();
    let dropped = world.host.shard().recovery().dropped.clone();
    assert_eq!(dropped, None, "I20: a close leaves something to recover");
}

/// A reader that waits at the end of a partition.
struct Waiting {
    name: String,
    reader: Reader,
    next: u64,
}

impl Waiting {
    fn new(world: &World<'_>, name: &str) -> Waiting {
        let reader = world.log().partition(name).expect("it is there").read(ReadFrom::Latest);
        let mut waiting = Waiting { name: name.to_owned(), reader, next: 0 };
        waiting.take();
        waiting
    }

    /// Takes what there is.
    fn take(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(batch) = pin!(self.reader.next_batch()).poll(&mut context) {
            let batch = batch.and_then(Result::ok);
            let batch = batch.unwrap_or_else(|| panic!("I16: {}: a reader that waits has ended", self.name));
            self.next = batch.end_offset().0;
        }
    }

    /// It gets everything that was appended while it waited.
    fn hears_of_all(&mut self, world: &mut World<'_>) {
        let end = world.oracle.there[&self.name].end();
        for _ in 0..LOOKS_MAX {
            self.take();
            if self.next >= end {
                return;
            }
            world.pause(1);
        }
        panic!("I16: {}: a reader that waits has heard up to {}, not {end}", self.name, self.next);
    }
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
