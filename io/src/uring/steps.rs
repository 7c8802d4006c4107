//! What an operation asks of the ring next, and what the answer means for it.

use std::io;
use std::mem;

use io_uring::squeue;
use rustix::io::{Errno, retry_on_intr};

use super::backend::UringBackend;
use super::ops::{self, Commit, InFlight, Work};
use crate::backend::{CommitStrategy, FileId, Reply};
use crate::pwrite;
use crate::real_files;

/// What an operation does next.
pub(super) enum Step {
    Request(squeue::Entry),
    Done(io::Result<Reply>),
}

/// What an answer of the kernel means for its operation.
pub(super) enum Fate {
    Again,
    Later,
    /// Written; to be made durable on this thread, with what else was written to the file.
    Written(FileId),
    Done(io::Result<Reply>),
}

impl UringBackend {
    /// What an operation does next.
    pub(super) fn step(&mut self, key: usize) -> Step {
        self.next(key).unwrap_or_else(|error| Step::Done(Err(error)))
    }

    fn next(&mut self, key: usize) -> io::Result<Step> {
        let UringBackend { ring, buffers, table, ops, files, supported, .. } = self;
        let InFlight { buffer, work, .. } = &mut ops[key];
        let target = |file| io::Result::Ok(table.target(file, files.get(file)?));
        let root = files.root();
        Ok(Step::Request(match work {
            Work::Read { file, transfer } => {
                ops::read(target(*file)?, transfer, buffer.as_mut().ok_or(Errno::INVAL)?)?
            }
            Work::Write { file, commit: Commit::Syncing(_), .. } => ops::sync(target(*file)?),
            Work::Write { file, transfer, .. } if transfer.complete() => {
                target(*file)?; // nothing to write, but the file must be open
                return Ok(Step::Done(Ok(Reply::Done)));
            }
            Work::Write { file, transfer, commit: Commit::Here } => {
                let bytes = buffer.as_ref().ok_or(Errno::INVAL)?.as_slice();
                if let Some(refused) = pwrite::write_dsync(files.get(*file)?, transfer.position(), bytes)? {
                    self.give_up_dsync(refused);
                }
                return Ok(Step::Done(Ok(Reply::Done)));
            }
            Work::Write { file, transfer, commit } => {
                let buffer = buffer.as_ref().ok_or(Errno::INVAL)?;
                let registered = if supported.write_fixed { buffers.find(buffer) } else { None };
                ops::write(target(*file)?, transfer, *commit, buffer, registered)?
            }
            Work::Open { path, mode } => ops::open(root, path, *mode),
            Work::Close { file, fd } => {
                let owned = files.remove(*file)?;
                table.clear(&ring.submitter(), *file);
                if !supported.close {
                    return Ok(Step::Done(Ok(Reply::Done)));
                }
                ops::close(fd.insert(owned))
            }
            Work::Sync { file } => ops::sync(target(*file)?),
            Work::Allocate { file, len } => ops::allocate(target(*file)?, *len),
            Work::Truncate { file, len } => ops::truncate(target(*file)?, *len),
            Work::Rename { from, to } => ops::rename(root, from, to),
            Work::Remove { path } => ops::remove(root, path),
            Work::CreateDir { path } => ops::create_dir(root, path),
            Work::SyncDir { path, dir } => {
                let opened = ops::open_dir(root, path)?;
                ops::sync_dir(dir.insert(opened))
            }
            Work::Inline(op) => {
                let reply = files.run(op.take().ok_or(Errno::INVAL)?)?;
                if let Reply::Opened { file, .. } = reply {
                    table.add(&ring.submitter(), file, files.get(file)?);
                }
                return Ok(Step::Done(Ok(reply)));
            }
            Work::Refused(error) => return Err(error.take().unwrap_or(Errno::INVAL.into())),
        }))
    }

