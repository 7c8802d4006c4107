//! Spare WAL files: zero-filled ahead of use, so that a commit changes no extent of the file system.
//!
//! A commit into blocks never written costs 1.4 to 2.9 times as much, and with a journalling file
//! system it is the journal that a lost write then cuts. Where appends come faster than zeros they do
//! not wait: the space is reserved.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use thalweg_io::{AlignedBuf, Backend, Durability, FileId, Op, OpenMode, Reply};

use crate::governor::{Governor, REQUEST_BYTES_MAX, Work};
use crate::ids::FileNumber;
use crate::maintain::MaintainError;
use crate::manifest::Change;
use crate::planted::{Planted, planted};
use crate::shard::Core;
use crate::wal::ring::{Filling, SpareFile};

/// Writes zeros from `from` to `to`.
///
/// # Errors
/// The host's.
pub(crate) async fn zero_fill<B: Backend>(
    governor: &Governor<B>,
    file: FileId,
    from: u64,
    to: u64,
) -> io::Result<()> {
    let mut at = from;
    let mut zeros = AlignedBuf::zeroed(REQUEST_BYTES_MAX);
    while at < to {
        let permit = governor.permit(Work::Upkeep, (REQUEST_BYTES_MAX as u64).min(to - at) as usize).await;
        zeros.set_len(permit.bytes());
        let (back, written) = governor.reactor().write(file, at, zeros, Durability::Volatile).await;
        written?;
        zeros = back;
        at += zeros.len() as u64;
    }
    Ok(())
}

/// Makes a file of `len` bytes that reads as zeros, durable under `path`; `filled` writes them too, as is
/// done where no space can be reserved. Returns whether they are written.
///
/// # Errors
/// The host's; nothing is left under `path` then.
pub(crate) async fn make_file<B: Backend>(
    governor: &Governor<B>,
    path: PathBuf,
    len: u64,
    filled: bool,
) -> io::Result<(FileId, bool)> {
    let reactor = governor.reactor();
    let temporary = path.with_extension("tmp");
    match reactor.run(Op::Remove { path: temporary.clone() }).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (file, _) = reactor.open(&temporary, OpenMode::CreateNew).await?;
    let made = async {
        let reply = reactor.start(Op::Allocate { file, len }).await.result?;
        let filled = filled || matches!(reply, Reply::Unreserved);
        if filled {
            zero_fill(governor, file, 0, len).await?;
        }
        reactor.run(Op::Sync { file }).await?;
        let (from, to) = (temporary.clone(), path.clone());
        match planted(Planted::NoDirectorySyncOfWal) {
            true => reactor.run(Op::Rename { from, to }).await?,
            false => governor.put(from, to).await?,
        }
        Ok(filled)
    };
    match made.await {
        Ok(filled) => Ok((file, filled)),
        Err(error) => {
            let _ = reactor.run(Op::Close { file }).await;
            let _ = reactor.run(Op::Remove { path: temporary }).await;
            // It has this name if only the sync of the name failed.
            let _ = reactor.run(Op::Remove { path }).await;
            Err(error)
        }
    }
}

/// How the next spare file is come by.
pub(super) enum Spare {
    /// A promoted segment that nobody needs any more: its blocks are written already.
    Recycled(FileNumber),
    /// A new file.
    New,
}

/// Spare files that are kept when they cost nothing: from dead segments.
const RECYCLED_SPARES_MAX: usize = 3;

impl<B: Backend> Core<B> {
    /// Whether the ring should have one more file, and which.
    pub(super) fn wanted_spare(&self) -> Option<Spare> {
        let state = self.state();
        if state.wal.files() >= self.wal_files_max {
            return None;
        }
        let spares = state.wal.spares.len();
        if let Some(dead) = state.recyclable().filter(|_| spares < RECYCLED_SPARES_MAX) {
            return Some(Spare::Recycled(dead));
        }
        // A second one while the WAL fills faster than it is sealed.
        let wanted = 1 + usize::from(!state.wal.full.is_empty());
        (spares < wanted).then_some(Spare::New)
    }

    /// Whether a dead promoted segment waits for the ring to have room for it.
    pub(super) fn keeps_dead(&self) -> bool {
        let state = self.state();
        state.wal.files() < self.wal_files_max && state.wal.spares.len() < RECYCLED_SPARES_MAX
    }

