//! The engine's settings: one typed tree, validated once, refused rather than repaired.

mod commit;

use std::path::PathBuf;

pub use commit::{CommitConfig, CommitSetting};
use serde::{Deserialize, Serialize};
use thalweg_io::BLOCK;
use thalweg_io::boot::BackendChoice;

/// A setting that cannot work, named by its path in the tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}={value}: {rule}")]
pub struct ConfigError {
    /// Path of the setting, such as `wal.file_bytes`.
    pub key: &'static str,
    /// The value given.
    pub value: String,
    /// What it must satisfy.
    pub rule: String,
}

/// Everything an engine can be told.
///
/// ```
/// use thalweg::Config;
/// let mut config = Config::new("./data");
/// config.group.linger_us = 200;
/// config.cache.bytes = 256 << 20;
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data directory; made if it does not exist.
    pub data_dir: PathBuf,
    /// Shards, each one thread. Fixed when the directory is made; `None` takes what the directory
    /// has, or one for a new one: one shard fills most devices, and more cost a core each.
    pub shards: Option<u16>,
    /// Where shards run and what they run on.
    pub threads: ThreadConfig,
    /// The write-ahead log.
    pub wal: WalConfig,
    /// How a group is made durable.
    pub commit: CommitConfig,
    /// What shares a write and a sync.
    pub group: GroupConfig,
    /// The tail cache.
    pub cache: CacheConfig,
    /// Bounds on what callers may hand in.
    pub limits: LimitsConfig,
    /// Segments: when the WAL is sealed into them and when they are merged.
    pub segment: SegmentConfig,
    /// Reading.
    pub read: ReadConfig,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: PathBuf::from("thalweg-data"),
            shards: None,
            threads: ThreadConfig::default(),
            wal: WalConfig::default(),
            commit: CommitConfig::default(),
            group: GroupConfig::default(),
            cache: CacheConfig::default(),
            limits: LimitsConfig::default(),
            segment: SegmentConfig::default(),
            read: ReadConfig::default(),
        }
    }
}

/// Which backend runs the shards' I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendSetting {
    /// io_uring, or `blocking` with the reason in the log where io_uring is forbidden.
    #[default]
    Auto,
    /// io_uring; an error where it is forbidden.
    Uring,
    /// System calls on the shard's thread.
    Blocking,
}

impl From<BackendSetting> for BackendChoice {
    fn from(setting: BackendSetting) -> BackendChoice {
        match setting {
            BackendSetting::Auto => BackendChoice::Auto,
            BackendSetting::Uring => BackendChoice::Uring,
            BackendSetting::Blocking => BackendChoice::Blocking,
        }
    }
}

/// Where shards run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThreadConfig {
    /// The I/O backend.
    pub backend: BackendSetting,
    /// Pin shard `i` to the `i`-th core the process may use. Default: yes, a shard that moves
    /// loses its caches.
    pub pin: bool,
    /// The longest that a shard looks for a commit's end or the next request instead of sleeping,
    /// µs: only while they are expected within it. 500 covers the commit of any SSD, whose time a
    /// wake-up would add to; a shard with less to do sleeps. 0 sleeps at once.
    pub poll_us: u32,
}

impl Default for ThreadConfig {
    fn default() -> ThreadConfig {
        ThreadConfig { backend: BackendSetting::Auto, pin: true, poll_us: 500 }
    }
}

/// The write-ahead log of each shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WalConfig {
    /// Length of one WAL file. Fixed when the directory is made: the default then takes what the
    /// directory has, any other length must be that one. 32 MiB seals into segments large enough
    /// to read well, small enough that two of them are zero-filled in a blink.
    pub file_bytes: u64,
    /// Longest that reading the WAL back may take when the engine opens, ms. With the replay speed
    /// measured when the directory was made it bounds the bytes not yet in segments.
    pub recovery_target_ms: u32,
    /// After this long without a group, µs, a marker makes the last one provably durable.
    pub witness_after_us: u32,
}

impl Default for WalConfig {
    fn default() -> WalConfig {
        WalConfig { file_bytes: 32 << 20, recovery_target_ms: 1000, witness_after_us: 20_000 }
    }
}

/// What shares a write and a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupConfig {
    /// Longest wait for company before a write starts, µs. 0 = never wait: while a write is in
    /// flight the next group gathers by itself.
    pub linger_us: u32,
    /// Bytes at which a group is full, a multiple of 4,096. 1 MiB is where devices stop gaining.
    pub bytes_max: u32,
    /// Groups in flight at once. 2 lets the next group be copied and sent while the device works.
    pub in_flight_max: u32,
}

