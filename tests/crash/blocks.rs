//! Crash images of real file systems: the writes that ext4 and XFS make for the engine are logged
//! below a loop device, and what is left of them after a power cut is mounted, opened and checked.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::{NamedTempFile, TempDir};
use thalweg::Config;
use thalweg::config::BackendSetting;
use thalweg_tests::scoreboard;

use crate::device::{EXT4, Kind, Loop, XFS};
use crate::fuse::Mount;
use crate::history::{History, Moment};
use crate::image::{Block, Image, Survival, store};
use crate::journal::Entry;
use crate::opened::Opened;
use crate::plays::{keeping, large, mixed};
use crate::state::scratch;
use crate::verdict::{acquit, open_dir, verify_dir};
use crate::watch::Watch;
use crate::work::{Life, Stopped, config};
use crate::{not_run, setting};

/// Length of the device: the smallest that both file systems make.
const DEVICE_BYTES: u64 = 64 << 20;

/// Longest that looking at images takes, unless somebody asked for so many: then the rest is left out,
/// and that is said.
const TIME_MAX: Duration = Duration::from_secs(75);

/// Where in the file system the data directory is in the file system.
const DATA: &str = "data";

/// A long run of the engine has a life at each tick, so that a minute is not a million requests.
const PACE: Duration = Duration::from_secs(2);

/// Shards of the engine in it.
const SHARDS: u16 = 2;

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
    config.shards = Some(SHARDS);
    let mut history = History::default();
    let _watch = Watch::of_work(format!("an engine on {}", kind.name), &mount.path(), lasts());
    let worked = work(&mount, &config, &mut history);
    let journal = mount.store().journal().to_vec();
    mounted.end()?;
    drop(device);
    match worked {
        Ok(()) => Ok(Seen { base, journal, history }),
        Err(why) => panic!("{}: {why:?}", kind.name),
    }
}

/// How long the engine works.
fn lasts() -> Duration {
    Duration::from_secs(setting("THALWEG_BLOCK_SECONDS", 0))
}

/// Two lives, and for as long as `THALWEG_BLOCK_SECONDS` another one at each tick of [`PACE`].
fn work(mount: &Mount, config: &Config, history: &mut History) -> Result<(), Stopped> {
    let (moment, start) = (|| mount.store().moment(), Instant::now());
    let lasts = lasts();
    for nth in 0.. {
        if nth >= 2 && start.elapsed() >= lasts {
            break;
        }
        let opened = Opened::open(config.clone()).map_err(|error| Stopped::Halted(error.to_string()))?;
        let mut life = Life::new(opened, history, &moment);
        mixed(&mut life, 2 * nth, 16)?;
        keeping(&mut life, 18)?;
        large(&mut life, 36)?;
        life.settle(20);
        mixed(&mut life, 2 * nth + 1, 8)?;
        life.settle(10);
        if !lasts.is_zero() {
            let next = PACE * (nth as u32 + 1);
            life.settle(next.saturating_sub(start.elapsed()).as_millis() as u64);
        }
        life.close()?;
    }
    Ok(())
}

/// Where images are kept and mounted to be looked at.
struct Bench {
    kind: Kind,
    dir: TempDir,
    at: TempDir,
}

impl Bench {
    fn new(kind: Kind) -> io::Result<Bench> {
        Ok(Bench { kind, dir: scratch()?, at: tempfile::tempdir()? })
    }

    /// Opens and checks what is on a device with these blocks.
    fn check(&self, left: &BTreeMap<u64, Block>, history: &History, cut: Moment) -> Result<(), String> {
        self.mounted(left, |at| check(&at.join(DATA), SHARDS, history, cut))?
    }

    /// Mounts a device with these blocks, and looks at it.
    ///
    /// Each has a device of its own: a file system that another mount namespace of the host has copied
    /// lives on when it is unmounted here, and its device, mounted again, would show the image of before.
    fn mounted<T>(&self, left: &BTreeMap<u64, Block>, look: impl FnOnce(&Path) -> T) -> Result<T, String> {
        let host = |error| format!("no device: {error}");
        let file = NamedTempFile::new_in(self.dir.path()).map_err(host)?;
        store(file.as_file(), left, DEVICE_BYTES).map_err(host)?;
        let device = Loop::new(file.path(), false).map_err(host)?;
        let mounted = device.mount(self.kind, self.at.path());
        let mounted = mounted.map_err(|error| format!("does not mount: {error}"))?;
        let seen = look(mounted.path());
        mounted.end().map_err(|error| format!("stays mounted: {error}"))?;
        Ok(seen)
    }
}

