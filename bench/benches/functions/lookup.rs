//! Finding what a reader asks for, in memory.

use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use thalweg::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind};
use thalweg::stages::{Indexed, Tail};
use thalweg::{LeaderEpoch, Offset, PartitionId};

/// Records under one entry of the index.
const ENTRY_RECORDS: u64 = 64;

/// An offset to its run and entry: two binary searches. Offsets jump, so that no cache line is the
/// last one again.
pub(crate) fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index: offset to entry");
    for (runs, entries) in [(1, 1 << 8), (16, 1 << 12), (64, 1 << 14)] {
        let indexed = Indexed::new(runs, entries, ENTRY_RECORDS);
        let end = u64::from(runs) * u64::from(entries) * ENTRY_RECORDS;
        let mut offset = 0u64;
        group.bench_function(BenchmarkId::from_parameter(format!("{runs} x {entries}")), |bench| {
            bench.iter(|| {
                offset = (offset + 0x9e37_79b9_7f4a_7c15 % end) % end;
                indexed.find(black_box(offset)).map(|entry| entry.position)
            });
        });
    }
    group.finish();
}

fn batch_of(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let header = BatchHeader {
        crc: 0,
        len: len as u32,
        partition: PartitionId(1),
        leader_epoch: LeaderEpoch(0),
        base_offset: Offset(0),
        offset_span: 1,
        record_count: 1,
        base_timestamp_ms: 0,
        max_timestamp_ms: 0,
        kind: BatchKind::Opaque,
    };
    header.seal(&mut bytes);
    bytes
}

/// A reader's view of a batch in the tail cache: as many chunks as 64 MiB of cache have.
pub(crate) fn tail(criterion: &mut Criterion) {
    const CHUNK_BYTES: usize = 1 << 20;
    const CHUNKS: usize = 64;
    let mut tail = Tail::new(CHUNK_BYTES, CHUNKS).expect("memory for the cache");
    let mut group = criterion.benchmark_group("tail cache: a view");
    let len = BATCH_HEADER_BYTES + 1024;
    let mut block = batch_of(len);
    block.resize(thalweg_io::BLOCK, 0);
    let blocks = CHUNKS * CHUNK_BYTES / block.len();
    for nth in 0..blocks {
        assert!(tail.write((nth * block.len()) as u64, &block), "nobody holds a view");
    }
    let mut nth = 0;
    let mut next = || {
        nth = (nth + 7919) % blocks;
        (nth * block.len()) as u64
    };
    group.bench_function("bytes", |bench| bench.iter(|| tail.lend(black_box(next()), len)));
    group.bench_function("batch of 1 KiB", |bench| bench.iter(|| tail.lend_batch(black_box(next()), len)));
    group.finish();
}
