//! CRC-32C: `crc32c`, which the engine uses, beside `crc-fast`.
//!
//! `crc32c` is one instruction of the processor, three streams at a time, and has no dependencies of
//! its own at run time. `crc-fast` multiplies without carry in wide registers where there are any; it
//! is here so that what the choice costs on a machine is seen on that machine.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;

pub(crate) fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for size in [64, 1 << 10, 64 << 10, 1 << 20] {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        assert_eq!(crc32c::crc32c(&bytes), crc_fast::crc32_iscsi(&bytes));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("crc32c", size), |bench| {
            bench.iter(|| crc32c::crc32c(black_box(&bytes)));
        });
        group.bench_function(BenchmarkId::new("crc-fast", size), |bench| {
            bench.iter(|| crc_fast::crc32_iscsi(black_box(&bytes)));
        });
    }
    group.finish();
}
