//! From a caller's thread to a shard and back.

use criterion::Criterion;
use std::hint::black_box;
use thalweg::config::CommitSetting;
use thalweg::stages::{Letter, Letterbox};
use thalweg::{Config, Engine, PartitionConfig};

use crate::record_of_1_kib;

/// The queue by itself, by one thread: what an append pays to be sent and taken, nobody asleep.
pub(crate) fn queue(criterion: &mut Criterion) {
    let letterbox = Letterbox::new(64, 1 << 20).expect("an eventfd");
    let mut letter = Some(Letter::new(record_of_1_kib()));
    criterion.bench_function("mailbox: send and receive", |bench| {
        bench.iter(|| {
            let sent = letter.take().map(|letter| letterbox.send(black_box(letter)).is_ok());
            letter = letterbox.receive();
            sent
        });
    });
}

/// A question to a shard's thread, which answers it from memory: no device is on the way. `spin`
/// is a caller that burns its core; `wait` one that sleeps until it is woken.
pub(crate) fn hop(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the log");
    let mut config = Config::new(dir.path());
    config.wal.file_bytes = 4 << 20;
    config.cache.bytes = 16 << 20;
    config.commit.strategy = CommitSetting::Dsync; // nothing to measure while it opens
    let engine = Engine::open(config).expect("an engine");
    let partition = engine.create("p", PartitionConfig::default()).expect("a partition");
    let mut group = criterion.benchmark_group("hop to a shard and back");
    group.bench_function("spin", |bench| bench.iter(|| partition.describe().spin()));
    group.bench_function("wait", |bench| bench.iter(|| partition.describe().wait()));
    group.finish();
    engine.close().expect("nothing was appended");
}