    /// Adds a file to the WAL ring. Filled with zeros before it is used if `filled`; else it can be
    /// used at once, and is filled until it is.
    pub(crate) async fn prepare_spare(self: &Rc<Self>, filled: bool) -> Result<(), MaintainError> {
        let number: FileNumber = self.state_mut().take_file_number();
        let file_bytes = self.state().wal.file_bytes;
        let path = self.path(number);
        let (id, filled) = make_file(&self.governor, path.clone(), file_bytes, filled).await?;
        // Named in the manifest before it is used: if it is missing later, that is a loss.
        if let Err(error) = self.commit_manifest(vec![Change::WalFileAdded(number)]).await {
            let error = MaintainError::from(error);
            let _ = self.reactor.run(Op::Close { file: id }).await;
            if !error.is_fatal() {
                let _ = self.reactor.run(Op::Remove { path }).await;
            }
            return Err(error);
        }
        {
            let mut state = self.state_mut();
            state.wal.spares.push_back(SpareFile { number, id });
            state.out_of_space = false;
            if filled {
                return Ok(());
            }
            state.wal.filling = Some(Filling { number, writing: false, wanted: false });
        }
        self.mailbox.wake();
        let written = self.fill_spare(number, id, file_bytes).await;
        let ours = self.state().wal.is_filling(number);
        if ours {
            self.state_mut().wal.filling = None;
        }
        if ours && written.is_err() {
            self.discard_spare(SpareFile { number, id }).await?;
        }
        Ok(written?)
    }

    /// Takes a spare file out of the ring that could not be filled: a group would fail there too.
    async fn discard_spare(self: &Rc<Self>, spare: SpareFile) -> Result<(), MaintainError> {
        self.state_mut().wal.spares.retain(|each| each.number != spare.number);
        // Whoever waits for a file looks again.
        self.mailbox.wake();
        let _ = self.reactor.run(Op::Close { file: spare.id }).await;
        self.commit_manifest(vec![Change::WalFileRemoved(spare.number)]).await?;
        let _ = self.reactor.run(Op::Remove { path: self.path(spare.number) }).await;
        Ok(())
    }

    /// Fills a spare file with zeros until the log takes it.
    async fn fill_spare(&self, number: FileNumber, file: FileId, len: u64) -> io::Result<()> {
        let (governor, mut zeros, mut at) = (&self.governor, AlignedBuf::zeroed(REQUEST_BYTES_MAX), 0);
        while at < len {
            let want = (REQUEST_BYTES_MAX as u64).min(len - at) as usize;
            let permit = match self.is_ahead_of_the_log(at) {
                true => governor.permit(Work::Upkeep, want).await,
                false => governor.permit_urgent(want).await,
            };
            if self.ends() || !self.note_writing(number, true) {
                return Ok(());
            }
            zeros.set_len(permit.bytes());
            let (back, written) = self.reactor.write(file, at, zeros, Durability::Volatile).await;
            zeros = back;
            // The log does not get what could not be written, even if it waits for it.
            written?;
            if !self.note_writing(number, false) {
                self.mailbox.wake();
                return Ok(());
            }
            at += zeros.len() as u64;
        }
        // Nothing of this may be in flight on a file that the log has: it may seal and close it.
        if !self.note_writing(number, true) {
            return Ok(());
        }
        self.reactor.run(Op::Sync { file }).await?;
        if !self.note_writing(number, false) {
            self.mailbox.wake();
        }
        Ok(())
    }

    /// Whether so many bytes of zeros are a good way ahead of what the log has filled of its file.
    fn is_ahead_of_the_log(&self, zeroed: u64) -> bool {
        let state = self.state();
        let ahead = state.wal.file_bytes / 4;
        let others = state.wal.spares.len() > 1;
        others || state.wal.active.as_ref().is_none_or(|active| zeroed > active.position + ahead)
    }

    /// Notes that zeros are being written to a file or synced, or no longer. Returns false if the log
    /// has taken it, or waits for it: it gets it.
    fn note_writing(&self, number: FileNumber, writing: bool) -> bool {
        let mut state = self.state_mut();
        let Some(filling) = &mut state.wal.filling else { return false };
        if filling.number != number {
            return false;
        }
        filling.writing = writing;
        if filling.wanted {
            state.wal.filling = None;
            return false;
        }
        true
    }
}
