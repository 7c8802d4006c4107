//! Spare WAL files: zero-filled before use, so that a commit changes no extent of the file system.
//!
//! A commit into blocks never written costs 1.4 to 2.9 times as much, and with a journalling file
//! system it is the journal that a lost write then cuts.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use thalweg_io::{AlignedBuf, Backend, Durability, FileId, Op, OpenMode};

use crate::governor::{Governor, REQUEST_BYTES_MAX, Work};
use crate::ids::FileNumber;
use crate::maintain::MaintainError;
use crate::manifest::Change;
use crate::shard::Core;
use crate::wal::ring::SpareFile;

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

/// Makes a zero-filled file of `len` bytes, durable under `path`.
///
/// # Errors
/// The host's; nothing is left under `path` then.
pub(crate) async fn make_file<B: Backend>(
    governor: &Governor<B>,
    path: PathBuf,
    len: u64,
) -> io::Result<FileId> {
    let reactor = governor.reactor();
    let temporary = path.with_extension("tmp");
    match reactor.run(Op::Remove { path: temporary.clone() }).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (file, _) = reactor.open(&temporary, OpenMode::CreateNew).await?;
    let made = async {
        reactor.run(Op::Allocate { file, len }).await?;
        zero_fill(governor, file, 0, len).await?;
        reactor.run(Op::Sync { file }).await?;
        reactor.run(Op::Rename { from: temporary.clone(), to: path.clone() }).await?;
        let dir = path.parent().map(PathBuf::from).unwrap_or_default();
        reactor.run(Op::SyncDir { path: dir }).await
    };
    if let Err(error) = made.await {
        let _ = reactor.run(Op::Close { file }).await;
        let _ = reactor.run(Op::Remove { path: temporary }).await;
        return Err(error);
    }
    Ok(file)
}

impl<B: Backend> Core<B> {
    /// Whether the ring should have one more file.
    pub(super) fn wants_spare(&self) -> bool {
        let state = self.state();
        // A second one while the WAL fills faster than it is sealed.
        let wanted = 1 + usize::from(!state.wal.full.is_empty());
        state.wal.spares.len() < wanted && state.wal.files() < self.wal_files_max
    }

    /// Adds a file to the WAL ring.
    pub(crate) async fn prepare_spare(self: &Rc<Self>) -> Result<(), MaintainError> {
        let number: FileNumber = self.state_mut().take_file_number();
        let file_bytes = self.state().wal.file_bytes;
        let path = self.path(number);
        let id = make_file(&self.governor, path.clone(), file_bytes).await?;
        // Named in the manifest before it is used: if it is missing later, that is a loss.
        if let Err(error) = self.commit_manifest(vec![Change::WalFileAdded(number)]).await {
            let error = MaintainError::from(error);
            let _ = self.reactor.run(Op::Close { file: id }).await;
            if !error.is_fatal() {
                let _ = self.reactor.run(Op::Remove { path }).await;
            }
            return Err(error);
        }
        self.state_mut().wal.spares.push_back(SpareFile { number, id });
        Ok(())
    }
}
