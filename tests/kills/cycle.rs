//! Killed at any moment, restarted at once, again and again (FAULTS P1, P2, P6).
//!
//! Each cycle starts an owner that appends, kills it, and takes the directory over at once. The takeover
//! is watched: when the lock is free, no byte of the WAL may change any more. Then owners that only look
//! are killed while they open the log; the next two are let through and must find the same: everything
//! that was acknowledged, nothing that was not sent.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use thalweg::inspect::verify;
use thalweg_io::DirLock;
use thalweg_io::lock::LockError;
use thalweg_io::sim::SimRandom;
use thalweg_tests::Directory;

use crate::ledger::{Contents, Ledger, contents};
use crate::process::{Owner, Role, owner, within};

/// Longest that a killed owner's last writes may take.
const LANDING: Duration = Duration::from_secs(30);
/// How long the WAL is watched for a write that comes late.
const WATCH: Duration = Duration::from_millis(10);

/// What a run of cycles has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) kills: u64,
    pub(crate) kills_while_opening: u64,
    pub(crate) looks: u64,
    pub(crate) refused_while_alive: u64,
    pub(crate) waits_for_the_dead: u64,
    pub(crate) records: u64,
    pub(crate) wal_bytes_max: u64,
    pub(crate) open_us_max: u64,
}

/// What became of an owner that lacked something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It went on appending, and was killed.
    WentOn,
    /// It ended by itself: the signal, and what it complained of.
    Ended(Option<i32>, String),
}

/// One log and all that happens to it.
pub(crate) struct Cycles<'a> {
    pub(crate) backend: &'a str,
    pub(crate) seen: Seen,
    directory: Directory,
    ledger: Ledger,
    dice: SimRandom,
    life: u32,
    /// What openings dropped since the last life.
    dropped: Vec<String>,
}

