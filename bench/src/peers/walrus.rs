//! walrus-rust: logs by topic in sparse files of 1 GB.

use std::env;
use std::path::Path;
use std::process::{Command, ExitStatus};

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use super::load::WRITERS;
use super::{About, Peer, Result};

/// It takes its folder from the environment only, relative to the working directory if unset.
const DIR_VARIABLE: &str = "WALRUS_DATA_DIR";
/// Unset, it prints several lines for each append.
const QUIET_VARIABLE: &str = "WALRUS_QUIET";

/// `FsyncSchedule::SyncEach` (the default syncs every 200 ms, after the answer): a write to an
/// `O_SYNC` file and then `fsync`, under the topic's lock, into a sparse file; it does not look at
/// what that write returns. A batch is one `io_uring` write per record, then `fsync`.
pub(super) const ABOUT: About = About { name: "walrus-rust", package: Some("walrus-rust") };

/// Runs this command again with the variables that walrus-rust is configured by, its folder being `folder`:
/// a program cannot change its own without `unsafe`. `None` if they are set.
///
/// # Errors
/// The host's.
pub fn run_again(folder: &Path) -> Result<Option<ExitStatus>> {
    if [DIR_VARIABLE, QUIET_VARIABLE].iter().all(|name| env::var_os(name).is_some()) {
        return Ok(None);
    }
    let status = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(DIR_VARIABLE, folder)
        .env(QUIET_VARIABLE, "1")
        .status()?;
    Ok(Some(status))
}

pub(super) struct WalrusLog {
    log: Walrus,
    /// By writer: a topic has one lock, held while it syncs.
    topics: Vec<String>,
}

impl WalrusLog {
    pub(super) fn open() -> Result<WalrusLog> {
        if env::var_os(DIR_VARIABLE).is_none() {
            return Err(
                format!("{DIR_VARIABLE} is unset: walrus-rust takes its folder from there only").into()
            );
        }
        // How often a reader's position is stored. Nothing reads here.
        let consistency = ReadConsistency::AtLeastOnce { persist_every: 1000 };
        let log = Walrus::with_consistency_and_schedule(consistency, FsyncSchedule::SyncEach)?;
        Ok(WalrusLog { log, topics: (0..WRITERS).map(|writer| format!("topic-{writer}")).collect() })
    }
}

impl Peer for WalrusLog {
    fn about(&self) -> About {
        ABOUT
    }

    fn append(&self, writer: usize, record: &[u8]) -> Result<()> {
        self.log.append_for_topic(&self.topics[writer], record)?;
        Ok(())
    }

    fn append_batch(&self, writer: usize, records: &[&[u8]]) -> Result<()> {
        self.log.batch_append_for_topic(&self.topics[writer], records)?;
        Ok(())
    }
}
