//! A data directory whose owner is killed.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use thalweg_io::lock::LockError;
use thalweg_io::{
    AlignedBuf, BLOCK, Buffer, CommitStrategy, DirLock, Durability, Op, OpenMode, Reactor, UringBackend,
};

/// Set in the environment of the child: the data directory.
const CHILD: &str = "THALWEG_KILLED_CHILD";

/// Owns the data directory and writes to it, for far longer than its parent waits.
fn own(root: &std::path::Path) {
    let lock = DirLock::acquire(root, Duration::ZERO).unwrap();
    let mut backend = UringBackend::open(root, CommitStrategy::Dsync).unwrap();
    backend.hold(lock.as_fd()).unwrap();
    let reactor = Reactor::new(backend);
    let (file, _) = reactor.block_on(reactor.open("data", OpenMode::CreateNew)).unwrap();
    let write = |at: u64| {
        let buf = Buffer::Aligned(AlignedBuf::zeroed(64 * BLOCK));
        let position = at % 64 * 64 * BLOCK as u64;
        reactor.start(Op::Write { file, position, buf, durability: Durability::Durable })
    };
    let mut flying: std::collections::VecDeque<_> = (0..16).map(write).collect();
    println!("\nowned");
    for at in 16..200_000 {
        let first = flying.pop_front().unwrap();
        reactor.block_on(first).result.unwrap();
        flying.push_back(write(at));
    }
}

#[test]
fn the_directory_of_a_killed_owner_can_be_taken_over() {
    if let Some(root) = std::env::var_os(CHILD) {
        return own(root.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_directory_of_a_killed_owner_can_be_taken_over", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "owned"), "the child ended early");
    let error = DirLock::acquire(dir.path(), Duration::ZERO).unwrap_err();
    let LockError::Held { holder: Some(holder), .. } = &error else { panic!("{error}") };
    assert_eq!(holder.pid.unsigned_abs(), child.id());
    std::thread::sleep(Duration::from_millis(20));
    child.kill().unwrap();
    child.wait().unwrap();
    let lock = DirLock::acquire(dir.path(), Duration::from_secs(10)).unwrap();
    let mut backend = UringBackend::open(dir.path(), CommitStrategy::Dsync).unwrap();
    backend.hold(lock.as_fd()).unwrap();
}
