//! Requests that hang: answered very late, or not at all until the file system is taken away. Nothing
//! that they cover is acknowledged, and after a restart all is right.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg::{AppendError, Config, OwnedShard, PartitionConfig};
use thalweg_io::sim::{SimDisk, SimOptions};
use thalweg_tests::scoreboard;

use crate::fault::{Fault, Kind, Plan};
use crate::fuse::Mount;
use crate::history::{History, Moment};
use crate::journal::Entry;
use crate::opened::Opened;
use crate::replay::Replay;
use crate::states::keep;
use crate::sweep::short;
use crate::verdict::{acquit, verify_disk};
use crate::watch::Watch;
use crate::work::{Stopped, config};
use crate::{not_run, setting};

/// Threads, each with file systems of its own.
const THREADS: u64 = 2;

/// How long a stuck request hangs before the file system is taken away.
const STUCK: Duration = Duration::from_millis(60);

/// Cuts after a hang began: what is acknowledged by then must be on the disk by then.
const CUTS: u64 = 12;

/// A life in which a request hangs.
struct Hung {
    history: History,
    kinds: Vec<Kind>,
    /// Changes there were when it began to hang, if it has.
    since: Option<Moment>,
    stopped: Option<Stopped>,
    journal: Vec<Entry>,
}

fn settings(mount: &Mount, nth: u64) -> Config {
    let mut config = config();
    config.data_dir = mount.path().join("data");
    config.threads.backend = BackendSetting::Uring;
    config.commit.strategy = match nth % 3 {
        0 => CommitSetting::Dsync,
        1 => CommitSetting::WriteThenSync,
        _ => CommitSetting::Hybrid,
    };
    config
}

