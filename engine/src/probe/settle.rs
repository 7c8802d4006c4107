//! Which way to commit, when a directory is opened: told, known, looked at again, or measured.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use thalweg_io::boot::BackendKind;
use thalweg_io::{Backend, BlockingBackend, CommitStrategy, Device, Reactor};

use crate::config::Config;
use crate::probe::choose::{Choice, Way, choose, has_sound_tail};
use crate::probe::measure::{Conditions, Job, measure, profile};
use crate::probe::profile::{self, DEVICE_NAME, DeviceProfile, Profiled};
use crate::probe::rounds::Budget;

/// How an open engine commits, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitChoice {
    /// How a group is made durable.
    pub strategy: CommitStrategy,
    /// Whether shards may look for completions before they sleep, for `threads.poll_us`.
    pub polls: bool,
    /// Why, in a sentence.
    pub why: String,
    /// What was measured on this device, unless the strategy was asked for by name.
    pub profile: Option<DeviceProfile>,
}

/// What was settled, and whether the directory has it already.
pub(crate) struct Settled {
    pub choice: CommitChoice,
    stored: bool,
}

/// Profiles measured or looked at by this process: a device is measured once.
static KNOWN: Mutex<Vec<DeviceProfile>> = Mutex::new(Vec::new());

/// Times the runner-up's median at which a stored choice is no longer believed, as a ratio.
const DOUBTFUL: (u64, u64) = (3, 2);
/// Times by which the device may be faster or slower than its profile without a word.
const CHANGED_TIMES: u64 = 2;

/// Settles how the directory's shards commit. Never fails: without figures it is `dsync`, and the
/// log says why.
pub(crate) fn settle(config: &Config, kind: BackendKind, core: Option<usize>) -> Settled {
    let settled = match config.commit.strategy.forced() {
        Some(strategy) => {
            let why = "commit.strategy asks for it".to_owned();
            let choice = CommitChoice { strategy, polls: true, why, profile: None };
            Settled { choice, stored: true }
        }
        None => {
            let poll_us = config.threads.poll_us;
            let conditions = Conditions { root: &config.data_dir, kind, core, poll_us };
            find_out(conditions).unwrap_or_else(|error| {
                tracing::warn!(%error, "the device can't be measured; commits are dsync");
                let why = format!("the device can't be measured: {error}");
                let strategy = CommitStrategy::Dsync;
                let choice = CommitChoice { strategy, polls: true, why, profile: None };
                Settled { choice, stored: true }
            })
        }
    };
    let CommitChoice { strategy, polls, why, .. } = &settled.choice;
    tracing::info!(%strategy, polls, why, "how commits are made");
    settled
}

impl Settled {
    /// Keeps a profile in the directory that has none, or another. Without it the next opening
    /// measures again, so a failure is only told.
    pub(crate) fn store(&self, root: &Path) {
        let Some(profile) = self.choice.profile.as_ref().filter(|_| !self.stored) else { return };
        if let Err(error) = store(root, profile) {
            tracing::warn!(%error, "{DEVICE_NAME} is not written; the next opening measures again");
        }
    }
}

/// Writes a profile into the data directory `root`.
pub(super) fn store(root: &Path, profile: &DeviceProfile) -> io::Result<()> {
    let reactor = Reactor::new(BlockingBackend::open(root, CommitStrategy::Dsync)?);
    reactor.block_on(profile::write(&reactor, profile))
}

fn find_out(conditions: Conditions<'_>) -> io::Result<Settled> {
    let device = Device::of(conditions.root)?;
    let reactor = Reactor::new(BlockingBackend::open(conditions.root, CommitStrategy::Dsync)?);
    let found = reactor.block_on(stored(&reactor));
    let fits = |profile: &&DeviceProfile| profile.fits(&device, conditions.kind, conditions.poll_us);
    let stored = found.as_ref().filter(fits);
    if found.is_some() && stored.is_none() {
        tracing::info!("{DEVICE_NAME} is about another device, kernel, backend or way to wait");
    }
    // Held while measuring: whoever opens a directory meanwhile would disturb it, and can use it.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let newest = known.iter().find(fits).into_iter().chain(stored).max_by_key(|each| each.measured_ms);
    let is_known = known.iter().any(|each| fits(&each));
    let confirmed = match newest {
        Some(profile) if is_known || is_believed(conditions, profile) => Some(profile.clone()),
        _ => None,
    };
    if let Some(profile) = confirmed {
        let is_stored = found.as_ref() == Some(&profile);
        remember(&mut known, &profile);
        let why = format!("measured before: {}", words(&profile.commits));
        return Ok(Settled { choice: told(profile, why), stored: is_stored });
    }
    let figures = measure(conditions, &Job::All(Budget::OPENING), &mut |_| {})?;
    let choice = choose(&figures).ok_or_else(|| io::Error::other("no strategy could be measured"))?;
    let measured = profile(device, conditions, reactor.wall_ms(), &figures, &choice);
    remember(&mut known, &measured);
    let Choice { why, .. } = choice;
    Ok(Settled { choice: told(measured, why), stored: false })
}

