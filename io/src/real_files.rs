//! Files of a real file system, and the host's clocks: what the ring and the blocking backend share.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::ClockId;
use slab::Slab;

use crate::backend::{Entry, FileId, Nanos, Op, OpenMode, Reply};
use crate::wake::Wake;

/// Permissions of new files, before the process's umask.
pub(crate) const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
/// Permissions of new directories, before the process's umask.
pub(crate) const DIR_MODE: Mode = Mode::from_raw_mode(0o750);

/// The data directory and its open files.
pub(crate) struct RealFiles {
    root: OwnedFd,
    files: Slab<OwnedFd>,
}

impl RealFiles {
    /// Opens the data directory, which must exist.
    pub(crate) fn open_root(root: &Path) -> io::Result<RealFiles> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| rustix::fs::open(root, flags, Mode::empty()))?;
        Ok(RealFiles { root, files: Slab::new() })
    }

    /// The data directory.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// An open file.
    pub(crate) fn get(&self, file: FileId) -> io::Result<BorrowedFd<'_>> {
        let fd = self.files.get(file.0 as usize).ok_or(Errno::BADF)?;
        Ok(fd.as_fd())
    }

    /// Takes a file out of the table; it closes when the result is dropped.
    pub(crate) fn remove(&mut self, file: FileId) -> io::Result<OwnedFd> {
        Ok(self.files.try_remove(file.0 as usize).ok_or(Errno::BADF)?)
    }

    /// Runs an operation that is neither a read nor a write, on this thread.
    pub(crate) fn run(&mut self, op: Op) -> io::Result<Reply> {
        match op {
            Op::Open { path, mode } => {
                return self.open(&path, mode).map(|(file, len)| Reply::Opened { file, len });
            }
            Op::List { path } => return self.list(&path).map(Reply::Listed),
            Op::Close { file } => drop(self.remove(file)?),
            Op::Sync { file } => self.sync(file)?,
            Op::Allocate { file, len } => return self.allocate(file, len),
            Op::Truncate { file, len } => self.truncate(file, len)?,
            Op::Rename { from, to } => self.rename(&from, &to)?,
            Op::Remove { path } => self.remove_path(&path)?,
            Op::CreateDir { path } => self.create_dir(&path)?,
            Op::SyncDir { path } => self.sync_dir(&path)?,
            Op::Read { .. } | Op::Write { .. } => unreachable!("reads and writes have their own path"),
        }
        Ok(Reply::Done)
    }

    /// Opens a file.
    pub(crate) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<(FileId, u64)> {
        let path = file_path(path)?;
        let flags = open_flags(mode);
        let fd = retry_on_intr(|| rustix::fs::openat(&self.root, path.as_c_str(), flags, FILE_MODE))?;
        self.adopt(fd)
    }

    /// Makes a file that was opened with [`open_flags`] one of the table's. Returns its length.
    pub(crate) fn adopt(&mut self, fd: OwnedFd) -> io::Result<(FileId, u64)> {
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        use_direct_io(fd.as_fd())?;
        let id = u32::try_from(self.files.vacant_key()).map_err(|_| Errno::MFILE)?;
        self.files.insert(fd);
        Ok((FileId(id), stat.st_size.unsigned_abs()))
    }

    /// Makes a file's data, length and allocation durable.
    pub(crate) fn sync(&self, file: FileId) -> io::Result<()> {
        // fdatasync leaves out only what is not needed to read the data back: times and the like.
        let fd = self.get(file)?;
        Ok(retry_on_intr(|| rustix::fs::fdatasync(fd))?)
    }

    /// Reserves space so that a file is at least `len` bytes long.
    pub(crate) fn allocate(&self, file: FileId, len: u64) -> io::Result<Reply> {
        let fd = self.get(file)?;
        if len == 0 {
            return Ok(Reply::Done);
        }
        match retry_on_intr(|| rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => extend(fd, len),
            result => Ok(result.map(|()| Reply::Done)?),
        }
    }

    /// Sets the length of a file.
    pub(crate) fn truncate(&self, file: FileId, len: u64) -> io::Result<()> {
        let fd = self.get(file)?;
        Ok(retry_on_intr(|| rustix::fs::ftruncate(fd, len))?)
    }

    /// Renames a file or directory, replacing the target.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (file_path(from)?, file_path(to)?);
        Ok(retry_on_intr(|| rustix::fs::renameat(&self.root, from.as_c_str(), &self.root, to.as_c_str()))?)
    }

    /// Removes a file.
    pub(crate) fn remove_path(&self, path: &Path) -> io::Result<()> {
        let path = file_path(path)?;
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.root, path.as_c_str(), AtFlags::empty()))?)
    }

    /// Creates a directory, if there is none.
    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = file_path(path)?;
        match retry_on_intr(|| rustix::fs::mkdirat(&self.root, path.as_c_str(), DIR_MODE)) {
            Err(Errno::EXIST) => self.is_dir(&path),
            result => Ok(result?),
        }
    }

    /// Whether what `mkdirat` found in its way is a directory: `Ok`, or `AlreadyExists`.
    pub(crate) fn is_dir(&self, path: &CString) -> io::Result<()> {
        let stat = rustix::fs::statat(&self.root, path.as_c_str(), AtFlags::empty())?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(()),
            _ => Err(Errno::EXIST.into()),
        }
    }

    /// Opens a directory, to sync or list it.
    pub(crate) fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = dir_path(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(retry_on_intr(|| rustix::fs::openat(&self.root, path.as_c_str(), flags, Mode::empty()))?)
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = self.open_dir(path)?;
        Ok(retry_on_intr(|| rustix::fs::fsync(&dir))?)
    }

    /// The names in a directory, sorted.
    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let dir = self.open_dir(path)?;
        let mut entries = Vec::new();
        for found in Dir::read_from(&dir)? {
            let found = found?;
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&dir, name, AtFlags::empty()) {
                // Removed since the directory was read.
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let len = if is_dir { 0 } else { stat.st_size.unsigned_abs() };
            entries.push(Entry { name: name.to_string_lossy().into_owned(), len, is_dir });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// Bytes an ordinary user may still write, if the file system says.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.root).ok()?;
        // Some file systems in memory count nothing at all.
        (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// How `openat` is called. Direct I/O is switched on afterwards: a file system that refuses it
/// does so only after `O_CREAT` has made the file.
pub(crate) fn open_flags(mode: OpenMode) -> OFlags {
    OFlags::CLOEXEC
        | match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::ReadWrite => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        }
}

/// Switches to direct I/O where the file system has it.
fn use_direct_io(fd: BorrowedFd<'_>) -> io::Result<()> {
    static SAID: AtomicBool = AtomicBool::new(false);
    let flags = rustix::fs::fcntl_getfl(fd)?;
    match rustix::fs::fcntl_setfl(fd, flags | OFlags::DIRECT) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => {
            if !SAID.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the file system has no direct I/O: going on through the page cache, \
                     as durable but slower"
                );
            }
            Ok(())
        }
        result => Ok(result?),
    }
}

