//! What a shard does in the background: it keeps spare WAL files ready, seals full ones into
//! segments, enforces retention, merges and compacts. All of it at the governor's pace, a step at
//! a time between turns; none of it holds up a commit.

mod adopt;
mod compact;
mod due;
mod merge;
pub(crate) mod prepare;
mod retain;
mod seal;
mod walk;

use std::future::Future as _;
use std::io;
use std::rc::Rc;

use thalweg_io::Backend;

use crate::maintain::due::files_max;
use crate::maintain::prepare::Spare;
use crate::manifest::{ManifestError, is_full};
use crate::shard::Core;
use crate::wal::ring::WalRing;

/// How long to wait before trying again what the disk refused, µs.
const RETRY_AFTER_US: u64 = 500_000;

/// Sealing that fails so often in a row is not a passing trouble: callers are told when the WAL is full.
const SEAL_FAILURES_MAX: u32 = 4;

/// Why a step in the background did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MaintainError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("{0}")]
    Read(#[from] crate::segment::ReadError),
}

impl MaintainError {
    fn is_out_of_space(&self) -> bool {
        let source = match self {
            MaintainError::Io(source) | MaintainError::Manifest(ManifestError::Io { source, .. }) => source,
            _ => return false,
        };
        is_full(source)
    }

    /// Whether the manifest on disk may no longer be the one in memory: files that the edit named
    /// must stay as they are, and the shard stops.
    fn is_fatal(&self) -> bool {
        let MaintainError::Manifest(error) = self else { return false };
        !matches!(error, ManifestError::Io { .. })
    }
}

impl<B: Backend> Core<B> {
    /// Starts the background tasks.
    pub(crate) fn start_maintenance(self: &Rc<Self>) {
        self.maintenance_tasks.set(3);
        self.reactor.spawn(keep_spares(self.clone()));
        self.reactor.spawn(keep_sealed(self.clone()));
        self.reactor.spawn(tidy(self.clone()));
    }

    fn ends(&self) -> bool {
        let state = self.state();
        state.closing || state.halted.is_some()
    }

    /// Takes note of a failed step. Returns whether to go on.
    fn failed(&self, what: &str, error: &MaintainError) -> bool {
        if error.is_fatal() {
            self.halt(&format!("{what}: {error}"));
            return false;
        }
        self.metrics.borrow_mut().background_errors += 1;
        if error.is_out_of_space() {
            let mut state = self.state_mut();
            if !state.out_of_space {
                tracing::warn!(
                    shard = self.shard.0,
                    what,
                    "no space left; appends stop when the WAL is full"
                );
            }
            state.out_of_space = true;
        } else {
            tracing::warn!(shard = self.shard.0, what, %error, "a background step failed; trying again");
        }
        true
    }

    /// Waits for a reason to look again, or `micros`.
    async fn rest(&self, micros: u64) {
        if self.ends() {
            return;
        }
        let mut event = Box::pin(self.maintain.listen());
        let mut sleep = Box::pin(self.reactor.sleep_us(micros));
        std::future::poll_fn(|context| {
            if event.as_mut().poll(context).is_ready() || sleep.as_mut().poll(context).is_ready() {
                return std::task::Poll::Ready(());
            }
            std::task::Poll::Pending
        })
        .await;
    }
}

/// Keeps spare WAL files ready.
async fn keep_spares<B: Backend>(core: Rc<Core<B>>) {
    while !core.ends() {
        let step = match core.wanted_spare() {
            Some(Spare::Recycled(dead)) => core.recycle(dead).await,
            Some(Spare::New) => core.prepare_spare(false).await,
            None => {
                core.rest(core.config.segment.check_interval_ms * 1000).await;
                continue;
            }
        };
        if !core.settle("preparing a WAL file", step).await {
            break;
        }
    }
    core.task_ended();
}

/// Seals full WAL files.
async fn keep_sealed<B: Backend>(core: Rc<Core<B>>) {
    let mut failures = 0u32;
    while !core.ends() {
        core.ask_for_roll_by_age();
        // After a failure one by one: what is the matter with one file holds no other up.
        match core.seal_due(failures > 0).await {
            Ok(false) => core.rest(core.config.segment.check_interval_ms * 1000).await,
            sealed => {
                if sealed.is_ok() {
                    // Retention may let go of something now.
                    core.maintain.notify(usize::MAX);
                }
                failures = if sealed.is_ok() { 0 } else { failures + 1 };
                let lasting = failures >= SEAL_FAILURES_MAX;
                let failure = sealed.as_ref().err().filter(|_| lasting).map(|error| error.to_string().into());
                core.state_mut().seal_failure = failure;
                core.mailbox.wake();
                if !core.settle("sealing WAL files", sealed.map(drop)).await {
                    break;
                }
            }
        }
    }
    core.task_ended();
}

/// Enforces retention, drops dead segments, merges and compacts.
async fn tidy<B: Backend>(core: Rc<Core<B>>) {
    let mut asked = Vec::new();
    while !core.ends() {
        if let Err(error) = core.tidy_once(&mut asked).await
            && !core.failed("tidying segments", &error)
        {
            break;
        }
        core.rest(core.config.segment.check_interval_ms * 1000).await;
    }
    core.task_ended();
}

impl<B: Backend> Core<B> {
    fn task_ended(&self) {
        self.maintenance_tasks.set(self.maintenance_tasks.get() - 1);
    }

    /// Whether the log may need a file before the next ones are sealed, if those are not hurried: half
    /// of the ring is full, or it has no more files left than are sealed in two steps.
    pub(crate) fn is_pressed(&self, wal: &WalRing) -> bool {
        let left = wal.spares.len() + self.wal_files_max.saturating_sub(wal.files());
        let at_once = files_max(&self.config, wal.file_bytes, self.wal_files_max);
        wal.spares.is_empty() || (left <= (2 * at_once).max(self.wal_files_max / 2) && !wal.full.is_empty())
    }

    /// A step of keeping the WAL went well, or is tried again a little later. Returns whether to
    /// go on.
    async fn settle(&self, what: &str, step: Result<(), MaintainError>) -> bool {
        match step {
            Ok(()) => {
                let mut state = self.state_mut();
                if !state.wal.spares.is_empty() {
                    state.out_of_space = false;
                }
                self.governor.set_urgent(self.is_pressed(&state.wal));
                true
            }
            Err(error) => {
                let go_on = self.failed(what, &error);
                if go_on {
                    self.rest(RETRY_AFTER_US).await;
                }
                go_on
            }
        }
    }

    async fn tidy_once(self: &Rc<Self>, asked: &mut Vec<retain::TrimSlot>) -> Result<(), MaintainError> {
        self.enforce_retention(asked).await;
        self.drop_dead_segments().await?;
        while let Some(inputs) = self.pick_merge().await {
            if self.ends() {
                break;
            }
            self.rewrite(&inputs).await?;
            self.drop_dead_segments().await?;
        }
        Ok(())
    }
}
