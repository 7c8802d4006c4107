//! Crash images of real file systems: the writes that ext4 and XFS make for the engine are logged
//! below a loop device, and what is left of them after a power cut is mounted, opened and checked.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use thalweg::config::BackendSetting;
use thalweg::inspect::verify;
use thalweg::superblock::SUPERBLOCK_NAME;
use thalweg::{Config, OwnedShard};
use thalweg_io::{BlockingBackend, CommitStrategy};
use thalweg_tests::scoreboard;

use crate::device::{EXT4, Kind, Loop, XFS};
use crate::fuse::Mount;
use crate::history::{History, Moment};
use crate::image::{Image, Survival, store};
use crate::journal::Entry;
use crate::oracle;
use crate::watch::Watch;
use crate::work::{Life, Stopped, config, large, mixed};
use crate::{not_run, setting};

/// Length of the device: the smallest that both file systems make.
const DEVICE_BYTES: u64 = 64 << 20;

/// Longest that looking at images takes, unless somebody asked for so many: then the rest is left out,
/// and that is said.
const TIME_MAX: Duration = Duration::from_secs(75);

/// Where in the file system the data directory is in the file system.
const DATA: &str = "data";

/// A device as it was made, and what it was asked since.
struct Seen {
    base: Image,
    journal: Vec<Entry>,
    history: History,
}

/// Makes a file system on a device of ours, and lets an engine work in it.
fn run(kind: Kind) -> io::Result<Seen> {
    let mount = Mount::new(true)?;
    let dir = mount.path().join("device");
    std::fs::create_dir(&dir)?;
    let file = dir.join("image");
    std::fs::File::create(&file)?.set_len(DEVICE_BYTES)?;
    kind.make(&file)?;
    let at = tempfile::tempdir()?;
    let device = Loop::new(&file, true)?;
    let mounted = device.mount(kind, at.path())?;
    rustix::fs::syncfs(std::fs::File::open(at.path())?)?;
    let base = mount.store().forget_journal("device/image").map(Image::new);
    let base = base.ok_or_else(|| io::Error::other("the device is not there"))?;
    let mut config = config();
    config.data_dir = mounted.path().join(DATA);
    config.threads.backend = BackendSetting::Uring;
    let mut history = History::default();
    let _watch = Watch::new(format!("an engine on {}", kind.name), &mount.path());
    let worked = work(&mount, &config, &mut history);
    let journal = mount.store().journal().to_vec();
    mounted.end()?;
    drop(device);
    match worked {
        Ok(()) => Ok(Seen { base, journal, history }),
        Err(why) => panic!("{}: {why:?}", kind.name),
    }
}

fn work(mount: &Mount, config: &Config, history: &mut History) -> Result<(), Stopped> {
    let moment = || mount.store().moment();
    for nth in 0..2 {
        let shard = OwnedShard::open(config.clone()).map_err(|error| Stopped::Halted(error.to_string()))?;
        let mut life = Life::new(shard, history, &moment);
        mixed(&mut life, nth, 16)?;
        large(&mut life, 28)?;
        life.settle(20);
        mixed(&mut life, 10 + nth, 8)?;
        life.settle(10);
        life.close()?;
    }
    Ok(())
}

/// What a power cut left, and where it is mounted to be looked at.
struct Bench<'a> {
    kind: Kind,
    device: &'a Loop,
    at: &'a Path,
}

impl Bench<'_> {
    /// Mounts what is there, opens and checks it.
    fn check(&self, history: &History, cut: Moment) -> Result<(), String> {
        let mounted = self.device.mount(self.kind, self.at);
        let mounted = mounted.map_err(|error| format!("does not mount: {error}"))?;
        let checked = check(&mounted.path().join(DATA), history, cut);
        mounted.end().map_err(|error| format!("stays mounted: {error}"))?;
        checked
    }
}