fn check(dir: &Path, shards: u16, history: &History, cut: Moment) -> Result<(), String> {
    if !dir.is_dir() {
        let lost = history.partitions.values().any(|known| known.created.must(cut));
        return if lost { Err("the data directory is gone".to_owned()) } else { Ok(()) };
    }
    let verified = verify_dir(dir)?;
    acquit(&verified, open_dir(dir, shards), history, cut).map(drop)
}

/// Which images to look at.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// So many, evenly over all cuts, each with another fate of what was not flushed.
    Spread(u64),
    /// For every prefix of the journal the device as the file system saw it, and beside it so many with what
    /// was not flushed torn. Prefixes that end in a request that changed no byte, as a flush, have the image
    /// of the one before, and are one with it: of those the last, by which most was acknowledged.
    Prefixes(u64),
}

impl Choice {
    /// What to look at before entry `cut` of `journal` happens: the fate of what is pending, and whether that
    /// entry is in flight.
    fn due(self, image: &Image, journal: &[Entry], cut: u64) -> Vec<(Survival, bool)> {
        let cuts = journal.len() as u64 + 1;
        match self {
            Choice::Spread(wanted) => {
                // Image n is of cut n * cuts / wanted.
                let due = (cut * wanted).div_ceil(cuts)..((cut + 1) * wanted).div_ceil(cuts);
                let survival = |nth: u64| match nth % 4 {
                    0 => Survival::Nothing,
                    1 => Survival::All,
                    _ => Survival::Some(nth),
                };
                due.map(|nth| (survival(nth), true)).collect()
            }
            Choice::Prefixes(torn) => {
                if journal.get(cut as usize).is_some_and(|next| !image.changes(next)) {
                    return Vec::new();
                }
                let torn = (0..torn).map(|nth| (Survival::Some(cut << 8 | nth), true));
                std::iter::once((Survival::All, false)).chain(torn).collect()
            }
        }
    }

    /// Images there are of a run.
    fn count(self, seen: &Seen) -> u64 {
        let mut image = seen.base.clone();
        let each = |cut: u64| {
            let due = self.due(&image, &seen.journal, cut).len() as u64;
            seen.journal.get(cut as usize).inspect(|entry| image.step(entry));
            due
        };
        (0..=seen.journal.len() as u64).map(each).sum()
    }
}

/// What looking at images came to.
#[derive(Default)]
struct Looked {
    images: u64,
    wrong: Vec<String>,
}

/// Looks at every `workers`th of the chosen images, until `end`.
fn look(
    kind: Kind,
    seen: &Seen,
    choice: Choice,
    (worker, workers): (u64, u64),
    end: Option<Instant>,
) -> io::Result<Looked> {
    let bench = Bench::new(kind)?;
    let (mut image, mut looked, mut nth) = (seen.base.clone(), Looked::default(), 0);
    for cut in 0..=seen.journal.len() as u64 {
        let next = seen.journal.get(cut as usize);
        for (survival, in_flight) in choice.due(&image, &seen.journal, cut) {
            nth += 1;
            if nth % workers != worker || end.is_some_and(|end| Instant::now() > end) {
                continue;
            }
            let what = format!("{}, cut {cut} of {}, {survival:?}", kind.name, seen.journal.len());
            let _watch = Watch::new(what.clone(), bench.at.path());
            let left = image.cut(next.filter(|_| in_flight), survival);
            looked.images += 1;
            if let Err(why) = bench.check(&left, &seen.history, cut) {
                let name = format!("{}-{cut}-{nth}.img", kind.name);
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
                store(&std::fs::File::create(&kept)?, &left, DEVICE_BYTES)?;
                looked.wrong.push(format!("{what} ({}): {why}", kept.display()));
            }
        }
        if let Some(entry) = next {
            image.step(entry);
        }
    }
    Ok(looked)
}