/// `fallocate` for a file system without it: the length grows, space is only taken by writes.
pub(crate) fn extend(fd: BorrowedFd<'_>, len: u64) -> io::Result<Reply> {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        tracing::warn!("the file system has no fallocate: space is taken when files are first written");
    }
    if rustix::fs::fstat(fd)?.st_size.unsigned_abs() < len {
        retry_on_intr(|| rustix::fs::ftruncate(fd, len))?;
    }
    Ok(Reply::Unreserved)
}

/// Tells that a backend makes commits of two parts from now on.
pub(crate) fn say_dsync_is_refused(refused: Errno) {
    tracing::warn!(%refused, "RWF_DSYNC is not supported here: commits are a write and an fdatasync");
}

/// A path of something in the data directory, as the kernel wants it.
pub(crate) fn file_path(path: &Path) -> io::Result<CString> {
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if path.as_os_str().is_empty() || !inside {
        let what = format!("{}: not a path inside the data directory", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// As [`file_path`]; empty stands for the data directory itself.
pub(crate) fn dir_path(path: &Path) -> io::Result<CString> {
    if path.as_os_str().is_empty() { Ok(CString::from(c".")) } else { file_path(path) }
}

/// Creates `root` and the directories above it that do not exist yet, and makes their names durable.
///
/// # Errors
/// The host's: no permission, or something that is no directory is in the way.
pub(crate) fn create_root(root: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> = root.ancestors().take_while(|dir| !above(dir).is_dir()).collect();
    while let Some(dir) = missing.pop() {
        match rustix::fs::mkdir(dir, DIR_MODE) {
            Err(Errno::EXIST) if dir.is_dir() => {}
            result => result?,
        }
        sync_parent(dir)?;
    }
    // An earlier process may have made the directory and died before its name was durable.
    match sync_parent(root) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

fn sync_parent(dir: &Path) -> io::Result<()> {
    std::fs::File::open(above(dir.parent().unwrap_or(dir)))?.sync_all()
}

/// `dir`, with the empty path that `Path::parent` ends in read as the current directory.
fn above(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

/// The monotonic clock, the same for every thread of the host.
pub(crate) fn monotonic() -> Nanos {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let nanos = now.tv_sec.unsigned_abs().saturating_mul(1_000_000_000);
    Nanos(nanos.saturating_add(now.tv_nsec.unsigned_abs()))
}

/// Sleeps until `wake` rings, at most `nanos` if given.
pub(crate) fn sleep(wake: &Wake, nanos: Option<u64>) {
    let timeout = nanos.map(|nanos| Timespec {
        tv_sec: (nanos / 1_000_000_000).cast_signed(),
        tv_nsec: (nanos % 1_000_000_000).cast_signed(),
    });
    let mut fds = [PollFd::from_borrowed_fd(wake.fd(), PollFlags::IN)];
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(0) | Err(Errno::INTR) => {}
        Ok(_) => wake.drain(),
        // No memory for the wait itself: a short sleep instead, and the caller looks again.
        Err(_) => std::thread::sleep(Duration::from_millis(1)),
    }
}

/// Milliseconds since the Unix epoch, negative before it.
pub(crate) fn wall_ms() -> i64 {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

/// Random bits from the kernel.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let mut bits = [0u8; 8];
    match retry_on_intr(|| rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())) {
        Ok(len) if len == bits.len() => u64::from_ne_bytes(bits),
        // Without the system call: the keys that std reads for its hash maps, and the time.
        _ => RandomState::new().hash_one(monotonic().0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_inside_the_data_directory_are_accepted() {
        for good in ["wal", "shard-0/wal-1"] {
            assert!(file_path(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../../x", ".", "a\0b"] {
            let error = file_path(Path::new(bad)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
        assert_eq!(dir_path(Path::new("")).unwrap(), CString::from(c"."));
    }

    #[test]
    fn the_root_is_created_with_everything_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b/c");
        create_root(&root).unwrap();
        create_root(&root).unwrap();
        assert!(root.is_dir());
        std::fs::write(root.join("file"), b"").unwrap();
        assert!(create_root(&root.join("file")).is_err());
    }

    #[test]
    fn a_directory_is_not_opened_as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = RealFiles::open_root(dir.path()).unwrap();
        files.create_dir(Path::new("d")).unwrap();
        assert!(files.open(Path::new("d"), OpenMode::Read).is_err());
        files.open(Path::new("f"), OpenMode::CreateNew).unwrap();
        let error = files.create_dir(Path::new("f")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn random_bits_and_clocks_move() {
        assert_ne!(random(), random());
        assert!(monotonic() <= monotonic());
        assert!(wall_ms() > 1_600_000_000_000);
    }
}
