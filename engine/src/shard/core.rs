//! What the shard's turn and its background tasks share.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use async_lock::Mutex;
use event_listener::Event;
use thalweg_io::{Backend, BufferPool, Reactor};

use crate::append::AppendError;
use crate::config::Config;
use crate::governor::Governor;
use crate::ids::{FileNumber, GroupNumber, ShardId};
use crate::mailbox::Mailbox;
use crate::manifest::{Change, Manifest, ManifestError, ManifestFile};
use crate::metrics::Metrics;
use crate::segment::files::SegmentFiles;
use crate::shard::state::State;
use crate::wal::lease::Leases;

/// The manifest and its file; one task changes them at a time.
pub(crate) struct ManifestPair<B: Backend> {
    pub manifest: Manifest,
    pub file: ManifestFile<B>,
}

/// One shard's insides. Background tasks hold it; `Reactor::shutdown` lets go of them.
pub(crate) struct Core<B: Backend> {
    pub config: Arc<Config>,
    pub shard: ShardId,
    pub shards: u16,
    pub directory: u128,
    /// The shard's directory, relative to the data directory.
    pub dir: PathBuf,
    pub reactor: Reactor<B>,
    pub mailbox: Arc<Mailbox>,
    pub state: RefCell<State>,
    pub manifest: Mutex<ManifestPair<B>>,
    /// The manifest's last durable revision.
    pub revision: Cell<u64>,
    pub governor: Rc<Governor<B>>,
    /// What is read from disk for readers lies in these.
    pub buffers: Arc<BufferPool>,
    /// Who reads from WAL files.
    pub leases: Leases,
    pub files: SegmentFiles<B>,
    pub metrics: RefCell<Metrics>,
    /// Rings when maintenance has something to do.
    pub maintain: Event,
    /// Most files in the WAL ring.
    pub wal_files_max: usize,
    pub maintenance_tasks: Cell<u32>,
}

impl<B: Backend> Core<B> {
    pub(crate) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    pub(crate) fn state_mut(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// The path of a file of this shard.
    pub(crate) fn path(&self, file: FileNumber) -> PathBuf {
        file_path(&self.dir, file)
    }

    /// Commits `changes`, with the catalog's own changes so far.
    ///
    /// # Errors
    /// As [`ManifestFile::commit`]. The catalog's changes are kept for the next edit.
    pub(crate) async fn commit_manifest(self: &Rc<Self>, changes: Vec<Change>) -> Result<(), ManifestError> {
        let mut pair = self.manifest.lock().await;
        let (catalog, next_file) = {
            let mut state = self.state_mut();
            (std::mem::take(&mut state.catalog), state.next_file)
        };
        let mut all = vec![Change::NextFile(next_file)];
        all.extend(catalog.iter().cloned());
        all.extend(changes);
        let pair = &mut *pair;
        let committed = pair.file.commit(&mut pair.manifest, all).await;
        if committed.is_ok() {
            self.revision.set(pair.manifest.revision);
        } else {
            let mut state = self.state_mut();
            let newer = std::mem::replace(&mut state.catalog, catalog);
            state.catalog.extend(newer);
        }
        committed
    }

    /// Tells the manifest that groups up to `durable` are durable.
    pub(crate) async fn note_durable(self: &Rc<Self>, durable: GroupNumber) {
        if self.manifest.lock().await.manifest.durable_group() >= durable {
            return;
        }
        // Without it the log is whole all the same; it is only less provable.
        if let Err(error) = self.commit_manifest(vec![Change::Durable(durable)]).await {
            tracing::warn!(shard = self.shard.0, %error, "the end of the log is not in the manifest");
        }
    }

    /// Stops the shard for good: nothing is acknowledged any more. The first reason wins.
    pub(crate) fn halt(&self, reason: &str) {
        let mut state = self.state_mut();
        if state.halted.is_some() {
            return;
        }
        tracing::error!(shard = self.shard.0, reason, "shard stopped; nothing is acknowledged any more");
        let reason: Arc<str> = reason.into();
        state.halted = Some(reason.clone());
        let error = AppendError::Halted { shard: self.shard, reason };
        let arrivals = std::mem::take(&mut state.arrivals);
        state.arrival_bytes = 0;
        let waiting = std::mem::take(&mut state.waiting);
        state.waiting_count = 0;
        drop(state);
        let budget = arrivals.into_iter().map(|queued| queued.arrival.refuse(error.clone())).sum();
        waiting.into_values().flatten().for_each(|fetch| fetch.refuse(&error));
        self.mailbox.end(error);
        self.mailbox.release(budget);
        self.maintain.notify(usize::MAX);
    }
}

/// The path of a shard's file.
pub(crate) fn file_path(dir: &Path, file: FileNumber) -> PathBuf {
    dir.join(file_name(file))
}

/// The name of a shard's file.
pub(crate) fn file_name(file: FileNumber) -> String {
    format!("{:016x}.log", file.0)
}

/// The number in a file's name, if it is one of a shard's files.
pub(crate) fn file_number(name: &str) -> Option<FileNumber> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok().map(FileNumber)).flatten()
}