fn told(profile: DeviceProfile, why: String) -> CommitChoice {
    let Way { strategy, polls } = profile.way;
    CommitChoice { strategy, polls, why, profile: Some(profile) }
}

fn remember(known: &mut Vec<DeviceProfile>, profile: &DeviceProfile) {
    known.retain(|each| !each.fits(&profile.device, profile.backend, profile.poll_us));
    known.push(profile.clone());
}

/// Makes a profile that was just measured the one that this process goes by.
pub(super) fn learn(profile: &DeviceProfile) {
    remember(&mut KNOWN.lock().unwrap_or_else(PoisonError::into_inner), profile);
}

/// The directory's profile. One that can't be read is as good as none.
async fn stored<B: Backend>(reactor: &Reactor<B>) -> Option<DeviceProfile> {
    profile::read(reactor).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "{DEVICE_NAME} can't be read; the device is measured again");
        None
    })
}

fn words(commits: &[Profiled]) -> String {
    let word = |each: &Profiled| format!("{} {:.0} µs", each.way.strategy, f64::from(each.p50_ns) / 1000.0);
    commits.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Whether a stored choice stands. Where it can't be looked at again, as on a full disk, it does: it is
/// still the best that is known.
fn is_believed(conditions: Conditions<'_>, profile: &DeviceProfile) -> bool {
    is_still_right(conditions, profile).unwrap_or_else(|error| {
        tracing::warn!(%error, "the device can't be looked at again; commits are as {DEVICE_NAME} says");
        true
    })
}

/// Compares the way chosen with the one that came next, in a few milliseconds.
fn is_still_right(conditions: Conditions<'_>, profile: &DeviceProfile) -> io::Result<bool> {
    // A way that was left out for its tail would be the faster one again, and left out again.
    let tail_min = profile.commits.iter().map(|each| each.p99_ns).min().unwrap_or(0);
    let sound = |each: &&Profiled| has_sound_tail(each.p50_ns.into(), each.p99_ns.into(), tail_min.into());
    let others = profile.commits.iter().filter(|each| each.way.strategy != profile.way.strategy);
    let others = others.filter(|each| !each.starved || !each.way.polls).filter(sound);
    let Some(next) = others.min_by_key(|each| each.p50_ns) else { return Ok(true) };
    let figures = measure(conditions, &Job::Again(&[profile.way, next.way]), &mut |_| {})?;
    let p50 = |way| figures.iter().find(|each| each.way == way).map(|each| each.p50_ns);
    let (Some(chosen), Some(other)) = (p50(profile.way), p50(next.way)) else { return Ok(false) };
    if is_doubtful(chosen, other) {
        tracing::info!(
            chosen = %profile.way.strategy, chosen_ns = chosen, other = %next.way.strategy, other_ns = other,
            "the way to commit is no longer the best; the device is measured again"
        );
        return Ok(false);
    }
    let before = profile.chosen().map_or(chosen, |each| u64::from(each.p50_ns));
    if chosen > before * CHANGED_TIMES || chosen * CHANGED_TIMES < before {
        tracing::info!(before_ns = before, now_ns = chosen, "a commit takes another time than when measured");
    }
    Ok(true)
}

fn is_doubtful(chosen_ns: u64, other_ns: u64) -> bool {
    chosen_ns.saturating_mul(DOUBTFUL.1) > other_ns.saturating_mul(DOUBTFUL.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_doubted_when_the_next_one_is_much_faster() {
        assert!(is_doubtful(61, 40));
        assert!(!is_doubtful(60, 40));
        assert!(!is_doubtful(30, 40));
    }
}
