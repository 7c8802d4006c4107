//! Bytes that reached the device, from `/sys/block/*/stat`.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Unit of the counters, whatever the device's own sector.
const SECTOR_BYTES: u64 = 512;

/// A device is quiet when nothing was written or flushed for so many probes; it is waited for through
/// so many at most, because others may use it.
const QUIET_PROBES: usize = 2;
const PROBES_MAX: usize = 20;
const PROBE: Duration = Duration::from_millis(20);

/// What a device has written and flushed since a point in time, for everybody on the machine.
pub struct Device {
    stat: PathBuf,
    start: Counters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Counters {
    written_bytes: u64,
    /// `None` before Linux 5.5.
    flushes: Option<u64>,
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

    /// Times since that the device was made to keep what its cache held. A write with `RWF_DSYNC` is
    /// one where the device has no forced unit access.
    #[must_use]
    pub fn flushes(&self) -> Option<u64> {
        Some(counters(&self.stat)?.flushes?.saturating_sub(self.start.flushes?))
    }

    /// Waits until the device is quiet, so that what somebody writes behind an answer is counted.
    pub fn wait_until_quiet(&self) {
        let (mut last, mut quiet) = (counters(&self.stat), 0);
        for _ in 0..PROBES_MAX {
            thread::sleep(PROBE);
            let now = counters(&self.stat);
            quiet = if now == last { quiet + 1 } else { 0 };
            if quiet == QUIET_PROBES {
                return;
            }
            last = now;
        }
    }
}

/// Source: the kernel's `Documentation/block/stat.rst`.
fn counters(stat: &Path) -> Option<Counters> {
    let text = fs::read_to_string(stat).ok()?;
    let fields: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    Some(Counters { written_bytes: fields.get(6)? * SECTOR_BYTES, flushes: fields.get(15).copied() })
}
