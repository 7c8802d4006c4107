//! The conditions a figure travels with.

use std::fs;
use std::path::Path;

use serde::Serialize;
use thalweg::config::CommitConfig;
use thalweg_io::boot::{BackendChoice, choose};

use super::Result;
use super::load::{BATCH_RECORDS, RECORD_BYTES, WRITERS};
use super::meters::{block_device, device_number};

/// What the run was done on and with.
#[derive(Serialize)]
pub(super) struct Conditions {
    kernel: String,
    processor: String,
    cores: usize,
    file_system: String,
    device: String,
    /// As the kernel names it; with `write back` a write without a flush can be lost.
    device_cache: String,
    thalweg_backend: String,
    thalweg_commit: String,
    record_bytes: usize,
    writers: usize,
    batch_records: usize,
    pub(super) rounds: usize,
    pub(super) seconds: f64,
}

impl Conditions {
    pub(super) fn of(dir: &Path, rounds: usize, seconds: f64) -> Result<Conditions> {
        let described = fs::canonicalize(block_device(dir)?)?;
        let device = described.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A partition has its queue one level up.
        let cache = [described.join("queue/write_cache"), described.join("../queue/write_cache")];
        let cache = cache.iter().find_map(|path| fs::read_to_string(path).ok());
        Ok(Conditions {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            processor: value_of(&fs::read_to_string("/proc/cpuinfo")?, "model name"),
            cores: std::thread::available_parallelism()?.get(),
            file_system: file_system(dir, &device)?,
            device,
            device_cache: cache.map_or_else(|| "unknown".into(), |cache| cache.trim().to_owned()),
            thalweg_backend: format!("{:?}", choose(BackendChoice::Auto)?.kind),
            thalweg_commit: format!("{:?}", CommitConfig::default().strategy),
            record_bytes: RECORD_BYTES,
            writers: WRITERS,
            batch_records: BATCH_RECORDS,
            rounds,
            seconds,
        })
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        format!(
            "Linux {}, {} on {} ({} cache), {} × {}; thalweg: backend {}, commit {}; \
             {} B records; {} rounds of {} s",
            self.kernel,
            self.file_system,
            self.device,
            self.device_cache,
            self.cores,
            self.processor,
            self.thalweg_backend,
            self.thalweg_commit,
            self.record_bytes,
            self.rounds,
            self.seconds,
        )
    }
}

/// The first `key : value` of a list of them.
fn value_of(text: &str, key: &str) -> String {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned());
    values.next().unwrap_or_else(|| "unknown".into())
}

/// Its type, and whether an ext4 has a journal: without one a file that grows costs little more to
/// sync than one that does not.
///
/// Source: `proc_pid_mountinfo(5)`: the type is the first field behind the one that is `-`. Linux,
/// `fs/jbd2/journal.c`: a journal is listed by its device's name and inode.
fn file_system(dir: &Path, device: &str) -> Result<String> {
    let (number, mounts) = (device_number(dir)?, fs::read_to_string("/proc/self/mountinfo")?);
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(number.as_str()));
    let kind = mount.and_then(|line| line.split(' ').skip_while(|field| *field != "-").nth(1));
    let journals = fs::read_dir("/proc/fs/jbd2").into_iter().flatten().flatten();
    let mut journals = journals.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(match kind {
        Some("ext4") if journals.any(|name| name.starts_with(&format!("{device}-"))) => {
            "ext4 with a journal".into()
        }
        Some("ext4") => "ext4 without a journal".into(),
        kind => kind.unwrap_or("unknown file system").into(),
    })
}
