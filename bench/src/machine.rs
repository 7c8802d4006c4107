//! Where a run was made: a figure travels with its conditions.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The conditions of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Cores the process may use.
    pub cores: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// File system of the data directory.
    pub file_system: String,
    /// Block device beneath it, such as `nvme0n1`; empty if the file system has none.
    pub device: String,
    /// What the kernel says of the device's cache: `write back` or `write through`.
    pub write_cache: String,
    /// Whether the device has forced unit access.
    pub fua: bool,
    /// The device's I/O scheduler.
    pub scheduler: String,
    /// Backend of the engine.
    pub backend: String,
    /// How groups were made durable.
    pub strategy: String,
    /// When appends were acknowledged.
    pub ack: String,
    /// Version of the package, and its commit where it was built from a checkout.
    pub version: String,
    /// Commit of the checkout; empty if it was built from a package.
    pub commit: String,
    /// When the run began, seconds since the Unix epoch.
    pub began_unix_s: u64,
}

impl Machine {
    /// What can be known of the machine below `dir`, without the engine's part.
    #[must_use]
    pub fn below(dir: &Path) -> Machine {
        let queue = device_of(dir).map(|device| device.join("queue"));
        let of_queue = |name: &str| queue.as_ref().map(|queue| line(queue.join(name))).unwrap_or_default();
        let scheduler = of_queue("scheduler");
        let chosen = scheduler.split(['[', ']']).nth(1).unwrap_or(&scheduler).to_owned();
        let device = device_of(dir).and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Machine {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: thalweg_io::pin::allowed_cores().map_or(1, |cores| cores.len()),
            memory_bytes: kib("/proc/meminfo", "MemTotal") << 10,
            kernel: line("/proc/sys/kernel/osrelease"),
            file_system: file_system(dir),
            device: device.unwrap_or_default(),
            write_cache: of_queue("write_cache"),
            fua: of_queue("fua") == "1",
            scheduler: chosen,
            ack: "flushed".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: env!("THALWEG_COMMIT").into(),
            began_unix_s: since.as_secs(),
            ..Machine::default()
        }
    }
}

/// The device that holds `dir`, as a folder under `/sys/block`.
#[must_use]
pub fn device_of(dir: &Path) -> Option<PathBuf> {
    let path = block_of(dir)?;
    // A partition's queue is its disk's.
    let disk = if path.join("partition").exists() { path.parent()?.to_owned() } else { path };
    Some(disk)
}

/// The block device of `dir`, a partition as it may be, as a folder below `/sys/devices`.
fn block_of(dir: &Path) -> Option<PathBuf> {
    let dev = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

/// Type of the file system of `dir`, from the longest mount point above it, and whether an ext4 lacks a
/// journal: without one a file that grows costs little more to sync than one that does not.
fn file_system(dir: &Path) -> String {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        dir.starts_with(point).then_some((point.len(), kind.to_owned()))
    });
    let kind = above.max_by_key(|(len, _)| *len).map(|(_, kind)| kind).unwrap_or_default();
    if kind == "ext4" && has_journal(dir.as_path()) == Some(false) {
        kind + " without a journal"
    } else {
        kind
    }
}

/// Whether the kernel keeps a journal on the device of `dir`; `None` if that cannot be told.
///
/// Source: Linux, `fs/jbd2/journal.c`: a journal is listed by its device's name and inode.
fn has_journal(dir: &Path) -> Option<bool> {
    let start = format!("{}-", block_of(dir)?.file_name()?.to_string_lossy());
    let mut journals = fs::read_dir("/proc/fs/jbd2").ok()?.flatten();
    Some(journals.any(|entry| entry.file_name().to_string_lossy().starts_with(&start)))
}

fn line(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn kib(path: &str, name: &str) -> u64 {
    field(path, name).trim_end_matches("kB").trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_below_a_directory_has_a_kernel_a_file_system_and_cores() {
        let machine = Machine::below(Path::new("."));
        assert!(machine.kernel.contains('.'), "{machine:?}");
        assert!(!machine.file_system.is_empty() && machine.cores > 0 && machine.memory_bytes > 0);
    }
}
