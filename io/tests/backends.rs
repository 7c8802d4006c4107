//! The contract on the backends that use a real file system.

mod contract;

use std::time::Duration;

use contract::{Case, parking, polling};
use thalweg_io::{Backend, BlockingBackend, CommitStrategy, DirLock, UringBackend};

fn uring_dsync(case: Case<UringBackend>) {
    parking(case, |root| UringBackend::open(root, CommitStrategy::Dsync));
}

fn uring_write_then_sync(case: Case<UringBackend>) {
    parking(case, |root| UringBackend::open(root, CommitStrategy::WriteThenSync));
}

fn uring_hybrid(case: Case<UringBackend>) {
    parking(case, |root| UringBackend::open(root, CommitStrategy::Hybrid));
}

fn uring_blocking(case: Case<UringBackend>) {
    parking(case, |root| UringBackend::open(root, CommitStrategy::Blocking));
}

fn uring_polling(case: Case<UringBackend>) {
    polling(case, |root| UringBackend::open(root, CommitStrategy::WriteThenSync));
}

fn blocking_dsync(case: Case<BlockingBackend>) {
    parking(case, |root| BlockingBackend::open(root, CommitStrategy::Dsync));
}

fn blocking_write_then_sync(case: Case<BlockingBackend>) {
    parking(case, |root| BlockingBackend::open(root, CommitStrategy::WriteThenSync));
}

fn blocking_hybrid(case: Case<BlockingBackend>) {
    parking(case, |root| BlockingBackend::open(root, CommitStrategy::Hybrid));
}

fn blocking_blocking(case: Case<BlockingBackend>) {
    parking(case, |root| BlockingBackend::open(root, CommitStrategy::Blocking));
}

contract!(uring_dsync);
contract!(uring_write_then_sync);
contract!(uring_hybrid);
contract!(uring_blocking);
contract!(uring_polling);
contract!(blocking_dsync);
contract!(blocking_write_then_sync);
contract!(blocking_hybrid);
contract!(blocking_blocking);

mod real_time {
    use super::*;

    contract!(@real_time uring_dsync);
    contract!(@real_time uring_write_then_sync);
    contract!(@real_time uring_hybrid);
    contract!(@real_time uring_blocking);
    contract!(@real_time uring_polling);
    contract!(@real_time blocking_dsync);
    contract!(@real_time blocking_write_then_sync);
    contract!(@real_time blocking_hybrid);
    contract!(@real_time blocking_blocking);
}

#[test]
fn a_dropped_backend_waits_for_its_writes() {
    for strategy in CommitStrategy::ALL {
        let dir = tempfile::tempdir().unwrap();
        contract::dropped_with_writes_in_flight(UringBackend::open(dir.path(), strategy).unwrap());
        let dir = tempfile::tempdir().unwrap();
        contract::dropped_with_writes_in_flight(BlockingBackend::open(dir.path(), strategy).unwrap());
    }
}

#[test]
fn a_ring_keeps_the_lock_that_it_holds() {
    use std::os::fd::AsFd;
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path(), Duration::ZERO).unwrap();
    let mut backend = UringBackend::open(dir.path(), CommitStrategy::Dsync).unwrap();
    backend.hold(lock.as_fd()).unwrap();
    drop(lock);
    assert!(DirLock::acquire(dir.path(), Duration::ZERO).is_err());
    drop(backend);
    DirLock::acquire(dir.path(), Duration::ZERO).unwrap();
}

#[test]
fn a_ring_says_what_it_got_and_keeps_its_workers_where_they_are_put() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = UringBackend::open(dir.path(), CommitStrategy::Dsync).unwrap();
    let region = thalweg_io::Region::new(1 << 20, 3).unwrap();
    backend.register(&region);
    let features = backend.features();
    assert!(features.contains("slots") && features.contains("MiB registered"), "{features}");
    backend.set_worker_cores(&thalweg_io::pin::allowed_cores().unwrap()).unwrap();
    assert!(backend.set_worker_cores(&[usize::MAX]).is_err());
    assert!(backend.free_bytes().is_none_or(|bytes| bytes > 0));
}
