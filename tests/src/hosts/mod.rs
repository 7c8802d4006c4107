//! The hosts a log is tried on.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use thalweg::Config;
use thalweg::config::CommitSetting;

#[cfg(feature = "glommio")]
pub(crate) mod glommio;
pub(crate) mod owned;
pub(crate) mod sim;
pub(crate) mod threads;

/// A data directory of its own, removed at the end. `THALWEG_TEST_DIR` says where.
#[derive(Debug)]
pub struct Directory {
    root: TempDir,
}

impl Directory {
    /// An empty place.
    ///
    /// # Panics
    /// If the host has no room for a directory.
    #[must_use]
    pub fn new() -> Directory {
        let parent = std::env::var_os("THALWEG_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let root = tempfile::Builder::new().prefix("thalweg-").tempdir_in(parent);
        Directory { root: root.expect("a directory for the test") }
    }

    /// An empty place below `parent`.
    ///
    /// # Errors
    /// The host's.
    pub fn below(parent: &Path) -> std::io::Result<Directory> {
        Ok(Directory { root: tempfile::Builder::new().prefix("thalweg-").tempdir_in(parent)? })
    }

    /// The data directory in it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// The files of all shards.
    pub(crate) fn files(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        collect(&self.path(), "", &mut found);
        found.sort();
        found
    }
}

impl Default for Directory {
    fn default() -> Self {
        Directory::new()
    }
}

fn collect(path: &Path, prefix: &str, found: &mut Vec<(String, u64)>) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => collect(&entry.path(), &format!("{name}/"), found),
            Ok(meta) => found.push((name, meta.len())),
            Err(_) => {}
        }
    }
}

/// Settings under which a MiB or two fill WAL files, make segments and merge them. The tail cache
/// does not hold enough files to seal several as one.
#[must_use]
pub fn small() -> Config {
    let mut config = Config::new("data");
    config.wal.file_bytes = 512 << 10;
    config.group.bytes_max = 32 << 10;
    config.limits.batch_bytes_max = 32 << 10;
    config.limits.queue_bytes_max = 1 << 20;
    config.cache.bytes = 1 << 20;
    config.segment.own_bytes_min = 96 << 10;
    config.segment.check_interval_ms = 20;
    config.segment.merge_fan_in = 4;
    config.segment.run_bytes_min = 1 << 20;
    config.threads.pin = false;
    config.threads.poll_us = 5;
    // What is fastest is for the tests of the probe.
    config.commit.strategy = CommitSetting::Dsync;
    config
}
