//! The write of a dead process (FAULTS P2): on a device that takes it slowly, an owner is dead and gone
//! while its last write is still on its way. Until that has landed nobody else may get the directory.
//!
//! The device is a loop device of our own, slowed down by the block I/O controller (cgroup v1), which
//! takes root.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use thalweg_io::DirLock;
use thalweg_io::lock::LockError;
use thalweg_tests::{Directory, scoreboard};

use crate::cycle::{Cycles, take_over};

const ROUNDS: u64 = 6;
const IMAGE_BYTES: u64 = 96 << 20;
/// Bytes a second that the slow device takes: a group is on its way for a good part of a second.
const SLOW: u64 = 64 << 10;
/// How long a write that was held up may take when the device is fast again.
const LANDING: Duration = Duration::from_millis(200);

/// A mounted file system of its own, and a group of processes for which its device can be made slow.
struct SlowDisk {
    place: tempfile::TempDir,
    group: PathBuf,
    device: String,
}

fn run(words: &[&str]) -> io::Result<()> {
    let output = Command::new(words[0]).args(&words[1..]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())))
}

impl SlowDisk {
    fn new() -> io::Result<SlowDisk> {
        let group = PathBuf::from(format!("/sys/fs/cgroup/blkio/thalweg-{}", std::process::id()));
        if !Path::new("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device").exists() {
            return Err(io::Error::other("there is no block I/O controller of cgroup v1"));
        }
        let place = tempfile::tempdir()?;
        let (image, mount) = (place.path().join("image"), place.path().join("mount"));
        fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
        fs::create_dir(&mount)?;
        let text = |path: &Path| path.display().to_string();
        run(&["mkfs.ext4", "-q", "-F", &text(&image)])?;
        run(&["mount", "-o", "loop", &text(&image), &text(&mount)])?;
        let dev = fs::metadata(&mount)?.dev();
        let device = format!("{}:{}", libc::major(dev), libc::minor(dev));
        let disk = SlowDisk { place, group, device };
        fs::create_dir(&disk.group)?;
        Ok(disk)
    }

    fn mount(&self) -> PathBuf {
        self.place.path().join("mount")
    }

    /// 0 bytes a second are as many as it can take.
    fn take(&self, bytes_per_s: u64) -> io::Result<()> {
        let limit = self.group.join("blkio.throttle.write_bps_device");
        fs::write(limit, format!("{} {bytes_per_s}", self.device))
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let _ = self.take(0);
        // What was still on its way keeps both busy for a moment.
        for _ in 0..50 {
            let mounted = run(&["umount", &self.mount().display().to_string()]).is_err();
            if !mounted && fs::remove_dir(&self.group).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// One owner that dies in the middle of a write. Whether the lock outlived it.
fn outlived(disk: &SlowDisk, log: &mut Cycles<'_>) -> Result<bool, String> {
    let procs = disk.group.join("cgroup.procs");
    let script = format!("echo $$ > {} && exec \"$0\" \"$@\"", procs.display());
    let mut appending = log.append_below(&["sh", "-c", &script]);
    if !appending.acknowledges(20) {
        return Err(format!("it ended by itself: {:?}", appending.end()));
    }
    let io = |error: io::Error| error.to_string();
    disk.take(SLOW).map_err(io)?;
    std::thread::sleep(Duration::from_millis(200));
    // Gone, not only killed: nothing of it is left but what the kernel does in its name.
    let said = appending.kill().said();
    let taken = DirLock::acquire(&log.dir(), Duration::ZERO);
    let waits = match &taken {
        Ok(_) => false,
        Err(LockError::Held { holder: Some(_), .. }) => {
            let words = taken.as_ref().map(drop).map_err(ToString::to_string).unwrap_err();
            if !words.contains("it has ended, but its last writes are still on their way") {
                return Err(format!("the lock of a dead owner says: {words}"));
            }
            true
        }
        Err(error) => return Err(error.to_string()),
    };
    drop(taken);
    if waits {
        disk.take(0).map_err(io)?;
    }
    // Free without a wait: then nothing may come any more, now that it could.
    take_over(&log.dir(), || {
        let _ = disk.take(0);
        std::thread::sleep(LANDING);
    })?;
    log.hear(&said)?;
    log.check()?;
    Ok(waits)
}

#[test]
fn the_lock_outlives_its_owner_until_the_last_write_has_landed() {
    let disk = match SlowDisk::new() {
        Ok(disk) => disk,
        Err(why) => return println!("!! NOT RUN: the last write of a dead owner on a slow device ({why})"),
    };
    for backend in ["uring", "blocking"] {
        let directory = Directory::below(&disk.mount()).expect("a directory on the slow device");
        let mut log = Cycles::within(directory, backend, 12);
        let mut waits = 0;
        for round in 0..ROUNDS {
            match outlived(&disk, &mut log) {
                Ok(waited) => waits += u64::from(waited),
                Err(why) => panic!("{backend}, round {round}: {why}"),
            }
        }
        let counted = [("kills with a write on its way", ROUNDS), ("locks that outlived their owner", waits)];
        scoreboard::count(&format!("slow device, {backend}"), &counted, 0);
        // A system call ends before its process does; a ring's write does not.
        assert!(waits > 0 || backend == "blocking", "no write was on its way in {ROUNDS} rounds");
    }
}
