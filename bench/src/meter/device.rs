//! Bytes that reached the device, from `/sys/block/*/stat`.

use std::fs;
use std::path::{Path, PathBuf};

/// Unit of the counters, whatever the device's own sector.
const SECTOR_BYTES: u64 = 512;

/// What a device has read and written since a point in time, for everybody on the machine.
pub struct Device {
    stat: PathBuf,
    start: Counters,
}

#[derive(Clone, Copy)]
struct Counters {
    read_bytes: u64,
    written_bytes: u64,
}

impl Device {
    /// Starts to count on the device that holds `dir`; `None` if it has none that counts.
    #[must_use]
    pub fn start(dir: &Path) -> Option<Device> {
        let stat = crate::machine::device_of(dir)?.join("stat");
        let start = counters(&stat)?;
        Some(Device { stat, start })
    }

    /// Bytes written since.
    #[must_use]
    pub fn written_bytes(&self) -> Option<u64> {
        Some(counters(&self.stat)?.written_bytes.saturating_sub(self.start.written_bytes))
    }

    /// Bytes read since.
    #[must_use]
    pub fn read_bytes(&self) -> Option<u64> {
        Some(counters(&self.stat)?.read_bytes.saturating_sub(self.start.read_bytes))
    }
}

/// Source: the kernel's `Documentation/block/stat.rst`.
fn counters(stat: &Path) -> Option<Counters> {
    let text = fs::read_to_string(stat).ok()?;
    let fields: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    Some(Counters { read_bytes: fields.get(2)? * SECTOR_BYTES, written_bytes: fields.get(6)? * SECTOR_BYTES })
}
