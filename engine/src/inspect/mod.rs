//! Looking at a data directory that no engine has open: [`verify`] reads everything and changes
//! nothing, [`dump`] shows what is in the files, [`repair`] saves what can be saved and says what
//! can't.
//!
//! All of them take the directory's lock, so they never look at a log in use.

mod catalog;
mod dump;
mod ledger;
mod patch;
mod remains;
mod repair;
mod salvage;
mod segments;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thalweg_io::lock::LockError;
use thalweg_io::{BlockingBackend, CommitStrategy, DirLock, Reactor};

use crate::superblock::{self, SUPERBLOCK_NAME, Superblock};

pub use dump::{Dumped, dump, dump_file};
pub use repair::{Lost, RepairReport, Repaired, repair, repair_on};
pub use verify::{Damage, VerifyReport, verify, verify_on};

/// Why a directory could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// An engine has it open.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The host refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// There is no superblock, or a damaged one: nothing says what the directory is.
    #[error("{path}: {reason}")]
    NoDataDirectory {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Something in the way of a repair.
    #[error("{0}")]
    Repair(String),
}

/// How far a long look has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being read.
    pub path: PathBuf,
    /// Bytes looked at so far.
    pub bytes_done: u64,
    /// Bytes to look at in all.
    pub bytes_total: u64,
}

/// The last writes of a process that was killed may still be on their way.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// A directory, locked, with a blocking backend on it.
fn open(data_dir: &Path) -> Result<(DirLock, Reactor<BlockingBackend>), InspectError> {
    let io = |source| InspectError::Io { path: data_dir.to_owned(), source };
    let found = SUPERBLOCK_NAME;
    if !data_dir.join(found).exists() {
        return Err(InspectError::NoDataDirectory {
            path: data_dir.join(found),
            reason: "there is none, so this is no data directory".into(),
        });
    }
    let lock = DirLock::acquire(data_dir, LOCK_PATIENCE)?;
    let backend = BlockingBackend::open(data_dir, CommitStrategy::Dsync).map_err(io)?;
    Ok((lock, Reactor::new(backend)))
}

async fn read_superblock<B: thalweg_io::Backend>(reactor: &Reactor<B>) -> Result<Superblock, InspectError> {
    let path = PathBuf::from(SUPERBLOCK_NAME);
    let refuse = |reason: String| InspectError::NoDataDirectory { path: path.clone(), reason };
    match superblock::read(reactor).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(refuse("there is none, so this is no data directory".into())),
        Err(error) => Err(refuse(error.to_string())),
    }
}
