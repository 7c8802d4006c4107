//! A place where a log lives, and what the cases do there.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use thalweg::{
    AppendError, Appended, Batch, BatchView, Config, ControlError, FetchError, Log, Offset, OpenError,
    Partition, PartitionConfig, PartitionInfo, ReadFrom, Reader, Record, RecoveryReport, ShardStats,
};

/// A log and whatever runs it, over any number of openings. Made closed, with an empty directory.
#[allow(async_fn_in_trait, reason = "a case runs on one thread")]
pub trait Host {
    /// The settings of the next opening.
    fn config(&mut self) -> &mut Config;

    /// Opens the log.
    ///
    /// # Errors
    /// The engine's.
    async fn try_open(&mut self) -> Result<(), OpenError>;

    /// The open log.
    fn log(&self) -> Log;

    /// What opening found, shard by shard.
    fn reports(&self) -> Vec<RecoveryReport>;

    /// Runs the log until `future` resolves.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output;

    /// Runs the log for about `ms` of its own clock.
    async fn pause(&mut self, ms: u64);

    /// Closes the log in good order.
    async fn close(&mut self);

    /// Ends the log as rudely as this host can.
    async fn crash(&mut self);

    /// The files of all shards with their lengths: segments and WAL files.
    fn files(&self) -> Vec<(String, u64)>;

    /// Whether time is real, so that waiting costs.
    fn is_real(&self) -> bool {
        true
    }
}

/// A record as it is read: offset, key, value, headers and, if it was given, the timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub offset: u64,
    /// The record. A timestamp that the shard gave is left out.
    pub record: Record,
}

/// A record at an offset.
#[must_use]
pub fn row(offset: u64, record: impl Into<Record>) -> Row {
    Row { offset, record: record.into() }
}

/// How often a case looks again before it gives up on something in the background.
const LOOKS_MAX: u32 = 3000;

/// What every case does on every host.
#[allow(async_fn_in_trait, reason = "a case runs on one thread")]
pub trait HostExt: Host {
    /// Opens the log.
    async fn open(&mut self) {
        if let Err(error) = self.try_open().await {
            panic!("the log does not open: {error}");
        }
    }

    /// Closes the log in good order and opens it again.
    async fn reopen(&mut self) {
        self.close().await;
        self.open().await;
    }

    /// Ends the log, by closing it or by a crash, and opens it again.
    async fn end_and_open(&mut self, clean: bool) {
        if clean {
            self.close().await;
        } else {
            self.crash().await;
        }
        self.open().await;
    }

    /// Makes a partition with default settings.
    async fn create(&mut self, name: &str) -> Partition {
        self.create_with(name, PartitionConfig::default()).await.expect("a new partition")
    }

    /// Makes a partition.
    ///
    /// # Errors
    /// The engine's.
    async fn create_with(&mut self, name: &str, config: PartitionConfig) -> Result<Partition, ControlError> {
        let creating = self.log().start_create(name, config);
        self.drive(creating).await
    }

    /// Deletes a partition.
    ///
    /// # Errors
    /// The engine's.
    async fn delete(&mut self, name: &str) -> Result<(), ControlError> {
        let log = self.log();
        let ticket = log.start_delete(name)?;
        self.drive(ticket).await?;
        log.forget(name);
        Ok(())
    }

    /// The partition of that name.
    fn partition(&self, name: &str) -> Partition {
        self.log().partition(name).expect("a known partition")
    }

    /// Appends and waits for the answer.
    ///
    /// # Errors
    /// The engine's.
    async fn try_append(
        &mut self,
        partition: &Partition,
        batch: impl Into<Batch>,
    ) -> Result<Appended, AppendError> {
        self.drive(partition.append(batch)).await
    }

    /// Appends, and returns the first offset.
    async fn append(&mut self, partition: &Partition, batch: impl Into<Batch>) -> u64 {
        self.try_append(partition, batch).await.expect("an acknowledged append").base_offset.0
    }

    /// The next batch of a reader.
    async fn next(&mut self, reader: &mut Reader) -> Option<Result<BatchView, FetchError>> {
        self.drive(reader.next_batch()).await
    }

    /// Everything from `from` to the end, batches that begin before it from their beginning.
    ///
    /// # Errors
    /// The first of the reader's.
    async fn try_read(&mut self, partition: &Partition, from: ReadFrom) -> Result<Vec<Row>, FetchError> {
        let mut reader = partition.read(from).to_end();
        let mut rows = Vec::new();
        while let Some(batch) = self.next(&mut reader).await {
            for record in batch?.records() {
                let record = record.expect("a checked batch");
                rows.push(Row { offset: record.offset.0, record: record.to_owned() });
            }
        }
        Ok(rows)
    }

    /// Everything from `from` to the end, exactly.
    async fn read(&mut self, partition: &Partition, from: ReadFrom) -> Vec<Row> {
        let mut rows = self.try_read(partition, from).await.expect("records");
        if let ReadFrom::Offset(Offset(wanted)) = from {
            rows.retain(|row| row.offset >= wanted);
        }
        rows
    }

    /// The values of everything there is, with the offset of the first; offsets must be dense.
    async fn values(&mut self, partition: &Partition) -> (u64, Vec<String>) {
        let rows = self.read(partition, ReadFrom::Earliest).await;
        let first = rows.first().map_or(0, |row| row.offset);
        for (expected, row) in (first..).zip(&rows) {
            assert_eq!(row.offset, expected, "offsets are dense");
        }
        let text = |row: Row| String::from_utf8(row.record.value.unwrap_or_default().to_vec());
        (first, rows.into_iter().map(|row| text(row).expect("text")).collect())
    }

    /// The partition as it is.
    async fn describe(&mut self, partition: &Partition) -> PartitionInfo {
        self.drive(partition.describe()).await.expect("a known partition")
    }

    /// The sum of all shards' counters. Latencies are those of the first.
    async fn stats(&mut self) -> ShardStats {
        let log = self.log();
        let mut total = self.drive(log.stats(0)).await.expect("a running shard");
        for shard in 1..log.shards() {
            let other = self.drive(log.stats(shard)).await.expect("a running shard");
            total.partitions += other.partitions;
            total.segments += other.segments;
            total.records += other.records;
            total.groups += other.groups;
            total.groups_overdue += other.groups_overdue;
            total.markers += other.markers;
            total.wal_files += other.wal_files;
            total.unsealed_bytes += other.unsealed_bytes;
            total.files_sealed += other.files_sealed;
            total.files_promoted += other.files_promoted;
            total.files_recycled += other.files_recycled;
            total.segments_merged += other.segments_merged;
            total.segments_removed += other.segments_removed;
            total.background_errors += other.background_errors;
            total.waiting_fetches += other.waiting_fetches;
        }
        total
    }

    /// Runs the log until its counters look as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&ShardStats) -> bool) -> ShardStats {
        let mut stats = self.stats().await;
        for _ in 0..LOOKS_MAX {
            if wanted(&stats) {
                return stats;
            }
            self.pause(10).await;
            stats = self.stats().await;
        }
        panic!("waited in vain: {what}; {stats:?}");
    }

    /// Runs the log until nothing more happens in the background.
    async fn settled(&mut self) {
        let mut quiet = 0;
        let mut before = self.stats().await;
        while quiet < 10 {
            self.pause(30).await;
            let after = self.stats().await;
            let same = (before.files_sealed, before.segments_merged, before.segments_removed)
                == (after.files_sealed, after.segments_merged, after.segments_removed);
            quiet = if same { quiet + 1 } else { 0 };
            before = after;
        }
    }
}

impl<H: Host> HostExt for H {}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a case on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
