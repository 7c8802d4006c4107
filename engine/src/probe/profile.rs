//! The device profile: what was measured on a data directory's device, kept in the directory.

use std::io;
use std::path::PathBuf;

use thalweg_io::boot::BackendKind;
use thalweg_io::{
    AlignedBuf, BLOCK, Backend, CommitStrategy, Device, Durability, Op, OpenMode, Reactor, WriteCache,
};

use crate::probe::choose::Way;
use crate::wire::{Fields, Malformed, Writer, check_crc};

/// Name of the device profile's file.
pub const DEVICE_NAME: &str = "DEVICE";
const MAGIC: [u8; 8] = *b"TLWDEV\x00\x01";
/// Bytes of an encoded profile.
pub const PROFILE_BYTES: usize = 192;
/// Bytes kept of the kernel's release.
const KERNEL_BYTES: usize = 64;

const _: () = assert!(PROFILE_BYTES == 48 + KERNEL_BYTES + CommitStrategy::ALL.len() * 16 + 16);

/// What was measured of one strategy: 4 KiB groups, one in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profiled {
    /// The strategy, and whether the thread polled.
    pub way: Way,
    /// Whether commits waited for scheduler ticks while the thread polled. The figures are then
    /// those of a thread that sleeps, if these were taken.
    pub starved: bool,
    /// Median, ns.
    pub p50_ns: u32,
    /// 99th percentile, ns.
    pub p99_ns: u32,
    /// 99.9th percentile, ns.
    pub p999_ns: u32,
}

/// What was measured, where, and what was chosen.
///
/// | bytes    | field         | meaning (little-endian)                           |
/// |----------|---------------|---------------------------------------------------|
/// | 0..8     | magic         | `TLWDEV` 0 1 (the last byte is the version)       |
/// | 8..12    | `crc32c`      | over bytes `12..192`                              |
/// | 12..16   | `major`       | number of the device                              |
/// | 16..20   | `minor`       | number of the device                              |
/// | 20..28   | `file_system` | its magic number                                  |
/// | 28..29   | `backend`     | 1 io_uring, 2 blocking                            |
/// | 29..30   | `write_cache` | 0 unknown, 1 write through, 2 write back          |
/// | 30..31   | `fua`         | 0 unknown, 1 no, 2 yes                            |
/// | 31..32   | `strategy`    | 1 dsync, 2 write then sync, 3 hybrid, 4 blocking  |
/// | 32..33   | `polls`       | whether a shard may poll, 0 or 1                  |
/// | 33..34   | `in_flight`   | groups in flight up to which the device does more |
/// | 34..35   | `count`       | entries in use, 1 to 4                            |
/// | 35..36   | reserved      | zero                                              |
/// | 36..40   | `poll_us`     | how long the measuring thread polled, µs          |
/// | 40..48   | `measured_ms` | wall clock, ms                                    |
/// | 48..112  | `kernel`      | its release as far as there is room, then zeros   |
/// | 112..176 | entries       | four of 16 bytes each                             |
/// | 176..192 | reserved      | zero                                              |
///
/// An entry:
///
/// | bytes  | field      | meaning                             |
/// |--------|------------|-------------------------------------|
/// | 0..1   | `strategy` | as above                            |
/// | 1..2   | `flags`    | 1: polled; 2: starved while polling |
/// | 2..4   | reserved   | zero                                |
/// | 4..8   | `p50_ns`   | median, ns                          |
/// | 8..12  | `p99_ns`   | 99th percentile, ns                 |
/// | 12..16 | `p999_ns`  | 99.9th percentile, ns               |
///
/// Source: `docs/format.md`, "Device profile".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProfile {
    /// The device it is about.
    pub device: Device,
    /// The backend it was measured with.
    pub backend: BackendKind,
    /// The way to commit there.
    pub way: Way,
    /// Groups in flight up to which the device does more.
    pub in_flight: u8,
    /// How long the measuring thread looked for a completion before it slept, µs.
    pub poll_us: u32,
    /// When, wall clock, ms.
    pub measured_ms: i64,
    /// What was measured, at most one entry for each strategy.
    pub commits: Vec<Profiled>,
}