impl Default for GroupConfig {
    fn default() -> GroupConfig {
        GroupConfig { linger_us: 0, bytes_max: 1 << 20, in_flight_max: 2 }
    }
}

/// The tail cache of each shard: the memory the kernel writes groups from and readers read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes per shard. 128 MiB holds the whole WAL of a fresh directory, so segments are built
    /// without reading it back.
    pub bytes: u64,
}

impl Default for CacheConfig {
    fn default() -> CacheConfig {
        CacheConfig { bytes: 128 << 20 }
    }
}

/// Bounds on what callers may hand in, per shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Largest batch, and largest joint append, as encoded. 1 MiB is Kafka's default too.
    pub batch_bytes_max: u32,
    /// Requests a mailbox holds.
    pub queue_requests_max: u32,
    /// Bytes of appends accepted and not yet acknowledged.
    pub queue_bytes_max: u64,
    /// Most partitions on one shard.
    pub partitions_max: u32,
    /// Longest partition name, bytes.
    pub name_bytes_max: u32,
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig {
            batch_bytes_max: 1 << 20,
            queue_requests_max: 8192,
            queue_bytes_max: 64 << 20,
            partitions_max: 1 << 20,
            name_bytes_max: 249,
        }
    }
}

/// When the WAL is sealed into segments, and how those are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentConfig {
    /// Age at which a WAL file is sealed though it is not full, ms.
    pub seal_age_max_ms: u64,
    /// Full WAL files that are sealed as one, if many partitions share them: fewer if they and the
    /// active one do not fit into the tail cache, or are half of the ring. 3 are cached at the
    /// defaults; their runs are three times as long, and with up to 10,000 partitions long enough to
    /// stay as they are.
    pub seal_files_max: u32,
    /// A partition with this many bytes in what is sealed as one gets a segment of its own.
    pub own_bytes_min: u64,
    /// A WAL file is promoted to a segment in place if at most this many partitions share it.
    pub promote_partitions_max: u32,
    /// Shared segments that are merged into one at a time. Each byte is merged once.
    pub merge_fan_in: u32,
    /// Shared segments are merged if their runs are shorter than this on average, bytes. A run costs
    /// 48 to 96 B of memory: of 8 KiB that is 1.2 % at most, not worth writing every byte once more.
    /// 0 merges none.
    pub run_bytes_min: u64,
    /// A segment is rewritten when less than this part of it is live, percent.
    pub live_percent_min: u32,
    /// How often retention, merging and compaction look for work, ms.
    pub check_interval_ms: u64,
    /// Most bytes per second for background I/O of a shard while commits are in flight, for reads and
    /// for the rest each. Without commits it takes the whole device, as does what appends wait for.
    pub background_bytes_per_s: u64,
}

impl Default for SegmentConfig {
    fn default() -> SegmentConfig {
        SegmentConfig {
            seal_age_max_ms: 600_000,
            seal_files_max: 3,
            own_bytes_min: 4 << 20,
            promote_partitions_max: 4,
            merge_fan_in: 16,
            run_bytes_min: 8 << 10,
            live_percent_min: 50,
            check_interval_ms: 1000,
            background_bytes_per_s: 200 << 20,
        }
    }
}

/// Reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadConfig {
    /// Bytes one fetch gathers before it answers.
    pub fetch_bytes_max: u32,
    /// Bytes that readers far behind may have read ahead of themselves beyond that, per shard: 5 MiB
    /// each, for as many as it suffices.
    pub ahead_bytes_max: u64,
    /// Fetches that may read from disk at once, per shard. Bounds buffers and descriptors.
    pub disk_fetches_max: u32,
    /// Segment files kept open, per shard.
    pub open_files_max: u32,
    /// Fetches waiting at the end of partitions, per shard.
    pub waiting_max: u32,
}

impl Default for ReadConfig {
    fn default() -> ReadConfig {
        ReadConfig {
            fetch_bytes_max: 256 << 10,
            ahead_bytes_max: 32 << 20,
            disk_fetches_max: 16,
            open_files_max: 128,
            waiting_max: 1 << 20,
        }
    }
}

/// How long a partition's records are kept. Both bounds may be set; the stricter acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Keep at most about this many bytes; whole sealed runs go, oldest first.
    pub bytes_max: Option<u64>,
    /// Keep records at least this long, ms, by their timestamps.
    pub age_max_ms: Option<u64>,
}

