//! A thorough probe, for people and programs that ask.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thalweg_io::boot::{self, Chosen, Unavailable};
use thalweg_io::lock::LockError;
use thalweg_io::{BlockingBackend, CommitStrategy, Device, DirLock, Reactor, pin};

use crate::config::{Config, ConfigError};
use crate::probe::choose::{Choice, Figures, choose};
use crate::probe::measure::{Conditions, Job, measure, profile};
use crate::probe::profile::{DEVICE_NAME, DeviceProfile};
use crate::probe::rounds::Budget;
use crate::probe::settle::{learn, store};
use crate::probe::slice::PROBE_NAME;
use crate::superblock;

/// The last writes of a process that was killed may still be on their way.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Why a directory's device could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An engine has the directory open.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The backend asked for can't be had here.
    #[error(transparent)]
    Backend(#[from] Unavailable),
    /// The host refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// The backend, and why it is not io_uring if it is not.
    pub backend: Chosen,
    /// What is kept, with the device and the choice.
    pub profile: DeviceProfile,
    /// Why that is the choice, in a sentence.
    pub why: String,
    /// Every way under every load.
    pub figures: Vec<Figures>,
    /// Whether the directory has the profile now: only a data directory gets one.
    pub stored: bool,
}

/// Measures the device below `config.data_dir`, which must exist and need not be a data directory
/// yet; a data directory is locked, and gets the profile. `progress` hears what part is done, 0 to 1.
///
/// # Errors
/// [`ProbeError`]. No file is left.
pub fn probe(
    config: &Config,
    budget: Budget,
    progress: &mut (dyn FnMut(f64) + Send),
) -> Result<ProbeReport, ProbeError> {
    config.validate()?;
    let root = &config.data_dir;
    let io = |path: PathBuf| move |source| ProbeError::Io { path, source };
    let device = Device::of(root).map_err(io(root.clone()))?;
    let reactor = BlockingBackend::open(root, CommitStrategy::Dsync).map(Reactor::new);
    let reactor = reactor.map_err(io(root.clone()))?;
    // A damaged superblock is one too: somebody's log is here.
    let is_data_dir = !matches!(reactor.block_on(superblock::read(&reactor)), Ok(None));
    let _lock = match is_data_dir {
        true => Some(DirLock::acquire(root, LOCK_PATIENCE)?),
        false => None,
    };
    let backend = boot::choose(config.threads.backend.into())?;
    let core = first_core(config);
    let conditions = Conditions { root, kind: backend.kind, core, poll_us: config.threads.poll_us };
    let failed = io(root.join(PROBE_NAME));
    let figures = measure(conditions, &Job::All(budget), progress).map_err(failed)?;
    let nothing = || io(root.join(PROBE_NAME))(io::Error::other("no strategy could be measured"));
    let choice = choose(&figures).ok_or_else(nothing)?;
    let found = profile(device, conditions, reactor.wall_ms(), &figures, &choice);
    if is_data_dir {
        store(root, &found).map_err(io(root.join(DEVICE_NAME)))?;
    }
    learn(&found);
    let Choice { why, .. } = choice;
    Ok(ProbeReport { backend, profile: found, why, figures, stored: is_data_dir })
}

/// The core of the first shard, if shards are pinned.
pub(crate) fn first_core(config: &Config) -> Option<usize> {
    let cores = pin::allowed_cores().unwrap_or_default();
    cores.first().copied().filter(|_| config.threads.pin)
}
