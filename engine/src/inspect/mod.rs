//! Looking at a data directory that no engine has open: [`verify`] reads everything and changes
//! nothing, [`dump`] shows what is in the files, [`repair`] saves what can be saved and says what
//! can't.
//!
//! All of them take the directory's lock, so they never look at a log in use. Where the host allows
//! no writing, and so no lock, looking goes on without: whoever calls makes sure that no engine has
//! it open.

mod catalog;
mod changes;
mod dump;
mod ledger;
mod patch;
mod remains;
mod repair;
mod salvage;
mod segments;
mod verify;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thalweg_io::lock::LockError;
use thalweg_io::{Backend, BlockingBackend, CommitStrategy, DirLock, OpenMode, Reactor};

use crate::ids::FileNumber;
use crate::manifest::{Manifest, ManifestError};
use crate::shard::core::file_number;
use crate::shard::recover::ShardPlace;
use crate::superblock::{self, SUPERBLOCK_NAME, Superblock};
use crate::wal::life::WalIdentity;
use crate::wal::scan::{Scan, scan};

pub use changes::{DumpedChange, DumpedControl, DumpedSettings};
pub use dump::{Dumped, DumpedCommit, dump, dump_file};
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
    /// There is no superblock.
    #[error("{path}: {reason}")]
    NoDataDirectory {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The superblock is damaged: nothing else says what the directory is.
    #[error("{path}: {reason}; nothing else says what the directory is: restore it from a copy")]
    Superblock {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A manifest is damaged: nothing else names the partitions.
    #[error("{0}; nothing else names the partitions: restore it from a copy")]
    Manifest(ManifestError),
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

/// What a directory is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Look,
    Change,
}

/// A directory, locked if that can be, with a blocking backend on it.
fn open(
    data_dir: &Path,
    access: Access,
) -> Result<(Option<DirLock>, Reactor<BlockingBackend>), InspectError> {
    let io = |source| InspectError::Io { path: data_dir.to_owned(), source };
    let found = SUPERBLOCK_NAME;
    if !data_dir.join(found).exists() {
        return Err(InspectError::NoDataDirectory {
            path: data_dir.join(found),
            reason: "there is none, so this is no data directory".into(),
        });
    }
    let lock = match DirLock::acquire(data_dir, LOCK_PATIENCE) {
        Ok(lock) => Some(lock),
        Err(LockError::Io { source, .. }) if access == Access::Look && is_read_only(&source) => None,
        Err(error) => return Err(error.into()),
    };
    let backend = BlockingBackend::open(data_dir, CommitStrategy::Dsync).map_err(io)?;
    Ok((lock, Reactor::new(backend)))
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

async fn read_superblock<B: Backend>(reactor: &Reactor<B>) -> Result<Superblock, InspectError> {
    let path = PathBuf::from(SUPERBLOCK_NAME);
    match superblock::read(reactor).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => {
            let reason = "there is none, so this is no data directory".into();
            Err(InspectError::NoDataDirectory { path, reason })
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(InspectError::Superblock { path, reason: error.to_string() })
        }
        Err(source) => Err(InspectError::Io { path, source }),
    }
}

/// Which WAL the manifest is about.
fn wal_identity(place: &ShardPlace, manifest: &Manifest) -> WalIdentity {
    WalIdentity {
        shard: place.shard,
        directory: place.superblock.directory,
        file_bytes: place.superblock.wal_file_bytes,
        floor: manifest.floor,
        floor_group: manifest.floor_group,
    }
}

/// A shard's WAL as it lies, and files of its ring that are not there: the others are read.
async fn read_wal<B: Backend>(
    reactor: &Reactor<B>,
    place: &ShardPlace,
    manifest: &Manifest,
    strays: &[FileNumber],
) -> io::Result<(Scan, Vec<FileNumber>)> {
    let names = reactor.list(&place.dir).await?;
    let there: BTreeSet<_> = names.iter().filter_map(|entry| file_number(&entry.name)).collect();
    let (files, gone): (Vec<_>, Vec<_>) = manifest.wal_files.iter().partition(|file| there.contains(file));
    let identity = wal_identity(place, manifest);
    let outside = manifest.durable_group();
    let files = files.into_iter();
    let scan = scan(reactor, &place.dir, files, strays, &identity, outside, OpenMode::Read).await?;
    Ok((scan, gone))
}
