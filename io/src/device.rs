//! What a data directory lies on, as far as the host says: the device, its cache, the file system.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// Whether a device keeps what it acknowledged in memory that a power cut empties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WriteCache {
    /// The host does not say: a network, overlay or memory file system.
    #[default]
    Unknown,
    /// No volatile cache, or none that needs flushing.
    Through,
    /// A volatile cache: durability costs a flush, or a write past it.
    Back,
}

impl fmt::Display for WriteCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            WriteCache::Unknown => "unknown",
            WriteCache::Through => "write through",
            WriteCache::Back => "write back",
        })
    }
}

/// The device and file system of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// Number of the device, as of every file on it.
    pub major: u32,
    /// See `major`.
    pub minor: u32,
    /// Magic number of the file system, by `statfs`.
    pub file_system: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// The device's cache.
    pub write_cache: WriteCache,
    /// Whether a single write can pass the cache by. `None` if the host does not say.
    pub fua: Option<bool>,
}

impl Device {
    /// The device that `dir` lies on. Of a partition it is the whole disk that has a cache.
    ///
    /// # Errors
    /// The directory can't be looked at.
    pub fn of(dir: &Path) -> io::Result<Device> {
        let stat = rustix::fs::stat(dir)?;
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let file_system = rustix::fs::statfs(dir)?.f_type;
        let block = format!("/sys/dev/block/{major}:{minor}");
        let queue = |name: &str| {
            let own = fs::read_to_string(format!("{block}/queue/{name}"));
            own.or_else(|_| fs::read_to_string(format!("{block}/../queue/{name}"))).ok()
        };
        Ok(Device {
            major,
            minor,
            file_system: u64::try_from(file_system).unwrap_or(0),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            write_cache: queue("write_cache").map_or(WriteCache::Unknown, |words| write_cache(&words)),
            fua: queue("fua").map(|digit| digit.trim() == "1"),
        })
    }

    /// The file system's name, for people; its number where it is none of the usual ones.
    #[must_use]
    pub fn file_system_name(&self) -> String {
        let name = match self.file_system {
            0xef53 => "ext4",
            0x5846_5342 => "xfs",
            0x9123_683e => "btrfs",
            0xf2f5_2010 => "f2fs",
            0x0102_1994 => "tmpfs",
            0x794c_7630 => "overlay",
            0x6969 => "nfs",
            0x2fc1_2fc1 => "zfs",
            other => return format!("{other:#x}"),
        };
        name.to_owned()
    }
}

fn write_cache(words: &str) -> WriteCache {
    match words.trim() {
        "write back" => WriteCache::Back,
        "write through" => WriteCache::Through,
        _ => WriteCache::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories_of_one_file_system_lie_on_one_device() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        let device = Device::of(dir.path()).unwrap();
        assert_eq!(device, Device::of(&dir.path().join("inner")).unwrap());
        assert!(!device.kernel.is_empty() && !device.file_system_name().is_empty());
        assert_eq!(Device::of(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_words_of_the_kernel_are_understood() {
        assert_eq!(write_cache("write back\n"), WriteCache::Back);
        assert_eq!(write_cache("write through\n"), WriteCache::Through);
        assert_eq!(write_cache("something new\n"), WriteCache::Unknown);
    }
}
