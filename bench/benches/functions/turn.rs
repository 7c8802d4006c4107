//! Whole turns of a shard, without a device: the simulated disk answers at once. Its bookkeeping is
//! counted with the engine's, so these are upper bounds on what a turn costs.

use criterion::{Criterion, Throughput};
use std::hint::black_box;
use std::time::{Duration, Instant};
use thalweg::{Config, Offset, OwnedShard, Partition, PartitionConfig, ReadFrom};
use thalweg_io::sim::{SimDisk, SimOptions};

use crate::record_of_1_kib;

/// Appends to one log before the next: all of them fit into the first WAL file, so that nothing is
/// sealed meanwhile.
const APPENDS_MAX: usize = 8192;

struct Host {
    shard: OwnedShard,
    partition: Partition,
    appended: usize,
}

impl Host {
    fn new() -> Host {
        let options =
            SimOptions { latency_ns_min: 0, latency_ns_max: 0, reorder: false, ..SimOptions::kind() };
        let disk = SimDisk::with_options(1, options);
        let mut config = Config::new("data");
        config.wal.file_bytes = 64 << 20;
        config.cache.bytes = 16 << 20;
        let mut shard = OwnedShard::open_on(disk.backend(), config, None).expect("a new log");
        let creating = shard.log().start_create("p", PartitionConfig::default());
        let partition = shard.block_on(creating).expect("a partition");
        Host { shard, partition, appended: 0 }
    }

    /// Appends each record by itself and turns until all of them are acknowledged.
    fn append(&mut self, records: Vec<thalweg::Record>) {
        self.appended += records.len();
        let tickets: Vec<_> = records.into_iter().map(|record| self.partition.append(record)).collect();
        for ticket in tickets {
            while !ticket.is_ready() {
                if !self.shard.turn() {
                    self.shard.park();
                }
            }
            black_box(ticket.spin().expect("it is durable"));
        }
    }
}

/// From `append` to the acknowledgement: admit, assign, group, persist, publish.
pub(crate) fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append and turn, no device");
    let mut host = Host::new();
    let record = record_of_1_kib();
    for count in [1, 64] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} of 1 KiB"), |bench| {
            bench.iter_custom(|rounds| {
                let mut taken = Duration::ZERO;
                for _ in 0..rounds {
                    if host.appended + count > APPENDS_MAX {
                        host = Host::new();
                    }
                    let records = vec![record.clone(); count];
                    let start = Instant::now();
                    host.append(records);
                    taken += start.elapsed();
                }
                taken
            });
        });
    }
    group.finish();
}

/// A reader at the tail: a fetch to the shard, its turn, a view of the batch.
pub(crate) fn reads(criterion: &mut Criterion) {
    let mut host = Host::new();
    (0..1024).for_each(|_| host.append(vec![record_of_1_kib()]));
    criterion.bench_function("read the last batch, no hop", |bench| {
        bench.iter(|| {
            let mut reader = host.partition.read(ReadFrom::Offset(Offset(1023)));
            host.shard.block_on(reader.next_batch()).map(|batch| batch.map(|batch| batch.end_offset()))
        });
    });
}