    /// What an answer means.
    pub(super) fn judge(&mut self, key: usize, result: Result<u32, Errno>) -> Fate {
        let op = &mut self.ops[key];
        let done = |result: Result<u32, Errno>| match result {
            Ok(_) => Fate::Done(Ok(Reply::Done)),
            Err(errno) => Fate::Done(Err(errno.into())),
        };
        match (&mut op.work, result) {
            (Work::Close { fd: Some(_), .. }, result) => {
                let Work::Close { fd: Some(fd), .. } = mem::replace(&mut op.work, Work::Refused(None)) else {
                    return done(result);
                };
                Fate::Done(ops::closed(fd, result).map(|()| Reply::Done))
            }
            (_, Err(Errno::INTR)) => Fate::Again,
            (_, Err(Errno::AGAIN)) => {
                op.patient = true;
                Fate::Later
            }
            (Work::Read { transfer, .. }, Ok(bytes)) => {
                // A piece that brings nothing new is the end of the file.
                match transfer.moved(bytes as usize) && !transfer.complete() {
                    true => Fate::Again,
                    false => Fate::Done(Ok(Reply::Read(transfer.done()))),
                }
            }
            (Work::Write { .. }, result) => self.judge_write(key, result),
            (Work::Open { .. }, Ok(fd)) => Fate::Done(self.opened(fd)),
            (Work::Allocate { file, len }, Err(Errno::OPNOTSUPP | Errno::NOSYS)) => {
                Fate::Done(self.files.get(*file).and_then(|fd| real_files::extend(fd, *len)))
            }
            (Work::CreateDir { path }, Err(Errno::EXIST)) => {
                Fate::Done(self.files.is_dir(path).map(|()| Reply::Done))
            }
            (_, result) => done(result),
        }
    }

    fn judge_write(&mut self, key: usize, result: Result<u32, Errno>) -> Fate {
        let Work::Write { file, transfer, commit } = &mut self.ops[key].work else {
            return Fate::Done(Err(Errno::INVAL.into()));
        };
        let bytes = match (result, *commit) {
            (Ok(_), Commit::Syncing(refused)) => {
                if let Some(refused) = refused {
                    self.give_up_dsync(refused);
                }
                return Fate::Done(Ok(Reply::Done));
            }
            (Ok(bytes), _) => bytes,
            // Refused before a byte moved. Either the flag is unknown here, and a plain write works,
            // or the request itself is bad, and that answer comes again.
            (Err(errno @ (Errno::INVAL | Errno::OPNOTSUPP)), Commit::Dsync) if transfer.done() == 0 => {
                *commit = Commit::Refused(errno);
                return Fate::Again;
            }
            (Err(errno), _) => return Fate::Done(Err(errno.into())),
        };
        if !transfer.moved(bytes as usize) && transfer.stuck() {
            return Fate::Done(Err(transfer.stuck_error()));
        }
        if !transfer.complete() {
            return Fate::Again;
        }
        *commit = match *commit {
            Commit::ThenSync => Commit::Syncing(None),
            Commit::Refused(errno) => Commit::Syncing(Some(errno)),
            Commit::ThenSyncHere => return Fate::Written(*file),
            Commit::Volatile | Commit::Dsync | Commit::Here | Commit::Syncing(_) => {
                return Fate::Done(Ok(Reply::Done));
            }
        };
        Fate::Again
    }

    /// Makes the writes of `written` durable on this thread, with one sync for each file, and ends
    /// them. All of them were reaped before, so the sync covers them.
    pub(super) fn sync_written(&mut self) {
        while let Some((file, _)) = self.written.first() {
            let file = *file;
            let synced = match self.files.get(file) {
                Ok(fd) => retry_on_intr(|| rustix::fs::fdatasync(fd)),
                Err(_) => Err(Errno::BADF),
            };
            let (covered, others) = self.written.drain(..).partition(|(each, _)| *each == file);
            self.written = others;
            let covered: Vec<_> = covered;
            for (_, key) in covered {
                self.finish(key, synced.map(|()| Reply::Done).map_err(io::Error::from));
            }
        }
    }

    /// Goes on without the flag, in the way that is nearest to the one asked for.
    fn give_up_dsync(&mut self, refused: Errno) {
        self.strategy = match self.strategy {
            CommitStrategy::Dsync => CommitStrategy::WriteThenSync,
            CommitStrategy::Blocking => CommitStrategy::Hybrid,
            CommitStrategy::WriteThenSync | CommitStrategy::Hybrid => return,
        };
        real_files::say_dsync_is_refused(refused);
    }

    fn opened(&mut self, fd: u32) -> io::Result<Reply> {
        let (file, len) = self.files.adopt(ops::opened(fd)?)?;
        self.table.add(&self.ring.submitter(), file, self.files.get(file)?);
        Ok(Reply::Opened { file, len })
    }
}
