//! Each request of a short life, in turn, goes wrong: nothing acknowledged is lost, nothing hangs.

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg::{Config, OwnedShard};
use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_io::{CommitStrategy, UringBackend};

use thalweg_tests::{Wrong, scoreboard};

use crate::fault::{Fault, Kind, Plan};
use crate::fuse::Mount;
use crate::history::{History, Moment};
use crate::journal::Entry;
use crate::not_run;
use crate::opened::Opened;
use crate::plays::{large, mixed};
use crate::replay::Replay;
use crate::states::keep;
use crate::verdict::{acquit, judge, verify_dir, verify_disk};
use crate::watch::Watch;
use crate::work::{Life, Stopped, config};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Threads that sweep, each with a file system of its own.
const THREADS: usize = 2;

/// A life with a fault in it.
struct Attempt {
    history: History,
    /// The kinds of the requests that there were.
    kinds: Vec<Kind>,
    /// Whether the fault has come.
    hit: bool,
    /// Why the work was not done, if it was not.
    stopped: Option<Stopped>,
    /// The disk at the end, before the power cut.
    disk: SimDisk,
    journal: Vec<Entry>,
}

/// Two short lives: format, roll, seal, trim, close and open again.
pub(crate) fn short(mount: &Mount, config: &Config, history: &mut History) -> Result<(), Stopped> {
    let moment = || mount.store().moment();
    for nth in 0..2 {
        let opened = Opened::open(config.clone()).map_err(|error| Stopped::Halted(error.to_string()))?;
        let mut life = Life::new(opened, history, &moment);
        if nth == 0 {
            mixed(&mut life, 7, 6)?;
            large(&mut life, 16)?;
            life.settle(8);
        } else {
            mixed(&mut life, 8, 3)?;
        }
        life.close()?;
    }
    Ok(())
}

fn attempt(mount: &Mount, config: &Config, plan: Option<Plan>) -> Attempt {
    let mut history = History::default();
    mount.store().begin(plan);
    let stopped = short(mount, config, &mut history).err();
    let mut store = mount.store();
    store.calm();
    let mut replay = Replay::new();
    for entry in store.journal() {
        replay.step(entry, |_| {});
    }
    let (kinds, journal) = (store.kinds().to_vec(), store.journal().to_vec());
    Attempt { history, kinds, hit: store.hit().is_some(), stopped, disk: replay.disk().snapshot(), journal }
}

/// What is wrong after a disk that failed honestly: after a power cut, or with the files as they are.
fn judge_failure(config: &Config, attempt: &Attempt) -> Result<(), String> {
    match &attempt.stopped {
        Some(Stopped::Hangs(why)) => return Err(format!("hangs: {why}")),
        Some(Stopped::Halted(why)) if !attempt.hit => return Err(format!("halts without a fault: {why}")),
        _ => {}
    }
    for (name, options) in [("lost", SimOptions::strict()), ("kept", SimOptions::kind())] {
        let disk = attempt.disk.snapshot();
        disk.set_options(options);
        disk.crash();
        let opened = verify_disk(&disk).and_then(|verified| {
            acquit(&verified, Opened::on(&disk, self::config()), &attempt.history, Moment::MAX)
        });
        opened.map_err(|wrong| format!("everything unsynced {name}: {wrong}"))?;
    }
    let backend = UringBackend::open(&config.data_dir, CommitStrategy::Dsync);
    let Ok(backend) = backend else { return Ok(()) }; // it was never made
    let verified = verify_dir(&config.data_dir).map_err(|why| format!("as it is: {why}"))?;
    let opened = OwnedShard::open_on(backend, config.clone(), None);
    let opened = opened.map(|shard| Opened::Here(Box::new(shard)));
    let right = acquit(&verified, opened, &attempt.history, Moment::MAX);
    let mut log = right.map_err(|why| format!("opened again: {why}"))?.log;
    let creating = log.log().start_create("afterwards", Default::default());
    let partition = log.block_on(creating).map_err(|error| format!("no partition: {error}"))?;
    log.block_on(partition.append("afterwards")).map_err(|error| format!("no append: {error}"))?;
    log.close().map_err(|error| format!("no close: {error}"))
}