/// Lives, and takes the file system away if a request is stuck.
fn live(what: &str, nth: u64, plan: Option<Plan>) -> std::io::Result<Hung> {
    let (mount, mut history, ended) = (Mount::new(true)?, History::default(), AtomicBool::new(false));
    let _watch = Watch::new(what.to_owned(), &mount.path());
    mount.store().begin(plan);
    let config = settings(&mount, nth);
    let stopped = std::thread::scope(|scope| {
        let stuck = plan.is_some_and(|plan| plan.fault == Fault::Stuck);
        let (mount, ended) = (&mount, &ended);
        scope.spawn(move || {
            while stuck && !ended.load(Ordering::Relaxed) {
                if mount.store().hit().is_some() {
                    std::thread::sleep(STUCK);
                    return mount.tear_down();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let stopped = short(mount, &config, &mut history).err();
        ended.store(true, Ordering::Relaxed);
        stopped
    });
    let store = mount.store();
    let since = store.hit().map(|(_, since)| since);
    Ok(Hung { history, kinds: store.kinds().to_vec(), since, stopped, journal: store.journal().to_vec() })
}

/// What is wrong with the disk after a power cut at `cut`.
fn after(disk: &SimDisk, options: SimOptions, history: &History, cut: Moment) -> Result<(), String> {
    let disk = disk.snapshot();
    disk.set_options(options);
    disk.crash();
    let verified = verify_disk(&disk)?;
    acquit(&verified, Opened::on(&disk, config()), history, cut).map(drop)
}

/// What is wrong with a life in which `fault` came.
fn judge(hung: &Hung, fault: Fault) -> Result<(), String> {
    match &hung.stopped {
        Some(Stopped::Hangs(why)) => return Err(format!("hangs: {why}")),
        Some(Stopped::Halted(why)) if hung.since.is_none() => return Err(format!("halts: {why}")),
        Some(Stopped::Halted(why)) if fault == Fault::Late => return Err(format!("is not patient: {why}")),
        _ => {}
    }
    let (mut replay, mut wrong) = (Replay::new(), Ok(()));
    for (cut, entry) in (0..).zip(&hung.journal) {
        let due = hung.since.is_some_and(|since| (since..since + CUTS).contains(&cut));
        replay.step(entry, |disk| {
            if due && wrong.is_ok() {
                let found = after(disk, SimOptions::strict(), &hung.history, cut);
                wrong = found.map_err(|why| format!("cut {cut}: {why}"));
            }
        });
    }
    wrong?;
    for (name, options) in [("lost", SimOptions::strict()), ("kept", SimOptions::kind())] {
        let found = after(replay.disk(), options, &hung.history, Moment::MAX);
        found.map_err(|why| format!("everything unsynced {name}: {why}"))?;
    }
    Ok(())
}

/// Lives that were tried, those in which the request hung, and what is wrong.
type Tried = (u64, u64, Vec<String>);

/// Lets requests hang: every `every`th, of those the ones of thread `rest`.
fn hang(fault: Fault, every: u64, rest: u64) -> std::io::Result<Tried> {
    let kinds = live("a life without faults", rest, None)?.kinds;
    let (mut tried, mut hits, mut wrong) = (0, 0, Vec::new());
    let due = (0..).zip(&kinds).filter(|(_, kind)| fault.fits(**kind));
    let due = due.enumerate().filter(|(nth, _)| *nth as u64 % (every * THREADS) == rest * every);
    for (nth, (after, kind)) in due {
        let what = format!("request {after} ({kind:?}), {fault:?}");
        let hung = live(&what, nth as u64 / every, Some(Plan { after, fault }))?;
        tried += 1;
        hits += u64::from(hung.since.is_some());
        if let Err(why) = judge(&hung, fault) {
            let mut replay = Replay::new();
            hung.journal.iter().for_each(|entry| replay.step(entry, |_| {}));
            let at = keep(replay.disk(), &hung.journal, &format!("hang-{after}-{fault:?}"));
            wrong.push(format!("{what} ({}): {why}", at.display()));
        }
    }
    Ok((tried, hits, wrong))
}

#[test]
fn a_request_that_hangs_is_never_acknowledged_and_loses_nothing() {
    if let Err(error) = Mount::new(true) {
        return not_run("requests that hang on a FUSE file system", &error);
    }
    let every = setting("THALWEG_HANG_EVERY", 10).max(1);
    let (mut tried, mut hits, mut wrong) = (0, 0, Vec::new());
    for fault in [Fault::Late, Fault::Stuck] {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..THREADS).map(|rest| scope.spawn(move || hang(fault, every, rest))).collect();
            for thread in threads {
                let found = thread.join().expect("no panic").expect("a second mount");
                tried += found.0;
                hits += found.1;
                wrong.extend(found.2);
            }
        });
    }
    scoreboard::count("requests that hang", &[("attempts", tried), ("hits", hits)], wrong.len() as u64);
    assert!(hits * 10 > tried * 8, "{hits} of {tried} faults came");
    let shown = &wrong[..wrong.len().min(20)];
    assert!(wrong.is_empty(), "{} attempts are wrong\n{}", wrong.len(), shown.join("\n"));
}

#[test]
fn a_device_that_never_answers_ends_the_shard_while_it_is_still_there() {
    let mount = match Mount::new(true) {
        Ok(mount) => mount,
        Err(error) => return not_run("a device that never answers, on a FUSE file system", &error),
    };
    let _watch = Watch::new("a device that never answers".to_owned(), &mount.path());
    mount.store().begin(None);
    let mut config = settings(&mount, 0);
    config.commit.stuck_ms = 1000;
    let mut shard = OwnedShard::open(config).unwrap();
    let creating = shard.log().start_create("p", PartitionConfig::default());
    let partition = shard.block_on(creating).unwrap();
    // The background does what it still has to do.
    for _ in 0..50 {
        while shard.turn() {}
        std::thread::sleep(Duration::from_millis(1));
    }
    mount.store().fail_next(Fault::Stuck);
    // Elsewhere than in an append the fault would be waited for, not answered.
    let error = (0..50).find_map(|_| {
        let ticket = partition.append("record");
        shard.block_on(ticket).err()
    });
    let error = error.expect("the fault hit no append");
    assert!(matches!(error, AppendError::Halted { .. }) && error.needs_reopen(), "{error}");
    assert!(error.to_string().contains("no answer from the device for 1000 ms"), "{error}");
    // Closing waits for the device, which alone knows whether the bytes are on their way.
    mount.tear_down();
    shard.close().unwrap_err();
}
