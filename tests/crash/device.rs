//! Loop devices and what is mounted from them, taken away again on every path.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Longest that a file system stays busy: a ring lets go of its files a little after its owner.
const BUSY: Duration = Duration::from_secs(10);

/// A file system that real crashes are tried on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    fstype: &'static CStr,
    make: &'static [&'static str],
    options: &'static CStr,
}

pub(crate) const EXT4: Kind = Kind {
    name: "ext4",
    fstype: c"ext4",
    make: &["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0"],
    options: c"",
};

/// Copies of one XFS have one identity.
pub(crate) const XFS: Kind =
    Kind { name: "xfs", fstype: c"xfs", make: &["mkfs.xfs", "-q", "-f"], options: c"nouuid" };

fn run(command: &mut Command) -> io::Result<String> {
    let out = command.output()?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(io::Error::other(format!("{command:?}: {}: {}", out.status, said.trim())))
}

impl Kind {
    /// Makes an empty file system in `file`, which has the length it shall have.
    ///
    /// # Errors
    /// The tool's, or its absence.
    pub(crate) fn make(&self, file: &Path) -> io::Result<()> {
        let mut command = Command::new(self.make[0]);
        // By these three mkfs.xfs knows a test, for which it makes a small one.
        command.env("TEST_DIR", "t").env("TEST_DEV", "t").env("QA_CHECK_FS", "t");
        run(command.args(&self.make[1..]).arg(file)).map(drop)
    }
}

/// A loop device on a file, until dropped.
pub(crate) struct Loop {
    device: PathBuf,
}

impl Loop {
    /// # Errors
    /// The host has none, or does not give it to this user.
    pub(crate) fn new(file: &Path, direct: bool) -> io::Result<Loop> {
        let direct = if direct { "--direct-io=on" } else { "--direct-io=off" };
        let device = run(Command::new("losetup").args(["--find", "--show", direct]).arg(file))?;
        Ok(Loop { device: PathBuf::from(device) })
    }

    /// Mounts it.
    ///
    /// # Errors
    /// The file system's: it can't be mounted.
    pub(crate) fn mount(&self, kind: Kind, at: &Path) -> io::Result<Mounted> {
        mount(&self.device, at, kind.fstype, MountFlags::empty(), kind.options)?;
        Ok(Mounted { at: at.to_owned(), there: true })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("losetup").arg("--detach").arg(&self.device)) {
            eprintln!("{error}");
        }
    }
}

/// A mounted file system, until dropped.
pub(crate) struct Mounted {
    at: PathBuf,
    there: bool,
}

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    /// Unmounts, as soon as nobody is there any more.
    ///
    /// # Errors
    /// The host's; `EBUSY` if somebody stays.
    pub(crate) fn end(mut self) -> io::Result<()> {
        let start = Instant::now();
        loop {
            match unmount(&self.at, UnmountFlags::empty()) {
                Err(Errno::BUSY) if start.elapsed() < BUSY => std::thread::sleep(Duration::from_millis(1)),
                result => {
                    self.there = result.is_err();
                    return Ok(result?);
                }
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.there
            && let Err(error) = unmount(&self.at, UnmountFlags::DETACH)
        {
            eprintln!("{} stays mounted: {error}", self.at.display());
        }
    }
}