impl<'a> Cycles<'a> {
    pub(crate) fn new(backend: &'a str, seed: u64) -> Cycles<'a> {
        Cycles::within(Directory::new(), backend, seed)
    }

    /// In a directory of the caller's.
    pub(crate) fn within(directory: Directory, backend: &'a str, seed: u64) -> Cycles<'a> {
        let dice = SimRandom::new(seed, "when it is killed");
        let (ledger, seen, dropped) = Default::default();
        Cycles { backend, seen, directory, ledger, dice, life: 0, dropped }
    }

    /// An owner in the present life.
    pub(crate) fn start(&self, role: Role) -> Owner {
        let owner = owner(role, &self.directory.path(), self.backend, self.life);
        Owner::start(within(&[] as &[&str], &owner))
    }

    /// An owner in a new life, below `programs`.
    pub(crate) fn append_below(&mut self, programs: &[&str]) -> Owner {
        self.life += 1;
        let owner = owner(Role::Append, &self.directory.path(), self.backend, self.life);
        Owner::start(within(programs, &owner))
    }

    /// A life below `programs`, that take something away from it. It is killed when it has said so often
    /// that something is acknowledged; then an owner that lacks nothing finds what is owed.
    pub(crate) fn starved(&mut self, programs: &[&str], acks: u64) -> Result<Outcome, String> {
        let mut appending = self.append_below(programs);
        let outcome = if appending.acknowledges(acks) {
            self.ledger.hear(&appending.kill().said())?;
            self.seen.kills += 1;
            Outcome::WentOn
        } else {
            let (said, status, complaint) = appending.end();
            self.ledger.hear(&said)?;
            Outcome::Ended(status.signal(), complaint)
        };
        self.check()?;
        Ok(outcome)
    }

    /// One life, one death, and what is left.
    pub(crate) fn cycle(&mut self) -> Result<(), String> {
        self.life += 1;
        let dir = self.directory.path();
        let mut appending = self.start(Role::Append);
        if self.dice.chance(0.25) {
            sleep(Duration::from_micros(self.dice.below(30_000)));
            self.seen.kills_while_opening += 1;
        } else {
            if appending.until("opened").is_none() {
                let (said, status, complaint) = appending.end();
                return Err(format!("it ended by itself, {status}, {said:?}: {complaint}"));
            }
            sleep(Duration::from_micros(self.dice.below(120_000)));
            if self.dice.chance(0.2) {
                self.seen.refused_while_alive += u64::from(refused(&dir, appending.id())?);
            }
        }
        let dead = appending.kill();
        self.seen.kills += 1;
        if self.dice.chance(0.5) && dir.exists() {
            self.seen.waits_for_the_dead += u64::from(take_over(&dir, || sleep(WATCH))?);
        }
        for _ in 0..self.dice.below(3) {
            let opening = self.start(Role::Look);
            sleep(Duration::from_micros(self.dice.below(20_000)));
            drop(opening.kill());
            self.seen.kills += 1;
            self.seen.kills_while_opening += 1;
        }
        self.ledger.hear(&dead.said())?;
        self.check()
    }

    /// Two recoveries find the same, and what is owed.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.dropped.clear();
        let first = self.look()?;
        let second = self.look()?;
        if first != second {
            return Err(format!("recovery found {first:?}, and then {second:?}"));
        }
        let settled = self.ledger.settle(&first, self.life);
        settled.map_err(|why| format!("{why}; opening said {:?}", self.dropped))?;
        self.seen.records = self.ledger.records();
        let report = verify(&self.directory.path(), &mut |_| ()).map_err(|error| error.to_string())?;
        if report.is_clean() { Ok(()) } else { Err(format!("verify finds {:?}", report.damage)) }
    }

    /// Notes what an owner has said.
    pub(crate) fn hear(&mut self, said: &[String]) -> Result<(), String> {
        self.ledger.hear(said)
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> std::path::PathBuf {
        self.directory.path()
    }

    fn look(&mut self) -> Result<Contents, String> {
        let mut looking = self.start(Role::Look);
        if looking.until("done").is_none() {
            let (said, status, complaint) = looking.end();
            return Err(said
                .into_iter()
                .find(|line| line.starts_with("wrong"))
                .unwrap_or(format!("it does not open, {status}: {complaint}")));
        }
        let said = looking.kill().said();
        self.seen.kills += 1;
        self.seen.looks += 1;
        let number = |word: &str, nth: usize| -> u64 {
            let line = said.iter().find(|line| line.starts_with(word)).map_or("", String::as_str);
            line.split(' ').nth(nth).and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let (wal_bytes, bound) = (number("opened", 1), number("bound", 1));
        if wal_bytes > bound {
            return Err(format!("opening read {wal_bytes} B of WAL; the recovery target allows {bound}"));
        }
        self.seen.wal_bytes_max = self.seen.wal_bytes_max.max(wal_bytes);
        self.seen.open_us_max = self.seen.open_us_max.max(number("opened", 2));
        self.dropped.extend(said.iter().filter(|line| line.starts_with("dropped")).cloned());
        contents(&said)
    }
}

/// A living owner is not interfered with, and named.
fn refused(dir: &Path, id: u32) -> Result<bool, String> {
    match DirLock::acquire(dir, Duration::ZERO) {
        Err(LockError::Held { holder: Some(holder), .. }) if holder.pid.unsigned_abs() == id => Ok(true),
        other => Err(format!("{dir:?} belongs to {id}, and trying to lock it gives {other:?}")),
    }
}

/// Takes the lock as soon as it is free, and sees to it that nothing is written any more, whatever
/// `meanwhile` does to bring it about. Whether the lock was waited for.
pub(crate) fn take_over(dir: &Path, meanwhile: impl FnOnce()) -> Result<bool, String> {
    let began = Instant::now();
    let lock = DirLock::acquire(dir, LANDING).map_err(|error| error.to_string())?;
    let waited = began.elapsed() > Duration::from_millis(40);
    let before = bytes_of(dir);
    meanwhile();
    let after = bytes_of(dir);
    drop(lock);
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    match changed.first() {
        _ if before.len() != after.len() => Err("files came or went under the lock of another".into()),
        Some((file, _)) => Err(format!("a dead owner's write landed in {} after the lock was free", file.0)),
        None => Ok(waited),
    }
}

/// The files of all shards.
fn bytes_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let shards = fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let files = shards.flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten().flatten());
    let mut bytes: Vec<_> = files
        .filter(|file| file.path().is_file())
        .map(|file| (file.path().display().to_string(), fs::read(file.path()).unwrap_or_default()))
        .collect();
    bytes.sort();
    bytes
}