/// A partition's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartitionConfig {
    /// How long records are kept. Default: for ever.
    pub retention: Retention,
    /// Keep only the last record of each key among sealed records. Every record needs a key.
    pub compact: bool,
    /// How long a compacted partition keeps a tombstone, ms, so that readers see it. A day.
    pub tombstone_age_ms: u64,
}

impl Default for PartitionConfig {
    fn default() -> PartitionConfig {
        PartitionConfig { retention: Retention::default(), compact: false, tombstone_age_ms: 86_400_000 }
    }
}

/// Room in a group beside the batches' own bytes: header, and padding to a block.
pub(crate) const GROUP_OVERHEAD: u64 = 2 * BLOCK as u64;
/// Longest that a shard lingers, or polls, µs: beyond it a mistyped unit is likelier than a wish.
const WAIT_US_MAX: u64 = 1_000_000;
const FILE_BYTES_MAX: u64 = 16 << 30;
const CACHE_BYTES_MAX: u64 = 1 << 42;
/// Chunks the cache is cut into, unless groups are larger.
const CACHE_CHUNKS_USUAL: u64 = 32;
/// Chunks are no larger, unless groups are.
const CHUNK_BYTES_MAX: u64 = 4 << 20;
/// Chunks the cache has beside those of groups in flight.
const CACHE_CHUNKS_SPARE: u64 = 4;

