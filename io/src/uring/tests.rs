//! Answers that a healthy kernel and file system do not give, put in by hand.

use std::io;

use rustix::io::Errno;

use super::backend::{RETRY_PAUSE_US, UringBackend};
use super::ops::Work;
use super::registered::Target;
use super::setup::{self, Built, Level, SQ_ENTRIES, Supported};
use super::steps::Fate;
use crate::backend::{
    BLOCK, Backend, Buffer, CommitStrategy, Completion, Durability, FileId, Op, OpenMode, Reply, Tag,
};
use crate::memory::AlignedBuf;

struct Life {
    backend: UringBackend,
    file: FileId,
    _dir: tempfile::TempDir,
}

impl Life {
    fn new(strategy: CommitStrategy) -> Life {
        let built = setup::build(SQ_ENTRIES, &Level::ALL).unwrap();
        Life::on(built, strategy)
    }

    fn on(built: Built, strategy: CommitStrategy) -> Life {
        let dir = tempfile::tempdir().unwrap();
        let mut backend = UringBackend::start(built, dir.path(), strategy).unwrap();
        backend.submit(Op::Open { path: "data".into(), mode: OpenMode::CreateNew }, Tag(0));
        let Ok(Reply::Opened { file, .. }) = end(&mut backend).result else { panic!("not opened") };
        Life { backend, file, _dir: dir }
    }

    /// Queues a durable write of four blocks and makes its first request, which stays unsent.
    fn durable_write(&mut self) -> usize {
        let mut buf = AlignedBuf::zeroed(4 * BLOCK);
        buf.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 512) as u8);
        let (file, buf, durability) = (self.file, Buffer::Aligned(buf), Durability::Durable);
        self.backend.submit(Op::Write { file, position: 0, buf, durability }, Tag(1));
        self.backend.queue.pop_front().unwrap()
    }

    /// The operation's next request is answered by us, not by the kernel.
    fn answer(&mut self, key: usize, result: Result<u32, Errno>) {
        match self.backend.judge(key, result) {
            Fate::Again => self.backend.queue.push_back(key),
            Fate::Later => self.backend.later.push((self.backend.now().plus_us(RETRY_PAUSE_US), key)),
            Fate::Written(file) => {
                self.backend.written.push((file, key));
                self.backend.sync_written();
            }
            Fate::Done(result) => self.backend.finish(key, result),
        }
    }

    fn check_written(&mut self) {
        let (file, buf) = (self.file, AlignedBuf::zeroed(4 * BLOCK));
        self.backend.submit(Op::Read { file, position: 0, buf }, Tag(2));
        let done = end(&mut self.backend);
        assert!(matches!(done.result, Ok(Reply::Read(len)) if len == 4 * BLOCK));
        let bytes = done.buffer.unwrap();
        assert!(bytes.as_slice().iter().enumerate().all(|(at, byte)| *byte == (at / 512) as u8));
    }
}

/// Parks and polls until the one operation in flight has ended.
fn end(backend: &mut UringBackend) -> Completion {
    let mut out = Vec::new();
    while backend.poll(&mut out) == 0 {
        backend.park(None);
    }
    assert_eq!((out.len(), backend.in_flight()), (1, 0));
    out.pop().unwrap()
}

#[test]
fn a_short_write_goes_on_from_the_block_it_ended_in() {
    for strategy in [CommitStrategy::Dsync, CommitStrategy::WriteThenSync, CommitStrategy::Hybrid] {
        let mut life = Life::new(strategy);
        let key = life.durable_write();
        // The kernel wrote nothing in truth, so a backend that trusted the last half block would
        // leave a hole; the first block is written here.
        life.answer(key, Ok(BLOCK as u32 + 512));
        let Work::Write { transfer, .. } = &life.backend.ops[key].work else { panic!() };
        assert_eq!(transfer.next(), (BLOCK as u64, BLOCK..4 * BLOCK));
        let mut first = AlignedBuf::zeroed(BLOCK);
        first.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 512) as u8);
        rustix::io::pwrite(life.backend.files.get(life.file).unwrap(), &first, 0).unwrap();
        end(&mut life.backend).result.unwrap();
        life.check_written();
    }
}

#[test]
fn a_write_that_gets_nowhere_is_an_error_with_its_buffer() {
    let mut life = Life::new(CommitStrategy::Dsync);
    let key = life.durable_write();
    for _ in 0..100 {
        if life.backend.done.is_empty() {
            life.backend.queue.clear();
            life.answer(key, Ok(0));
        }
    }
    let done = life.backend.done.pop().unwrap();
    assert_eq!(done.result.unwrap_err().kind(), io::ErrorKind::WriteZero);
    assert_eq!(done.buffer.unwrap().as_slice().len(), 4 * BLOCK);
    life.backend.queue.clear();
}

#[test]
fn an_interrupted_write_is_repeated_at_once_and_a_refused_one_after_a_pause() {
    let mut life = Life::new(CommitStrategy::Dsync);
    let key = life.durable_write();
    life.answer(key, Err(Errno::INTR));
    assert!(!life.backend.ops[key].patient);
    life.backend.queue.clear();
    life.answer(key, Err(Errno::AGAIN));
    assert!(life.backend.queue.is_empty() && life.backend.ops[key].patient);
    let before = life.backend.now();
    end(&mut life.backend).result.unwrap();
    assert!(life.backend.now().since(before) >= RETRY_PAUSE_US / 2 * 1000);
    life.check_written();
}