fn check(dir: &Path, history: &History, cut: Moment) -> Result<(), String> {
    if !dir.is_dir() {
        let lost = history.partitions.values().any(|known| known.created.must(cut));
        return if lost { Err("the data directory is gone".to_owned()) } else { Ok(()) };
    }
    let made = dir.join(SUPERBLOCK_NAME).exists();
    let report = if made { verify(dir, &mut |_| {}).map(Some) } else { Ok(None) };
    let damage = report.map_err(|error| format!("verify: {error}"))?.and_then(|report| {
        report.damage.first().map(|damage| format!("{}: {}", damage.path.display(), damage.reason))
    });
    let backend = BlockingBackend::open(dir, CommitStrategy::Dsync).map_err(|error| error.to_string())?;
    let mut config = config();
    config.data_dir = dir.to_owned();
    let shard = OwnedShard::open_on(backend, config, None);
    let mut shard = shard.map_err(|error| format!("does not open: {error}; verify: {damage:?}"))?;
    oracle::check(&mut shard, history, cut).map_err(|wrong| wrong.to_string())?;
    damage.map_or(Ok(()), |damage| Err(format!("verify finds {damage}, and it opens")))
}

/// Looks at `wanted` images, evenly over all cuts, each with another fate of what was not flushed.
/// Returns how many it came to, and what is wrong with each that is.
fn look(kind: Kind, seen: &Seen, wanted: u64) -> io::Result<(u64, Vec<String>)> {
    let (dir, at) =
        (tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?, tempfile::tempdir()?);
    let path = dir.path().join("image");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    file.set_len(DEVICE_BYTES)?;
    let device = Loop::new(&path, false)?;
    let bench = Bench { kind, device: &device, at: at.path() };
    let (mut image, mut wrong, mut count) = (seen.base.clone(), Vec::new(), 0);
    let cuts = seen.journal.len() as u64 + 1;
    let (start, asked) = (Instant::now(), std::env::var_os("THALWEG_BLOCK_IMAGES").is_some());
    for cut in 0..cuts {
        let in_flight = seen.journal.get(cut as usize);
        // Image n is of cut n * cuts / wanted.
        let due = (cut * wanted).div_ceil(cuts)..((cut + 1) * wanted).div_ceil(cuts);
        for nth in due.filter(|_| asked || start.elapsed() < TIME_MAX) {
            let survival = match nth % 4 {
                0 => Survival::Nothing,
                1 => Survival::All,
                _ => Survival::Some(nth),
            };
            let _watch = Watch::new(format!("{}, cut {cut}, {survival:?}", kind.name), at.path());
            store(&file, &image.cut(in_flight, survival), DEVICE_BYTES)?;
            count += 1;
            if let Err(why) = bench.check(&seen.history, cut) {
                let kept =
                    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{cut}-{nth}.img", kind.name));
                store(&std::fs::File::create(&kept)?, &image.cut(in_flight, survival), DEVICE_BYTES)?;
                wrong.push(format!(
                    "{}, cut {cut} of {cuts}, {survival:?} ({}): {why}",
                    kind.name,
                    kept.display()
                ));
            }
        }
        if let Some(entry) = in_flight {
            image.step(entry);
        }
    }
    Ok((count, wrong))
}

fn images_of(kind: Kind) {
    let seen = match run(kind) {
        Ok(seen) => seen,
        Err(error) => return not_run(&format!("crash images of {}", kind.name), &error),
    };
    let wanted = setting("THALWEG_BLOCK_IMAGES", 500);
    let (count, wrong) = look(kind, &seen, wanted).unwrap_or_else(|error| panic!("{}: {error}", kind.name));
    if count < wanted {
        println!("{}: {count} of {wanted} images in {TIME_MAX:?}", kind.name);
    }
    let acked = seen.history.acked(Moment::MAX).count() as u64;
    let counts = [("images", count), ("requests", seen.journal.len() as u64), ("appends", acked)];
    scoreboard::count(&format!("block images, {}", kind.name), &counts, wrong.len() as u64);
    let shown = &wrong[..wrong.len().min(20)];
    assert!(wrong.is_empty(), "{} images are wrong\n{}", wrong.len(), shown.join("\n"));
}

#[test]
fn no_image_of_ext4_after_a_power_cut_has_lost_anything_acknowledged() {
    images_of(EXT4);
}

#[test]
fn no_image_of_xfs_after_a_power_cut_has_lost_anything_acknowledged() {
    images_of(XFS);
}
