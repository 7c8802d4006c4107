//! Formats: records, batches, groups.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use thalweg::record::{BATCH_HEADER_BYTES, BatchHeader, BatchKind, RecordRefs, check_batch};
use thalweg::record::{encoded_len_max, write_record};
use thalweg::stages::GroupParts;
use thalweg::wire::{Fields, push_uvarint};
use thalweg::{Batch, LeaderEpoch, Offset, PartitionId};

use crate::record_of_1_kib;

pub(crate) fn records(criterion: &mut Criterion) {
    let record = record_of_1_kib();
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

/// Encodes `count` records of 1 KiB and the header before them, as step 3 of an append does.
fn encode_batch(out: &mut [u8], records: &[thalweg::Record]) -> usize {
    let mut at = BATCH_HEADER_BYTES;
    for (delta, record) in records.iter().enumerate() {
        at += write_record(&mut out[at..], record, delta as u32, 0);
    }
    let header = BatchHeader {
        crc: 0,
        len: at as u32,
        partition: PartitionId(1),
        leader_epoch: LeaderEpoch(0),
        base_offset: Offset(1000),
        offset_span: records.len() as u32,
        record_count: records.len() as u32,
        base_timestamp_ms: 1_700_000_000_000,
        max_timestamp_ms: 1_700_000_000_000,
        kind: BatchKind::Records,
    };
    header.seal(&mut out[..at]);
    at
}

pub(crate) fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch of records of 1 KiB");
    for count in [1usize, 64] {
        let records = vec![record_of_1_kib(); count];
        let mut out = vec![0; BATCH_HEADER_BYTES + count * encoded_len_max(&records[0])];
        group.throughput(Throughput::Bytes(count as u64 * 1024));
        group.bench_function(BenchmarkId::new("encode", count), |bench| {
            bench.iter(|| encode_batch(black_box(&mut out), black_box(&records)));
        });
        let len = encode_batch(&mut out, &records);
        group.bench_function(BenchmarkId::new("check and decode", count), |bench| {
            bench.iter(|| {
                let header = check_batch(black_box(&out[..len])).expect("it was encoded just now");
                let body = &out[BATCH_HEADER_BYTES..len];
                RecordRefs::new(body, header.record_count, header.offset_span).flatten().count()
            });
        });
    }
    group.finish();
}

pub(crate) fn varints(criterion: &mut Criterion) {
    let mut bytes = Vec::new();
    (0..1000u64).for_each(|n| push_uvarint(&mut bytes, n * n));
    criterion.bench_function("1,000 varints", |bench| {
        bench.iter(|| {
            let mut fields = Fields::new(black_box(&bytes));
            (0..1000).map(|_| fields.uvarint("n").unwrap_or(0)).sum::<u64>()
        });
    });
}

/// Appends of one record each, as they come from as many callers.
pub(crate) fn groups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group of records of 1 KiB");
    for (records, partitions) in [(1u64, 1u32), (64, 1), (64, 64)] {
        let batches = (0..records).map(|_| Batch::One(record_of_1_kib()));
        let bytes_max: u64 = batches.clone().map(|batch| batch.encoded_len_max()).sum();
        let mut parts = GroupParts::new(batches, partitions);
        let mut out = vec![0; bytes_max as usize + 2 * thalweg_io::BLOCK];
        group.throughput(Throughput::Bytes(records * 1024));
        group.bench_function(format!("{records} in {partitions}"), |bench| {
            bench.iter(|| parts.build(black_box(&mut out)));
        });
    }
    // Where the bytes are few, the fields around them are what costs.
    let batches = (0..64).map(|_| Batch::One(thalweg::Record::new(vec![b'x'; 16])));
    let mut parts = GroupParts::new(batches, 1);
    let mut out = vec![0; 4 * thalweg_io::BLOCK];
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 of 16 B in 1", |bench| bench.iter(|| parts.build(black_box(&mut out))));
    group.finish();
}
