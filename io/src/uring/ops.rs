//! One operation on its way through the ring: the request it makes next, and what an answer means.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use io_uring::{opcode, squeue, types};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::registered::Target;
use super::setup::Supported;
use crate::backend::{Buffer, CommitStrategy, Durability, FileId, Op, OpenMode, Tag};
use crate::real_files::{DIR_MODE, FILE_MODE, dir_path, file_path, open_flags};
use crate::transfer::Transfer;

/// How a write becomes durable, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commit {
    /// It need not.
    Volatile,
    /// By its own flag.
    Dsync,
    /// By a sync after it.
    ThenSync,
    /// By a sync on this thread after it.
    ThenSyncHere,
    /// By a system call on this thread.
    Here,
    /// As `ThenSync`, because the flag was refused.
    Refused(Errno),
    /// Written; the sync is on its way.
    Syncing(Option<Errno>),
}

/// What an operation does, as far as the ring has to know.
pub(super) enum Work {
    Read {
        file: FileId,
        transfer: Transfer,
    },
    Write {
        file: FileId,
        transfer: Transfer,
        commit: Commit,
    },
    Open {
        path: CString,
        mode: OpenMode,
    },
    Close {
        file: FileId,
        fd: Option<OwnedFd>,
    },
    Sync {
        file: FileId,
    },
    Allocate {
        file: FileId,
        len: u64,
    },
    Truncate {
        file: FileId,
        len: u64,
    },
    Rename {
        from: CString,
        to: CString,
    },
    Remove {
        path: CString,
    },
    CreateDir {
        path: CString,
    },
    SyncDir {
        path: CString,
        dir: Option<OwnedFd>,
    },
    /// A system call: the kernel's ring does not know the operation.
    Inline(Option<Op>),
    /// The request makes no sense; the error is its answer.
    Refused(Option<io::Error>),
}

/// An operation between `submit` and its completion.
pub(super) struct InFlight {
    pub(super) tag: Tag,
    /// The kernel's while a request is in flight; nobody touches it then.
    pub(super) buffer: Option<Buffer>,
    pub(super) work: Work,
    /// Whether the kernel shall use a thread that may wait.
    pub(super) patient: bool,
    /// Whether a request is with the kernel now.
    pub(super) flying: bool,
}

impl InFlight {
    /// Prepares an operation for a ring that runs what is in `supported`.
    pub(super) fn new(op: Op, tag: Tag, strategy: CommitStrategy, supported: &Supported) -> InFlight {
        let (buffer, work) = prepare(op, strategy, supported);
        let work = work.unwrap_or_else(|error| Work::Refused(Some(error)));
        InFlight { tag, buffer, work, patient: false, flying: false }
    }
}

fn prepare(op: Op, strategy: CommitStrategy, supported: &Supported) -> (Option<Buffer>, io::Result<Work>) {
    let work = match op {
        Op::Read { file, position, buf } => {
            let transfer = Transfer::new(position, &buf);
            let work = transfer.map(|transfer| Work::Read { file, transfer });
            return (Some(Buffer::Aligned(buf)), work);
        }
        Op::Write { file, position, buf, durability } => {
            let commit = match (durability, strategy) {
                (Durability::Volatile, _) => Commit::Volatile,
                (Durability::Durable, CommitStrategy::Dsync) => Commit::Dsync,
                (Durability::Durable, CommitStrategy::WriteThenSync) => Commit::ThenSync,
                (Durability::Durable, CommitStrategy::Hybrid) => Commit::ThenSyncHere,
                (Durability::Durable, CommitStrategy::Blocking) => Commit::Here,
            };
            let transfer = Transfer::new(position, buf.as_slice());
            let work = transfer.map(|transfer| Work::Write { file, transfer, commit });
            return (Some(buf), work);
        }
        Op::Sync { file } => Ok(Work::Sync { file }),
        Op::SyncDir { path } => dir_path(&path).map(|path| Work::SyncDir { path, dir: None }),
        Op::Close { file } => Ok(Work::Close { file, fd: None }),
        Op::Open { path, mode } if supported.open => file_path(&path).map(|path| Work::Open { path, mode }),
        Op::Allocate { file, len } if supported.allocate && len > 0 => Ok(Work::Allocate { file, len }),
        Op::Truncate { file, len } if supported.truncate => Ok(Work::Truncate { file, len }),
        Op::Rename { from, to } if supported.rename => {
            file_path(&from).and_then(|from| Ok(Work::Rename { from, to: file_path(&to)? }))
        }
        Op::Remove { path } if supported.remove => file_path(&path).map(|path| Work::Remove { path }),
        Op::CreateDir { path } if supported.create_dir => {
            file_path(&path).map(|path| Work::CreateDir { path })
        }
        other => Ok(Work::Inline(Some(other))),
    };
    (None, work)
}