impl DeviceProfile {
    /// Whether it was measured under these conditions.
    #[must_use]
    pub fn fits(&self, device: &Device, backend: BackendKind, poll_us: u32) -> bool {
        let kept = |kernel: &str| kept(kernel).to_owned();
        let device = Device { kernel: kept(&device.kernel), ..device.clone() };
        let own = Device { kernel: kept(&self.device.kernel), ..self.device.clone() };
        own == device && self.backend == backend && (self.poll_us > 0) == (poll_us > 0)
    }

    /// The figures of the way chosen.
    #[must_use]
    pub fn chosen(&self) -> Option<&Profiled> {
        self.commits.iter().find(|each| each.way == self.way)
    }

    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> [u8; PROFILE_BYTES] {
        let mut out = [0; PROFILE_BYTES];
        let mut writer = Writer::new(&mut out);
        let entries = &self.commits[..self.commits.len().min(CommitStrategy::ALL.len())];
        writer.put(&MAGIC);
        writer.put(&[0; 4]);
        writer.put(&self.device.major.to_le_bytes());
        writer.put(&self.device.minor.to_le_bytes());
        writer.put(&self.device.file_system.to_le_bytes());
        let fua = self.device.fua.map_or(0, |fua| 1 + u8::from(fua));
        writer.put(&[backend_code(self.backend), cache_code(self.device.write_cache), fua]);
        let polls = u8::from(self.way.polls);
        writer.put(&[strategy_code(self.way.strategy), polls, self.in_flight, entries.len() as u8, 0]);
        writer.put(&self.poll_us.to_le_bytes());
        writer.put(&self.measured_ms.to_le_bytes());
        let mut kernel = [0; KERNEL_BYTES];
        let release = kept(&self.device.kernel);
        kernel[..release.len()].copy_from_slice(release.as_bytes());
        writer.put(&kernel);
        for each in entries {
            let flags = u8::from(each.way.polls) | u8::from(each.starved) << 1;
            writer.put(&[strategy_code(each.way.strategy), flags, 0, 0]);
            writer.put(&each.p50_ns.to_le_bytes());
            writer.put(&each.p99_ns.to_le_bytes());
            writer.put(&each.p999_ns.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`Malformed`] if it is damaged, or of another version.
    pub fn decode(bytes: &[u8]) -> Result<DeviceProfile, Malformed> {
        let mut fields = Fields::new(bytes);
        let magic = fields.take(8, "device magic")?;
        if magic[..7] != MAGIC[..7] {
            return Err(Malformed::Impossible { field: "device magic", value: u64::from(magic[0]) });
        }
        if magic[7] != MAGIC[7] {
            return Err(Malformed::Version { what: "device profile", found: u16::from(magic[7]), known: 1 });
        }
        let crc = fields.u32("device crc32c")?;
        if bytes.len() < PROFILE_BYTES {
            return Err(Malformed::Short { field: "device profile", at: bytes.len() });
        }
        check_crc("device profile", crc, crc32c::crc32c(&bytes[12..PROFILE_BYTES]))?;
        let (major, minor) = (fields.u32("device major")?, fields.u32("device minor")?);
        let file_system = fields.u64("device file_system")?;
        let backend = backend_of(fields.u8("device backend")?)?;
        let write_cache = cache_of(fields.u8("device write_cache")?)?;
        let fua = fua_of(fields.u8("device fua")?)?;
        let strategy = strategy_of(fields.u8("device strategy")?)?;
        let polls = flag_of(fields.u8("device polls")?)?;
        let in_flight = fields.u8("device in_flight")?;
        let count = fields.u8("device count")?;
        fields.u8("device reserved")?;
        let (poll_us, measured_ms) = (fields.u32("device poll_us")?, fields.i64("device measured_ms")?);
        let kernel = fields.take(KERNEL_BYTES, "device kernel")?;
        let kernel = kernel.split(|byte| *byte == 0).next().unwrap_or_default();
        let kernel = String::from_utf8_lossy(kernel).into_owned();
        if !(1..=CommitStrategy::ALL.len()).contains(&usize::from(count)) {
            return Err(Malformed::Impossible { field: "device count", value: u64::from(count) });
        }
        let commits = (0..count).map(|_| entry(&mut fields)).collect::<Result<_, _>>()?;
        Ok(DeviceProfile {
            device: Device { major, minor, file_system, kernel, write_cache, fua },
            backend,
            way: Way { strategy, polls },
            in_flight,
            poll_us,
            measured_ms,
            commits,
        })
    }
}

fn entry(fields: &mut Fields<'_>) -> Result<Profiled, Malformed> {
    let strategy = strategy_of(fields.u8("device entry strategy")?)?;
    let flags = fields.u8("device entry flags")?;
    fields.take(2, "device entry reserved")?;
    Ok(Profiled {
        way: Way { strategy, polls: flags & 1 != 0 },
        starved: flags & 2 != 0,
        p50_ns: fields.u32("device entry p50_ns")?,
        p99_ns: fields.u32("device entry p99_ns")?,
        p999_ns: fields.u32("device entry p999_ns")?,
    })
}

/// As much of a kernel's release as a profile keeps.
fn kept(release: &str) -> &str {
    let mut len = release.len().min(KERNEL_BYTES);
    while !release.is_char_boundary(len) {
        len -= 1;
    }
    &release[..len]
}

fn strategy_code(strategy: CommitStrategy) -> u8 {
    match strategy {
        CommitStrategy::Dsync => 1,
        CommitStrategy::WriteThenSync => 2,
        CommitStrategy::Hybrid => 3,
        CommitStrategy::Blocking => 4,
    }
}

fn strategy_of(code: u8) -> Result<CommitStrategy, Malformed> {
    let found = CommitStrategy::ALL.into_iter().find(|each| strategy_code(*each) == code);
    found.ok_or(Malformed::Impossible { field: "device strategy", value: u64::from(code) })
}

fn backend_code(backend: BackendKind) -> u8 {
    match backend {
        BackendKind::Uring => 1,
        BackendKind::Blocking => 2,
    }
}

fn backend_of(code: u8) -> Result<BackendKind, Malformed> {
    let found =
        [BackendKind::Uring, BackendKind::Blocking].into_iter().find(|each| backend_code(*each) == code);
    found.ok_or(Malformed::Impossible { field: "device backend", value: u64::from(code) })
}

fn cache_code(cache: WriteCache) -> u8 {
    match cache {
        WriteCache::Unknown => 0,
        WriteCache::Through => 1,
        WriteCache::Back => 2,
    }
}

fn cache_of(code: u8) -> Result<WriteCache, Malformed> {
    let all = [WriteCache::Unknown, WriteCache::Through, WriteCache::Back];
    let found = all.into_iter().find(|each| cache_code(*each) == code);
    found.ok_or(Malformed::Impossible { field: "device write_cache", value: u64::from(code) })
}

fn fua_of(code: u8) -> Result<Option<bool>, Malformed> {
    match code {
        0 => Ok(None),
        1 => Ok(Some(false)),
        2 => Ok(Some(true)),
        other => Err(Malformed::Impossible { field: "device fua", value: u64::from(other) }),
    }
}

fn flag_of(code: u8) -> Result<bool, Malformed> {
    match code {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Malformed::Impossible { field: "device polls", value: u64::from(other) }),
    }
}

/// Reads the profile of a data directory; `None` if it has none.
///
/// # Errors
/// The host's, or of kind `InvalidData` if it is damaged.
pub(super) async fn read<B: Backend>(reactor: &Reactor<B>) -> io::Result<Option<DeviceProfile>> {
    let (file, _) = match reactor.open(DEVICE_NAME, OpenMode::Read).await {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (buf, read) = reactor.read(file, 0, AlignedBuf::zeroed(BLOCK)).await;
    reactor.run(Op::Close { file }).await?;
    let decoded = DeviceProfile::decode(&buf[..read?.min(PROFILE_BYTES)]);
    decoded.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes the profile, in place of another, durable under its name when this returns.
///
/// # Errors
/// The host's.
pub(super) async fn write<B: Backend>(reactor: &Reactor<B>, profile: &DeviceProfile) -> io::Result<()> {
    let temporary = PathBuf::from(format!("{DEVICE_NAME}.tmp"));
    match reactor.run(Op::Remove { path: temporary.clone() }).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (file, _) = reactor.open(&temporary, OpenMode::CreateNew).await?;
    let buf = AlignedBuf::padded(&profile.encode());
    let written = reactor.write(file, 0, buf, Durability::Volatile).await.1;
    let synced = match written {
        Ok(()) => reactor.run(Op::Sync { file }).await,
        Err(error) => Err(error),
    };
    reactor.run(Op::Close { file }).await?;
    if synced.is_err() {
        reactor.run(Op::Remove { path: temporary }).await?;
        return synced;
    }
    reactor.run(Op::Rename { from: temporary, to: DEVICE_NAME.into() }).await?;
    reactor.run(Op::SyncDir { path: PathBuf::new() }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> DeviceProfile {
        let way = |strategy| Way { strategy, polls: true };
        let entry = |strategy, p50_ns| Profiled {
            way: way(strategy),
            starved: false,
            p50_ns,
            p99_ns: p50_ns * 2,
            p999_ns: p50_ns * 3,
        };
        DeviceProfile {
            device: Device {
                major: 259,
                minor: 3,
                file_system: 0xef53,
                kernel: "6.18.0".to_owned(),
                write_cache: WriteCache::Back,
                fua: Some(false),
            },
            backend: BackendKind::Uring,
            way: way(CommitStrategy::Dsync),
            in_flight: 2,
            poll_us: 50,
            measured_ms: 1_767_225_600_000,
            commits: vec![entry(CommitStrategy::Dsync, 38_000), entry(CommitStrategy::Blocking, 41_000)],
        }
    }

    #[test]
    fn a_profile_is_read_back_as_it_was_written() {
        let mut all = vec![profile(), DeviceProfile { backend: BackendKind::Blocking, ..profile() }];
        for (write_cache, fua) in [(WriteCache::Unknown, None), (WriteCache::Through, Some(true))] {
            all.push(DeviceProfile { device: Device { write_cache, fua, ..profile().device }, ..profile() });
        }
        for strategy in CommitStrategy::ALL {
            all.push(DeviceProfile { way: Way { strategy, polls: false }, ..profile() });
        }
        for profile in all {
            assert_eq!(DeviceProfile::decode(&profile.encode()), Ok(profile));
        }
    }

    #[test]
    fn no_bit_can_change_unseen() {
        let good = profile().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(DeviceProfile::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(DeviceProfile::decode(&good[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn it_fits_the_conditions_it_was_measured_under() {
        let profile = profile();
        let fits = |device: &Device, backend, poll_us| profile.fits(device, backend, poll_us);
        assert!(fits(&profile.device, BackendKind::Uring, 20));
        assert!(!fits(&profile.device, BackendKind::Blocking, 50));
        assert!(!fits(&profile.device, BackendKind::Uring, 0));
        for change in [
            |device: &mut Device| device.minor += 1,
            |device: &mut Device| device.file_system += 1,
            |device: &mut Device| device.kernel.push('1'),
            |device: &mut Device| device.write_cache = WriteCache::Through,
        ] {
            let mut device = profile.device.clone();
            change(&mut device);
            assert!(!fits(&device, BackendKind::Uring, 50), "{device:?}");
        }
    }

    #[test]
    fn a_release_with_more_than_is_kept_still_fits() {
        let mut profile = profile();
        profile.device.kernel = format!("{}é", "6".repeat(63));
        let read = DeviceProfile::decode(&profile.encode()).unwrap();
        assert_eq!(read.device.kernel.len(), 63);
        assert!(read.fits(&profile.device, BackendKind::Uring, 50));
    }
}
