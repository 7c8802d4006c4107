//! Two verdicts on what a power cut or a failing disk left, which must agree: that of `thalweg verify`
//! before the log is opened, and that of the oracle on what is then read.

use std::path::Path;

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg::inspect::{VerifyReport, verify, verify_on};
use thalweg::superblock::SUPERBLOCK_NAME;
use thalweg::{Config, Engine, OpenError, OwnedShard};
use thalweg_io::sim::SimDisk;
use thalweg_io::{BlockingBackend, CommitStrategy, Reactor};
use thalweg_tests::Wrong;

use crate::history::{History, Moment};
use crate::opened::Opened;
use crate::oracle::{self, Contents, Sight};
use crate::work::config;

/// What `verify` says of a directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verified {
    /// The first damage.
    pub(crate) damage: Option<String>,
    /// Whether it says that opening will drop the end of a WAL.
    torn: bool,
}

impl Verified {
    fn new(report: &VerifyReport) -> Verified {
        let first = report.damage.first();
        let damage = first.map(|damage| {
            format!("{} at byte {}: {}", damage.path.display(), damage.position, damage.reason)
        });
        // Files that are in no manifest and edits of one that are not whole are tidied up without a word.
        let torn = report.unfinished.iter().any(|it| it.reason.starts_with("group"));
        Verified { damage, torn }
    }
}

/// What `verify` says of a simulated disk.
///
/// # Errors
/// It can't be looked at.
pub(crate) fn verify_disk(disk: &SimDisk) -> Result<Verified, String> {
    if disk.contents(SUPERBLOCK_NAME).is_none() {
        return Ok(Verified::default()); // it was never made whole
    }
    let reactor = Reactor::new(disk.backend());
    let report = reactor.block_on(verify_on(&reactor, &mut |_| {}));
    report.map(|report| Verified::new(&report)).map_err(|error| format!("verify: {error}"))
}

/// What `verify` says of a directory.
///
/// # Errors
/// It can't be looked at.
pub(crate) fn verify_dir(dir: &Path) -> Result<Verified, String> {
    if !dir.join(SUPERBLOCK_NAME).exists() {
        return Ok(Verified::default());
    }
    let report = verify(dir, &mut |_| {});
    report.map(|report| Verified::new(&report)).map_err(|error| format!("verify: {error}"))
}

/// Opens a data directory of so many shards, which somebody else wrote: with blocking I/O.
///
/// # Errors
/// The engine's.
pub(crate) fn open_dir(dir: &Path, shards: u16) -> Result<Opened, OpenError> {
    let mut config = Config { data_dir: dir.to_owned(), ..config() };
    if shards > 1 {
        config.shards = Some(shards);
        config.threads.backend = BackendSetting::Blocking;
        config.commit.strategy = CommitSetting::Dsync;
        return Engine::open(config).map(|engine| Opened::Threads(Box::new(engine)));
    }
    let backend = BlockingBackend::open(dir, CommitStrategy::Dsync);
    let backend = backend.map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    OwnedShard::open_on(backend, config, None).map(|shard| Opened::Here(Box::new(shard)))
}

/// A log that is as it should be.
pub(crate) struct Right {
    pub(crate) log: Opened,
    pub(crate) sight: Sight,
    pub(crate) contents: Contents,
}

/// The verdict on a log that may be damaged: what is wrong with it is named by `verify`, and what opening
/// drops was foretold by it.
///
/// # Errors
/// [`Wrong::Unreadable`] if both verdicts say so; everything else is [`Wrong::Broken`].
pub(crate) fn judge(
    verified: &Verified,
    opened: Result<Opened, OpenError>,
    history: &History,
    cut: Moment,
) -> Result<Right, Wrong> {
    let unreadable = |why: String| match &verified.damage {
        Some(damage) => Wrong::Unreadable(format!("{why}; verify: {damage}")),
        None => Wrong::Broken(format!("{why}; verify finds no damage")),
    };
    let mut log = opened.map_err(|error| unreadable(format!("does not open: {error}")))?;
    let dropped = log.dropped();
    match oracle::check(&mut log, history, cut) {
        Err(Wrong::Unreadable(why)) => Err(unreadable(why)),
        Err(wrong) => Err(wrong),
        Ok(_) if dropped.is_empty() == verified.torn => {
            Err(format!("opening drops {dropped:?}; {verified:?}").into())
        }
        Ok((sight, contents)) => Ok(Right { log, sight, contents }),
    }
}

/// The verdict on a log that must be right: so says `verify` too.
///
/// # Errors
/// What is wrong.
pub(crate) fn acquit(
    verified: &Verified,
    opened: Result<Opened, OpenError>,
    history: &History,
    cut: Moment,
) -> Result<Right, String> {
    let right = judge(verified, opened, history, cut).map_err(|wrong| wrong.to_string())?;
    match &verified.damage {
        Some(damage) => Err(format!("verify finds {damage}, and all is right")),
        None => Ok(right),
    }
}
