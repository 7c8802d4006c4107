//! One process at a time in a data directory.
//!
//! The lock is a `flock` on the file `LOCK`. It belongs to the open file, so it ends with the last
//! descriptor of it: a ring that [holds](crate::UringBackend::hold) the file keeps the lock after a
//! `kill -9` until the ring's writes have landed. A new owner therefore waits a little.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, getpid, test_kill_process};

use crate::real_files::{self, FILE_MODE};

/// Name of the lock file in a data directory.
pub const LOCK_FILE: &str = "LOCK";

/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Most bytes read of what a holder wrote about itself.
const HOLDER_BYTES_MAX: usize = 256;

/// The lock on a data directory, until dropped.
#[derive(Debug)]
pub struct DirLock {
    file: OwnedFd,
}

/// Why a data directory was not locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it.
    Held {
        /// The data directory.
        root: PathBuf,
        /// Who has it, as far as it said.
        holder: Option<Holder>,
        /// How long we waited.
        waited: Duration,
    },
    /// The lock file could not be opened or locked.
    Io {
        /// The data directory.
        root: PathBuf,
        /// What the host answered.
        source: io::Error,
    },
}

/// What the owner of a lock writes into it, for the message others get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id, in its own namespace.
    pub pid: i32,
    /// When it took the lock, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Name of its program.
    pub program: String,
}

impl Holder {
    fn this_process() -> Holder {
        let program = std::env::current_exe().ok();
        let program = program.as_deref().and_then(Path::file_name).unwrap_or_default();
        // One line of the lock file.
        let program = program.to_string_lossy().replace(char::is_control, "?");
        Holder { pid: getpid().as_raw_pid(), since_ms: real_files::wall_ms(), program }
    }

    fn encode(&self) -> String {
        format!("pid={}\nsince_ms={}\nprogram={}\n", self.pid, self.since_ms, self.program)
    }

    fn decode(text: &str) -> Option<Holder> {
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        Some(Holder {
            pid: field("pid")?.parse().ok()?,
            since_ms: field("since_ms")?.parse().ok()?,
            program: field("program").unwrap_or_default().to_owned(),
        })
    }

    fn runs(&self) -> bool {
        // EPERM is the answer of a process that exists and belongs to somebody else.
        Pid::from_raw(self.pid).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = real_files::wall_ms().saturating_sub(self.since_ms) / 1000;
        write!(f, "process {} ({}), {seconds} s ago", self.pid, self.program)?;
        if !self.runs() {
            write!(f, "; it has ended, but its last writes are still on their way to the disk")?;
        }
        Ok(())
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { root, holder, waited } => {
                let (root, waited) = (root.display(), waited.as_secs_f64());
                match holder {
                    Some(holder) => write!(f, "{root} is locked by {holder}; waited {waited:.1} s"),
                    None => write!(f, "{root} is locked by another process; waited {waited:.1} s"),
                }
            }
            LockError::Io { root, source } => write!(f, "{}/{LOCK_FILE}: {source}", root.display()),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LockError::Held { .. } => None,
            LockError::Io { source, .. } => Some(source),
        }
    }
}

impl DirLock {
    /// Locks the data directory `root`, which must exist; tries again until `patience` is over.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder; [`LockError::Io`] is anything else.
    pub fn acquire(root: &Path, patience: Duration) -> Result<DirLock, LockError> {
        let fail = |source| LockError::Io { root: root.to_owned(), source };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let open = || rustix::fs::open(root.join(LOCK_FILE), flags, FILE_MODE);
        let file = retry_on_intr(open).map_err(|errno| fail(errno.into()))?;
        let start = Instant::now();
        while !try_lock(&file).map_err(fail)? {
            let waited = start.elapsed();
            if waited >= patience {
                return Err(LockError::Held { root: root.to_owned(), holder: read_holder(&file), waited });
            }
            std::thread::sleep(RETRY_PAUSE.min(patience - waited));
        }
        if let Err(error) = write_holder(&file, &Holder::this_process()) {
            // A full disk must not keep its owner out.
            tracing::warn!(%error, "the lock is taken, but who took it could not be written down");
        }
        Ok(DirLock { file })
    }
}

impl AsFd for DirLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn try_lock(file: &OwnedFd) -> io::Result<bool> {
    match retry_on_intr(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn read_holder(file: &OwnedFd) -> Option<Holder> {
    let mut bytes = [0u8; HOLDER_BYTES_MAX];
    let len = rustix::io::pread(file, &mut bytes, 0).ok()?;
    Holder::decode(&String::from_utf8_lossy(&bytes[..len]))
}

/// What is written is for people only and needs no sync: the lock is the kernel's.
fn write_holder(file: &OwnedFd, holder: &Holder) -> io::Result<()> {
    rustix::fs::ftruncate(file, 0)?;
    let text = holder.encode();
    retry_on_intr(|| rustix::io::pwrite(file, text.as_bytes(), 0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path(), Duration::ZERO).unwrap();
        let error = DirLock::acquire(dir.path(), Duration::from_millis(60)).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        assert!(message.contains(&dir.path().display().to_string()), "{message}");
        let LockError::Held { waited, .. } = error else { panic!("{message}") };
        assert!(waited >= Duration::from_millis(60));
        drop(first);
        DirLock::acquire(dir.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn a_patient_owner_gets_the_lock_when_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path(), Duration::ZERO).unwrap();
        let root = dir.path().to_owned();
        let second = std::thread::spawn(move || DirLock::acquire(&root, Duration::from_secs(10)));
        std::thread::sleep(Duration::from_millis(20));
        drop(first);
        second.join().unwrap().unwrap();
    }

    #[test]
    fn a_missing_directory_is_an_error_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let error = DirLock::acquire(&dir.path().join("none"), Duration::ZERO).unwrap_err();
        let LockError::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_holder_writes_is_read_back_and_junk_is_not() {
        let holder = Holder { pid: 7, since_ms: -3, program: "log".to_owned() };
        assert_eq!(Holder::decode(&holder.encode()), Some(holder));
        for junk in ["", "pid=x", "pid=3", "\0\0\0"] {
            assert_eq!(Holder::decode(junk), None, "{junk:?}");
        }
    }
}
