//! The file system that real kernels see: the store, served by FUSE.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use crate::fault::{Fault, Kind};
use crate::store::{Node, Store};

/// How much later a delayed request is answered, and one that is late.
const DELAY: Duration = Duration::from_millis(4);
const LATE: Duration = Duration::from_millis(250);

/// Most bytes of one write, and so of one entry of the journal.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// Bytes that the file system says it has.
const CAPACITY_BYTES: u64 = 1 << 36;
const BLOCK: u32 = 4096;

/// Nothing is cached: every request comes here.
const TTL: Duration = Duration::ZERO;

/// A store, mounted until dropped.
pub(crate) struct Mount {
    store: Arc<Mutex<Store>>,
    dir: TempDir,
    torn_down: AtomicBool,
    _session: BackgroundSession,
}

impl Mount {
    /// Mounts an empty store. `async_dio` lets several direct writes of a file fly at once; without
    /// it a program sees the short writes of its file system.
    ///
    /// # Errors
    /// The host has no FUSE, or does not let this user mount.
    pub(crate) fn new(async_dio: bool) -> io::Result<Mount> {
        let store = Arc::new(Mutex::new(Store::new()));
        let dir = tempfile::Builder::new().prefix("thalweg-fuse-").tempdir()?;
        // Once the file system is gone nobody shall make a data directory where it was.
        std::fs::write(dir.path().join("data"), "")?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("thalweg-crash".to_owned())];
        let served = Served { store: store.clone(), async_dio, stuck: Mutex::default() };
        let session = fuser::spawn_mount(served, dir.path(), &config)?;
        Ok(Mount { store, dir, torn_down: false.into(), _session: session })
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mount {
    /// Takes the file system away from whoever uses it: what waits for an answer gets an error, as does
    /// what comes later.
    pub(crate) fn tear_down(&self) {
        if let Err(error) = unmount(self.dir.path(), UnmountFlags::FORCE | UnmountFlags::DETACH) {
            eprintln!("{} stays mounted: {error}", self.dir.path().display());
        }
        self.torn_down.store(true, Ordering::Relaxed);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.torn_down.load(Ordering::Relaxed) {
            let_go(self.dir.path());
        }
    }
}

/// Unmounts, now or when the last file is closed. A ring may hold files a little longer than its owner.
pub(crate) fn let_go(path: &Path) {
    if let Err(error) = unmount(path, UnmountFlags::DETACH) {
        eprintln!("{} stays mounted: {error}", path.display());
    }
}

struct Served {
    store: Arc<Mutex<Store>>,
    async_dio: bool,
    /// Answers that are never given: dropped, each would be an error.
    stuck: Mutex<Vec<Box<dyn Send>>>,
}

/// What became of something that should be made.
enum Made {
    There(Box<FileAttr>),
    Failed(Errno),
    Stuck,
}

impl Served {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a request without an answer.
    fn hold(&self, reply: impl Send + 'static) {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(reply));
    }

    /// Does something later, without holding up other requests.
    fn later(&self, fault: Fault, what: impl FnOnce(&mut Store) + Send + 'static) {
        let store = self.store.clone();
        thread::spawn(move || {
            thread::sleep(if fault == Fault::Late { LATE } else { DELAY });
            what(&mut store.lock().unwrap_or_else(PoisonError::into_inner));
        });
    }

    /// Makes something, unless the request fails, and describes it.
    fn made(&self, parent: INodeNo, kind: Kind, make: impl FnOnce(&mut Store) -> Result<u64, i32>) -> Made {
        let mut store = self.store();
        match store.fault(parent.0, kind) {
            Some(Fault::Error(errno)) => return Made::Failed(Errno::from_i32(errno)),
            Some(Fault::Stuck) => return Made::Stuck,
            _ => {}
        }
        let made = make(&mut store).map_err(Errno::from_i32);
        match made.and_then(|made| attributes(&store, made)) {
            Ok(attributes) => Made::There(Box::new(attributes)),
            Err(errno) => Made::Failed(errno),
        }
    }

    /// Changes something, unless the request fails.
    fn change(
        &self,
        node: INodeNo,
        kind: Kind,
        reply: ReplyEmpty,
        change: impl FnOnce(&mut Store) -> Result<(), i32>,
    ) {
        let mut store = self.store();
        let result = match store.fault(node.0, kind) {
            Some(Fault::Error(errno)) => Err(errno),
            Some(Fault::Stuck) => return self.hold(reply),
            _ => change(&mut store),
        };
        answer(reply, result);
    }

    fn sync(&self, node: INodeNo, kind: Kind, reply: ReplyEmpty) {
        let mut store = self.store();
        match store.fault(node.0, kind) {
            Some(Fault::Error(errno)) => {
                let result = store.sync(node.0, Some(errno)).and(Err(errno));
                answer(reply, result);
            }
            // It covers what was written when it came.
            Some(fault @ (Fault::Delay | Fault::Late)) => {
                let result = store.sync(node.0, None);
                self.later(fault, move |_| answer(reply, result));
            }
            Some(Fault::Stuck) => self.hold(reply),
            Some(Fault::LostSync) => reply.ok(),
            _ => answer(reply, store.sync(node.0, None)),
        }
    }
}

fn answer(reply: ReplyEmpty, result: Result<(), i32>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(Errno::from_i32(errno)),
    }
}

