//! Hosts that forbid things: real seccomp filters, each in a child process of its own.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::time::Duration;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use thalweg_io::boot::{BackendChoice, BackendKind, choose};
use thalweg_io::{
    AlignedBuf, BLOCK, Backend, BlockingBackend, Buffer, CommitStrategy, Durability, Op, OpenMode, Reactor,
    UringBackend,
};

/// Set in the environment of a child.
const CHILD: &str = "THALWEG_FORBIDDEN_CHILD";

/// Runs `body` in a child process that runs only the test `name`.
#[track_caller]
fn in_child(name: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .spawn()
        .unwrap();
    for _ in 0..3000 {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{name} failed in its child: {status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    panic!("{name}: the child hangs");
}

/// From here on `calls` answer `errno` on this thread, if their rules match.
fn forbid(calls: impl IntoIterator<Item = (i64, Vec<SeccompRule>)>, errno: i32) {
    let rules: BTreeMap<_, _> = calls.into_iter().collect();
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, errno, std::env::consts::ARCH.try_into().unwrap());
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// A durable write, read back.
fn commit<B: Backend>(backend: B) -> io::Result<Reactor<B>> {
    let reactor = Reactor::new(backend);
    reactor.block_on(async {
        let (file, _) = reactor.open("data", OpenMode::CreateNew).await?;
        let (_, result) = reactor.write(file, 0, AlignedBuf::padded(&[7; BLOCK]), Durability::Durable).await;
        result?;
        let (buf, len) = reactor.read(file, 0, AlignedBuf::zeroed(BLOCK)).await;
        assert_eq!(len?, BLOCK);
        assert!(buf.iter().all(|byte| *byte == 7));
        io::Result::Ok(())
    })?;
    Ok(reactor)
}

#[test]
fn this_host_runs_a_ring() {
    let chosen = choose(BackendChoice::Auto).unwrap();
    assert_eq!((chosen.kind, chosen.reason), (BackendKind::Uring, None));
    assert_eq!(choose(BackendChoice::Uring).unwrap().kind, BackendKind::Uring);
}

#[test]
fn without_io_uring_a_shard_works_with_system_calls_and_says_why() {
    in_child("without_io_uring_a_shard_works_with_system_calls_and_says_why", || {
        forbid([(libc::SYS_io_uring_setup, vec![])], libc::EPERM);
        let chosen = choose(BackendChoice::Auto).unwrap();
        assert_eq!(chosen.kind, BackendKind::Blocking);
        let reason = chosen.reason.unwrap();
        assert!(reason.contains("seccomp") && reason.contains("io_uring_setup"), "{reason}");
        let error = choose(BackendChoice::Uring).unwrap_err();
        assert!(error.to_string().contains("seccomp"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        assert!(UringBackend::open(dir.path(), CommitStrategy::Dsync).is_err());
        commit(BlockingBackend::open(dir.path(), CommitStrategy::Dsync).unwrap()).unwrap();
    });
}

#[test]
fn a_filter_that_hides_only_the_enter_is_found_too() {
    in_child("a_filter_that_hides_only_the_enter_is_found_too", || {
        forbid([(libc::SYS_io_uring_enter, vec![])], libc::ENOSYS);
        let chosen = choose(BackendChoice::Auto).unwrap();
        assert_eq!(chosen.kind, BackendKind::Blocking);
        let reason = chosen.reason.unwrap();
        assert!(reason.contains("io_uring_enter") && reason.contains("seccomp"), "{reason}");
    });
}

#[test]
fn a_ring_works_without_registration() {
    in_child("a_ring_works_without_registration", || {
        // All but IORING_REGISTER_PROBE.
        let probe = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 8).unwrap();
        let rule = SeccompRule::new(vec![probe]).unwrap();
        forbid([(libc::SYS_io_uring_register, vec![rule])], libc::ENOMEM);
        let dir = tempfile::tempdir().unwrap();
        let mut backend = UringBackend::open(dir.path(), CommitStrategy::Dsync).unwrap();
        let region = thalweg_io::Region::new(BLOCK, 2).unwrap();
        backend.register(&region);
        assert!(backend.features().contains("0 file slots, 0 MiB"), "{}", backend.features());
        let reactor = commit(backend).unwrap();
        let (file, _) = reactor.block_on(reactor.open("data", OpenMode::ReadWrite)).unwrap();
        let buf = Buffer::View(region.take().unwrap().publish(BLOCK));
        let write = Op::Write { file, position: 0, buf, durability: Durability::Durable };
        reactor.block_on(reactor.run(write)).unwrap();
    });
}

#[test]
fn a_ring_that_is_forbidden_later_fails_its_operations_and_ends() {
    in_child("a_ring_that_is_forbidden_later_fails_its_operations_and_ends", || {
        let dir = tempfile::tempdir().unwrap();
        let reactor = commit(UringBackend::open(dir.path(), CommitStrategy::Dsync).unwrap()).unwrap();
        forbid([(libc::SYS_io_uring_enter, vec![])], libc::EPERM);
        for _ in 0..2 {
            let (file, buf) = (thalweg_io::FileId(0), AlignedBuf::padded(&[8; BLOCK]));
            let (buf, result) = reactor.block_on(reactor.write(file, 0, buf, Durability::Durable));
            assert!(result.unwrap_err().to_string().contains("no longer serves the ring"));
            assert_eq!(buf.len(), BLOCK);
        }
        let soon = reactor.now().plus_us(5_000);
        reactor.park(Some(soon));
        assert!(reactor.now() >= soon);
        drop(reactor);
    });
}

#[test]
fn without_rwf_dsync_a_commit_is_a_write_and_a_sync() {
    in_child("without_rwf_dsync_a_commit_is_a_write_and_a_sync", || {
        forbid([(libc::SYS_pwritev2, vec![])], libc::EOPNOTSUPP);
        let dir = tempfile::tempdir().unwrap();
        let backend = BlockingBackend::open(dir.path(), CommitStrategy::Dsync).unwrap();
        let reactor = commit(backend).unwrap();
        let strategy = reactor.with_backend(|backend| backend.strategy());
        assert_eq!(strategy, CommitStrategy::WriteThenSync);
    });
}

#[test]
fn without_rwf_dsync_a_ring_whose_thread_blocks_syncs_on_that_thread() {
    in_child("without_rwf_dsync_a_ring_whose_thread_blocks_syncs_on_that_thread", || {
        forbid([(libc::SYS_pwritev2, vec![])], libc::EOPNOTSUPP);
        let dir = tempfile::tempdir().unwrap();
        let reactor = commit(UringBackend::open(dir.path(), CommitStrategy::Blocking).unwrap()).unwrap();
        let strategy = reactor.with_backend(|backend| backend.strategy());
        assert_eq!(strategy, CommitStrategy::Hybrid);
    });
}

#[test]
fn without_fallocate_a_file_still_grows() {
    in_child("without_fallocate_a_file_still_grows", || {
        forbid([(libc::SYS_fallocate, vec![])], libc::EOPNOTSUPP);
        let dir = tempfile::tempdir().unwrap();
        let reactor = Reactor::new(BlockingBackend::open(dir.path(), CommitStrategy::Dsync).unwrap());
        let (file, _) = reactor.block_on(reactor.open("data", OpenMode::CreateNew)).unwrap();
        for len in [3 * BLOCK as u64, BLOCK as u64] {
            reactor.block_on(reactor.run(Op::Allocate { file, len })).unwrap();
        }
        assert_eq!(reactor.block_on(reactor.list("")).unwrap()[0].len, 3 * BLOCK as u64);
    });
}
