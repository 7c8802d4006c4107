//! The manifest on disk: `MANIFEST-<generation>`, a snapshot and the edits after it.
//!
//! An edit is in force when it is durable. A torn last edit was never in force and is dropped; any
//! other damage refuses to open. When the edits outgrow the snapshot, a new generation is written
//! beside the old one, made durable under its own name, and the old one goes.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use thalweg_io::{AlignedBuf, BLOCK, Backend, FileId, Op, OpenMode, Reactor};

use crate::governor::Governor;
use crate::ids::ShardId;
use crate::manifest::codec::{decode_edit, encode_edit};
use crate::manifest::edit::{Change, Edit};
use crate::manifest::predicate::Conflict;
use crate::manifest::snapshot::{Named, write, write_snapshot};
use crate::manifest::state::Manifest;
use crate::planted::{Planted, planted};
use crate::reread::{READS_MAX, read, read_settled, settle};

/// Why the manifest could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The disk refused.
    #[error("manifest {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The file holds what no engine wrote, or lost what one did.
    #[error("manifest {path}, byte {position}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// The edit does not fit the state.
    #[error("manifest: {0}")]
    Conflict(#[from] Conflict),
    /// The disk failed while an edit was on its way: it may be in force or not.
    #[error("manifest {path}: {source}; whether the last edit is in force is not known")]
    Uncertain {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// An earlier edit failed, so what is on disk is not known.
    #[error("manifest: an earlier edit failed ({0}); reopen to recover")]
    Poisoned(String),
}

/// The name of a generation's file.
#[must_use]
pub fn manifest_name(generation: u64) -> String {
    format!("MANIFEST-{generation:016x}")
}

fn generation_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("MANIFEST-")?, 16).ok()
}

/// Smallest file that is worth rewriting, bytes.
const REWRITE_BYTES_MIN: u64 = 1 << 20;
/// Space is reserved ahead in steps of so many bytes; what is not used yet reads as zeros.
const RESERVE_BYTES: u64 = 64 << 10;
/// Room kept behind the last edit.
const EDIT_ROOM_BYTES: u64 = 16 << 10;
/// A manifest larger than this is none of ours.
const MANIFEST_BYTES_MAX: u64 = 4 << 30;

/// What loading found.
pub struct Loaded {
    /// The state after the last whole edit.
    pub manifest: Manifest,
    /// Generation of the file.
    pub generation: u64,
    /// Bytes of whole edits.
    pub end: u64,
    /// Bytes of the snapshot at the front.
    pub snapshot_bytes: u64,
    /// Checksum of the last whole edit.
    pub last_crc: u32,
    /// What was dropped behind the last whole edit, if anything: its position and why.
    pub torn: Option<(u64, String)>,
}

/// Reads the newest generation in `dir`. Opened for writing, it is synced before it is read.
///
/// # Errors
/// [`ManifestError::Io`] of kind `NotFound` if there is none; [`ManifestError::Damaged`] if it
/// can't be trusted.
pub async fn load<B: Backend>(
    reactor: &Reactor<B>,
    dir: &Path,
    shard: ShardId,
    directory: u128,
    mode: OpenMode,
) -> Result<Loaded, ManifestError> {
    let io = |source| ManifestError::Io { path: dir.to_owned(), source };
    let names = reactor.list(dir).await.map_err(io)?;
    let newest = names.iter().filter_map(|entry| generation_of(&entry.name)).max();
    let generation =
        newest.ok_or_else(|| io(io::Error::new(io::ErrorKind::NotFound, "there is no MANIFEST-* file")))?;
    let path = dir.join(manifest_name(generation));
    let io = |source| ManifestError::Io { path: path.clone(), source };
    let (file, len) = reactor.open(&path, mode).await.map_err(io)?;
    let loaded = async {
        let mut bytes = read_whole(reactor, file, len, mode).await.map_err(io)?;
        let mut parsed = parse(&bytes, &path, generation, shard, directory);
        for _ in 0..READS_MAX {
            // What ends the manifest, or damages it, is read twice.
            let doubtful = match &parsed {
                Ok(loaded) => loaded.end,
                Err(ManifestError::Damaged { position, .. }) => *position,
                Err(_) => break,
            };
            let from = (doubtful as usize).min(bytes.len());
            let settled = settle(reactor, file, from as u64, &bytes[from..]).await.map_err(io)?;
            let Some(others) = settled else { break };
            bytes[from..].copy_from_slice(&others);
            parsed = parse(&bytes, &path, generation, shard, directory);
        }
        parsed
    };
    let loaded = loaded.await;
    reactor.run(Op::Close { file }).await.map_err(io)?;
    loaded
}

