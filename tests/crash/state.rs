//! One state that a power cut left: verified, opened, compared, and opened again.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use thalweg_io::sim::{SimDisk, SimRandom};

use crate::history::{History, Moment};
use crate::opened::Opened;
use crate::oracle::{Contents, Sight, same};
use crate::verdict::{Right, acquit, open_dir, verify_dir, verify_disk};
use crate::work::config;

/// What a state is compared with, and which it is.
pub(crate) struct State<'a> {
    pub(crate) history: &'a History,
    pub(crate) cut: Moment,
    pub(crate) variant: u64,
}

impl State<'_> {
    /// Checks the one shard of a disk. Every other is opened twice, or cut while it is opened and opened
    /// then, which must come to the same.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self, disk: &SimDisk) -> Result<Sight, String> {
        let mut random = SimRandom::new(self.cut << 8 | self.variant, "again");
        let way = random.below(4);
        let left = (way == 1).then(|| disk.snapshot());
        let (verified, before) = (verify_disk(disk)?, disk.op_count());
        let opened = Opened::on(disk, config());
        let ops = disk.op_count() - before;
        let Right { log, sight, contents } = acquit(&verified, opened, self.history, self.cut)?;
        disk.kill();
        drop(log);
        if way == 0 {
            self.again(disk, &contents, "opened again")?;
        }
        if let Some(left) = left {
            let after = random.below(ops + 1);
            left.crash_after(after);
            drop(Opened::on(&left, config()));
            left.crash();
            let what = format!("opened after an opening that was cut after {after} of {ops} operations");
            self.again(&left, &contents, &what)?;
        }
        Ok(sight)
    }

    fn again(&self, disk: &SimDisk, first: &Contents, what: &str) -> Result<(), String> {
        let again = verify_disk(disk).and_then(|verified| {
            let right = acquit(&verified, Opened::on(disk, config()), self.history, self.cut)?;
            disk.kill();
            same(first, &right.contents)
        });
        again.map_err(|why| format!("{what}: {why}"))
    }

    /// Checks a disk of several shards, on real files: `scratch` is theirs. It is opened, closed, and opened
    /// again, which must come to the same.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check_shards(&self, disk: &SimDisk, shards: u16, scratch: &Path) -> Result<Sight, String> {
        let put = |error: io::Error| format!("{}: {error}", scratch.display());
        let dir = scratch.join("data");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).map_err(put)?;
        }
        std::fs::create_dir_all(&dir).and_then(|()| put_files(disk, &dir)).map_err(put)?;
        let first = self.in_dir(&dir, shards)?;
        let again = self.in_dir(&dir, shards).and_then(|again| same(&first.1, &again.1));
        again.map_err(|why| format!("opened again: {why}"))?;
        Ok(first.0)
    }

    fn in_dir(&self, dir: &Path, shards: u16) -> Result<(Sight, Contents), String> {
        let verified = verify_dir(dir)?;
        let right = acquit(&verified, open_dir(dir, shards), self.history, self.cut)?;
        let Right { log, sight, contents } = right;
        log.close().map_err(|error| format!("does not close: {error}"))?;
        Ok((sight, contents))
    }
}

/// Writes the files of a disk below `root`.
///
/// # Errors
/// The host's.
pub(crate) fn put_files(disk: &SimDisk, root: &Path) -> io::Result<()> {
    for (path, _) in disk.files() {
        let to: PathBuf = root.join(&path);
        if let Some(dir) = to.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(&to, disk.contents(&path).unwrap_or_default())?;
    }
    Ok(())
}

/// A directory in memory, if the host has one.
///
/// # Errors
/// The host's.
pub(crate) fn scratch() -> io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}
