//! What is read from the host around a measurement: bytes written to the device, processor time.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Result;

const SECTOR_BYTES: u64 = 512;
/// Which numbers of a block device's `stat` are the sectors written, and the flushes.
/// Source: Linux, `Documentation/block/stat.rst`.
const SECTORS_WRITTEN: usize = 6;
const FLUSHES: usize = 15;

/// A subject may have work left when its last append is answered: its bytes are waited for until
/// the device was quiet this often, and this many times at most.
const QUIET_PROBES: usize = 2;
const PROBES_MAX: usize = 20;
const PROBE: Duration = Duration::from_millis(20);

/// Counters of the device below a folder, and of this process.
pub(super) struct Meters {
    stat: PathBuf,
}

/// The counters at one moment; later less earlier is what a measurement cost.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// Written to the device by everybody, file system metadata included.
    pub device_bytes: u64,
    /// Times the device was made to keep what its cache held, by everybody. A write with `RWF_DSYNC`
    /// is one too where the device knows no forced write.
    pub device_flushes: u64,
    /// Processor time of all threads of this process, kernel time included.
    pub cpu: Duration,
}

impl Meters {
    /// # Errors
    /// If `dir` is not on a block device.
    pub(super) fn of(dir: &Path) -> Result<Meters> {
        let meters = Meters { stat: block_device(dir)?.join("stat") };
        meters.read()?;
        Ok(meters)
    }

    /// The counters now.
    pub(super) fn read(&self) -> Result<Reading> {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        let (device_bytes, device_flushes) = self.device()?;
        Ok(Reading { device_bytes, device_flushes, cpu })
    }

    /// The counters once the device is quiet.
    pub(super) fn read_settled(&self) -> Result<Reading> {
        let (mut last, mut quiet) = (self.device()?, 0);
        for _ in 0..PROBES_MAX {
            thread::sleep(PROBE);
            let now = self.device()?;
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
            if quiet == QUIET_PROBES {
                break;
            }
        }
        self.read()
    }

    /// Bytes written, and flushes.
    fn device(&self) -> Result<(u64, u64)> {
        let stat =
            fs::read_to_string(&self.stat).map_err(|error| format!("{}: {error}", self.stat.display()))?;
        let number = |at: usize| -> Result<u64> {
            let counted =
                stat.split_ascii_whitespace().nth(at).ok_or("the device does not count its flushes")?;
            Ok(counted.parse()?)
        };
        Ok((number(SECTORS_WRITTEN)? * SECTOR_BYTES, number(FLUSHES)?))
    }
}

/// Where the kernel describes the device that holds `dir`.
pub(super) fn block_device(dir: &Path) -> Result<PathBuf> {
    Ok(Path::new("/sys/dev/block").join(device_number(dir)?))
}

/// `major:minor` of the device that holds `dir`.
pub(super) fn device_number(dir: &Path) -> Result<String> {
    let device = rustix::fs::stat(dir)?.st_dev;
    Ok(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
}
