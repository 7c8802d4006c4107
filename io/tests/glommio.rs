//! The contract inside a glommio executor.

#![cfg(feature = "glommio")]

mod contract;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use contract::Case;
use glommio::{LocalExecutorBuilder, Placement};
use thalweg_io::{
    AlignedBuf, BLOCK, Backend, Buffer, Completion, Durability, GlommioBackend, Op, OpenMode, Reactor,
    Region, Reply, Tag,
};

/// Runs `task` in an executor that fits into the memory an ordinary user may lock.
fn in_executor(task: impl AsyncFnOnce()) {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).ring_depth(64).make();
    executor.unwrap().run(task());
}

/// Drives `future` and the reactor under it in one task of the executor.
async fn drive<T>(reactor: &Reactor<GlommioBackend>, mut future: Pin<Box<dyn Future<Output = T>>>) -> T {
    let mut idle: Option<Pin<Box<dyn Future<Output = ()>>>> = None;
    poll_fn(move |context| {
        drop(idle.take());
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(value);
        }
        let ran = reactor.run_tasks(64) > 0;
        if reactor.poll_io() || ran {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let reactor = reactor.clone();
        let idle = idle.insert(Box::pin(async move { reactor.idle(None).await }));
        if idle.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

fn executor(case: Case<GlommioBackend>) {
    let dir = tempfile::tempdir().unwrap();
    in_executor(async || {
        let reactor = Reactor::new(GlommioBackend::open(dir.path()).await.unwrap());
        drive(&reactor, case(reactor.clone())).await;
    });
}

/// The same after somebody's empty file, which leaves glommio without direct I/O on most devices.
fn executor_without_direct_io(case: Case<GlommioBackend>) {
    let dir = tempfile::tempdir().unwrap();
    let theirs = tempfile::tempdir().unwrap();
    in_executor(async || {
        let empty = glommio::io::DmaFile::create(theirs.path().join("empty")).await.unwrap();
        let reactor = Reactor::new(GlommioBackend::open(dir.path()).await.unwrap());
        drive(&reactor, case(reactor.clone())).await;
        empty.close().await.unwrap();
    });
}

contract!(executor);
contract!(executor_without_direct_io);

/// All but what polls without ever letting the executor go on.
mod real_time {
    crate::contract!(@cases executor:
        a_park_ends_at_its_deadline
        a_park_ends_when_another_thread_notifies
        a_park_ends_when_an_operation_does
        paths_outside_the_data_directory_are_refused
        requests_that_are_not_in_blocks_are_refused
    );
}

#[test]
fn operations_go_on_without_the_backend_and_let_go_of_their_buffers() {
    let dir = tempfile::tempdir().unwrap();
    in_executor(async || {
        let mut backend = GlommioBackend::open(dir.path()).await.unwrap();
        let mut done: Vec<Completion> = Vec::new();
        backend.submit(Op::Open { path: "data".into(), mode: OpenMode::CreateNew }, Tag(0));
        backend.settled().await;
        assert_eq!(backend.poll(&mut done), 1);
        let Ok(Reply::Opened { file, .. }) = done[0].result else { panic!("{done:?}") };
        let region = Region::new(16 * BLOCK, 4).unwrap();
        for chunk in 0..4 {
            let mut writer = region.take().unwrap();
            writer.spare().fill(7);
            let buf = Buffer::View(writer.publish(16 * BLOCK));
            let position = chunk * 16 * BLOCK as u64;
            backend.submit(Op::Write { file, position, buf, durability: Durability::Durable }, Tag(chunk));
        }
        let settled = backend.settled();
        drop(backend);
        settled.await;
        glommio::executor().yield_task_queue_now().await;
        assert_eq!(region.free_chunks(), 4, "a buffer outlived its operation");
    });
    assert_eq!(std::fs::read(dir.path().join("data")).unwrap(), vec![7; 64 * BLOCK]);
}

#[test]
fn an_idle_shard_sleeps_until_another_thread_notifies_it() {
    let dir = tempfile::tempdir().unwrap();
    in_executor(async || {
        let mut backend = GlommioBackend::open(dir.path()).await.unwrap();
        let (wake, told) = (backend.wake(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (wake, told) = (wake.clone(), told.clone());
            move || {
                std::thread::sleep(Duration::from_millis(50));
                told.store(true, Ordering::Release);
                wake.notify();
            }
        });
        let (mut idles, started) = (0, Instant::now());
        loop {
            wake.prepare();
            if told.load(Ordering::Acquire) {
                break;
            }
            backend.idle(None).await;
            wake.finish();
            idles += 1;
        }
        assert!(idles < 5, "{idles} turns for one notification");
        assert!(started.elapsed() >= Duration::from_millis(50));
        thread.join().unwrap();
    });
}

#[test]
fn other_tasks_of_the_executor_run_while_the_shard_idles() {
    let dir = tempfile::tempdir().unwrap();
    in_executor(async || {
        let reactor = Reactor::new(GlommioBackend::open(dir.path()).await.unwrap());
        let theirs = glommio::spawn_local(async {
            for _ in 0..10 {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
        });
        let ours = reactor.clone();
        let work = async move {
            let (file, _) = ours.open("data", OpenMode::CreateNew).await.unwrap();
            for at in 0..20 {
                let buf = AlignedBuf::zeroed(BLOCK);
                ours.write(file, at * BLOCK as u64, buf, Durability::Durable).await.1.unwrap();
            }
            theirs.await;
        };
        drive(&reactor, Box::pin(work)).await;
    });
}