async fn read_whole<B: Backend>(
    reactor: &Reactor<B>,
    file: FileId,
    len: u64,
    mode: OpenMode,
) -> io::Result<Vec<u8>> {
    if len > MANIFEST_BYTES_MAX {
        return Err(io::Error::other(format!("{len} B is too long for a manifest")));
    }
    if mode == OpenMode::ReadWrite {
        // After a failed sync the page cache may hold what the disk does not.
        reactor.run(Op::Sync { file }).await?;
    }
    read(reactor, file, 0, len as usize).await
}

/// Folds the edits in a manifest file's bytes.
///
/// # Errors
/// [`ManifestError::Damaged`] for anything but a torn last edit.
fn parse(
    bytes: &[u8],
    path: &Path,
    generation: u64,
    shard: ShardId,
    directory: u128,
) -> Result<Loaded, ManifestError> {
    let damaged = |position: usize, reason: String| ManifestError::Damaged {
        path: path.to_owned(),
        position: position as u64,
        reason,
    };
    let mut manifest = Manifest::default();
    let (mut at, mut last_crc, mut snapshot_bytes, mut torn) = (0, 0, 0, None);
    while at < bytes.len() {
        let (frame, edit) = match decode_edit(&bytes[at..]) {
            Ok(decoded) => decoded,
            Err(error) => {
                if at == 0 || whole_edit_behind(&bytes[at..]) {
                    return Err(damaged(at, error.to_string()));
                }
                if bytes[at..].iter().any(|byte| *byte != 0) {
                    torn = Some((at as u64, error.to_string()));
                }
                break;
            }
        };
        if (frame.shard, frame.directory) != (shard, directory) {
            return Err(damaged(at, "belongs to another data directory or shard".into()));
        }
        if edit.snapshot != (at == 0) || (at > 0 && frame.previous != last_crc) {
            return Err(damaged(at, "does not follow the edit before it".into()));
        }
        manifest.apply(&edit).map_err(|conflict| damaged(at, conflict.to_string()))?;
        last_crc = frame.crc;
        at += (frame.len as usize).next_multiple_of(BLOCK);
        if edit.snapshot {
            snapshot_bytes = at as u64;
        }
    }
    if manifest.revision == 0 {
        return Err(damaged(0, "holds no edit".into()));
    }
    Ok(Loaded { manifest, generation, end: at as u64, snapshot_bytes, last_crc, torn })
}

/// Whether a whole edit starts at a later block: the damage before it is then no torn write.
fn whole_edit_behind(bytes: &[u8]) -> bool {
    (BLOCK..bytes.len()).step_by(BLOCK).any(|at| decode_edit(&bytes[at..]).is_ok())
}

/// The open manifest file of a shard.
pub struct ManifestFile<B: Backend> {
    reactor: Reactor<B>,
    /// The pace of what is written, once the shard is open.
    governor: Option<Rc<Governor<B>>>,
    dir: PathBuf,
    shard: ShardId,
    directory: u128,
    generation: u64,
    file: FileId,
    end: u64,
    reserved: u64,
    snapshot_bytes: u64,
    last_crc: u32,
    poisoned: Option<String>,
}