fn attributes(store: &Store, id: u64) -> Result<FileAttr, Errno> {
    let (kind, size, perm, nlink) = match store.node(id).map_err(Errno::from_i32)? {
        Node::Dir { .. } => (FileType::Directory, 0, 0o755, 2),
        Node::File { bytes, linked, .. } => {
            (FileType::RegularFile, bytes.len() as u64, 0o644, u32::from(*linked))
        }
    };
    Ok(FileAttr {
        ino: INodeNo(id),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}

impl Filesystem for Served {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        if self.async_dio && config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).is_err() {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let store = self.store();
        let found = store.find(parent.0, name).map_err(Errno::from_i32);
        match found.and_then(|id| attributes(&store, id)) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _req: &Request, node: INodeNo, _lookups: u64) {
        self.store().forget(node.0);
    }

    fn getattr(&self, _req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.store(), node.0) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut store = self.store();
        let fault = size.and_then(|_| store.fault(node.0, Kind::Truncate));
        let result = match (fault, size) {
            (Some(Fault::Stuck), _) => return self.hold(reply),
            (Some(Fault::Error(errno)), _) => Err(errno),
            (_, Some(len)) => store.set_len(node.0, len, false),
            _ => Ok(()),
        };
        match result.map_err(Errno::from_i32).and_then(|()| attributes(&store, node.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        match self.made(parent, Kind::CreateDir, |store| store.create_dir(parent.0, name)) {
            Made::There(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Made::Failed(errno) => reply.error(errno),
            Made::Stuck => self.hold(reply),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.change(parent, Kind::Remove, reply, |store| store.remove(parent.0, name));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.change(parent, Kind::Remove, reply, |store| store.remove(parent.0, name));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent.0, name), (new_parent.0, new_name));
        self.change(parent, Kind::Rename, reply, |store| store.rename(from, to));
    }

    fn open(&self, _req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.store().fault(node.0, Kind::Open) {
            Some(Fault::Error(errno)) => reply.error(Errno::from_i32(errno)),
            Some(Fault::Stuck) => self.hold(reply),
            _ => reply.opened(FileHandle(0), FopenFlags::empty()),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.made(parent, Kind::Create, |store| store.create(parent.0, name)) {
            Made::There(attributes) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Made::Failed(errno) => reply.error(errno),
            Made::Stuck => self.hold(reply),
        }
    }

    fn read(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut store = self.store();
        let size = match store.fault(node.0, Kind::Read) {
            Some(Fault::Error(errno)) => return reply.error(Errno::from_i32(errno)),
            Some(Fault::Stuck) => return self.hold(reply),
            Some(Fault::Short) => size as usize / 2,
            _ => size as usize,
        };
        match store.read(node.0, offset, size) {
            Ok(bytes) => reply.data(bytes),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The kernel sends no sync after an asynchronous `RWF_DSYNC`: the flag asks it of us.
        let durable = flags.0 & libc::O_DSYNC != 0;
        let written = move |reply: ReplyWrite, result: Result<(), i32>, len: usize| match result {
            Ok(()) => reply.written(len as u32),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        };
        let mut store = self.store();
        let (mut offset, mut bytes) = (offset, data.to_vec());
        match store.fault(node.0, Kind::Write) {
            Some(Fault::Error(errno)) => {
                store.write_failed(node.0, offset, data, errno);
                return reply.error(Errno::from_i32(errno));
            }
            Some(Fault::Stuck) => return self.hold(reply),
            Some(fault @ (Fault::Delay | Fault::Late)) => {
                return self.later(fault, move |store| {
                    let result = store.write(node.0, offset, &bytes, durable);
                    written(reply, result, bytes.len());
                });
            }
            Some(Fault::Short) => {
                bytes.truncate(data.len() / 2);
                let result = store.write(node.0, offset, &bytes, durable);
                return written(reply, result, bytes.len());
            }
            Some(Fault::Drop) => return reply.written(data.len() as u32),
            Some(Fault::Misdirect) => offset += u64::from(BLOCK),
            Some(Fault::Flip) => bytes[data.len() / 2] ^= 0x10,
            Some(Fault::Zero) => bytes.fill(0),
            Some(Fault::LostSync) | None => {}
        }
        written(reply, store.write(node.0, offset, &bytes, durable), data.len());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, node: INodeNo, _fh: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.sync(node, Kind::Sync, reply);
    }

    fn fsyncdir(&self, _req: &Request, node: INodeNo, _fh: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.sync(node, Kind::SyncDir, reply);
    }

    fn readdir(&self, _req: &Request, dir: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let store = self.store();
        let names = match store.names(dir.0) {
            Ok(names) => names,
            Err(errno) => return reply.error(Errno::from_i32(errno)),
        };
        for (at, (name, id)) in names.iter().enumerate().skip(offset as usize) {
            let kind = match store.node(*id) {
                Ok(Node::Dir { .. }) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(*id), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let blocks = CAPACITY_BYTES / u64::from(BLOCK);
        let free = blocks - self.store().used_bytes() / u64::from(BLOCK);
        reply.statfs(blocks, free, free, 1 << 20, 1 << 20, BLOCK, 255, BLOCK);
    }

    fn fallocate(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        self.change(node, Kind::Allocate, reply, |store| store.set_len(node.0, offset + length, true));
    }
}
