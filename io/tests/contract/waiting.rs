//! Clocks, sleeping and waking up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use thalweg_io::{AlignedBuf, BLOCK, Backend, Durability, Reactor};

use super::{create, pattern};

/// Long enough that a test which waits for it has failed, µs.
const NEVER_US: u64 = 20_000_000;

/// And random bits differ.
pub async fn clocks_do_not_go_back<B: Backend>(reactor: Reactor<B>) {
    let mut last = reactor.now();
    for _ in 0..100 {
        let now = reactor.now();
        assert!(now >= last);
        last = now;
        reactor.yield_now().await;
    }
    assert_ne!(reactor.random(), reactor.random());
    let before = reactor.now();
    reactor.sleep_us(2_000).await;
    assert!(reactor.now().since(before) >= 2_000_000);
}

/// Not much later, not earlier than it says, and without turning round and round.
pub async fn a_park_ends_at_its_deadline<B: Backend>(reactor: Reactor<B>) {
    for micros in [0, 1, 1_000, 30_000] {
        let start = reactor.now();
        let deadline = start.plus_us(micros);
        let mut parks = 0;
        while reactor.now() < deadline {
            reactor.idle(Some(deadline)).await;
            parks += 1;
        }
        assert!(parks < 100, "{parks} parks in {micros} µs");
        assert!(reactor.now().since(start) < NEVER_US * 1000);
    }
}

/// Many times over, so that a lost wake-up would be noticed.
pub async fn a_park_ends_when_another_thread_notifies<B: Backend>(reactor: Reactor<B>) {
    const ROUNDS: u32 = 300;
    let wake = reactor.wake();
    let (ping, pong) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let thread = std::thread::spawn({
        let (wake, ping, pong) = (wake.clone(), ping.clone(), pong.clone());
        move || {
            for round in 1..=ROUNDS {
                while pong.load(Ordering::Acquire) != round {
                    std::thread::yield_now();
                }
                if round % 10 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                ping.store(round, Ordering::Release);
                wake.notify();
            }
        }
    });
    let deadline = reactor.now().plus_us(NEVER_US);
    for round in 1..=ROUNDS {
        pong.store(round, Ordering::Release);
        loop {
            wake.prepare();
            if ping.load(Ordering::Acquire) == round {
                break;
            }
            reactor.idle(Some(deadline)).await;
            reactor.poll_io();
            assert!(reactor.now() < deadline, "a wake-up was lost in round {round}");
        }
        wake.finish();
    }
    thread.join().unwrap();
}

/// With no deadline and nobody to notify.
pub async fn a_park_ends_when_an_operation_does<B: Backend>(reactor: Reactor<B>) {
    let file = create(&reactor, "data").await;
    for round in 0..50 {
        let buf = thalweg_io::Buffer::Aligned(pattern(round, 1));
        let durability = if round % 2 == 0 { Durability::Durable } else { Durability::Volatile };
        let mut write = reactor.start(thalweg_io::Op::Write { file, position: 0, buf, durability });
        loop {
            reactor.idle(None).await;
            reactor.poll_io();
            if let Some(done) = write.try_take() {
                done.result.unwrap();
                break;
            }
        }
    }
}

/// By a thread that spins and never sleeps.
pub async fn completions_are_seen_without_parking<B: Backend>(reactor: Reactor<B>) {
    let file = create(&reactor, "data").await;
    reactor.write(file, 0, pattern(1, 1), Durability::Durable).await.1.unwrap();
    let deadline = reactor.now().plus_us(NEVER_US);
    for _ in 0..20 {
        let buf = AlignedBuf::zeroed(BLOCK);
        let mut read = reactor.start(thalweg_io::Op::Read { file, position: 0, buf });
        let mut sync = reactor.start(thalweg_io::Op::Sync { file });
        let (mut was_read, mut was_synced) = (false, false);
        while !was_read || !was_synced {
            reactor.poll_io();
            std::thread::yield_now();
            was_read |= read.try_take().is_some();
            was_synced |= sync.try_take().is_some();
            assert!(reactor.now() < deadline, "a completion was never seen");
        }
    }
}
