//! What holds at scale: very many partitions on one shard, and readers far slower than a producer.

#![forbid(unsafe_code)]

mod many;
mod process;
mod slow;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Held by each test: they look at what the whole process has.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something and prints how long it took. Nothing depends on that.
async fn timed<T>(what: &str, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let done = work.await;
    println!("{what}: {:.1} s", start.elapsed().as_secs_f64());
    done
}
