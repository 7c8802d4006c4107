//! I15: files, descriptors, queues and memory stay within the bounds that the settings name.

use thalweg::{Config, ShardStats};
use thalweg_io::sim::SimDisk;

/// WAL files that a ring may grow to, as documented.
const WAL_FILES_MAX: u64 = 64;
/// Descriptors beside those of the WAL, of open segments and of reads: the manifest's two generations, a
/// file being made and the ones read and written by sealing and by merging.
const DESCRIPTORS_FIXED: u64 = 16;

pub(crate) fn check(disk: &SimDisk, config: &Config, stats: &ShardStats) {
    assert!(stats.wal_files <= WAL_FILES_MAX, "I15: {stats:?}");
    // Those in use by readers are beyond the bound for as long as they are read.
    let open_max = u64::from(config.read.open_files_max) + u64::from(config.read.disk_fetches_max);
    assert!(stats.open_segment_files <= open_max, "I15: {stats:?}");
    assert!(stats.waiting_fetches <= u64::from(config.read.waiting_max), "I15: {stats:?}");
    let unsealed_max = stats.wal_files * config.wal.file_bytes;
    assert!(stats.unsealed_bytes <= unsealed_max, "I15: {stats:?}");
    let descriptors = disk.open_files() as u64;
    let merging = u64::from(config.segment.merge_fan_in);
    let most = stats.wal_files + open_max + merging + DESCRIPTORS_FIXED;
    assert!(descriptors <= most, "I15: {descriptors} files are open, {stats:?}");
}
