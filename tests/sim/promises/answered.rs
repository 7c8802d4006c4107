//! I17: every call ends, and an error is one that its world gives reason for.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use thalweg::{AppendError, ControlError, OwnedShard};
use thalweg_io::Nanos;

use crate::swarm::Kind;
use crate::world::World;

/// Longest that a call takes while its shard is turned and the disk has power, s of virtual time.
const DEADLINE_S: u64 = 600;
/// Turns after which a shard that nobody asked for anything new has answered.
pub(crate) const TURNS_MAX: u32 = 400_000;
/// Turns that a shard gets to find out that the power is off.
pub(crate) const OFF_TURNS_MAX: u32 = 1000;

pub(crate) fn in_time(world: &World<'_>, since: Nanos) {
    let waited_s = world.host.disk.now().since(since) / 1_000_000_000;
    let ends = world.host.disk.is_off() || world.ended();
    assert!(ends || waited_s < DEADLINE_S, "I17: a call has no answer after {waited_s} s");
}

/// Closes a shard: that is a call too.
pub(crate) fn closes(world: &World<'_>, shard: OwnedShard) -> Result<(), AppendError> {
    let since = world.host.disk.now();
    let mut closing = pin!(shard.close_within());
    for _ in 0..TURNS_MAX {
        if let Poll::Ready(closed) = closing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return closed;
        }
        in_time(world, since);
    }
    panic!("I17: a close never ends");
}

/// After the end of its shard nothing waits.
pub(crate) fn none_left(world: &World<'_>) {
    let left = world.waiting.len();
    assert_eq!(left, 0, "I17: calls outlive their shard");
}

/// A refusal that some fault explains.
pub(crate) fn allowed(world: &World<'_>, error: &AppendError) {
    let swarm = &world.swarm;
    let failing = [Kind::WriteErrors, Kind::SyncErrors, Kind::ReadErrors, Kind::Rot, Kind::Full];
    let failing = failing.into_iter().any(|kind| swarm.has(kind));
    let explained = match error {
        AppendError::NoSuchPartition(_) => swarm.has(Kind::Catalog),
        AppendError::UnexpectedOffset { .. } => true,
        AppendError::OutOfSpace { .. } | AppendError::WalFull { .. } => failing,
        _ => false,
    };
    assert!(explained, "I17: refused for no reason: {error}");
}

/// As [`allowed`], for a change of the catalog.
pub(crate) fn allowed_change(world: &World<'_>, error: Option<&ControlError>) {
    match error {
        None => {}
        Some(ControlError::Append(error)) if error.needs_reopen() => {}
        Some(ControlError::Append(error)) => allowed(world, error),
        Some(error) => panic!("I17: refused for no reason: {error}"),
    }
}