/// As [`look`], by so many workers.
fn look_all(kind: Kind, seen: &Seen, choice: Choice, workers: u64) -> io::Result<Looked> {
    let asked = ["THALWEG_BLOCK_IMAGES", "THALWEG_BLOCK_PREFIXES"].map(std::env::var_os);
    let most = match setting("THALWEG_BLOCK_MINUTES", 0) {
        0 if asked.iter().all(Option::is_none) => Some(TIME_MAX),
        0 => None,
        minutes => Some(Duration::from_secs(60 * minutes)),
    };
    let end = most.map(|most| Instant::now() + most);
    let looked: Vec<_> = std::thread::scope(|scope| {
        let work = |worker| scope.spawn(move || look(kind, seen, choice, (worker, workers), end));
        let threads: Vec<_> = (0..workers).map(work).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker")).collect()
    });
    let mut all = Looked::default();
    for looked in looked {
        let looked = looked?;
        all.images += looked.images;
        all.wrong.extend(looked.wrong);
    }
    Ok(all)
}

fn images_of(kind: Kind) {
    let seen = match run(kind) {
        Ok(seen) => seen,
        Err(error) => return not_run(&format!("crash images of {}", kind.name), &error),
    };
    let choice = match std::env::var_os("THALWEG_BLOCK_PREFIXES") {
        Some(_) => Choice::Prefixes(setting("THALWEG_BLOCK_PREFIXES", 0)),
        None => Choice::Spread(setting("THALWEG_BLOCK_IMAGES", 500)),
    };
    let (workers, wanted, looking) =
        (setting("THALWEG_BLOCK_WORKERS", 4).max(1), choice.count(&seen), Instant::now());
    println!("{}: {} requests, {wanted} images to look at", kind.name, seen.journal.len());
    let looked =
        look_all(kind, &seen, choice, workers).unwrap_or_else(|error| panic!("{}: {error}", kind.name));
    let (count, wrong) = (looked.images, looked.wrong);
    let rate = count as f64 / looking.elapsed().as_secs_f64();
    println!("{}: {count} of {wanted} images, {rate:.1}/s", kind.name);
    let acked = seen.history.acked(Moment::MAX).count() as u64;
    let requests = seen.journal.len() as u64;
    let counts = [("images", count), ("requests", requests), ("appends", acked)];
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

/// The blocks of a new file system in which `fill` was called.
fn made(kind: Kind, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<BTreeMap<u64, Block>> {
    let (file, at) = (NamedTempFile::new()?, tempfile::tempdir()?);
    file.as_file().set_len(DEVICE_BYTES)?;
    kind.make(file.path())?;
    let device = Loop::new(file.path(), false)?;
    let mounted = device.mount(kind, at.path())?;
    fill(mounted.path())?;
    mounted.end()?;
    drop(device);
    Ok(Image::new(&std::fs::read(file.path())?).cut(None, Survival::Nothing))
}

#[test]
fn an_image_is_seen_although_the_one_before_is_still_mounted_elsewhere() {
    let images = made(EXT4, |_| Ok(()))
        .and_then(|empty| Ok((empty, made(EXT4, |at| std::fs::create_dir(at.join(DATA)))?)));
    let (empty, full) = match images {
        Ok(images) => images,
        Err(error) => return not_run("images beside another mount namespace", &error),
    };
    let bench = Bench::new(EXT4).unwrap();
    let mut elsewhere = None;
    let seen = bench.mounted(&empty, |at| {
        // Its copy of the mounts is made before it says so, and ends with its input.
        let mut copy = Command::new("unshare");
        copy.args(["--mount", "--propagation", "private", "sh", "-c", "echo copied; exec cat"]);
        let mut copy = copy.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let said = copy.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).unwrap();
        assert_eq!(line, "copied\n");
        elsewhere = Some(copy);
        at.join(DATA).is_dir()
    });
    assert_eq!(seen, Ok(false));
    assert_eq!(bench.mounted(&full, |at| at.join(DATA).is_dir()), Ok(true));
    elsewhere.expect("it was looked at").wait().unwrap();
}