#[test]
fn a_refused_dsync_becomes_a_write_and_a_sync_from_then_on() {
    let mut life = Life::new(CommitStrategy::Dsync);
    let key = life.durable_write();
    life.answer(key, Err(Errno::OPNOTSUPP));
    end(&mut life.backend).result.unwrap();
    assert_eq!(life.backend.strategy(), CommitStrategy::WriteThenSync);
    life.check_written();
}

#[test]
fn a_failed_sync_on_this_thread_ends_every_write_it_was_to_cover() {
    let mut life = Life::new(CommitStrategy::Hybrid);
    let keys = [life.durable_write(), life.durable_write()];
    // Nobody closes a file with writes in flight; here it stands for a sync that fails.
    drop(life.backend.files.remove(life.file));
    life.backend.written = keys.map(|key| (life.file, key)).to_vec();
    life.backend.sync_written();
    assert_eq!(life.backend.done.len(), 2);
    for done in life.backend.done.drain(..) {
        assert_eq!(done.result.unwrap_err().raw_os_error(), Some(Errno::BADF.raw_os_error()));
        assert!(done.buffer.is_some());
    }
}

#[test]
fn a_bad_request_does_not_change_the_strategy() {
    let mut life = Life::new(CommitStrategy::Dsync);
    let key = life.durable_write();
    life.answer(key, Err(Errno::INVAL));
    life.backend.queue.clear();
    life.answer(key, Err(Errno::INVAL));
    let done = life.backend.done.pop().unwrap();
    assert_eq!(done.result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(life.backend.strategy(), CommitStrategy::Dsync);
}

#[test]
fn a_failed_sync_after_a_write_is_final() {
    let mut life = Life::new(CommitStrategy::WriteThenSync);
    let key = life.durable_write();
    life.answer(key, Ok(4 * BLOCK as u32));
    life.backend.queue.clear();
    life.answer(key, Err(Errno::IO));
    let done = life.backend.done.pop().unwrap();
    assert_eq!(done.result.unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
    assert!(done.buffer.is_some());
}

#[test]
fn a_broken_ring_fails_what_is_in_flight_and_all_that_follows() {
    let mut life = Life::new(CommitStrategy::Dsync);
    let key = life.durable_write();
    life.backend.ops[key].flying = true;
    life.backend.fail_all(&Errno::PERM.into());
    let done = end(&mut life.backend);
    assert!(done.result.unwrap_err().to_string().contains("no longer serves"));
    assert_eq!(done.buffer.unwrap().as_slice(), vec![0; 4 * BLOCK]);
    life.backend.submit(Op::Sync { file: life.file }, Tag(3));
    assert!(end(&mut life.backend).result.is_err());
    let soon = life.backend.now().plus_us(2_000);
    life.backend.park(Some(soon));
    assert!(life.backend.now() >= soon);
}

#[test]
fn what_the_ring_does_not_know_is_a_system_call() {
    let mut life = Life::new(CommitStrategy::Dsync);
    life.backend.supported = Supported::default();
    let ops = [
        Op::CreateDir { path: "d".into() },
        Op::Allocate { file: life.file, len: BLOCK as u64 },
        Op::Truncate { file: life.file, len: 0 },
        Op::Rename { from: "data".into(), to: "d/data".into() },
        Op::SyncDir { path: "d".into() },
        Op::Close { file: life.file },
        Op::Open { path: "d/data".into(), mode: OpenMode::Read },
        Op::Remove { path: "d/data".into() },
    ];
    for op in ops {
        life.backend.submit(op, Tag(4));
        end(&mut life.backend).result.unwrap();
    }
}

#[test]
fn files_beyond_the_table_are_named_by_descriptor() {
    let mut life = Life::new(CommitStrategy::Dsync);
    life.backend.table.clear(&life.backend.ring.submitter(), life.file);
    let fd = life.backend.files.get(life.file).unwrap();
    assert!(matches!(life.backend.table.target(life.file, fd), Target::Descriptor(_)));
    let _ = life.durable_write();
    life.backend.queue.push_back(0);
    end(&mut life.backend).result.unwrap();
    life.check_written();
}

#[test]
fn only_so_many_descriptors_are_held() {
    let mut life = Life::new(CommitStrategy::Dsync);
    let file = tempfile::tempfile().unwrap();
    let fd = std::os::fd::AsFd::as_fd(&file);
    assert_eq!((0..20).filter(|_| life.backend.hold(fd).is_ok()).count(), 8);
}

#[test]
fn every_kind_of_ring_is_parked_and_polled() {
    for level in Level::ALL {
        for entries in [SQ_ENTRIES, SQ_ENTRIES / 16] {
            let mut life = Life::on(setup::build(entries, &[level]).unwrap(), CommitStrategy::WriteThenSync);
            let key = life.durable_write();
            life.backend.queue.push_back(key);
            end(&mut life.backend).result.unwrap();
            life.check_written();
            // More than the queues hold, with a sync in each, and without ever sleeping.
            let mut out = Vec::new();
            for _ in 0..100 {
                let key = life.durable_write();
                life.backend.queue.push_back(key);
            }
            while out.len() < 100 {
                life.backend.poll(&mut out);
                std::thread::yield_now();
            }
            assert!(out.iter().all(|done| done.result.is_ok()));
            let (wake, soon) = (life.backend.wake(), life.backend.now().plus_us(5_000_000));
            wake.prepare();
            let ringer = std::thread::spawn(move || wake.notify());
            life.backend.park(Some(soon));
            assert!(life.backend.now() < soon);
            ringer.join().unwrap();
        }
    }
}