/// What a lie of the disk led to.
fn judge_lie(attempt: &Attempt) -> Result<(), String> {
    let disk = attempt.disk.snapshot();
    disk.set_options(SimOptions::kind());
    disk.crash();
    let verified = verify_disk(&disk)?;
    match judge(&verified, Opened::on(&disk, config()), &attempt.history, Moment::MAX) {
        // What nobody has asked for may be damaged too, and then only `verify` says so.
        Ok(_) | Err(Wrong::Unreadable(_)) => Ok(()),
        Err(Wrong::Broken(why)) => Err(why),
    }
}

/// What a sweep found.
#[derive(Default)]
struct Swept {
    attempts: u64,
    hits: u64,
    wrong: Vec<String>,
}

/// Lets each request that `fault` means something for go wrong, every `THREADS`th of them.
fn sweep(fault: Fault, nth: usize) -> std::io::Result<Swept> {
    let mount = Mount::new(fault != Fault::Short)?;
    let mut config = config();
    config.data_dir = mount.path().join("data");
    config.threads.backend = BackendSetting::Uring;
    config.commit.strategy = match fault {
        Fault::Error(EIO) | Fault::Delay => CommitSetting::WriteThenSync,
        _ => CommitSetting::Dsync,
    };
    let kinds = attempt(&mount, &config, None).kinds;
    let mut swept = Swept::default();
    for (after, kind) in kinds.iter().enumerate().skip(nth).step_by(THREADS) {
        if !fault.fits(*kind) {
            continue;
        }
        let what = format!("request {after} ({kind:?}), {fault:?}");
        let _watch = Watch::new(what.clone(), &mount.path());
        let attempt = attempt(&mount, &config, Some(Plan { after: after as u64, fault }));
        swept.attempts += 1;
        swept.hits += u64::from(attempt.hit);
        let judged = match fault {
            Fault::Error(_) | Fault::Short | Fault::Delay => judge_failure(&config, &attempt),
            _ => judge_lie(&attempt),
        };
        if let Err(why) = judged {
            let at = keep(&attempt.disk, &attempt.journal, &format!("sweep-{after}-{fault:?}"));
            swept.wrong.push(format!("{what} ({}): {why}", at.display()));
        }
    }
    Ok(swept)
}

/// Sweeps with each of these faults.
fn sweep_all(method: &str, faults: &[Fault]) {
    if let Err(error) = Mount::new(true) {
        return not_run(&format!("{method} on a FUSE file system"), &error);
    }
    let mut all = Swept::default();
    for fault in faults {
        let swept = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|nth| scope.spawn(move || sweep(*fault, nth))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        for swept in swept {
            let swept = swept.expect("a second mount");
            println!(
                "{fault:?}: {} attempts, {} hits, {} wrong",
                swept.attempts,
                swept.hits,
                swept.wrong.len()
            );
            all.attempts += swept.attempts;
            all.hits += swept.hits;
            all.wrong.extend(swept.wrong);
        }
    }
    scoreboard::count(method, &[("attempts", all.attempts), ("hits", all.hits)], all.wrong.len() as u64);
    assert!(all.hits * 10 > all.attempts * 8, "{} of {} faults came", all.hits, all.attempts);
    let shown = &all.wrong[..all.wrong.len().min(20)];
    assert!(all.wrong.is_empty(), "{} attempts are wrong\n{}", all.wrong.len(), shown.join("\n"));
}

#[test]
fn a_request_that_fails_comes_short_or_is_late_loses_nothing_acknowledged() {
    sweep_all("failing requests", &[Fault::Error(EIO), Fault::Error(ENOSPC), Fault::Short, Fault::Delay]);
}

#[test]
fn a_write_that_the_disk_lies_about_is_never_served_and_never_missed_in_silence() {
    sweep_all(
        "a disk that lies",
        &[Fault::Drop, Fault::Misdirect, Fault::Flip, Fault::Zero, Fault::LostSync],
    );
}