impl<B: Backend> ManifestFile<B> {
    /// Writes the first generation from `manifest`, durable under its name when this returns.
    ///
    /// # Errors
    /// [`ManifestError::Io`].
    pub async fn create(
        reactor: &Reactor<B>,
        dir: &Path,
        shard: ShardId,
        directory: u128,
        manifest: &Manifest,
        generation: u64,
    ) -> Result<Self, ManifestError> {
        let name = manifest_name(generation);
        let path = dir.join(&name);
        let written = write_snapshot(reactor, None, dir, &name, shard, directory, manifest).await;
        let (file, end, last_crc) = written.map_err(|(named, source)| match named {
            Named::No => ManifestError::Io { path, source },
            Named::Perhaps => ManifestError::Uncertain { path, source },
        })?;
        Ok(ManifestFile {
            reactor: reactor.clone(),
            governor: None,
            dir: dir.to_owned(),
            shard,
            directory,
            generation,
            file,
            end,
            reserved: end,
            snapshot_bytes: end,
            last_crc,
            poisoned: None,
        })
    }

    /// Writes at the governor's pace from now on: there are commits to be kept clear of.
    pub(crate) fn govern(&mut self, governor: Rc<Governor<B>>) {
        self.governor = Some(governor);
    }

    /// Goes on from a loaded manifest, in a fresh generation: a torn edit is left behind with the
    /// old file, which is removed. On a full disk it goes on in the old one.
    ///
    /// # Errors
    /// [`ManifestError::Io`].
    pub async fn resume(
        reactor: &Reactor<B>,
        dir: &Path,
        shard: ShardId,
        directory: u128,
        loaded: &Loaded,
    ) -> Result<Self, ManifestError> {
        let generation = loaded.generation + 1;
        let created = Self::create(reactor, dir, shard, directory, &loaded.manifest, generation).await;
        let mut next = match created {
            Err(ManifestError::Io { source, .. }) if is_full(&source) => {
                return Self::reopen(reactor, dir, shard, directory, loaded).await;
            }
            created => created?,
        };
        next.remove_generations_before(generation).await;
        // On a full disk the first edit may be the one that makes room.
        let _ = next.reserve(next.end + EDIT_ROOM_BYTES).await;
        Ok(next)
    }

    /// Goes on behind the last whole edit of the generation that was loaded. If the sync of that edit
    /// failed, it may be in the page cache alone, for good: what was read is written again.
    async fn reopen(
        reactor: &Reactor<B>,
        dir: &Path,
        shard: ShardId,
        directory: u128,
        loaded: &Loaded,
    ) -> Result<Self, ManifestError> {
        let path = dir.join(manifest_name(loaded.generation));
        let io = |source| ManifestError::Io { path: path.clone(), source };
        let (file, reserved) = reactor.open(&path, OpenMode::ReadWrite).await.map_err(io)?;
        let stored = async {
            let bytes = read_settled(reactor, file, 0, loaded.end as usize).await.map_err(io)?;
            let again = parse(&bytes, &path, loaded.generation, shard, directory)?;
            if (again.end, again.last_crc) != (loaded.end, loaded.last_crc) {
                return Err(io(io::Error::other("reads of it differ: the device misreads; open again")));
            }
            let edits = &bytes[loaded.snapshot_bytes as usize..];
            for (index, piece) in edits.chunks(REWRITE_BYTES_MIN as usize).enumerate() {
                let position = loaded.snapshot_bytes + index as u64 * REWRITE_BYTES_MIN;
                write(reactor, None, file, position, AlignedBuf::padded(piece)).await.map_err(io)?;
            }
            reactor.run(Op::Sync { file }).await.map_err(io)
        };
        if let Err(error) = stored.await {
            let _ = reactor.run(Op::Close { file }).await;
            return Err(error);
        }
        Ok(ManifestFile {
            reactor: reactor.clone(),
            governor: None,
            dir: dir.to_owned(),
            shard,
            directory,
            generation: loaded.generation,
            file,
            end: loaded.end,
            reserved,
            snapshot_bytes: loaded.snapshot_bytes,
            last_crc: loaded.last_crc,
            poisoned: None,
        })
    }

