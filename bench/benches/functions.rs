//! Single functions on the way of an append, with criterion.

#![forbid(unsafe_code)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use thalweg::Record;
use thalweg::record::{BATCH_HEADER_BYTES, RecordRefs, encoded_len_max, write_record};
use thalweg::wire::{Fields, push_uvarint};

fn record_codec(criterion: &mut Criterion) {
    let record = Record::new(vec![b'x'; 1024]).with_key("key");
    let mut out = vec![0; encoded_len_max(&record)];
    let len = write_record(&mut out, &record, 0, 0);
    let mut group = criterion.benchmark_group("record of 1 KiB");
    group.throughput(Throughput::Bytes(1024));
    group.bench_function("encode", |bench| {
        bench.iter(|| write_record(black_box(&mut out), black_box(&record), 0, 0));
    });
    let body = out[..len].to_vec();
    group.bench_function("decode", |bench| {
        bench.iter(|| RecordRefs::new(black_box(&body), 1, 1).count());
    });
    group.finish();
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for size in [64, BATCH_HEADER_BYTES + 1024, 64 << 10] {
        let bytes = vec![7u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} B"), |bench| {
            bench.iter(|| crc32c::crc32c(black_box(&bytes)));
        });
    }
    group.finish();
}

fn varints(criterion: &mut Criterion) {
    let mut bytes = Vec::new();
    (0..1000u64).for_each(|n| push_uvarint(&mut bytes, n * n));
    criterion.bench_function("1,000 varints", |bench| {
        bench.iter(|| {
            let mut fields = Fields::new(black_box(&bytes));
            (0..1000).map(|_| fields.uvarint("n").unwrap_or(0)).sum::<u64>()
        });
    });
}

criterion_group!(functions, record_codec, checksum, varints);
criterion_main!(functions);