/// Builds a request on a file, by slot or by descriptor.
macro_rules! on {
    ($target:expr, |$fd:ident| $request:expr) => {
        match $target {
            Target::Slot($fd) => $request,
            Target::Descriptor($fd) => $request,
        }
    };
}

/// Reads the next piece into `buffer`.
pub(super) fn read(target: Target, transfer: &Transfer, buffer: &mut Buffer) -> io::Result<squeue::Entry> {
    let Buffer::Aligned(buf) = buffer else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a read into published memory"));
    };
    let (position, range) = transfer.next();
    let piece = &mut buf[range];
    let (at, len) = (piece.as_mut_ptr(), request_len(piece.len())?);
    Ok(on!(target, |fd| opcode::Read::new(fd, at, len).offset(position).build()))
}

/// Writes the next piece of `buffer`, which the ring may know as `registered`.
pub(super) fn write(
    target: Target,
    transfer: &Transfer,
    commit: Commit,
    buffer: &Buffer,
    registered: Option<u16>,
) -> io::Result<squeue::Entry> {
    let (position, range) = transfer.next();
    let piece = &buffer.as_slice()[range];
    let (at, len) = (piece.as_ptr(), request_len(piece.len())?);
    let flags = match commit {
        Commit::Dsync => ReadWriteFlags::DSYNC,
        _ => ReadWriteFlags::empty(),
    };
    let flags = flags.bits().cast_signed();
    Ok(match registered {
        Some(index) => {
            on!(target, |fd| opcode::WriteFixed::new(fd, at, len, index)
                .offset(position)
                .rw_flags(flags)
                .build())
        }
        None => on!(target, |fd| opcode::Write::new(fd, at, len).offset(position).rw_flags(flags).build()),
    })
}

fn request_len(len: usize) -> io::Result<u32> {
    Ok(u32::try_from(len).map_err(|_| Errno::INVAL)?)
}

/// Makes a file's data and length durable.
pub(super) fn sync(target: Target) -> squeue::Entry {
    on!(target, |fd| opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build())
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &OwnedFd) -> squeue::Entry {
    opcode::Fsync::new(types::Fd(dir.as_raw_fd())).build()
}

pub(super) fn open(root: BorrowedFd<'_>, path: &CString, mode: OpenMode) -> squeue::Entry {
    let root = types::Fd(root.as_raw_fd());
    let flags = open_flags(mode).bits().cast_signed();
    opcode::OpenAt::new(root, path.as_ptr()).flags(flags).mode(FILE_MODE.bits()).build()
}

/// Opens a directory at once: its name is in memory as a rule, and only the sync takes time.
pub(super) fn open_dir(root: BorrowedFd<'_>, path: &CString) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::io::retry_on_intr(|| rustix::fs::openat(root, path.as_c_str(), flags, Mode::empty()))?)
}

/// Closes a descriptor on a thread that may wait: the last close of a removed file frees its space.
pub(super) fn close(fd: &OwnedFd) -> squeue::Entry {
    opcode::Close::new(types::Fd(fd.as_raw_fd())).build().flags(squeue::Flags::ASYNC)
}

pub(super) fn allocate(target: Target, len: u64) -> squeue::Entry {
    on!(target, |fd| opcode::Fallocate::new(fd, len).build())
}

pub(super) fn truncate(target: Target, len: u64) -> squeue::Entry {
    on!(target, |fd| opcode::Ftruncate::new(fd, len).build())
}

pub(super) fn rename(root: BorrowedFd<'_>, from: &CString, to: &CString) -> squeue::Entry {
    let root = types::Fd(root.as_raw_fd());
    opcode::RenameAt::new(root, from.as_ptr(), root, to.as_ptr()).build()
}

pub(super) fn remove(root: BorrowedFd<'_>, path: &CString) -> squeue::Entry {
    opcode::UnlinkAt::new(types::Fd(root.as_raw_fd()), path.as_ptr()).build()
}

pub(super) fn create_dir(root: BorrowedFd<'_>, path: &CString) -> squeue::Entry {
    let root = types::Fd(root.as_raw_fd());
    opcode::MkDirAt::new(root, path.as_ptr()).mode(DIR_MODE.bits()).build()
}

/// What the ring answers: a count or descriptor, or an error.
pub(super) fn answer(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| Errno::from_raw_os_error(-result))
}

/// Takes over the descriptor that an `openat` in the ring answered.
pub(super) fn opened(answer: u32) -> io::Result<OwnedFd> {
    let fd = i32::try_from(answer).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel made this descriptor for our request and told nobody else of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Settles who owns a descriptor after a close in the ring.
pub(super) fn closed(fd: OwnedFd, result: Result<u32, Errno>) -> io::Result<()> {
    match result {
        // The request never ran: closing falls to us.
        Err(Errno::CANCELED) => {
            drop(fd);
            Ok(())
        }
        // Linux frees the descriptor whatever it answers, `EINTR` included.
        result => {
            let _ = fd.into_raw_fd();
            match result {
                Ok(_) | Err(Errno::INTR) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        }
    }
}