    /// Appends an edit of `changes` to `manifest` and applies it once it is durable.
    ///
    /// # Errors
    /// [`ManifestError::Conflict`] and [`ManifestError::Io`] leave everything as it was. After
    /// [`ManifestError::Uncertain`] what is on disk is not known, and every later edit fails.
    pub async fn commit(
        &mut self,
        manifest: &mut Manifest,
        changes: Vec<Change>,
    ) -> Result<(), ManifestError> {
        if let Some(reason) = &self.poisoned {
            return Err(ManifestError::Poisoned(reason.clone()));
        }
        let edit = Edit { revision: manifest.revision + 1, snapshot: false, changes };
        let (bytes, crc) = encode_edit(&edit, self.shard, self.directory, self.last_crc);
        let buf = AlignedBuf::padded(&bytes);
        let len = buf.len() as u64;
        // A full disk shows here, before anything depends on the edit.
        self.reserve(self.end + len).await?;
        manifest.apply(&edit)?;
        if let Err(source) = self.append(buf).await {
            self.poisoned = Some(source.to_string());
            return Err(ManifestError::Uncertain { path: self.path(), source });
        }
        (self.end, self.last_crc) = (self.end + len, crc);
        // Room for the next edits now, while there is some: dropping a segment takes an edit too.
        let _ = self.reserve(self.end + EDIT_ROOM_BYTES).await;
        if self.end > (4 * self.snapshot_bytes).max(REWRITE_BYTES_MIN) {
            self.rewrite(manifest).await?;
        }
        Ok(())
    }

    async fn reserve(&mut self, end: u64) -> Result<(), ManifestError> {
        if end <= self.reserved {
            return Ok(());
        }
        let len = end.next_multiple_of(RESERVE_BYTES);
        let allocated = self.reactor.run(Op::Allocate { file: self.file, len }).await;
        allocated.map_err(|source| ManifestError::Io { path: self.path(), source })?;
        self.reserved = len;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.dir.join(manifest_name(self.generation))
    }

    async fn append(&self, buf: AlignedBuf) -> io::Result<()> {
        write(&self.reactor, self.governor.as_deref(), self.file, self.end, buf).await?;
        if planted(Planted::ManifestNotSynced) {
            return Ok(());
        }
        let synced = self.reactor.run(Op::Sync { file: self.file }).await;
        if planted(Planted::ManifestSyncRetried) && synced.is_err() {
            return self.reactor.run(Op::Sync { file: self.file }).await;
        }
        synced
    }

    async fn rewrite(&mut self, manifest: &Manifest) -> Result<(), ManifestError> {
        let generation = self.generation + 1;
        let name = manifest_name(generation);
        let governor = self.governor.as_deref();
        let written =
            write_snapshot(&self.reactor, governor, &self.dir, &name, self.shard, self.directory, manifest)
                .await;
        let (file, end, last_crc) = match written {
            Ok(written) => written,
            // The new name is not there, so the old generation is in force; a later edit tries again.
            Err((Named::No, source)) => {
                tracing::warn!(%source, "no fresh manifest was written; going on with the old one");
                return Ok(());
            }
            // Which generation a reopen would find is not known, so nothing may follow either.
            Err((Named::Perhaps, source)) => {
                self.poisoned = Some(source.to_string());
                return Err(ManifestError::Uncertain { path: self.dir.join(name), source });
            }
        };
        let old = std::mem::replace(&mut self.file, file);
        (self.generation, self.end, self.reserved, self.snapshot_bytes) = (generation, end, end, end);
        self.last_crc = last_crc;
        let _ = self.reactor.run(Op::Close { file: old }).await;
        self.remove_generations_before(generation).await;
        Ok(())
    }

    /// Removing is tidying: what is left behind is older and never read.
    async fn remove_generations_before(&self, generation: u64) {
        let Ok(names) = self.reactor.list(&self.dir).await else { return };
        for entry in names {
            if generation_of(&entry.name).is_some_and(|found| found < generation) {
                let _ = self.reactor.run(Op::Remove { path: self.dir.join(entry.name) }).await;
            }
        }
    }
}

/// Whether the disk, or what this user may have of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
