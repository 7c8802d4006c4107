//! What a shard counts and how long its steps take.

use hdrhistogram::Histogram;
use serde::Serialize;
use thalweg_io::Nanos;

use crate::append::persist::Formed;

/// Counters and histograms of one shard. One writer, no atomics: a snapshot is asked for by mail.
pub(crate) struct Metrics {
    /// From leaving the mailbox to the start of the group, ns.
    queue: Histogram<u64>,
    /// Laying the group out: offsets, copy, checksums, ns.
    group: Histogram<u64>,
    /// From the write's start to its durable completion, ns.
    device: Histogram<u64>,
    /// From durable to the caller's answer, ns.
    publish: Histogram<u64>,
    groups: u64,
    pub groups_overdue: u64,
    markers: u64,
    records: u64,
    group_bytes: u64,
    pub files_sealed: u64,
    pub files_promoted: u64,
    pub files_recycled: u64,
    pub segments_merged: u64,
    pub segments_removed: u64,
    pub background_errors: u64,
}

impl Default for Metrics {
    fn default() -> Metrics {
        // Two digits: 1 % of any value, 20 KiB a histogram.
        let histogram = || Histogram::new(2).expect("two digits are a valid precision");
        Metrics {
            queue: histogram(),
            group: histogram(),
            device: histogram(),
            publish: histogram(),
            groups: 0,
            groups_overdue: 0,
            markers: 0,
            records: 0,
            group_bytes: 0,
            files_sealed: 0,
            files_promoted: 0,
            files_recycled: 0,
            segments_merged: 0,
            segments_removed: 0,
            background_errors: 0,
        }
    }
}

impl Metrics {
    pub(crate) fn group_published(&mut self, formed: &Formed, now: Nanos, durable: Nanos) {
        self.groups += 1;
        self.group_bytes += formed.bytes;
        if formed.marker {
            self.markers += 1;
            return;
        }
        self.records += formed.records;
        let count = formed.records.max(1);
        let oldest = formed.oldest.unwrap_or(formed.started_at);
        record(&mut self.queue, formed.started_at.since(oldest), count);
        record(&mut self.group, formed.formed_at.since(formed.started_at), count);
        record(&mut self.device, durable.since(formed.formed_at), count);
        record(&mut self.publish, now.since(durable), count);
    }

    pub(crate) fn snapshot(&self) -> ShardStats {
        ShardStats {
            groups: self.groups,
            groups_overdue: self.groups_overdue,
            markers: self.markers,
            records: self.records,
            group_bytes: self.group_bytes,
            files_sealed: self.files_sealed,
            files_promoted: self.files_promoted,
            files_recycled: self.files_recycled,
            segments_merged: self.segments_merged,
            segments_removed: self.segments_removed,
            background_errors: self.background_errors,
            queue: Latency::of(&self.queue),
            group: Latency::of(&self.group),
            device: Latency::of(&self.device),
            publish: Latency::of(&self.publish),
            ..ShardStats::default()
        }
    }
}

fn record(histogram: &mut Histogram<u64>, nanos: u64, count: u64) {
    // It grows with its values up to 2^63, so nothing is out of its range.
    let _ = histogram.record_n(nanos, count);
}

/// Percentiles of one step of an append, nanoseconds, one sample per record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half of the records were faster.
    pub p50_ns: u64,
    /// 99 % were faster.
    pub p99_ns: u64,
    /// 99.9 % were faster.
    pub p999_ns: u64,
    /// The slowest.
    pub max_ns: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        Latency {
            p50_ns: histogram.value_at_quantile(0.5),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}

/// A snapshot of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShardStats {
    /// The shard.
    pub shard: u16,
    /// Partitions.
    pub partitions: u64,
    /// Segments in the manifest.
    pub segments: u64,
    /// Segment files open at present.
    pub open_segment_files: u64,
    /// Files in the WAL ring.
    pub wal_files: u64,
    /// Bytes of groups not yet in segments.
    pub unsealed_bytes: u64,
    /// Fetches waiting at the end of partitions.
    pub waiting_fetches: u64,
    /// Groups written, markers included.
    pub groups: u64,
    /// Groups that the device took longer for than a tenth of `commit.stuck_ms`.
    pub groups_overdue: u64,
    /// Idle markers among them.
    pub markers: u64,
    /// Records written.
    pub records: u64,
    /// Bytes written to the WAL, padding included.
    pub group_bytes: u64,
    /// Bytes read and written in the background.
    pub background_bytes: u64,
    /// WAL files sealed.
    pub files_sealed: u64,
    /// WAL files that became segments where they lay.
    pub files_promoted: u64,
    /// Dead segments that became WAL files again.
    pub files_recycled: u64,
    /// Segments rewritten.
    pub segments_merged: u64,
    /// Segments removed.
    pub segments_removed: u64,
    /// Steps in the background that failed and were tried again.
    pub background_errors: u64,
    /// From leaving the mailbox to the start of the group.
    pub queue: Latency,
    /// Laying the group out: offsets, copy, checksums.
    pub group: Latency,
    /// From the write's start to its durable completion.
    pub device: Latency,
    /// From durable to the caller's answer.
    pub publish: Latency,
}