impl Config {
    /// The defaults, in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Config {
        Config { data_dir: data_dir.into(), ..Config::default() }
    }

    /// Bytes of one chunk of the tail cache: any group fits into one.
    #[must_use]
    pub(crate) fn chunk_bytes(&self) -> u64 {
        // A larger chunk than a file would never be filled.
        let file = self.wal.file_bytes.saturating_sub(crate::append::persist::CONTROL_RESERVE) / 2;
        let usual = self.cache.bytes / CACHE_CHUNKS_USUAL;
        let usual = usual.min(CHUNK_BYTES_MAX).min(file) / BLOCK as u64 * BLOCK as u64;
        self.group_bytes().max(usual)
    }

    /// Bytes of the largest group, as it lies in the WAL and in the cache.
    fn group_bytes(&self) -> u64 {
        let group = u64::from(self.limits.batch_bytes_max.max(self.group.bytes_max)) + GROUP_OVERHEAD;
        group.next_multiple_of(BLOCK as u64)
    }

    /// The smallest `cache.bytes` that the other settings allow.
    #[must_use]
    pub fn cache_bytes_min(&self) -> u64 {
        let chunks = u64::from(self.group.in_flight_max) + CACHE_CHUNKS_SPARE;
        // A larger cache may have larger chunks, of which it still holds `CACHE_CHUNKS_USUAL`.
        let chunk = if chunks > CACHE_CHUNKS_USUAL { CHUNK_BYTES_MAX } else { 0 };
        chunks * self.group_bytes().max(chunk)
    }

    /// The smallest `wal.file_bytes` that the other settings allow.
    fn file_bytes_min(&self) -> u64 {
        let block = BLOCK as u64;
        (2 * block + self.group_bytes() + crate::append::persist::CONTROL_RESERVE).next_multiple_of(block)
    }

    /// The numbers whose bounds depend on no other: path, value, least, most.
    fn bounded(&self) -> [(&'static str, u64, u64, u64); 18] {
        let Config { threads, wal, commit, group, limits, segment, read, .. } = self;
        let any = u64::MAX;
        [
            ("shards", self.shards.unwrap_or(1).into(), 1, 1024),
            ("threads.poll_us", threads.poll_us.into(), 0, WAIT_US_MAX),
            ("wal.recovery_target_ms", wal.recovery_target_ms.into(), 10, 600_000),
            ("wal.witness_after_us", wal.witness_after_us.into(), 100, any),
            ("commit.stuck_ms", commit.stuck_ms.into(), 1000, 3_600_000),
            ("group.linger_us", group.linger_us.into(), 0, WAIT_US_MAX),
            ("group.in_flight_max", group.in_flight_max.into(), 1, 64),
            ("limits.batch_bytes_max", limits.batch_bytes_max.into(), 1024, 1 << 30),
            ("limits.queue_requests_max", limits.queue_requests_max.into(), 16, 1 << 20),
            ("limits.name_bytes_max", limits.name_bytes_max.into(), 1, 4096),
            ("segment.seal_files_max", segment.seal_files_max.into(), 1, 16),
            ("segment.merge_fan_in", segment.merge_fan_in.into(), 2, 256),
            ("segment.live_percent_min", segment.live_percent_min.into(), 0, 100),
            ("segment.check_interval_ms", segment.check_interval_ms, 1, any),
            ("segment.background_bytes_per_s", segment.background_bytes_per_s, 1 << 20, any),
            ("read.fetch_bytes_max", read.fetch_bytes_max.into(), BLOCK as u64, 1 << 30),
            ("read.disk_fetches_max", read.disk_fetches_max.into(), 1, 1024),
            ("read.open_files_max", read.open_files_max.into(), 4, 900),
        ]
    }

    /// Checks every setting and their relations.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rule = |holds: bool, key, value: u64, rule: String| {
            if holds { Ok(()) } else { Err(ConfigError { key, value: value.to_string(), rule }) }
        };
        if self.data_dir.as_os_str().is_empty() {
            let rule = "must name a directory".to_owned();
            return Err(ConfigError { key: "data_dir", value: "\"\"".to_owned(), rule });
        }
        for (key, value, least, most) in self.bounded() {
            let words = match most {
                u64::MAX => format!("must be at least {least}"),
                _ => format!("must be {least} to {most}"),
            };
            rule((least..=most).contains(&value), key, value, words)?;
        }
        let (block, file, group) = (BLOCK as u64, self.wal.file_bytes, u64::from(self.group.bytes_max));
        let blocks = format!("must be a multiple of {BLOCK}");
        rule(file.is_multiple_of(block), "wal.file_bytes", file, blocks.clone())?;
        rule(group.is_multiple_of(block) && group > 0, "group.bytes_max", group, blocks)?;
        let (least, most) = (self.file_bytes_min(), FILE_BYTES_MAX);
        rule(
            (least..=most).contains(&file),
            "wal.file_bytes",
            file,
            format!(
                "must be {least} to {most}: a file holds two blocks, the largest group \
                 (limits.batch_bytes_max or group.bytes_max) and a reserve"
            ),
        )?;
        let (cache, least, most) = (self.cache.bytes, self.cache_bytes_min(), CACHE_BYTES_MAX);
        rule(
            (least..=most).contains(&cache),
            "cache.bytes",
            cache,
            format!(
                "must be {least} to {most}: the cache holds group.in_flight_max + {CACHE_CHUNKS_SPARE} of \
                 the largest groups (limits.batch_bytes_max or group.bytes_max)"
            ),
        )?;
        let (queue, batch) = (self.limits.queue_bytes_max, u64::from(self.limits.batch_bytes_max));
        let words = format!("must be at least limits.batch_bytes_max, {batch}");
        rule(queue >= batch, "limits.queue_bytes_max", queue, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(key: &str, change: impl FnOnce(&mut Config)) {
        let mut config = Config::new("x");
        change(&mut config);
        assert_eq!(config.validate().unwrap_err().key, key);
    }

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn an_impossible_setting_is_named() {
        refused("shards", |c| c.shards = Some(0));
        refused("group.bytes_max", |c| c.group.bytes_max = 4097);
        refused("wal.file_bytes", |c| c.wal.file_bytes = 4096);
        refused("cache.bytes", |c| c.cache.bytes = 1 << 20);
        refused("limits.queue_bytes_max", |c| c.limits.queue_bytes_max = 1);
        refused("read.fetch_bytes_max", |c| c.read.fetch_bytes_max = 1);
        refused("group.linger_us", |c| c.group.linger_us = 1_000_001);
        refused("threads.poll_us", |c| c.threads.poll_us = u32::MAX);
        refused("data_dir", |c| c.data_dir = PathBuf::new());
    }

    #[test]
    fn the_least_that_a_message_names_is_enough() {
        for (in_flight_max, batch_bytes_max) in [(1, 1024), (2, 1 << 20), (30, 5 << 20), (64, 1024)] {
            let mut config = Config::new("x");
            config.group.in_flight_max = in_flight_max;
            config.limits.batch_bytes_max = batch_bytes_max;
            config.wal.file_bytes = config.file_bytes_min();
            config.cache.bytes = config.cache_bytes_min();
            config.validate().unwrap();
            let chunks = u64::from(in_flight_max) + CACHE_CHUNKS_SPARE;
            assert!(config.cache.bytes / config.chunk_bytes() >= chunks, "{in_flight_max} in flight");
            refused("cache.bytes", |c| *c = less(&config, |c| &mut c.cache.bytes));
            refused("wal.file_bytes", |c| *c = less(&config, |c| &mut c.wal.file_bytes));
        }
    }

    fn less(config: &Config, field: impl FnOnce(&mut Config) -> &mut u64) -> Config {
        let mut config = config.clone();
        *field(&mut config) -= BLOCK as u64;
        config
    }
}
